"""Quantiles and figures: plain arithmetic that every row of a report depends on."""

from __future__ import annotations

import pytest

from ray.bench.report.figures import Figure, median, quantile, repeated, single


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [
        (1, 0.99, 1),
        (2, 0.5, 1),
        (2, 0.95, 1),
        (10, 0.95, 9),
        (16, 0.95, 15),
        (100, 0.99, 99),
        (101, 0.5, 51),
        (1000, 0.99, 990),
        (7, 0, 1),
        (7, 1, 7),
    ],
)
def test_a_quantile_is_the_sample_at_the_floor_of_its_share(count: int, share: float, expected: int) -> None:
    falling = [float(value) for value in range(count, 0, -1)]
    assert quantile(falling, share) == expected


def test_a_quantile_leaves_the_order_of_its_samples_alone() -> None:
    samples = [3.0, 1.0, 2.0]
    quantile(samples, 0.5)
    assert samples == [3.0, 1.0, 2.0]


def test_a_quantile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        quantile([], 0.5)


@pytest.mark.parametrize("share", [-0.1, 1.1, 99.0])
def test_a_share_outside_zero_to_one_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile([1.0], share)


@pytest.mark.parametrize(("samples", "expected"), [([5.0], 5.0), ([9.0, 1.0, 4.0], 4.0), ([8.0, 1.0, 2.0, 4.0], 3.0)])
def test_the_median_is_the_middle_or_the_mean_of_both_middles(samples: list[float], expected: float) -> None:
    assert median(samples) == expected


def test_the_median_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        median([])


def test_repeated_measurements_give_their_median_with_both_extremes() -> None:
    assert repeated([30.0, 10.0, 11.0]) == Figure(11.0, 10.0, 30.0, 3)


def test_a_single_measurement_has_no_spread() -> None:
    assert single(4.0) == Figure(4.0, 4.0, 4.0, 1)
