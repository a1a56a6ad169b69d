"""The report of a run as one HTML page: figures, charts over time and tables, drawn from its samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from ray.bench.processes.process import MeasurementError
from ray.bench.report.figures import quantile
from ray.bench.report.page_parts import Cells, figures, milliseconds, page, section, table, verdict
from ray.bench.report.report import number
from ray.bench.run.charts import charts_of
from ray.bench.run.report import Part, RunReport, RunSettings
from ray.bench.run.rows import reuse_percent
from ray.bench.run.sample import Sample

_SLOWEST = 10
_NONE = "n/a"


def html_page(report: RunReport) -> str:
    """The whole page. `comparison` is shown when it is made as the documentation says, and left out otherwise."""
    return page(
        f"Bench of {report.label}",
        " · ".join([*_what(report), report.generated_at]),
        [*_verdicts(report), _tiles(report)],
        [
            *section("Over the run", figures(charts_of(report))),
            *section("Times", _times(report.samples)),
            *section("Against the baseline", _checks(report)),
            *section("Errors", _errors(report.samples)),
            *section("Quality", _quality(report.samples)),
            *section("The slowest answers", _slowest(report.samples)),
            *section("Settings", _facts(report)),
        ],
    )


def _what(report: RunReport) -> Iterator[str]:
    settings = report.settings
    if settings.workload != report.label:
        yield settings.workload
    yield from (f"{settings.requests} requests", _loop(settings), settings.target)


def _loop(settings: RunSettings) -> str:
    if settings.rate is not None:
        return f"open loop, {settings.rate:g}/s"
    return f"{settings.clients} client{'' if settings.clients == 1 else 's'}, closed loop"


def _verdicts(report: RunReport) -> Iterator[str]:
    if report.broken_off is not None:
        yield verdict(False, f"Broken off: {report.broken_off}")
    passed = None if report.comparison is None else report.comparison.get("passed")
    if isinstance(passed, bool):
        yield verdict(passed, f"The baseline was {'passed' if passed else 'missed'}.")


def _tiles(report: RunReport) -> str:
    answered = [one for one in report.samples if one.answered]
    cold = [one for one in answered if one.cold]
    latency, first = [one.latency_ms for one in cold], [one.ttft_ms for one in cold if one.ttft_ms is not None]
    tokens = sum(one.completion_tokens or 0 for one in answered if not one.cached and not one.deduplicated)
    reuse = [percent for one in cold if (percent := reuse_percent(one)) is not None]
    errors = len(report.samples) - len(answered)
    tiles = [
        ("Answered", f"{len(answered)} of {report.settings.requests}", f"{errors} errors" if errors else "no errors"),
        ("Latency p50", _time(latency, 0.5), _spread(latency)),
        ("First token p50", _time(first, 0.5), f"p95 {_time(first, 0.95)}"),
        (
            "Tokens per second",
            number(tokens * 1000 / report.wall_ms) if tokens and report.wall_ms else _NONE,
            "all clients together",
        ),
        (
            "Prompt reused",
            f"{sum(reuse) / len(reuse):.0f} %" if reuse else _NONE,
            "of the tokens, mean of cold answers",
        ),
        ("From the cache", _share(answered, lambda one: one.cached), "of the answers"),
        ("Shared with a twin", _share(answered, lambda one: one.deduplicated), "of the answers: asked twice at once"),
        ("Degraded", _share(answered, lambda one: one.degraded), "of the answers: cut short under load"),
    ]
    shown = [f"<div><dt>{name}</dt><dd>{value}<small>{about}</small></dd></div>" for name, value, about in tiles]
    return f'<dl class="tiles">{"".join(shown)}</dl>'


def _spread(latency: Sequence[float]) -> str:
    return f"p95 {_time(latency, 0.95)}, max {_time(latency, 1)}, n {len(latency)}"


def _share(answered: Sequence[Sample], holds: Callable[[Sample], bool]) -> str:
    return f"{100 * sum(map(holds, answered)) / len(answered):.0f} %" if answered else _NONE


def _time(values: Sequence[float], share: float) -> str:
    return milliseconds(quantile(values, share)) if values else _NONE


def _times(samples: Sequence[Sample]) -> list[str]:
    answered = [one for one in samples if one.answered]
    cold = [one for one in answered if one.cold]
    kinds: list[tuple[str, list[float | None]]] = [
        ("latency, cold", [one.latency_ms for one in cold]),
        ("first token, cold", [one.ttft_ms for one in cold]),
        ("queue, cold", [one.queue_ms for one in cold]),
        ("latency, from cache or twin", [one.latency_ms for one in answered if not one.cold]),
        ("latency, all answers", [one.latency_ms for one in answered]),
    ]
    rows: list[Cells] = []
    for name, given in kinds:
        values = [value for value in given if value is not None]
        if values:
            rows.append([name, *(_time(values, share) for share in (0.5, 0.95, 0.99, 1)), str(len(values))])
    about = "As the client saw them. Cold: answered by the model for this request alone."
    return table(about, ["", "p50", "p95", "p99", "max", "n"], rows)


def _checks(report: RunReport) -> list[str]:
    if report.comparison is None:
        return []
    try:
        checks = Part.of(report.comparison, "comparison").parts("checks")
        rows = [
            [
                one.text("metric"),
                f"{one.text('operator')} {_value(one, 'expected')}",
                _value(one, "actual"),
                "ok" if one.flag("passed") else "missed",
            ]
            for one in checks
        ]
    except MeasurementError:
        return []
    return table("", ["metric", "expected", "actual", ""], rows)


def _value(part: Part, key: str) -> str:
    value = part.values.get(key)
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _errors(samples: Sequence[Sample]) -> list[str]:
    codes = Counter(one.code for one in samples if one.code is not None)
    rows = [[code, str(count), f"{100 * count / len(samples):.1f} %"] for code, count in codes.most_common()]
    return table("", ["code", "requests", "of all sent"], rows)


def _quality(samples: Sequence[Sample]) -> list[str]:
    scored = [one.quality_score for one in samples if one.quality_score is not None]
    if not scored:
        return []
    passed = sum(1 for one in samples if one.quality_score is not None and not one.quality_failures)
    failures = Counter(failure for one in samples for failure in one.quality_failures)
    head = f"<p>{passed} of {len(scored)} answers passed; mean score {number(sum(scored) / len(scored))} of 100.</p>"
    return [head, *table("", ["failure", "answers"], [[name, str(n)] for name, n in failures.most_common()])]


def _slowest(samples: Sequence[Sample]) -> list[str]:
    slow = sorted((one for one in samples if one.answered), key=lambda one: -one.latency_ms)[:_SLOWEST]
    rows = [
        [
            str(one.number + 1),
            str(one.item + 1),
            milliseconds(one.started_ms),
            milliseconds(one.latency_ms),
            _NONE if one.ttft_ms is None else milliseconds(one.ttft_ms),
            _NONE if one.queue_ms is None else milliseconds(one.queue_ms),
            _NONE if one.completion_tokens is None else str(one.completion_tokens),
            one.prefix or _NONE,
        ]
        for one in slow
    ]
    return table("", ["request", "item", "sent at", "latency", "first token", "queue", "tokens", "prefix"], rows)


def _facts(report: RunReport) -> list[str]:
    settings = report.settings
    rows = [
        ["target", settings.target],
        ["workload", f"{settings.workload}, {settings.items} items, SHA-256 {settings.workload_digest[:16]}…"],
        ["loop", _loop(settings)],
        ["warm-up", f"{settings.warmup} requests, not in here"],
        ["response cache", "not used (cache: false sent)" if settings.no_cache else "as the gateway is configured"],
        ["measured for", milliseconds(report.wall_ms)],
        *([name, value] for name, value in report.facts.items()),
    ]
    return table("", [], rows, kind="words")
