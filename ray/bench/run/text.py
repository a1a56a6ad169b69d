"""The table of a run, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from ray.bench.report.aligned import aligned, counted
from ray.bench.report.report import number
from ray.bench.run.baseline import Comparison
from ray.bench.run.report import RunReport

_MISSING = "n/a"
_COLUMNS = ("n", "p50", "p95", "p99", "max")
_GROUPS = (("cold", "cold"), ("cached", "from the response cache"))
_TIMES = (
    ("latencyMs", "latency, ms"),
    ("ttftMs", "first token, ms"),
    ("queueMs", "in the queue, ms"),
    ("tokensPerSecond", "tokens/s"),
)


def run_text(report: RunReport, comparison: Comparison | None) -> str:
    """The whole report without its samples, ending with a newline."""
    summary = report.summary
    lines = [f"{name}: {value}" for name, value in report.facts.items()]
    lines += [f"label: {report.label}", f"gateway: {report.settings.target}", f"load: {_load(report)}", ""]
    lines += _spread_lines(summary)
    lines += ["", *_figure_lines(summary)]
    if report.broken_off is not None:
        lines += ["", f"BROKEN OFF: {report.broken_off}. The figures are of what was measured until then."]
    if comparison is not None:
        lines += ["", *comparison_lines(comparison)]
    return "\n".join(lines) + "\n"


def _load(report: RunReport) -> str:
    settings = report.settings
    if settings.rate is None:
        loop = f"closed loop, {settings.clients} client{'' if settings.clients == 1 else 's'}"
    else:
        loop = f"open loop, {number(settings.rate)} arrivals per second"
    warmup = f", {settings.warmup} more to warm up" if settings.warmup else ""
    cache = ", response cache left out" if settings.no_cache else ""
    return f"{loop}, {settings.requests} requests of {settings.workload} ({settings.items} items){warmup}{cache}"


def _spread_lines(summary: Mapping[str, object]) -> list[str]:
    rows: list[tuple[str, ...]] = []
    for key, group_label in _GROUPS:
        group = summary.get(key)
        if not isinstance(group, Mapping):
            continue
        for name, label in _TIMES:
            spread = group.get(name)
            if isinstance(spread, Mapping):
                cells = [str(spread.get("n")), *(figure_text(spread, column) for column in _COLUMNS[1:])]
                rows.append((f"{group_label}: {label}", *cells))
    if not rows:
        return ["No request was answered."]
    return aligned([("", *_COLUMNS), *rows])


def _figure_lines(summary: Mapping[str, object]) -> list[str]:
    def show(key: str, unit: str = "") -> str:
        return figure_text(summary, key, unit)

    lines = [
        f"answered: {summary.get('requests')} of {summary.get('sent')} sent, in {show('wallTimeMs')} ms",
        f"errors: {show('errorRate', ' %')}{_counts(summary, 'errors')}",
        f"throughput: {show('requestsPerSecond')} answers/s, {show('emailsPerHour')} answers/hour, "
        f"{show('generatedTokensPerSecond')} generated tokens/s",
        f"all answers, as the gateway says: latency p50 {show('latencyP50Ms')} ms, p95 {show('latencyP95Ms')} ms; "
        f"queue p50 {show('queueDelayP50Ms')} ms, p95 {show('queueDelayP95Ms')} ms; "
        f"backend's first token p50 {show('ttftP50Ms')} ms, p95 {show('ttftP95Ms')} ms",
        f"response cache {show('responseCacheHitRate', ' %')}, deduplicated {show('dedupeHitRate', ' %')}, "
        f"degraded {show('degradedRate', ' %')}",
        f"prefix: {show('promptCacheHitRate', ' %')} of answers reused one, "
        f"mean share of the prompt {show('promptCacheReuseRatio')}{_counts(summary, 'prefixStates')}",
        f"quality: passed {show('qualityPassRate', ' %')}, valid JSON {show('validJsonRate', ' %')}, "
        f"score mean {show('qualityScoreAvg')}, median {show('qualityScoreP50')}, "
        f"{show('qualityFailures')} with failures{_counts(summary, 'qualityFailureCodes')}",
        f"longest queue: {show('queueDepthMax')}",
    ]
    provider = summary.get("providerDiagnostics")
    if isinstance(provider, Mapping):
        for key, label in (("promptFormats", "prompt formats"), ("slotRouteReasons", "slot routes")):
            if provider.get(key):
                lines.append(f"{label}:{_counts(provider, key)}")
    return [*lines, f"score: {show('score')}"]


def comparison_lines(comparison: Comparison) -> list[str]:
    """The verdict against a baseline, and every check of it."""
    baseline = comparison.baseline
    lines = [f"baseline {baseline.label} ({baseline.machine_class}): {'PASS' if comparison.passed else 'FAIL'}"]
    for check in comparison.checks:
        actual = "missing" if check.actual is None else _shown(check.actual)
        verdict = "ok  " if check.passed else "fail"
        lines.append(f"  {verdict} {check.metric} {check.operator} {_shown(check.expected)} (actual {actual})")
    return lines


def _shown(value: float | str) -> str:
    return str(value) if isinstance(value, str | int) else number(value)


def figure_text(values: Mapping[str, object], key: str, unit: str = "") -> str:
    """A figure as it is shown, `n/a` when there is none."""
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _MISSING
    return (str(value) if isinstance(value, int) else number(value)) + unit


def _counts(values: Mapping[str, object], key: str) -> str:
    counts = values.get(key)
    if not isinstance(counts, Mapping) or not counts:
        return ""
    return f" ({counted(counts)})"
