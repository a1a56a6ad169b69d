"""The figures of a run as rows, like every other report has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ray.bench.report.figures import Figure, quantile, single
from ray.bench.report.report import Row
from ray.bench.run.sample import QueuePoint, Sample

_TIMES: tuple[tuple[str, str, Callable[[Sample], float | None]], ...] = (
    ("latency", "latency, cold", lambda one: one.latency_ms),
    ("ttft", "first token, cold", lambda one: one.ttft_ms),
    ("queue", "queue, cold", lambda one: one.queue_ms),
)


def run_rows(samples: Sequence[Sample], wall_ms: float, queue: Sequence[QueuePoint]) -> list[Row]:
    """Times at the client, rates, shares and quality; what was not measured has no row. The spread of a time, of a
    rate of single answers and of a score spans the samples it was taken from."""
    answered = [one for one in samples if one.answered]
    cold = [one for one in answered if one.cold]
    rows: list[Row] = []
    for id, label, pick in _TIMES:
        times = known([pick(one) for one in cold])
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            figure = Figure(quantile(times, share), min(times), max(times), len(times)) if times else None
            rows.append(Row(f"{id}_{name}", f"{label}, {name}", "ms", figure))
    tokens = sum(one.completion_tokens or 0 for one in cold)
    rates = [
        ("tokens_per_second", "tokens per second, all clients", "tok/s", tokens),
        ("requests_per_second", "answers per second, all clients", "/s", len(answered)),
    ]
    for id, label, unit, count in rates:
        rate = single(count * 1000 / wall_ms) if count and wall_ms > 0 else None
        rows.append(Row(id, label, unit, rate))
    deepest = single(max(one.depth for one in queue)) if queue else None
    rows += [
        _mean("answer_rate", "tokens per second of one cold answer", "tok/s", [answer_rate(one) for one in cold]),
        _mean("prefix_reuse", "prompt reused", "%", [reuse_percent(one) for one in cold]),
        Row("queue_depth", "longest queue", "", deepest, more_is_better=False),
        *_shares(samples, answered),
        _mean("quality_score", "quality score", "", [one.quality_score for one in samples]),
    ]
    return [row for row in rows if row.figure is not None]


def reuse_percent(sample: Sample) -> float | None:
    """How much of the prompt was not read again, in percent; None where the answer does not say."""
    if not sample.cold or not sample.prompt_tokens or sample.cached_tokens is None:
        return None
    return min(100.0, 100 * sample.cached_tokens / sample.prompt_tokens)


def _shares(samples: Sequence[Sample], answered: Sequence[Sample]) -> list[Row]:
    scored = [one for one in samples if one.quality_score is not None]
    asked_for_json = [one for one in samples if one.valid_json is not None]
    return [
        _share("errors", "errors", [not one.answered for one in samples], False),
        _share("degraded", "degraded answers", [one.degraded for one in answered], False),
        _share("cached", "answers from the cache", [one.cached for one in answered], None),
        _share("deduplicated", "answers shared with a twin", [one.deduplicated for one in answered], None),
        _share("quality_passed", "quality passed", [not one.quality_failures for one in scored], True),
        _share("valid_json", "valid JSON", [one.valid_json is True for one in asked_for_json], True),
    ]


def _share(id: str, label: str, holds: Sequence[bool], more_is_better: bool | None) -> Row:
    value = 100 * sum(holds) / len(holds) if holds else None
    figure = None if value is None else Figure(value, value, value, len(holds))
    return Row(id, label, "%", figure, more_is_better=more_is_better)


def _mean(id: str, label: str, unit: str, given: Sequence[float | None]) -> Row:
    values = known(given)
    figure = Figure(sum(values) / len(values), min(values), max(values), len(values)) if values else None
    return Row(id, label, unit, figure, more_is_better=True)


def answer_rate(one: Sample) -> float | None:
    """Tokens per second of the whole answer, first token included; None where the tokens are not known."""
    return one.completion_tokens * 1000 / one.latency_ms if one.completion_tokens and one.latency_ms else None


def known(values: Sequence[float | None]) -> list[float]:
    """What was measured, without the gaps."""
    return [value for value in values if value is not None]
