"""The figures of a run, drawn from its samples: the block `summary` of the report.

Percentages go from 0 to 100, times are milliseconds, and what cannot be known is absent. The fields that baselines are
about (`latencyP95Ms` and so on) cover all answers, also those from the response cache; the blocks `cold` and `cached`
tell them apart. `cold`: answered by the model for this request alone. Percentiles are floor-index ones, so every one of
them is a time that really happened; with few samples p99 and p95 are the same one, which is why `n` and `max` stand
beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from ray.bench.report.figures import median, quantile
from ray.bench.run.provider_tally import ProviderTally
from ray.bench.run.sample import QueuePoint, Sample

HOUR_MS = 3_600_000

_Pick = Callable[[Sample], float | None]


def summary_of(
    samples: Sequence[Sample], wall_ms: float, tally: ProviderTally, queue: Sequence[QueuePoint] = ()
) -> dict[str, object]:
    """All figures of the summary."""
    answered = [sample for sample in samples if sample.answered]
    document: dict[str, object] = {
        "sent": len(samples),
        "requests": len(answered),
        "errors": dict(Counter(sample.code for sample in samples if sample.code is not None).most_common()),
        "errorRate": _share(len(samples) - len(answered), len(samples)),
        "wallTimeMs": wall_ms,
        "responseCacheHitRate": _rate(answered, lambda sample: sample.cached),
        "dedupeHitRate": _rate(answered, lambda sample: sample.deduplicated),
        "degradedRate": _rate(answered, lambda sample: sample.degraded),
        **_baseline_figures(answered),
        "typicalLatencyMs": typical_of(samples, lambda sample: sample.latency_ms),
        "typicalTtftMs": typical_of(samples, lambda sample: sample.ttft_ms),
        **_throughput(answered, wall_ms),
        **_quality(answered),
        "prefixStates": dict(Counter(sample.prefix for sample in answered if sample.prefix is not None).most_common()),
        "queueDepthMax": max((point.depth for point in queue), default=None),
        "providerDiagnostics": tally.document(),
        "cold": group_of([sample for sample in answered if sample.cold]),
        "cached": group_of([sample for sample in answered if sample.cached]),
    }
    document["score"] = score_of(document)
    return {name: value for name, value in document.items() if value is not None and value != {}}


def group_of(samples: Sequence[Sample]) -> dict[str, object] | None:
    """Spread of the times at the client, and of the gateway's queue, in one group of answers; None for an empty one."""
    if not samples:
        return None
    document: dict[str, object] = {"n": len(samples)}
    picks: tuple[tuple[str, _Pick], ...] = (
        ("latencyMs", lambda sample: sample.latency_ms),
        ("ttftMs", lambda sample: sample.ttft_ms),
        ("queueMs", lambda sample: sample.queue_ms),
        ("tokensPerSecond", lambda sample: sample.tokens_per_second),
    )
    for name, pick in picks:
        values = _values(samples, pick)
        if values:
            document[name] = spread_of(values)
    return document


def typical_of(samples: Sequence[Sample], pick: _Pick) -> float | None:
    """The mean over the workload's items of each item's median, of cold answers; None without any.

    Items differ by far more than an item does from one time to the next, so a percentile over all of them may jump from
    one item's times to another's because of one slow answer. This neither jumps nor follows a single slow answer.
    """
    by_item: dict[int, list[float]] = {}
    for sample in samples:
        value = pick(sample)
        if sample.cold and value is not None:
            by_item.setdefault(sample.item, []).append(value)
    return _mean(median(values) for values in by_item.values())


def spread_of(values: Sequence[float]) -> dict[str, float]:
    """n, p50, p95, p99 and the largest."""
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {
        "n": len(values),
        **{name: quantile(values, share) for name, share in shares.items()},
        "max": max(values),
    }


def score_of(summary: Mapping[str, object]) -> float:
    """One number to rank settings by, larger is better.

    It is (answers per hour / max(1, 1 + L + Q) + T) times quality, where L and Q are the 95th percentiles of latency
    and queue time in seconds (the medians without them), T is tokens per second / 100 and quality the share that
    passed.
    """

    def value(*names: str) -> float:
        found = (summary.get(name) for name in names)
        return next((float(one) for one in found if isinstance(one, int | float)), 0.0)

    seconds = (value("latencyP95Ms", "latencyP50Ms") + value("queueDelayP95Ms", "queueDelayP50Ms")) / 1_000
    passed = summary.get("qualityPassRate")
    quality = passed / 100 if isinstance(passed, int | float) else 1.0
    return (value("emailsPerHour") / max(1.0, 1.0 + seconds) + value("completionTokensPerSecondAvg") / 100) * quality


def _baseline_figures(answered: Sequence[Sample]) -> dict[str, object]:
    """The figures that stand in baselines, over all answers."""
    document: dict[str, object] = {
        "promptCacheHitRate": _rate(answered, lambda sample: (sample.cached_tokens or 0) > 0),
        "promptCacheReuseRatio": _mean(
            sample.cached_tokens / sample.prompt_tokens
            for sample in answered
            if sample.cached_tokens and sample.prompt_tokens
        ),
        "completionTokensPerSecondAvg": _mean(
            sample.tokens_per_second for sample in answered if sample.tokens_per_second
        ),
    }
    picks: tuple[tuple[str, _Pick], ...] = (
        ("latency", lambda sample: sample.gateway_ms),
        ("queueDelay", lambda sample: sample.queue_ms),
        ("ttft", lambda sample: sample.provider_ttft_ms),
        ("clientLatency", lambda sample: sample.latency_ms),
        ("clientTtft", lambda sample: sample.ttft_ms),
    )
    for name, pick in picks:
        values = _values(answered, pick)
        for level, share in (("P50Ms", 0.5), ("P95Ms", 0.95)):
            document[name + level] = quantile(values, share) if values else None
    return document


def _throughput(answered: Sequence[Sample], wall_ms: float) -> dict[str, object]:
    # An answer of the cache brought its tokens without generating them.
    tokens = [sample.completion_tokens or 0 for sample in answered if sample.cold]
    seconds = wall_ms / 1_000
    if seconds <= 0:
        return {}
    return {
        "emailsPerHour": len(answered) / wall_ms * HOUR_MS,
        "requestsPerSecond": len(answered) / seconds,
        "generatedTokensPerSecond": sum(tokens) / seconds if any(tokens) else None,
    }


def _quality(answered: Sequence[Sample]) -> dict[str, object]:
    scores = _values(answered, lambda sample: sample.quality_score)
    judged = [sample for sample in answered if sample.quality_score is not None]
    expected_json = [sample for sample in answered if sample.valid_json is not None]
    if not scores:
        return {}
    return {
        "qualityPassRate": _rate(judged, lambda sample: not sample.quality_failures),
        "qualityScoreAvg": sum(scores) / len(scores),
        "qualityScoreP50": median(scores),
        "qualityFailures": sum(bool(sample.quality_failures) for sample in judged),
        "qualityFailureCodes": dict(
            Counter(failure.partition(":")[0] for sample in judged for failure in sample.quality_failures).most_common()
        ),
        "validJsonRate": _rate(expected_json, lambda sample: sample.valid_json is True),
        "promptEchoRejects": sum("prompt_echo" in sample.quality_failures for sample in judged),
    }


def _values(samples: Sequence[Sample], pick: _Pick) -> list[float]:
    return [value for value in map(pick, samples) if value is not None]


def _rate(samples: Sequence[Sample], holds: Callable[[Sample], bool]) -> float | None:
    return _share(sum(map(holds, samples)), len(samples))


def _share(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return sum(listed) / len(listed) if listed else None
