"""Whether new settings are better than the starting ones, judged by a comparison in turns. Pure.

They have to be faster beyond noise, and may not pay for it: no lower share of answers that pass the quality checks, not
more errors, and no 95th percentile of latency that is surely more than a tenth longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from ray.bench.report.figures import Figure, quantile
from ray.bench.run.sample import Sample
from ray.bench.run.summary import HOUR_MS, score_of

FEWEST_ANSWERS = 6
FEWEST_OF_ITEM = 3
# By luck alone, so many pairs of turns are won in at most one of sixteen comparisons.
LUCK = 1 / 16
LONGEST_LATENCY_RATIO = 1.10
_DRAWS = 1_000
_TAIL = 0.01
_SEED = 1


@dataclass(frozen=True, slots=True)
class Turn:
    """One side's turn. `wall_ms`: of its measured part."""

    samples: tuple[Sample, ...]
    wall_ms: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason`: why the new settings are taken, or are not. `speed`: new to old, with bounds of noise (`samples` 1:
    without); `latency`: of the 95th percentiles, likewise; `pairs_won`: turns in which the new settings were faster.
    The shares are percentages, None where nothing is checked."""

    better: bool
    reason: str
    speed: Figure | None
    latency: Figure | None
    pairs: int
    pairs_won: int
    quality: tuple[float | None, float | None]
    errors: tuple[float, float]


def verdict_of(before: Sequence[Turn], after: Sequence[Turn], fewest_pairs: int = 1) -> Verdict:
    """Compare the turns of both sides, which were taken in pairs; of fewer pairs than `fewest_pairs` nothing is
    concluded."""
    old, new = pooled(before), pooled(after)
    speed, latency = ratios(old, new) or (None, None)
    won = sum(speed_of(two) > speed_of(one) for one, two in zip(before, after, strict=True))
    quality = quality_share(old), quality_share(new)
    errors = error_share(old), error_share(new)
    against = _against(speed, latency, won, len(before), quality, errors)
    if len(before) < fewest_pairs:
        against = against or f"fewer than {fewest_pairs} pairs of turns are too few to tell"
    return Verdict(against is None, against or "faster beyond noise", speed, latency, len(before), won, quality, errors)


def _against(
    speed: Figure | None,
    latency: Figure | None,
    won: int,
    pairs: int,
    quality: tuple[float | None, float | None],
    errors: tuple[float, float],
) -> str | None:
    """What speaks against the new settings; None when nothing does."""
    if errors[1] > errors[0]:
        return f"more requests failed: {errors[1]:.0f}% instead of {errors[0]:.0f}%"
    if speed is None:
        return "nothing was answered"
    if quality[0] is not None and quality[1] is not None and quality[1] < quality[0]:
        return f"fewer answers pass the quality checks: {quality[1]:.1f}% instead of {quality[0]:.1f}%"
    if speed.samples < FEWEST_ANSWERS:
        return f"fewer than {FEWEST_ANSWERS} answers on one side are too few to tell"
    if speed.low <= 1:
        return "not faster beyond noise"
    if won < pairs_to_win(pairs):
        return f"faster in only {won} of {pairs} pairs of turns"
    if latency is not None and latency.low > LONGEST_LATENCY_RATIO:
        return f"faster, but its 95th percentile of latency is {latency.value:.2f} times as long"
    return None


def pairs_to_win(pairs: int) -> int:
    """How many pairs of turns the new settings have to win: all of up to six, seven of eight, ten of twelve.

    A sign test. Some processes start faster than others with the same settings. All answers of a turn share that luck,
    so drawing answers again does not show it; only more turns do.
    """
    needed = pairs
    while needed > 1 and sum(math.comb(pairs, won) for won in range(needed - 1, pairs + 1)) <= LUCK * 2**pairs:
        needed -= 1
    return needed


def pooled(turns: Sequence[Turn]) -> Turn:
    """All turns of one side as if they were one, each beginning where the one before ended."""
    samples: list[Sample] = []
    wall_ms = 0.0
    for turn in turns:
        samples += [replace(one, started_ms=wall_ms + one.started_ms) for one in turn.samples]
        wall_ms += turn.wall_ms
    return Turn(tuple(samples), wall_ms)


def speed_of(turn: Turn) -> float:
    """The score of the search without its factor for quality: which answers pass can change with the last bit of a
    sum, and that is no speed."""
    answered = [one for one in turn.samples if one.answered]
    return _speed(answered, turn.wall_ms) if answered else 0.0


def ratios(before: Turn, after: Turn) -> tuple[Figure, Figure] | None:
    """The ratios of the two speeds and of the two 95th percentiles of latency, new to old, and the bounds between which
    98 % of them would lie if both sides' answers were drawn again from those they had, item by item. None when one side
    answered nothing; without bounds (`samples` 1) below 6 answers. Draws come from a fixed seed."""
    sides = [([one for one in turn.samples if one.answered], turn.wall_ms) for turn in (before, after)]
    if not all(answered for answered, _ in sides):
        return None
    fewest = min(len(answered) for answered, _ in sides)
    values = _measured([([answered], wall_ms) for answered, wall_ms in sides], lambda group: group)
    if fewest < FEWEST_ANSWERS:
        return Figure(values[0], values[0], values[0], 1), Figure(values[1], values[1], values[1], 1)
    random = Random(_SEED)
    groups = [(_by_item(answered), wall_ms) for answered, wall_ms in sides]
    draws = [_measured(groups, lambda group: random.choices(group, k=len(group))) for _ in range(_DRAWS)]
    speed, latency = (_bounds(values[place], [one[place] for one in draws], fewest) for place in (0, 1))
    return speed, latency


def _bounds(value: float, draws: Sequence[float], samples: int) -> Figure:
    ordered = sorted(draws)
    low, high = ordered[int(_DRAWS * _TAIL)], ordered[int(_DRAWS * (1 - _TAIL))]
    return Figure(value, min(low, value), max(high, value), samples)


def _measured(
    sides: Sequence[tuple[list[list[Sample]], float]], draw: Callable[[list[Sample]], list[Sample]]
) -> tuple[float, float]:
    """The ratios of speed and of latency when each group of answers is what `draw` makes of it."""
    speeds, latencies = [], []
    for groups, wall_ms in sides:
        drawn = [one for group in groups for one in draw(group)]
        # In a closed loop the clock runs as long as the clients wait.
        waited, waits = sum(one.latency_ms for group in groups for one in group), sum(one.latency_ms for one in drawn)
        speeds.append(_speed(drawn, wall_ms * waits / waited if waited else wall_ms))
        latencies.append(quantile([one.latency_ms for one in drawn], 0.95))
    return _ratio(speeds[0], speeds[1]), _ratio(latencies[0], latencies[1])


def _ratio(before: float, after: float) -> float:
    return after / before if before > 0 else math.inf


def _by_item(answered: Sequence[Sample]) -> list[list[Sample]]:
    """The answers to draw from: each item's own, because both sides are asked the same items and how these differ is no
    noise; all together when an item has too few."""
    groups: dict[int, list[Sample]] = {}
    for one in answered:
        groups.setdefault(one.item, []).append(one)
    enough = min(len(group) for group in groups.values()) >= FEWEST_OF_ITEM
    return list(groups.values()) if enough else [list(answered)]


def _speed(answered: Sequence[Sample], wall_ms: float) -> float:
    rates = [one.tokens_per_second for one in answered if one.tokens_per_second]
    queues = [one.queue_ms for one in answered if one.queue_ms is not None]
    latencies = [one.gateway_ms for one in answered if one.gateway_ms is not None]
    return score_of(
        {
            "emailsPerHour": len(answered) / wall_ms * HOUR_MS if wall_ms > 0 else 0.0,
            "latencyP95Ms": quantile(latencies, 0.95) if latencies else None,
            "queueDelayP95Ms": quantile(queues, 0.95) if queues else None,
            "completionTokensPerSecondAvg": sum(rates) / len(rates) if rates else None,
        }
    )


def quality_share(turn: Turn) -> float | None:
    """Percent of the judged answers that pass; None when none is judged."""
    judged = [one for one in turn.samples if one.quality_score is not None]
    return 100 * sum(not one.quality_failures for one in judged) / len(judged) if judged else None


def error_share(turn: Turn) -> float:
    """Percent of the requests that were not answered; all of them when none was sent."""
    return 100 * sum(not one.answered for one in turn.samples) / len(turn.samples) if turn.samples else 100.0
