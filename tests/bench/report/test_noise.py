"""Bounds of noise: they hold what they should, are as wide as the scatter is, and do not pretend with few samples."""

from __future__ import annotations

import math
from random import Random

import pytest

from ray.bench.report.noise import mean_ratio, quantile_ratio, share_difference


def _drawn(seed: int, count: int, factor: float = 1.0) -> list[float]:
    random = Random(seed)
    return [factor * random.lognormvariate(5, 0.3) for _ in range(count)]


def test_equal_samples_have_the_ratio_one_within_bounds() -> None:
    samples = _drawn(1, 100)
    for figure in (quantile_ratio(samples, samples, 0.5), mean_ratio(samples, samples)):
        assert figure is not None
        assert figure.value == 1.0
        assert figure.low < 1.0 < figure.high
        assert figure.samples == 100


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_true_factor_lies_within_bounds_that_leave_no_change_out(share: float) -> None:
    figure = quantile_ratio(_drawn(1, 300), _drawn(2, 300, 2.0), share)
    assert figure is not None
    assert 1.3 < figure.low < 2.0 < figure.high < 3.0


def test_runs_without_a_difference_are_seldom_told_apart() -> None:
    outside = 0
    for seed in range(40):
        figure = quantile_ratio(_drawn(seed, 60), _drawn(1_000 + seed, 60), 0.5)
        assert figure is not None
        outside += not figure.low <= 1.0 <= figure.high
    assert outside <= 6, "95 % of the bounds hold the truth; 40 pairs may miss it a few times"


@pytest.mark.parametrize("count", [6, 12, 40])
def test_means_without_a_difference_are_seldom_told_apart_also_with_few_samples(count: int) -> None:
    outside = 0
    for seed in range(200):
        figure = mean_ratio(_drawn(seed, count), _drawn(1_000 + seed, count))
        assert figure is not None
        outside += not figure.low <= 1.0 <= figure.high
    assert outside <= 0.06 * 200


def test_one_and_a_half_times_is_found_with_forty_samples() -> None:
    found = 0
    for seed in range(40):
        figures = [quantile_ratio(_drawn(seed, 40), _drawn(1_000 + seed, 40, 1.5), 0.5)]
        figures.append(mean_ratio(_drawn(seed, 40), _drawn(1_000 + seed, 40, 1.5)))
        found += all(figure is not None and figure.low > 1.05 for figure in figures)
    assert found >= 38


def test_more_samples_give_narrower_bounds() -> None:
    few, many = (quantile_ratio(_drawn(1, count), _drawn(2, count), 0.5) for count in (20, 500))
    assert few is not None
    assert many is not None
    assert many.high - many.low < few.high - few.low


@pytest.mark.parametrize(
    ("share", "count", "bounded"), [(0.5, 5, False), (0.5, 6, True), (0.95, 71, False), (0.95, 72, True)]
)
def test_too_few_samples_give_a_ratio_without_bounds(share: float, count: int, bounded: bool) -> None:
    figure = quantile_ratio(_drawn(1, count), _drawn(2, 500), share)
    assert figure is not None
    assert (figure.samples > 1) is bounded
    if not bounded:
        assert figure.low == figure.value == figure.high


@pytest.mark.parametrize(("before", "after"), [([], [1.0]), ([1.0], []), ([0.0, 0.0, 0.0], [1.0])])
def test_there_is_no_ratio_to_nothing(before: list[float], after: list[float]) -> None:
    assert quantile_ratio(before, after, 0.5) is None
    assert mean_ratio(before, after) is None


def test_a_mean_that_may_be_zero_has_no_upper_bound() -> None:
    figure = mean_ratio([0.0] * 9 + [1.0], [5.0] * 10)
    assert figure is not None
    assert figure.high == math.inf


def test_a_mean_of_few_samples_has_no_bounds() -> None:
    figure = mean_ratio([1.0, 2.0], [2.0, 4.0])
    assert figure is not None
    assert (figure.value, figure.samples) == (2.0, 1)


@pytest.mark.parametrize(
    ("before", "after", "tells"),
    [
        ((0, 100), (0, 100), False),
        ((0, 100), (1, 100), False),
        ((0, 100), (20, 100), True),
        ((90, 100), (40, 100), True),
    ],
)
def test_shares_differ_when_chance_does_not_explain_it(
    before: tuple[int, int], after: tuple[int, int], tells: bool
) -> None:
    figure = share_difference(before, after)
    assert figure is not None
    assert figure.value == pytest.approx(after[0] - before[0])
    assert (figure.low > 0 or figure.high < 0) is tells


def test_a_share_of_nothing_has_no_difference() -> None:
    assert share_difference((0, 0), (1, 2)) is None
    assert share_difference((1, 2), (0, 0)) is None
