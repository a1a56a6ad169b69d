"""How far a difference between two runs could be chance: bounds for ratios of quantiles and means, and of shares.

The bounds hold 95 % of what would come out if both runs were drawn again from requests like the ones they had. What
differs between two days on one machine is not in them. Pure arithmetic; the draws come from a fixed seed, so equal runs
give equal bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

from ray.bench.report.figures import Figure, quantile

_DRAWS = 2_000
_TAIL = 0.025
_SEED = 1


def quantile_ratio(before: Sequence[float], after: Sequence[float], share: float) -> Figure | None:
    """The ratio of the two quantiles, after to before; None when there is none.

    The quantile of a new drawing of n samples is the order statistic at n x Beta(k + 1, n - k), k being its place, so
    no drawing has to be sorted. Without bounds (`samples` 1) when one run has too few samples to say how far up its
    quantile could lie: fewer than 6 for the median, fewer than 72 for p95.
    """
    if not before or not after or quantile(before, share) == 0:
        return None
    value = quantile(after, share) / quantile(before, share)
    fewest = min(len(before), len(after))
    if max(share, 1 - share) ** fewest > _TAIL:
        return Figure(value, value, value, 1)
    random = Random(_SEED)
    draw_before, draw_after = (_quantile_draw(random, values, share) for values in (before, after))
    return _bounds(value, fewest, lambda: _ratio(draw_after(), draw_before()))


def mean_ratio(before: Sequence[float], after: Sequence[float]) -> Figure | None:
    """The ratio of the two means, after to before; None when there is none. The means of new drawings lie around
    the measured ones as Student's t says for so many samples: a normal distribution would make the bounds of six a
    quarter too narrow. Without bounds (`samples` 1) when one run has fewer than 6 samples."""
    if not before or not after or not sum(before):
        return None
    mean_before, mean_after = sum(before) / len(before), sum(after) / len(after)
    value = mean_after / mean_before
    fewest = min(len(before), len(after))
    if fewest < 6:
        return Figure(value, value, value, 1)
    random = Random(_SEED)
    draw_before, draw_after = (_mean_draw(random, values) for values in (before, after))
    return _bounds(value, fewest, lambda: _ratio(max(0.0, draw_after()), draw_before()))


def share_difference(before: tuple[int, int], after: tuple[int, int]) -> Figure | None:
    """The difference of two shares in percentage points, after minus before; each is (how many, of how many). None when
    one is of nothing. The shares of new drawings follow Beta(k + 1/2, n - k + 1/2)."""
    if not before[1] or not after[1]:
        return None
    random = Random(_SEED)

    def draw(count: int, whole: int) -> float:
        return 100 * random.betavariate(count + 0.5, whole - count + 0.5)

    value = 100 * (after[0] / after[1] - before[0] / before[1])
    return _bounds(value, min(before[1], after[1]), lambda: draw(*after) - draw(*before))


def _quantile_draw(random: Random, values: Sequence[float], share: float) -> Callable[[], float]:
    ordered, count = sorted(values), len(values)
    place = int((count - 1) * share)
    return lambda: ordered[min(count - 1, int(count * random.betavariate(place + 1, count - place)))]


def _mean_draw(random: Random, values: Sequence[float]) -> Callable[[], float]:
    mean, error, freedom = sum(values) / len(values), _standard_error(values), len(values) - 1
    # Student's t: a normal number by the root of a chi-square one over its degrees of freedom.
    return lambda: mean + error * random.gauss() / math.sqrt(random.gammavariate(freedom / 2, 2 / freedom))


def _ratio(after: float, before: float) -> float:
    return after / before if before > 0 else math.inf


def _bounds(value: float, samples: int, draw: Callable[[], float]) -> Figure:
    drawn = sorted(draw() for _ in range(_DRAWS))
    low, high = drawn[int(_DRAWS * _TAIL)], drawn[int(_DRAWS * (1 - _TAIL))]
    return Figure(value, min(low, value), max(high, value), samples)


def _standard_error(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
