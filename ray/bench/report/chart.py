"""One chart as inline SVG for the HTML page: points, lines, steps or bars over two axes that start at 0.

A chart stretches to the width it is given, and its colours come from the page's style sheet (`STYLE` here), so that
light and dark are decided in one place. A layer is one path however many values it has: a long run stays a small page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Literal

from ray.bench.report.plot import tick_step

Shape = Literal["points", "line", "steps", "bars"]

_WIDTH, _HEIGHT = 380, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 42
_ACROSS, _UP = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
STYLE = """
:root { --s0: #0072b2; --s1: #d55e00; --s2: #8a5fb0; --grid: #d9e0e7; --axis: #7b8794 }
@media (prefers-color-scheme: dark) {
  :root { --s0: #56b4e9; --s1: #ff8c42; --s2: #c9a5e8; --grid: #2d3742; --axis: #7b8794 }
}
svg.chart { display: block; width: 100%; height: auto }
svg.chart text { font: 13px system-ui, sans-serif; fill: var(--quiet) }
svg.chart .grid { stroke: var(--grid) }
svg.chart .axis { stroke: var(--axis) }
svg .mark { fill: none; stroke-width: 6; stroke-opacity: .7 }
svg .line { fill: none; stroke-width: 2 }
svg .below { stroke-width: 6; stroke-opacity: .5 }
svg .bar { stroke: none }
svg .level { stroke: var(--text); stroke-width: 1.5; stroke-dasharray: 6 4 }
.s0 { stroke: var(--s0); fill: var(--s0); stroke-linecap: round }
.s1 { stroke: var(--s1); fill: var(--s1); stroke-linecap: square }
.s2 { stroke: var(--s2); fill: var(--s2) }
svg .triangle { stroke: none; fill-opacity: .8 }
"""


@dataclass(frozen=True, slots=True)
class Layer:
    """Values as (x, y), both 0 or more, x ascending. `place`: which colour and marker, 0 to 2. Bars reach from their x
    to the next one's, and the last value only ends the one before it. `below`: a broad pale line, still seen where the
    next layer's line lies on it."""

    name: str
    place: int
    values: Sequence[tuple[float, float]]
    shape: Shape = "points"
    below: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """`level`: the height of one dashed line across, with what it is. `y_top`: where the vertical axis ends; by default
    at the first round number above all values. `x_end`: how far the horizontal one reaches at least."""

    title: str
    x_label: str
    y_label: str
    layers: Sequence[Layer]
    level: tuple[str, float] | None = None
    y_top: float | None = None
    x_end: float = 0.0

    @property
    def shown(self) -> list[Layer]:
        return [layer for layer in self.layers if layer.values]


@dataclass(frozen=True, slots=True)
class _Scale:
    x_end: float
    y_end: float
    y_step: float

    def x(self, value: float) -> float:
        return _LEFT + _ACROSS * value / self.x_end

    def y(self, value: float) -> float:
        return _TOP + _UP * (1 - min(value, self.y_end) / self.y_end)


def chart_svg(chart: Chart) -> str:
    """The drawing. Raises `ValueError` when the chart has no value at all."""
    if not chart.shown:
        raise ValueError("a chart needs at least one value")
    scale = _scale(chart)
    label = escape(f"{chart.title}: {chart.y_label} over {chart.x_label}", quote=True)
    lines = [f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">']
    lines += _axes(chart, scale)
    lines += [_layer(layer, scale) for layer in chart.shown]
    if chart.level is not None:
        y = scale.y(chart.level[1])
        lines.append(f'<path class="level" d="M{_LEFT} {y:.1f}h{_ACROSS}"/>')
    return "\n".join([*lines, "</svg>"])


def legend_html(chart: Chart) -> str:
    """What the markers mean, in the order of the layers; each with the marker itself, not its colour alone."""
    keys = [f"<li>{_key(layer)} {escape(layer.name)}</li>" for layer in chart.shown]
    if chart.level is not None:
        dashed = '<svg width="26" height="12" aria-hidden="true"><path class="level" d="M0 6h26"/></svg>'
        keys.append(f"<li>{dashed} {escape(chart.level[0])}</li>")
    return f'<ul class="legend">{"".join(keys)}</ul>'


def _key(layer: Layer) -> str:
    if layer.shape in ("line", "steps"):
        drawn = f'<path class="{_line_kind(layer)}" d="M2 6h14"/>'
    elif layer.shape == "bars":
        drawn = f'<rect class="bar s{layer.place}" x="4" y="1" width="10" height="10"/>'
    else:
        drawn = _points(layer.place, [(9.0, 6.0)])
    return f'<svg width="18" height="12" aria-hidden="true">{drawn}</svg>'


def _scale(chart: Chart) -> _Scale:
    values = [value for layer in chart.shown for value in layer.values]
    largest = max([y for _, y in values] + ([chart.level[1]] if chart.level else []))
    end = chart.y_top if chart.y_top is not None else largest
    step = tick_step(end)
    return _Scale(max(chart.x_end, *(x for x, _ in values)) or 1.0, step * max(1, math.ceil(end / step - 1e-9)), step)


def _axes(chart: Chart, scale: _Scale) -> Iterator[str]:
    for turn in range(round(scale.y_end / scale.y_step) + 1):
        value = turn * scale.y_step
        y = scale.y(value)
        yield f'<path class="grid" d="M{_LEFT} {y:.1f}h{_ACROSS}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    yield f'<path class="axis" d="M{_LEFT} {_TOP + _UP}h{_ACROSS}"/>'
    step = tick_step(scale.x_end)
    for turn in range(int(scale.x_end / step + 1e-9) + 1):
        x = scale.x(turn * step)
        yield f'<text x="{x:.1f}" y="{_TOP + _UP + 16}" text-anchor="middle">{turn * step:g}</text>'
    yield f'<text x="{_LEFT + _ACROSS / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(chart.x_label)}</text>'
    turned = f'x="12" y="{_TOP + _UP / 2}" transform="rotate(-90 12 {_TOP + _UP / 2})"'
    yield f'<text {turned} text-anchor="middle">{escape(chart.y_label)}</text>'


def _layer(layer: Layer, scale: _Scale) -> str:
    places = [(scale.x(x), scale.y(y)) for x, y in layer.values]
    kind = f"s{layer.place}"
    if layer.shape == "points":
        return _points(layer.place, places)
    if layer.shape == "bars":
        bottom = scale.y(0)
        bars = [
            f"M{x:.1f} {bottom:.1f}V{y:.1f}H{max(x + 0.5, until - 1):.1f}V{bottom:.1f}z"
            for (x, y), (until, _) in pairwise(places)
        ]
        return f'<path class="bar {kind}" d="{"".join(bars)}"/>'
    joined = [f"M{places[0][0]:.1f} {places[0][1]:.1f}"]
    for x, y in places[1:]:
        joined.append(f"H{x:.1f}V{y:.1f}" if layer.shape == "steps" else f"L{x:.1f} {y:.1f}")
    return f'<path class="{_line_kind(layer)}" d="{"".join(joined)}"/>'


def _line_kind(layer: Layer) -> str:
    return f"line {'below ' if layer.below else ''}s{layer.place}"


def _points(place: int, places: Sequence[tuple[float, float]]) -> str:
    """A circle, a square or a triangle each. The first two are strokes without length and with round or square ends."""
    if place == 2:
        drawn = "".join(f"M{x:.1f} {y - 4:.1f}l4 7.2h-8z" for x, y in places)
        return f'<path class="triangle s2" d="{drawn}"/>'
    drawn = "".join(f"M{x:.1f} {y:.1f}h.01" for x, y in places)
    return f'<path class="mark s{place}" d="{drawn}"/>'
