"""What the page of a `prefix` report shows besides its rows: the latency of every request, and the passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ray.bench.budgets.prefix_report import PASS_TITLES, SERIES_PLACES
from ray.bench.reading.read_report import ReadReport
from ray.bench.report.chart import Chart, Layer
from ray.bench.report.page_parts import figures, section, table
from ray.bench.report.report import number
from ray.bench.run.report import Part


def prefix_sections(report: ReadReport) -> list[str]:
    """Markup. Raises `MeasurementError` when a pass is not as it should be."""
    passes = Part(report.document, "report").parts("passes")
    about = "Every pass of every side. Times in seconds; p50 of whole answers and of first tokens."
    columns = ["side", "pass", "round", "took", "tok/s", "p50", "first token", "reused"]
    return [
        *section("Latency by request", figures(latency_charts(passes))),
        *section("Passes", table(about, columns, [_cells(one) for one in passes], kind="named")),
    ]


def latency_charts(passes: Sequence[Part]) -> list[Chart]:
    """One for each pass of the first round, all with the same height, so that they can be read beside each other."""
    first = [one for one in passes if one.count("round") == 1]
    highest = max((value for one in first for _, value in _points(one)), default=0.0)
    charts = []
    for name, title in PASS_TITLES.items():
        layers = [Layer(_label(one), _place(one), _points(one)) for one in first if one.text("pass") == name]
        charts.append(Chart(title.capitalize(), "request, in order of asking", "seconds", layers, y_top=highest))
    return [chart for chart in charts if chart.shown]


def _label(one: Part) -> str:
    return one.maybe_text("label") or one.text("side")


def _points(one: Part) -> list[tuple[float, float]]:
    return [(float(place), request.number("latency")) for place, request in enumerate(one.parts("requests"), 1)]


def _place(one: Part) -> int:
    places: Mapping[str, int] = SERIES_PLACES
    return places.get(one.text("side"), 2)


def _cells(one: Part) -> list[str]:
    return [
        _label(one),
        one.text("pass"),
        str(one.count("round")),
        number(one.number("seconds")),
        number(one.number("tokensPerSecond")),
        number(one.part("latency").number("p50")),
        number(one.part("firstToken").number("p50")),
        f"{one.number('reusedShare'):.0%}",
    ]
