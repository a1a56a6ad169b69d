"""Answers as long as this box can afford now, and as its prompt families really need.

Two memories with one owner each: `AdaptiveWindow` holds how the last answers went (time in the queue, speed),
`FamilyHistory` how long the answers of each prompt family were. `tune` and `learned_cap` are pure functions from what
they remember to a smaller allowance. Both only ever lower it.
Source: runtime specification, sections 7 and 8.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ray.config import AdaptiveTuningConfig
from ray.types import AdaptiveTuningDiagnostics, Lane, LearnedOutputCapDiagnostics

# How the box was doing longer ago than this says nothing about now.
SAMPLE_LIFETIME_SECONDS = 300.0
MAX_FAMILIES = 512
# Speed over fewer tokens is noise: llama-server reports a million tokens per second for the first one.
MIN_TIMED_TOKENS = 4
# Being twice over a threshold costs a quarter of the allowance.
REDUCTION_PER_EXCESS = 0.25


class Pace(NamedTuple):
    """How the recent answers went, on average. None: no sample says."""

    queue_ms: float | None = None
    tokens_per_second: float | None = None


class Sample(NamedTuple):
    """One answer. `at`: seconds on the window's clock."""

    at: float
    queue_ms: float
    tokens_per_second: float | None


class AdaptiveWindow:
    """The last `sampleSize` answers, none of them older than five minutes. `clock`: seconds, monotonic."""

    __slots__ = ("_clock", "_pace", "_samples")

    def __init__(self, sample_size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[Sample] = deque(maxlen=sample_size)
        self._pace: Pace | None = Pace()

    def record(self, queue_ms: float, tokens_per_second: float | None, completion_tokens: int | None) -> None:
        """One answer that was really generated; the speed counts from four tokens on, or if nobody counted."""
        if completion_tokens is not None and completion_tokens < MIN_TIMED_TOKENS:
            tokens_per_second = None
        self._samples.append(Sample(self._clock(), queue_ms, tokens_per_second))
        self._pace = None

    def pace(self) -> Pace:
        """The averages of this moment; computed only after something has changed."""
        oldest_allowed = self._clock() - SAMPLE_LIFETIME_SECONDS
        while self._samples and self._samples[0].at < oldest_allowed:
            self._samples.popleft()
            self._pace = None
        if self._pace is None:
            self._pace = pace_of(self._samples)
        return self._pace


def pace_of(samples: Sequence[Sample]) -> Pace:
    """The mean queue time of all samples, and the mean speed of those that have one above zero."""
    if not samples:
        return Pace()
    speeds = [sample.tokens_per_second for sample in samples if sample.tokens_per_second]
    return Pace(
        queue_ms=sum(sample.queue_ms for sample in samples) / len(samples),
        tokens_per_second=sum(speeds) / len(speeds) if speeds else None,
    )


def tune(max_tokens: int, pace: Pace, config: AdaptiveTuningConfig) -> AdaptiveTuningDiagnostics:
    """The allowance that fits the recent pace: shorter answers when requests wait long or tokens come slowly.

    Never below `minOutputTokens` (or what was asked for, if that is less), never cut by more than
    `maxOutputReductionRatio`.
    """
    ratio = 0.0
    reasons: list[str] = []
    if config.enabled:
        if pace.queue_ms is not None and pace.queue_ms > config.queue_latency_threshold_ms:
            ratio = _reduction(pace.queue_ms / config.queue_latency_threshold_ms, config)
            reasons.append("queue_latency")
        if pace.tokens_per_second is not None and pace.tokens_per_second < config.min_completion_tokens_per_second:
            slowness = config.min_completion_tokens_per_second / pace.tokens_per_second
            ratio = max(ratio, _reduction(slowness, config))
            reasons.append("throughput")
    applied = max(int(max_tokens * (1 - ratio)), min(config.min_output_tokens, max_tokens))
    if ratio <= 0 or applied >= max_tokens:
        return AdaptiveTuningDiagnostics(False, max_tokens, max_tokens, 0)
    return AdaptiveTuningDiagnostics(True, max_tokens, applied, round(ratio, 4), "+".join(reasons))


def _reduction(excess: float, config: AdaptiveTuningConfig) -> float:
    """`excess`: how many times the threshold was reached, above 1."""
    return min((excess - 1) * REDUCTION_PER_EXCESS, config.max_output_reduction_ratio)


class FamilyHistory:
    """The last `familyHistorySize` answer lengths of each prompt family; the family not recorded for longest goes."""

    __slots__ = ("_families", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._families: OrderedDict[str, deque[int]] = OrderedDict()

    def record(self, family: str, completion_tokens: int) -> None:
        """One answer of `family`; lengths below one token are ignored."""
        if completion_tokens < 1:
            return
        lengths = self._families.get(family)
        if lengths is None:
            if len(self._families) >= MAX_FAMILIES:
                self._families.popitem(last=False)
            lengths = self._families[family] = deque(maxlen=self._size)
        else:
            self._families.move_to_end(family)
        lengths.append(completion_tokens)

    def lengths(self, family: str) -> Sequence[int]:
        """Completion tokens of the family's last answers, oldest first. Looking does not refresh the family."""
        return self._families.get(family, ())

    def __len__(self) -> int:
        return len(self._families)


def learned_cap(
    max_tokens: int, family: str, lane: Lane, lengths: Sequence[int], config: AdaptiveTuningConfig
) -> LearnedOutputCapDiagnostics:
    """What the family's earlier answers leave of the allowance: their percentile plus headroom.

    Never below `minOutputTokens` (or what was asked for, if that is less). An answer that fills the cap raises the
    next one by the headroom, so the cap follows a family that has begun to say more.
    """
    percentile = config.short_percentile if lane == "short" else config.draft_percentile
    cap: int | None = None
    if config.enabled and config.learned_family_cap_enabled and len(lengths) >= max(1, config.learned_cap_min_samples):
        cap = nearest_rank(lengths, percentile) + config.learned_cap_headroom_tokens
    applied = max_tokens if cap is None else min(max_tokens, max(cap, config.min_output_tokens))
    return LearnedOutputCapDiagnostics(
        applied=applied < max_tokens,
        family_key=family,
        lane=lane,
        requested_max_tokens=max_tokens,
        applied_max_tokens=applied,
        sample_count=len(lengths),
        percentile=percentile,
        learned_cap_tokens=cap,
    )


def nearest_rank(values: Sequence[int], percentile: float) -> int:
    """The value at that share of the sorted row, rounded down; `percentile` 0 to 1."""
    return sorted(values)[int((len(values) - 1) * percentile)]
