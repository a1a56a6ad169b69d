"""`compare A.json B.json`: two runs of the same workload side by side, with ratios and how much of them is noise."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ray.bench.figures import Figure, quantile
from ray.bench.noise import mean_ratio, quantile_ratio, share_difference
from ray.bench.process import MeasurementError
from ray.bench.report import number
from ray.bench.run_charts import token_rates
from ray.bench.run_report import RunReport, Sample, load_run_report
from ray.bench.run_rows import reuse_percent
from ray.bench.shown import Shown
from ray.clock import iso_now

COMPARE_KIND = "compare-report"
COMPARE_VERSION = 1
MARGIN_PERCENT = 5.0
_STRETCHES, _ANSWERS_PER_STRETCH = 12, 4
_NOT_SHOWN = "n/a"
Values = Callable[[RunReport], list[float]]


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric of both runs. `change`: B to A as a ratio, or B minus A in percentage points when `points`; its `low`
    and `high` are the bounds of the noise, and without bounds `samples` is 1. `verdict`: `better`, `worse`, `differs`
    (neither), `same` (the bounds do not rule it out), `too few` samples for bounds; None when one run lacks it."""

    id: str
    label: str
    unit: str
    before: float | None
    after: float | None
    change: Figure | None
    verdict: str | None
    points: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """`notes`: what else differs between the runs, as text. `margin`: percent by which a ratio must at least differ."""

    before: RunReport
    after: RunReport
    margin: float
    rows: Sequence[Compared]
    notes: Sequence[str]

    @property
    def worse(self) -> list[Compared]:
        return [row for row in self.rows if row.verdict == "worse"]


def compare_runs(
    before: RunReport, after: RunReport, *, margin: float = MARGIN_PERCENT, force: bool = False
) -> Comparison:
    """Compare run B (`after`) with run A (`before`). Raises `MeasurementError` when they sent different requests,
    unless `force`: then that is a note."""
    notes = list(_notes(before, after))
    if before.settings.workload_digest != after.settings.workload_digest:
        told = f"the workloads differ: A sent {before.settings.workload}, B sent {after.settings.workload}"
        if not force:
            raise MeasurementError(f"{told}, with other contents; --force compares them nevertheless")
        notes.insert(0, f"{told}; the ratios say nothing about the gateway alone")
    return Comparison(
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
        ("ttft", "first token, cold", "ms", False, lambda run: _known([one.ttft_ms for one in _cold(run)])),
        ("queue", "queue, cold", "ms", False, lambda run: _known([one.queue_ms for one in _cold(run)])),
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
                _verdict(change, 1.0, margin / 100, more_is_better),
            )


def _means(before: RunReport, after: RunReport, margin: float) -> Iterator[Compared]:
    metrics: list[tuple[str, str, str, Values]] = [
        ("tokens_per_second", "tokens per second, all clients", "/s", _rates),
        ("answer_rate", "tokens per second of one cold answer", "/s", lambda run: _known(map(_rate, _cold(run)))),
        ("prefix_reuse", "prompt reused", "%", lambda run: _known(map(reuse_percent, _cold(run)))),
        ("quality_score", "quality score", "", lambda run: _known([one.quality_score for one in run.samples])),
    ]
    for id, label, unit, values in metrics:
        one, other = values(before), values(after)
        change = mean_ratio(one, other)
        means = [sum(known) / len(known) if known else None for known in (one, other)]
        yield Compared(id, label, unit, means[0], means[1], change, _verdict(change, 1.0, margin / 100, True))


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
        verdict = _verdict(change, 0.0, 0.0, more_is_better)
        yield Compared(id, label, "%", percent[0], percent[1], change, verdict, points=True)


def _cold(run: RunReport) -> list[Sample]:
    return [one for one in run.samples if one.cold]


def _known(values: Iterator[float | None] | Sequence[float | None] | map[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _rate(one: Sample) -> float | None:
    """Of the whole answer, first token included."""
    return one.completion_tokens * 1000 / one.latency_ms if one.completion_tokens and one.latency_ms else None


def _rates(run: RunReport) -> list[float]:
    """Of all clients in equal stretches of the run, so that their scatter shows how steady it was. A stretch holds
    about four answers or more: were it shorter, one answer would count as several samples."""
    answers = sum(1 for one in _cold(run) if one.completion_tokens)
    if not run.wall_ms or not answers:
        return []
    stretches = min(_STRETCHES, max(1, answers // _ANSWERS_PER_STRETCH))
    return token_rates(run.samples, run.wall_ms / stretches, stretches)


def _verdict(change: Figure | None, none: float, margin: float, more_is_better: bool | None) -> str | None:
    """`none`: the value of no change. Something differs when the bounds lie wholly beyond it by more than `margin`."""
    if change is None:
        return None
    if change.samples == 1:
        return "too few"
    if none - margin <= change.high and change.low <= none + margin:
        return "same"
    if more_is_better is None:
        return "differs"
    return "better" if (change.value > none) == more_is_better else "worse"


def measure_comparison(options: argparse.Namespace) -> Comparison:
    """Read both files and compare them. Raises `MeasurementError` and `OSError`."""
    before, after = (load_run_report(path, any_version=options.force) for path in (options.a, options.b))
    return compare_runs(before, after, margin=options.margin, force=options.force)


def show_compare(options: argparse.Namespace) -> Shown:
    """The comparison in both forms. Raises `MeasurementError` and `OSError`."""
    comparison = measure_comparison(options)
    return Shown(comparison_text(comparison), comparison_document(comparison), bool(comparison.worse))


def comparison_text(comparison: Comparison) -> str:
    """The comparison for a terminal, ending with a newline."""
    before, after = comparison.before, comparison.after
    columns = ("what", "A", "B", "B to A", "bounds", "verdict")
    lines = [columns, *(_cells(row) for row in comparison.rows if row.before is not None or row.after is not None)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    shown = [
        f"A: {before.label}, {before.generated_at}, {before.settings.target}",
        f"B: {after.label}, {after.generated_at}, {after.settings.target}",
        *comparison.notes,
        "",
    ]
    for line in lines:
        cells = [line[0].ljust(widths[0]), *(line[place].rjust(widths[place]) for place in range(1, 5)), line[5]]
        shown.append("  ".join(cells).rstrip())
    worse = ", ".join(row.label for row in comparison.worse)
    shown += ["", f"B is worse in: {worse}" if worse else "B is worse in nothing that these runs can tell."]
    return "\n".join(shown) + "\n"


def _cells(row: Compared) -> tuple[str, str, str, str, str, str]:
    sides = [
        _NOT_SHOWN if value is None else f"{number(value)} {row.unit}".rstrip() for value in (row.before, row.after)
    ]
    if row.change is None:
        return row.label, sides[0], sides[1], _NOT_SHOWN, "", ""
    change = row.change
    if row.points:
        return (
            row.label,
            sides[0],
            sides[1],
            f"{change.value:+.1f} points",
            f"{change.low:+.1f}..{change.high:+.1f}",
            row.verdict or "",
        )
    bounds = f"{number(change.low)}..{number(change.high)}" if change.samples > 1 else ""
    return row.label, sides[0], sides[1], f"{number(change.value)} x", bounds, row.verdict or ""


def comparison_document(comparison: Comparison) -> dict[str, object]:
    """The comparison as JSON data."""
    return {
        "kind": COMPARE_KIND,
        "version": COMPARE_VERSION,
        "generatedAt": iso_now(),
        "marginPercent": comparison.margin,
        "a": _run_document(comparison.before),
        "b": _run_document(comparison.after),
        "notes": list(comparison.notes),
        "rows": [_row_document(row) for row in comparison.rows],
        "worse": [row.id for row in comparison.worse],
    }


def _run_document(run: RunReport) -> dict[str, object]:
    return {"label": run.label, "generatedAt": run.generated_at, "target": run.settings.target}


def _row_document(row: Compared) -> dict[str, object]:
    document: dict[str, object] = {"id": row.id, "label": row.label, "unit": row.unit}
    for key, value in (("a", row.before), ("b", row.after), ("verdict", row.verdict)):
        if value is not None:
            document[key] = value
    if row.change is not None:
        document["points" if row.points else "ratio"] = row.change.value
        if row.change.samples > 1:
            # JSON has no infinity; a ratio without an upper bound has no key for it.
            bounds = {"low": row.change.low, "high": row.change.high}
            document |= {key: value for key, value in bounds.items() if math.isfinite(value)}
    return document
