"""A report as one HTML page, whatever its kind: its rows against their budgets, drawn and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ray.bench.reading.read_report import ReadReport
from ray.bench.report.page_parts import Cells, page, section, table, verdict
from ray.bench.report.range_chart import Range, RangeChart, range_figure
from ray.bench.report.report import Row, cells, number

# A budget that is missed by more than this many times would make all others too small to be seen.
_WIDEST = 300.0
# A bar that is shorter than this, to the longest beside it, gets a drawing with its like.
_SMALLEST_SHARE = 0.02
_UNIT_TITLES: Mapping[str, str] = {
    "ms": "Times",
    "us": "Times, in microseconds",
    "s": "Times, in seconds",
    "MB": "Memory",
    "/s": "Rates",
    "tok/s": "Tokens per second",
    "x": "Ratios",
    "%": "Shares",
    "points": "Differences of shares",
    "": "Counts and scores",
}


def rows_page(report: ReadReport, more: Iterable[str] = ()) -> str:
    """The whole page; `more`: sections that only this kind has, as markup."""
    return page(
        f"Bench of {report.label}",
        " · ".join([report.kind, *([report.target] if report.target else []), report.generated_at]),
        verdicts(report),
        [*more, *section("Figures", row_figures(report.rows)), *row_sections(report)],
    )


def row_sections(report: ReadReport) -> list[str]:
    """The rows as a table, the notes on them, and what the report was made of."""
    settings = {name: _setting(value) for name, value in report.settings.items()}
    facts = [[name, value] for name, value in [*settings.items(), *report.facts.items()]]
    return [
        *section("Rows", rows_table(report.rows)),
        *section("Notes", table("", [], [[row.label, row.note] for row in report.rows if row.note], kind="words")),
        *section("Settings", table("", [], facts, kind="words")),
    ]


def verdicts(report: ReadReport) -> list[str]:
    """Whether the budgets were kept, and why a report is not whole."""
    shown = []
    broken_off = report.document.get("brokenOff")
    if isinstance(broken_off, str):
        shown.append(verdict(False, f"Broken off: {broken_off}"))
    judged = [row for row in report.rows if row.verdict is not None]
    missed = [row.label for row in judged if row.missed]
    if judged:
        kept = "The budget was kept." if len(judged) == 1 else f"All {len(judged)} budgets were kept."
        shown.append(verdict(not missed, f"Budgets missed: {'; '.join(missed)}." if missed else kept))
    return shown


def rows_table(rows: Sequence[Row]) -> list[str]:
    """Every row, also those that were not measured."""
    shown: list[Cells] = []
    for row in rows:
        samples = str(row.figure.samples) if row.figure is not None and row.figure.samples > 1 else ""
        label, measured, spread, budget, judged = cells(row)
        shown.append([label, measured, spread, samples, _sign(budget), judged])
    return table("", ["what", "measured", "spread", "n", "budget", "verdict"], shown, kind="named")


def row_figures(rows: Sequence[Row]) -> list[str]:
    """The rows with a budget on one scale, as shares of it; the others by their units."""
    measured = [row for row in rows if row.figure is not None]
    limited = [row for row in measured if row.budget is not None and row.budget.limit > 0]
    charts = [
        RangeChart(
            "Against the budgets",
            "In percent of the budget, the dashed line. Short of it is good where at most that much is allowed (≤), "
            "beyond it where at least that much is wanted (≥).",
            "%",
            [_of_budget(row) for row in limited],
            _WIDEST,
        )
    ]
    units: dict[str, list[Range]] = {}
    for row in measured:
        # Among numbers without a unit only those that can be better or worse are alike enough to share a drawing.
        if row not in limited and (row.unit or row.direction is not None):
            units.setdefault(row.unit, []).append(_range(row))
    charts += [chart for unit, ranges in units.items() for chart in unit_charts(unit, ranges)]
    drawn = [figure for figure in map(range_figure, charts) if figure]
    return ['<div class="charts">', *drawn, "</div>"] if drawn else []


def unit_charts(unit: str, ranges: Sequence[Range]) -> list[RangeChart]:
    """The rows of one unit, on as many scales as it takes to see each of them. One alone says nothing in a drawing."""
    title = _UNIT_TITLES.get(unit, f"In {unit}")
    smallest, reach = (0.0, 100.0) if unit == "%" else (_SMALLEST_SHARE, 0.0)
    charts: list[RangeChart] = []
    rest = list(ranges)
    while rest:
        largest = max(abs(one.value) for one in rest)
        shown = [one for one in rest if not one.value or abs(one.value) >= largest * smallest]
        rest = [one for one in rest if one not in shown]
        if len(shown) > 1:
            name = f"{title} up to {number(largest)} {unit}".rstrip() if len(shown) < len(ranges) else title
            about = "The line spans the spread." if any(one.low < one.high for one in shown) else ""
            charts.append(RangeChart(name, about, unit, shown, reach=reach))
    return charts


def _of_budget(row: Row) -> Range:
    if row.figure is None or row.budget is None:
        raise ValueError("only a measured row with a budget can be drawn against it")
    _, measured, _, budget, _ = cells(row)
    part = 100 / row.budget.limit
    figure = row.figure
    words = f"{measured}, {_sign(budget)}"
    return Range(row.label, words, figure.value * part, figure.low * part, figure.high * part, 100.0, row.missed)


def _range(row: Row) -> Range:
    if row.figure is None:
        raise ValueError("only a measured row can be drawn")
    return Range(row.label, cells(row)[1], row.figure.value, row.figure.low, row.figure.high, missed=row.missed)


def _sign(budget: str) -> str:
    return budget.replace(">=", "≥").replace("<=", "≤")


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
