"""Bounds of a mean difference over the same items."""

from __future__ import annotations

import pytest

from ray.bench.run.paired import FEWEST_ITEMS, paired_difference, scores_by_item, with_bounds
from ray.bench.run.sample import Sample


def items(*scores: float) -> dict[int, float]:
    return dict(enumerate(scores))


@pytest.mark.parametrize(
    ("before", "after", "value", "reach"),
    [
        # s = 7.906, 2.776 x s / sqrt(5)
        (items(0, 0, 0, 0, 0), items(0, 5, 10, 15, 20), 10.0, 9.8146),
        # The items differ, the differences do not.
        (items(10, 50, 90, 30, 70), items(5, 45, 85, 25, 65), -5.0, 0.0),
        # 32 items, 31 degrees of freedom: the last value of the table. s = 1.016, 2.042 x s / sqrt(32)
        (items(*[0.0] * 32), items(*[1.0, -1.0] * 16), 0.0, 0.3668),
    ],
)
def test_the_bounds_are_students(before: dict[int, float], after: dict[int, float], value: float, reach: float) -> None:
    found = paired_difference(before, after)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((value, value - reach, value + reach), abs=0.001)
    assert found.samples == len(before)


def test_only_items_that_both_sides_have_count_and_too_few_have_no_bounds() -> None:
    both = items(*[1.0] * FEWEST_ITEMS)
    assert paired_difference({**both, 77: 100.0}, {**both, 88: 0.0}) == paired_difference(both, both)
    assert paired_difference(both, items(*[2.0] * (FEWEST_ITEMS - 1))) is None


def test_an_item_has_the_mean_of_its_answers_and_failures_count_as_asked() -> None:
    samples = [
        Sample(0, 0, 0.0, 1.0, quality_score=60.0),
        Sample(1, 0, 0.0, 1.0, quality_score=100.0),
        Sample(2, 1, 0.0, 1.0, code="timeout"),
    ]
    assert scores_by_item(samples) == {0: 80.0}
    assert scores_by_item(samples, failed=0.0) == {0: 80.0, 1: 0.0}


def test_bounds_are_shown_with_their_signs() -> None:
    found = paired_difference(items(0, 0, 0, 0, 0), items(0, 5, 10, 15, 20))
    assert found is not None
    assert with_bounds(found) == "+10.0 (+0.2..+19.8)"
