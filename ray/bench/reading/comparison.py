"""Two reports beside each other: what each row was, how it changed, how far chance could have moved it, and a verdict.

Shared by the comparisons of runs, which have samples to draw from (`compare_runs`), and of all other reports, which
have rows with a spread (`compare_rows`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ray.bench.report.figures import Figure, single
from ray.bench.report.report import Row, number
from ray.clock import iso_now

COMPARE_KIND = "compare-report"
COMPARE_VERSION = 1
MARGIN_PERCENT = 5.0
_NOT_SHOWN = "n/a"


class Side(Protocol):
    """What is said about one of the two reports."""

    @property
    def label(self) -> str: ...

    @property
    def generated_at(self) -> str: ...

    @property
    def target(self) -> str | None: ...


S = TypeVar("S", bound=Side, covariant=True)


@dataclass(frozen=True, slots=True)
class Compared:
    """One row of both reports. `change`: B to A as a ratio, or B minus A when `points` (of shares, in percentage
    points) or `difference` (of values that may be 0 or less, in the row's unit); its `low` and `high` are the bounds of
    the noise, and without bounds `samples` is 1. `verdict`: `better`, `worse`, `differs` (neither), `same` (the bounds
    do not rule it out), `too few` samples for bounds; None when one report lacks it."""

    id: str
    label: str
    unit: str
    before: float | None
    after: float | None
    change: Figure | None
    verdict: str | None
    points: bool = False
    difference: bool = False
    more_is_better: bool | None = None


@dataclass(frozen=True, slots=True)
class Comparison(Generic[S]):
    """`kind`: of both reports. `notes`: what else differs between them, as text. `margin`: percent by which a ratio
    must at least differ."""

    kind: str
    before: S
    after: S
    margin: float
    rows: Sequence[Compared]
    notes: Sequence[str]

    @property
    def worse(self) -> list[Compared]:
        return [row for row in self.rows if row.verdict == "worse"]


def verdict_of(change: Figure | None, none: float, margin: float, more_is_better: bool | None) -> str | None:
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


def changes_as_rows(comparison: Comparison[S]) -> list[Row]:
    """The changes as rows of a report of their own: ratios, and differences of shares in points. Bounds that are not
    finite are left out."""
    rows = []
    for one in comparison.rows:
        if one.change is None:
            continue
        bounded = math.isfinite(one.change.low) and math.isfinite(one.change.high)
        figure = one.change if bounded else single(one.change.value)
        unit = "points" if one.points else one.unit if one.difference else "x"
        rows.append(Row(one.id, one.label, unit, figure, note=None, more_is_better=one.more_is_better))
    return rows


def comparison_text(comparison: Comparison[S]) -> str:
    """The comparison for a terminal, ending with a newline."""
    columns = ("what", "A", "B", "B to A", "bounds", "verdict")
    lines = [columns, *(_cells(row) for row in comparison.rows if row.before is not None or row.after is not None)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    shown = [
        *(f"{name}: {_side_text(side)}" for name, side in (("A", comparison.before), ("B", comparison.after))),
        *comparison.notes,
        "",
    ]
    for line in lines:
        cells = [line[0].ljust(widths[0]), *(line[place].rjust(widths[place]) for place in range(1, 5)), line[5]]
        shown.append("  ".join(cells).rstrip())
    shown.append("")
    return "\n".join([*shown, *_conclusion(comparison.rows)]) + "\n"


def _conclusion(rows: Sequence[Compared]) -> Iterator[str]:
    """What the verdicts come to, one line each."""
    for word, said in (("better", "B is better in"), ("worse", "B is worse in"), ("differs", "B differs in")):
        labels = "; ".join(row.label for row in rows if row.verdict == word)
        if labels:
            yield f"{said}: {labels}"
    judged = [row.verdict for row in rows if row.verdict is not None]
    if not judged:
        yield "Nothing could be judged: the reports have no figure in common."
        return
    few = judged.count("too few")
    if "worse" not in judged and few < len(judged):
        yield "B is worse in nothing that these reports can tell."
    if few:
        which = "Nothing could be judged" if few == len(judged) else f"{few} of {len(judged)} rows could not be judged"
        yield f"{which}: too few repetitions or samples to tell a change from chance."


def _side_text(side: Side) -> str:
    return ", ".join([side.label, side.generated_at, *([side.target] if side.target else [])])


def _signed(value: float) -> str:
    return f"{value:+.1f}" if abs(value) >= 1 else f"{value:+.2f}"


def _cells(row: Compared) -> tuple[str, str, str, str, str, str]:
    sides = [
        _NOT_SHOWN if value is None else f"{number(value)} {row.unit}".rstrip() for value in (row.before, row.after)
    ]
    if row.change is None:
        return row.label, sides[0], sides[1], _NOT_SHOWN, "", ""
    change = row.change
    if row.points or row.difference:
        unit = "points" if row.points else row.unit
        return (
            row.label,
            sides[0],
            sides[1],
            f"{_signed(change.value)} {unit}".rstrip(),
            f"{_signed(change.low)}..{_signed(change.high)}" if change.samples > 1 else "",
            row.verdict or "",
        )
    bounds = f"{number(change.low)}..{number(change.high)}" if change.samples > 1 else ""
    return row.label, sides[0], sides[1], f"{number(change.value)} x", bounds, row.verdict or ""


def comparison_document(comparison: Comparison[S]) -> dict[str, object]:
    """The comparison as JSON data."""
    return {
        "kind": COMPARE_KIND,
        "version": COMPARE_VERSION,
        "generatedAt": iso_now(),
        "of": comparison.kind,
        "marginPercent": comparison.margin,
        "a": _side_document(comparison.before),
        "b": _side_document(comparison.after),
        "notes": list(comparison.notes),
        "rows": [_row_document(row) for row in comparison.rows],
        "better": [row.id for row in comparison.rows if row.verdict == "better"],
        "worse": [row.id for row in comparison.worse],
    }


def _side_document(side: Side) -> dict[str, object]:
    document: dict[str, object] = {"label": side.label, "generatedAt": side.generated_at}
    return document if side.target is None else {**document, "target": side.target}


def _row_document(row: Compared) -> dict[str, object]:
    document: dict[str, object] = {"id": row.id, "label": row.label, "unit": row.unit}
    for key, value in (("a", row.before), ("b", row.after), ("verdict", row.verdict)):
        if value is not None:
            document[key] = value
    if row.change is not None:
        how = "points" if row.points else "difference" if row.difference else "ratio"
        if math.isfinite(row.change.value):
            document[how] = row.change.value
        if row.change.samples > 1:
            # JSON has no infinity; a ratio without an upper bound has no key for it.
            bounds = {"low": row.change.low, "high": row.change.high}
            document |= {key: value for key, value in bounds.items() if math.isfinite(value)}
    return document
