"""The report of a run as one HTML page: figures, charts and tables, with nothing loaded from anywhere.

The page has no script and no outside reference, and says so to the browser (`Content-Security-Policy`), so that it can
be sent around and opened from a disk. Light and dark follow the reader's system; on a phone the charts stand below each
other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from html import escape

from ray.bench.chart import STYLE as CHART_STYLE
from ray.bench.chart import Chart, chart_svg, legend_html
from ray.bench.figures import quantile
from ray.bench.process import MeasurementError
from ray.bench.report import number
from ray.bench.run_charts import charts_of, reuse_percent
from ray.bench.run_report import Part, RunReport, RunSettings, Sample

_STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --card: #f4f6f8; --text: #1f2933; --quiet: #52606d; --edge: #d9e0e7;
  --good: #1b7a43; --bad: #b3261e }
@media (prefers-color-scheme: dark) {
  :root { --back: #14191f; --card: #1c232b; --text: #e4e7eb; --quiet: #9aa5b1; --edge: #2d3742; --good: #5fd38d;
    --bad: #ff8a80 }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.45 system-ui, sans-serif }
main { max-width: 1120px; margin: 0 auto; padding: 20px 16px 48px }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 32px 0 10px }
h3 { font-size: 1rem; margin: 0 0 4px }
p { margin: 6px 0 }
.quiet { color: var(--quiet); overflow-wrap: anywhere }
.good { color: var(--good); font-weight: 600 }
.bad { color: var(--bad); font-weight: 600 }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px;
  margin: 18px 0 0; padding: 0 }
@media (min-width: 800px) { .tiles { grid-template-columns: repeat(4, 1fr) } }
.tiles div { background: var(--card); border: 1px solid var(--edge); border-radius: 8px; padding: 10px 12px }
.tiles dt { color: var(--quiet); font-size: .85rem }
.tiles dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums }
.tiles small { display: block; color: var(--quiet); font-size: .8rem; font-weight: 400 }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 16px }
figure { margin: 0; background: var(--card); border: 1px solid var(--edge); border-radius: 8px; padding: 12px }
.legend { list-style: none; margin: 0 0 6px; padding: 0; display: flex; flex-wrap: wrap; gap: 2px 16px;
  font-size: .85rem; color: var(--quiet) }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem }
caption { text-align: left; color: var(--quiet); padding: 0 0 4px; font-size: .85rem }
th, td { padding: 5px 10px 5px 0; border-bottom: 1px solid var(--edge); text-align: right; vertical-align: top;
  white-space: nowrap }
th { font-weight: 600 }
th:first-child, td:first-child, .words td { text-align: left; white-space: normal }
.words td { overflow-wrap: anywhere }
.words td:first-child { min-width: 8rem; color: var(--quiet) }
"""
_SLOWEST = 10
_NONE = "n/a"

Cells = Sequence[str]


def html_page(report: RunReport) -> str:
    """The whole page. `comparison` is shown when it is made as the documentation says, and left out otherwise."""
    title = f"Bench of {report.label}"
    body = [
        "<header>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{escape(_what(report.settings))} &middot; {escape(report.generated_at)}</p>',
        *_verdicts(report),
        "</header>",
        _tiles(report),
        *_section("Over the run", _charts(charts_of(report))),
        *_section("Times", _times(report.samples)),
        *_section("Against the baseline", _checks(report)),
        *_section("Errors", _errors(report.samples)),
        *_section("Quality", _quality(report.samples)),
        *_section("The slowest answers", _slowest(report.samples)),
        *_section("Settings", _facts(report)),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}{CHART_STYLE}</style>",
            "</head>",
            "<body><main>",
            *body,
            "</main></body>",
            "</html>\n",
        ]
    )


def _what(settings: RunSettings) -> str:
    how = f"{settings.clients} clients, closed loop" if settings.rate is None else f"open loop, {settings.rate:g}/s"
    return f"{settings.workload} · {settings.requests} requests · {how} · {settings.target}"


def _verdicts(report: RunReport) -> Iterator[str]:
    if report.broken_off is not None:
        yield f'<p class="bad">Broken off: {escape(report.broken_off)}</p>'
    passed = None if report.comparison is None else report.comparison.get("passed")
    if isinstance(passed, bool):
        word, kind = ("passed", "good") if passed else ("missed", "bad")
        yield f'<p class="{kind}">The baseline was {word}.</p>'


def _section(title: str, content: Sequence[str]) -> list[str]:
    return ["<section>", f"<h2>{escape(title)}</h2>", *content, "</section>"] if content else []


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
            number(tokens * 1000 / report.wall_ms) if report.wall_ms else _NONE,
            "all clients together",
        ),
        (
            "Prompt reused",
            f"{sum(reuse) / len(reuse):.0f} %" if reuse else _NONE,
            "of the tokens, mean of cold answers",
        ),
        ("From the cache", _share(answered, lambda one: one.cached), "of the answers"),
        ("Shared with a twin", _share(answered, lambda one: one.deduplicated), "of the answers"),
        ("Degraded", _share(answered, lambda one: one.degraded), "of the answers"),
    ]
    shown = [f"<div><dt>{name}</dt><dd>{value}<small>{about}</small></dd></div>" for name, value, about in tiles]
    return f'<dl class="tiles">{"".join(shown)}</dl>'


def _spread(latency: Sequence[float]) -> str:
    return f"p95 {_time(latency, 0.95)}, max {_time(latency, 1)}, n {len(latency)}"


def _share(answered: Sequence[Sample], holds: Callable[[Sample], bool]) -> str:
    return f"{100 * sum(map(holds, answered)) / len(answered):.0f} %" if answered else _NONE


def _time(values: Sequence[float], share: float) -> str:
    return milliseconds(quantile(values, share)) if values else _NONE


def milliseconds(value: float) -> str:
    """A time for people: 843 ms, 12.3 s."""
    return f"{number(value)} ms" if value < 10_000 else f"{number(value / 1000)} s"


def _charts(charts: Sequence[Chart]) -> list[str]:
    if not charts:
        return []
    drawn = [
        f"<figure><h3>{escape(chart.title)}</h3>{legend_html(chart)}{chart_svg(chart)}</figure>" for chart in charts
    ]
    return ['<div class="charts">', *drawn, "</div>"]


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
    return _table(about, ["", "p50", "p95", "p99", "max", "n"], rows)


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
    return _table("", ["metric", "expected", "actual", ""], rows)


def _value(part: Part, key: str) -> str:
    value = part.values.get(key)
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _errors(samples: Sequence[Sample]) -> list[str]:
    codes = Counter(one.code for one in samples if one.code is not None)
    rows = [[code, str(count), f"{100 * count / len(samples):.1f} %"] for code, count in codes.most_common()]
    return _table("", ["code", "requests", "of all sent"], rows)


def _quality(samples: Sequence[Sample]) -> list[str]:
    scored = [one.quality_score for one in samples if one.quality_score is not None]
    if not scored:
        return []
    passed = sum(1 for one in samples if one.quality_score is not None and not one.quality_failures)
    failures = Counter(failure for one in samples for failure in one.quality_failures)
    head = f"<p>{passed} of {len(scored)} answers passed; mean score {number(sum(scored) / len(scored))} of 100.</p>"
    return [head, *_table("", ["failure", "answers"], [[name, str(n)] for name, n in failures.most_common()])]


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
    return _table("", ["request", "item", "sent at", "latency", "first token", "queue", "tokens", "prefix"], rows)


def _facts(report: RunReport) -> list[str]:
    settings = report.settings
    rows = [
        ["target", settings.target],
        ["workload", f"{settings.workload}, {settings.items} items, SHA-256 {settings.workload_digest[:16]}…"],
        ["loop", _what(settings).split(" · ")[2]],
        ["warm-up", f"{settings.warmup} requests, not in here"],
        ["response cache", "not used (cache: false sent)" if settings.no_cache else "as the gateway is configured"],
        ["took", milliseconds(report.wall_ms)],
        *([name, value] for name, value in report.facts.items()),
    ]
    return _table("", [], rows, kind="words")


def _table(about: str, columns: Cells, rows: Sequence[Cells], kind: str = "") -> list[str]:
    if not rows:
        return []
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return [
        f'<div class="wide"><table{f" class={kind}" if kind else ""}>',
        *([f"<caption>{escape(about)}</caption>"] if about else []),
        *([f"<thead><tr>{head}</tr></thead>"] if columns else []),
        f"<tbody>{''.join(body)}</tbody>",
        "</table></div>",
    ]
