"""Two reports of the same kind beside each other, row by row: ratios of the figures, with their spreads as bounds.

A row holds the median of a few repetitions, their smallest and their largest. Two rows differ when these ranges do not
overlap, by more than the margin, and when there were repetitions enough that this is no chance: two draws of n and m
values from one and the same source lie wholly apart with a probability of 2 / C(n + m, n), and what is above 5 % is
"too few" (4 and 4 repetitions suffice, 3 and 3 do not). Shares that were counted have the bounds of counting.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from ray.bench.processes.process import MeasurementError
from ray.bench.reading.comparison import MARGIN_PERCENT, Compared, Comparison, verdict_of
from ray.bench.reading.read_report import ReadReport
from ray.bench.report.figures import Figure, single
from ray.bench.report.noise import share_difference
from ray.bench.report.report import Row

_CHANCE = 0.05
# Settings that say where something was measured, not what.
_PLACES = frozenset({"target", "peer"})
_DIGEST = "workloadDigest"
_NOT_SAID = "n/a"


def compare_rows(
    before: ReadReport, after: ReadReport, *, margin: float = MARGIN_PERCENT, force: bool = False
) -> Comparison[ReadReport]:
    """Compare report B (`after`) with report A (`before`). Raises `MeasurementError` when they are of different kinds
    or have measured different things, unless `force`: then that is a note."""
    reasons = list(_not_the_same(before, after))
    if reasons and not force:
        raise MeasurementError(f"{'; '.join(reasons)}; --force compares them nevertheless")
    others = {row.id: row for row in after.rows}
    here = {row.id for row in before.rows}
    pairs: list[tuple[Row | None, Row | None]] = [(row, others.get(row.id)) for row in before.rows]
    pairs += [(None, row) for row in after.rows if row.id not in here]
    rows = [_compared(one, other, margin) for one, other in pairs]
    return Comparison(before.kind, before, after, margin, rows, [*reasons, *_notes(before, after)])


def _not_the_same(before: ReadReport, after: ReadReport) -> Iterator[str]:
    if before.kind != after.kind:
        yield f'the kinds differ: A is a "{before.kind}", B a "{after.kind}"'
    elif before.version != after.version:
        yield f"the schema versions differ: A has {before.version}, B {after.version}"
    one, other = before.settings, after.settings
    if _DIGEST in one and _DIGEST in other:
        if one[_DIGEST] != other[_DIGEST]:
            yield f"the workloads differ: A sent {one.get('workload')}, B sent {other.get('workload')}"
    elif one and other:
        # Reports from before there were settings cannot be told apart by them.
        yield from _different(one, other)


def _different(one: Mapping[str, object], other: Mapping[str, object]) -> Iterator[str]:
    for name in [*one, *(name for name in other if name not in one)]:
        if name not in _PLACES and one.get(name) != other.get(name):
            yield f"{name}: A {_said(one, name)}, B {_said(other, name)}"


def _notes(before: ReadReport, after: ReadReport) -> Iterator[str]:
    if _DIGEST in before.settings and _DIGEST in after.settings:
        yield from (note for note in _different(before.settings, after.settings) if not note.startswith(_DIGEST))
    for fact in ("Ray", "processor", "gateway runs on", "model"):
        if before.facts.get(fact) != after.facts.get(fact):
            yield f"{fact}: A {_said(before.facts, fact)}, B {_said(after.facts, fact)}"
    for name, report in (("A", before), ("B", after)):
        broken_off = report.document.get("brokenOff")
        if isinstance(broken_off, str):
            yield f"{name} was broken off: {broken_off}"


def _said(values: Mapping[str, object], name: str) -> str:
    return str(values[name]) if name in values else _NOT_SAID


def _compared(before: Row | None, after: Row | None, margin: float) -> Compared:
    row = after or before
    if row is None:
        raise ValueError("a row is in one of the reports at least")
    one, other = (None if side is None else side.figure for side in (before, after))
    values = [None if figure is None else figure.value for figure in (one, other)]
    points = row.unit == "%"
    difference = not points and one is not None and other is not None and min(one.low, other.low) <= 0
    change = verdict = None
    if one is not None and other is not None:
        if points or difference:
            change = _shares(one, other) if points else _difference(one, other)
            widest = 0.0 if points else max(abs(one.value), abs(other.value))
            verdict = _judged(change, 0.0, widest * margin / 100, row.direction)
        else:
            change = _ratio(one, other)
            verdict = _judged(change, 1.0, margin / 100, row.direction)
    return Compared(
        row.id, row.label, row.unit, values[0], values[1], change, verdict, points, difference, row.direction
    )


def _judged(change: Figure, none: float, margin: float, more_is_better: bool | None) -> str | None:
    """What was measured once and came out equal needs no repetitions to be called the same."""
    return "same" if change.value == none else verdict_of(change, none, margin, more_is_better)


def _ratio(before: Figure, after: Figure) -> Figure:
    value, low, high = after.value / before.value, after.low / before.high, after.high / before.low
    return Figure(value, low, high, 2) if _enough(before, after) else Figure(value, value, value, 1)


def _shares(before: Figure, after: Figure) -> Figure:
    """Of shares in percent. One without a spread is so many of `samples`, and chance is that of counting them."""
    if any(figure.low != figure.high or not 0 <= figure.value <= 100 for figure in (before, after)):
        return _difference(before, after)
    counts = [(round(figure.value * figure.samples / 100), figure.samples) for figure in (before, after)]
    if min(before.samples, after.samples) < 2:
        return _difference(before, after)
    bounds = share_difference(counts[0], counts[1])
    value = after.value - before.value
    return Figure(value, min(bounds.low, value), max(bounds.high, value), bounds.samples) if bounds else single(value)


def _difference(before: Figure, after: Figure) -> Figure:
    value, low, high = after.value - before.value, after.low - before.high, after.high - before.low
    return Figure(value, low, high, 2) if _enough(before, after) else Figure(value, value, value, 1)


def _enough(before: Figure, after: Figure) -> bool:
    """Whether ranges that lie apart say something. A figure without a spread was not repeated, whatever it counts."""
    one, other = (1 if figure.low == figure.high else figure.samples for figure in (before, after))
    return 2 / math.comb(one + other, one) <= _CHANCE
