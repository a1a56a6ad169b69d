"""Rows as ranges below each other: a bar up to the measured value, a line over its spread, a mark at its limit.

Every row is a line of the page with its name above and its value beside the drawing, because names are long and phones
are narrow. The drawings of one figure share their scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ray.bench.report.report import number

_WIDTH, _HEIGHT = 1000, 18
STYLE = """
.ranges { list-style: none; margin: 0; padding: 0 }
.ranges li { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 0 10px; padding: 5px 0 7px }
.ranges span { overflow-wrap: anywhere; font-size: .9rem }
.ranges b { font-weight: 600; font-size: .9rem; font-variant-numeric: tabular-nums; text-align: right }
.ranges svg { grid-column: 1 / -1; display: block; width: 100%; height: 18px }
.ranges .base { fill: var(--edge) }
.ranges .value { fill: var(--s0) }
.ranges .missed { fill: var(--bad) }
.ranges .spread { stroke: var(--text); stroke-width: 2; vector-effect: non-scaling-stroke }
.ranges .zero { stroke: var(--axis); stroke-width: 1; vector-effect: non-scaling-stroke }
.ranges .limit { stroke: var(--text); stroke-width: 2; stroke-dasharray: 3 2; vector-effect: non-scaling-stroke }
.scale { display: flex; justify-content: space-between; color: var(--quiet); font-size: .8rem }
"""


@dataclass(frozen=True, slots=True)
class Range:
    """One row. `value`, `low`, `high` and `limit` are in the figure's unit; `shown` is the value in words. `low` and
    `high` are equal where there is no spread; `missed`: the limit was not kept."""

    name: str
    shown: str
    value: float
    low: float
    high: float
    limit: float | None = None
    missed: bool = False


@dataclass(frozen=True, slots=True)
class RangeChart:
    """`about`: what the marks mean, below the title. `end`: where the scale ends at the latest, in the figure's unit;
    what lies beyond is cut there. `reach`: where it ends at the earliest."""

    title: str
    about: str
    unit: str
    ranges: Sequence[Range]
    end: float | None = None
    reach: float = 0.0


def range_figure(chart: RangeChart) -> str:
    """The figure as markup; empty when there is nothing to draw."""
    if not chart.ranges:
        return ""
    ends = [
        0.0,
        chart.reach,
        *(value for one in chart.ranges for value in (one.value, one.low, one.high, one.limit or 0.0)),
    ]
    left = min(ends)
    right = max(ends) if chart.end is None else min(max(ends), chart.end)
    right = right if right > left else left + 1.0
    about = f'<p class="quiet">{escape(chart.about)}</p>' if chart.about else ""
    lines = [_line(one, left, right) for one in chart.ranges]
    scale = "".join(f"<span>{escape(f'{number(value)} {chart.unit}'.rstrip())}</span>" for value in (left, right))
    return (
        f"<figure><h3>{escape(chart.title)}</h3>{about}"
        f'<ul class="ranges">{"".join(lines)}</ul><div class="scale">{scale}</div></figure>'
    )


def _line(one: Range, left: float, right: float) -> str:
    def across(value: float) -> float:
        return _WIDTH * (min(max(value, left), right) - left) / (right - left)

    zero, value = across(0.0), across(one.value)
    begin, width = min(zero, value), max(2.0, abs(value - zero))
    kind = "missed" if one.missed else "value"
    drawn = [f'<rect class="base" width="{_WIDTH}" height="2" y="{_HEIGHT - 2}"/>']
    drawn.append(f'<rect class="{kind}" x="{begin:.1f}" width="{width:.1f}" y="4" height="10"/>')
    if left < 0 < right:
        drawn.append(f'<path class="zero" d="M{zero:.1f} 0v{_HEIGHT}"/>')
    if one.low < one.high:
        drawn.append(f'<path class="spread" d="M{across(one.low):.1f} 9H{across(one.high):.1f}"/>')
        drawn += [f'<path class="spread" d="M{across(end):.1f} 5v8"/>' for end in (one.low, one.high)]
    if one.limit is not None:
        drawn.append(f'<path class="limit" d="M{across(one.limit):.1f} 0v{_HEIGHT}"/>')
    label = escape(f"{one.name}: {one.shown}", quote=True)
    return (
        f"<li><span>{escape(one.name)}</span><b>{escape(one.shown)}</b>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f"{''.join(drawn)}</svg></li>"
    )
