"""The page of a `peers` report: what one side does better, then the charts of both runs beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ray.bench.reading.read_report import ReadReport
from ray.bench.reading.rows_page import row_sections
from ray.bench.report.chart import Chart
from ray.bench.report.page_parts import Cells, figures, page, section, table, verdict
from ray.bench.report.range_chart import Range, RangeChart, range_figure
from ray.bench.report.report import number
from ray.bench.run.charts import charts_of
from ray.bench.run.report import Part, RunReport

_SIDES = (("ray", "Ray"), ("peer", "The other one"))
_NONE = "n/a"


def peers_page(report: ReadReport) -> str:
    """The whole page. Raises `MeasurementError` when one of the two runs or the comparison is not as it should be."""
    document = Part(report.document, "report")
    runs = [RunReport.from_document(document.part(key).values) for key, _ in _SIDES]
    comparison = document.part("comparison")
    about = f"Ray: {runs[0].settings.target} · the other one: {runs[1].settings.target} · {report.generated_at}"
    ratios = range_figure(_ratios(report, comparison))
    return page(
        f"Bench of {report.label}",
        about,
        _verdicts(comparison, runs),
        [
            *section("Ray to the other one", ['<div class="charts">', ratios, "</div>"] if ratios else []),
            *section(
                "Side by side", table("", ["what", "the other one", "Ray", "verdict"], _rows(comparison), kind="named")
            ),
            *section("Over the run", figures(paired(charts_of(runs[0]), charts_of(runs[1])))),
            *row_sections(report),
        ],
    )


def paired(ours: Sequence[Chart], theirs: Sequence[Chart]) -> list[Chart]:
    """The charts of both sides in turn, each pair with the same axes."""
    found = []
    titles = list(dict.fromkeys(chart.title for chart in [*ours, *theirs]))
    for title in titles:
        pair = [
            (name, chart)
            for (_, name), charts in zip(_SIDES, (ours, theirs), strict=True)
            for chart in charts
            if chart.title == title
        ]
        # A chart whose axis ends at a fixed height keeps it.
        top = max(chart.y_top or _highest(chart) for _, chart in pair)
        end = max(_furthest(chart) for _, chart in pair)
        same_unit = len({(chart.y_label, chart.x_label) for _, chart in pair}) == 1
        for name, chart in pair:
            axes = replace(chart, y_top=top, x_end=end) if same_unit else chart
            found.append(replace(axes, title=f"{name}: {title[0].lower()}{title[1:]}"))
    return found


def _highest(chart: Chart) -> float:
    return max(y for layer in chart.shown for _, y in layer.values)


def _furthest(chart: Chart) -> float:
    return max([chart.x_end, *(x for layer in chart.shown for x, _ in layer.values)])


def _verdicts(comparison: Part, runs: Sequence[RunReport]) -> Iterator[str]:
    broken_off = next((run.broken_off for run in runs if run.broken_off is not None), None)
    if broken_off is not None:
        yield verdict(False, f"Broken off: {broken_off}")
    for word, good in (("better", True), ("worse", False)):
        labels = [one.text("label") for one in comparison.parts("rows") if one.maybe_text("verdict") == word]
        if labels:
            yield verdict(good, f"Ray is {word} in: {'; '.join(labels)}.")


def _ratios(report: ReadReport, comparison: Part) -> RangeChart:
    worse = comparison.texts("worse")
    ranges = [
        Range(
            row.label,
            f"{number(row.figure.value)} x",
            row.figure.value,
            row.figure.low,
            row.figure.high,
            1.0,
            row.id in worse,
        )
        for row in report.rows
        if row.figure is not None and row.unit == "x"
    ]
    about = "What Ray measured, divided by what the other one did; the dashed line is 1. The line spans what chance "
    return RangeChart("Ratios", about + "alone could make of it.", "x", ranges, 4.0)


def _rows(comparison: Part) -> list[Cells]:
    shown: list[Cells] = []
    for one in comparison.parts("rows"):
        sides = [one.maybe_number(key) for key in ("a", "b")]
        if sides == [None, None]:
            continue
        unit = one.text("unit")
        values = [_NONE if value is None else f"{number(value)} {unit}".rstrip() for value in sides]
        shown.append([one.text("label"), *values, one.maybe_text("verdict") or ""])
    return shown
