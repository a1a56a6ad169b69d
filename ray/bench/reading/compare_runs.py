"""Two runs of the same workload beside each other: ratios, and how much of them is noise, drawn from their samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ray.bench.processes.process import MeasurementError
from ray.bench.reading.comparison import MARGIN_PERCENT, Compared, Comparison, verdict_of
from ray.bench.report.figures import quantile
from ray.bench.report.noise import mean_ratio, quantile_ratio, share_difference
from ray.bench.run.charts import token_rates
from ray.bench.run.report import RUN_KIND, RunReport
from ray.bench.run.rows import answer_rate, known, reuse_percent
from ray.bench.run.sample import Sample

_STRETCHES, _ANSWERS_PER_STRETCH = 12, 4
_NOT_SHOWN = "n/a"
Values = Callable[[RunReport], list[float]]
RunComparison = Comparison[RunReport]


def compare_runs(
    before: RunReport, after: RunReport, *, margin: float = MARGIN_PERCENT, force: bool = False
) -> RunComparison:
    """Compare run B (`after`) with run A (`before`). Raises `MeasurementError` when they sent different requests,
    unless `force`: then that is a note."""
    notes = list(_notes(before, after))
    if before.settings.workload_digest != after.settings.workload_digest:
        told = f"the workloads differ: A sent {before.settings.workload}, B sent {after.settings.workload}"
        if not force:
            raise MeasurementError(f"{told}, with other contents; --force compares them nevertheless")
        notes.insert(0, f"{told}; the ratios say nothing about the gateway alone")
    return Comparison(
        RUN_KIND,
        before,
        after,
        margin,
        [*_quantiles(before, after, margin), *_means(before, after, margin), *_shares(before, after)],
        notes,
    )


def _notes(before: RunReport, after: RunReport) -> Iterator[str]:
    one, other = before.settings, after.settings
    for name, first, second in (
        ("requests", one.requests, other.requests),
        ("clients", one.clients, other.clients),
        ("rate", one.rate, other.rate),
        ("warm-up", one.warmup, other.warmup),
        ("cache: false", one.no_cache, other.no_cache),
        *((fact, before.facts.get(fact), after.facts.get(fact)) for fact in ("Ray", "processor")),
    ):
        if first != second:
            yield f"{name}: A {_NOT_SHOWN if first is None else first}, B {_NOT_SHOWN if second is None else second}"
    for side, run in (("A", before), ("B", after)):
        if run.broken_off is not None:
            yield f"{side} was broken off: {run.broken_off}"


def _quantiles(before: RunReport, after: RunReport, margin: float) -> Iterator[Compared]:
    metrics: list[tuple[str, str, str, bool, Values]] = [
        ("latency", "latency, cold", "ms", False, lambda run: [one.latency_ms for one in _cold(run)]),
        ("ttft", "first token, cold", "ms", False, lambda run: known([one.ttft_ms for one in _cold(run)])),
        ("queue", "queue, cold", "ms", False, lambda run: known([one.queue_ms for one in _cold(run)])),
    ]
    for id, label, unit, more_is_better, values in metrics:
        for name, share in (("p50", 0.5), ("p95", 0.95)):
            one, other = values(before), values(after)
            change = quantile_ratio(one, other, share)
            yield Compared(
                f"{id}_{name}",
                f"{label}, {name}",
                unit,
                quantile(one, share) if one else None,
                quantile(other, share) if other else None,
                change,
                verdict_of(change, 1.0, margin / 100, more_is_better),
                more_is_better=more_is_better,
            )


def _means(before: RunReport, after: RunReport, margin: float) -> Iterator[Compared]:
    metrics: list[tuple[str, str, str, Values]] = [
        ("tokens_per_second", "tokens per second, all clients", "/s", _rates),
        (
            "answer_rate",
            "tokens per second of one cold answer",
            "/s",
            lambda run: known([answer_rate(one) for one in _cold(run)]),
        ),
        ("prefix_reuse", "prompt reused", "%", lambda run: known([reuse_percent(one) for one in _cold(run)])),
        ("quality_score", "quality score", "", lambda run: known([one.quality_score for one in run.samples])),
    ]
    for id, label, unit, values in metrics:
        one, other = values(before), values(after)
        change = mean_ratio(one, other)
        means = [sum(known) / len(known) if known else None for known in (one, other)]
        verdict = verdict_of(change, 1.0, margin / 100, True)
        yield Compared(id, label, unit, means[0], means[1], change, verdict, more_is_better=True)


def _shares(before: RunReport, after: RunReport) -> Iterator[Compared]:
    def answered(run: RunReport) -> list[Sample]:
        return [one for one in run.samples if one.answered]

    def scored(run: RunReport) -> list[Sample]:
        return [one for one in run.samples if one.quality_score is not None]

    metrics: list[tuple[str, str, bool | None, Callable[[RunReport], list[Sample]], Callable[[Sample], bool]]] = [
        ("errors", "errors", False, lambda run: list(run.samples), lambda one: not one.answered),
        ("degraded", "degraded answers", False, answered, lambda one: one.degraded),
        ("cached", "answers from the cache", None, answered, lambda one: one.cached),
        ("deduplicated", "answers shared with a twin", None, answered, lambda one: one.deduplicated),
        ("quality_passed", "quality passed", True, scored, lambda one: not one.quality_failures),
        (
            "valid_json",
            "valid JSON",
            True,
            lambda run: [one for one in run.samples if one.valid_json is not None],
            lambda one: one.valid_json is True,
        ),
    ]
    for id, label, more_is_better, chosen, holds in metrics:
        one, other = [(sum(map(holds, chosen(run))), len(chosen(run))) for run in (before, after)]
        change = share_difference(one, other)
        percent = [100 * count / whole if whole else None for count, whole in (one, other)]
        verdict = verdict_of(change, 0.0, 0.0, more_is_better)
        yield Compared(
            id, label, "%", percent[0], percent[1], change, verdict, points=True, more_is_better=more_is_better
        )


def _cold(run: RunReport) -> list[Sample]:
    return [one for one in run.samples if one.cold]


def _rates(run: RunReport) -> list[float]:
    """Of all clients in equal stretches of the run, so that their scatter shows how steady it was. A stretch holds
    about four answers or more: were it shorter, one answer would count as several samples."""
    answers = sum(1 for one in _cold(run) if one.completion_tokens)
    if not run.wall_ms or not answers:
        return []
    stretches = min(_STRETCHES, max(1, answers // _ANSWERS_PER_STRETCH))
    return token_rates(run.samples, run.wall_ms / stretches, stretches)
