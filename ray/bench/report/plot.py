"""A scatter plot as SVG text, written with nothing but string formatting.

Panels side by side share one vertical axis that starts at 0, so heights can be compared across them. Series differ in
colour and in the shape of their markers, and the colours follow the reader's light or dark theme.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from ray.bench.report.figures import median

_PANEL_WIDTH, _PANEL_HEIGHT = 340, 280
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 64, 20, 92, 56, 28
_TICKS = 5
_MARKER = 3.4
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2933 }
.title { font-size: 16px; font-weight: 600 }
.panel { font-weight: 600 }
.tick { font-size: 12px; fill: #52606d }
.back { fill: #ffffff }
.grid { stroke: #d9e0e7; stroke-width: 1 }
.axis { stroke: #7b8794; stroke-width: 1 }
.median { stroke-width: 1.5; stroke-dasharray: 6 4 }
.s0 { fill: #0072b2; stroke: #0072b2 }
.s1 { fill: #d55e00; stroke: #d55e00 }
.s2 { fill: #8a5fb0; stroke: #8a5fb0 }
@media (prefers-color-scheme: dark) {
  text { fill: #e4e7eb }
  .tick { fill: #9aa5b1 }
  .back { fill: #14191f }
  .grid { stroke: #2d3742 }
  .axis { stroke: #7b8794 }
  .s0 { fill: #56b4e9; stroke: #56b4e9 }
  .s1 { fill: #ff8c42; stroke: #ff8c42 }
  .s2 { fill: #c9a5e8; stroke: #c9a5e8 }
}
"""


@dataclass(frozen=True, slots=True)
class Series:
    """Values by their place in order. `place`: which colour and marker, 0 to 2."""

    name: str
    place: int
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Panel:
    """One coordinate system of its own."""

    title: str
    series: Sequence[Series]


def scatter_svg(title: str, panels: Sequence[Panel], *, x_label: str, y_label: str) -> str:
    """The whole document. Values are 0 or more. Raises `ValueError` when there is nothing to show."""
    values = [value for panel in panels for series in panel.series for value in series.values]
    if not values:
        raise ValueError("a plot needs at least one value")
    step = tick_step(max(values))
    top = step * max(1, math.ceil(max(values) / step))
    width = _LEFT + len(panels) * _PANEL_WIDTH + (len(panels) - 1) * _GAP + _RIGHT
    height = _TOP + _PANEL_HEIGHT + _BOTTOM
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-labelledby="title">',
        f'<title id="title">{escape(title)}</title>',
        f"<style>{_STYLE}</style>",
        f'<rect class="back" width="{width}" height="{height}"/>',
        f'<text class="title" x="{_LEFT}" y="26">{escape(title)}</text>',
        *_legend(panels),
        f'<text class="tick" x="16" y="{_TOP + _PANEL_HEIGHT / 2:.1f}" text-anchor="middle" '
        f'transform="rotate(-90 16 {_TOP + _PANEL_HEIGHT / 2:.1f})">{escape(y_label)}</text>',
    ]
    for index, panel in enumerate(panels):
        left = _LEFT + index * (_PANEL_WIDTH + _GAP)
        lines += _panel(panel, left, step, top, x_label, numbered=index == 0)
    return "\n".join([*lines, "</svg>"]) + "\n"


def tick_step(largest: float) -> float:
    """A step of 1, 2 or 5 times a power of ten that gives at most five steps up to `largest`."""
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest / _TICKS))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power * _TICKS >= largest * (1 - 1e-9))


def _legend(panels: Sequence[Panel]) -> Iterator[str]:
    names = {series.place: series.name for panel in panels for series in panel.series}
    left = float(_LEFT)
    for place, name in sorted(names.items()):
        yield _marker(place, left + 5, 46)
        yield f'<text x="{left + 16:.1f}" y="50">{escape(name)}</text>'
        left += 16 + 7.2 * len(name) + 24
    yield f'<text class="tick" x="{left:.1f}" y="50">dashed: median</text>'


def _panel(panel: Panel, left: int, step: float, top: float, x_label: str, *, numbered: bool) -> Iterator[str]:
    bottom = _TOP + _PANEL_HEIGHT
    count = max((len(series.values) for series in panel.series), default=1)
    yield f'<text class="panel" x="{left}" y="{_TOP - 14}">{escape(panel.title)}</text>'
    for turn in range(round(top / step) + 1):
        y = _height(turn * step, top)
        yield f'<line class="grid" x1="{left}" x2="{left + _PANEL_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        if numbered:
            label = f"{turn * step:g}"
            yield f'<text class="tick" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    yield f'<line class="axis" x1="{left}" x2="{left + _PANEL_WIDTH}" y1="{bottom}" y2="{bottom}"/>'
    for number in _numbers(count):
        x = _across(number - 1, count, left)
        yield f'<text class="tick" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{number}</text>'
    middle = left + _PANEL_WIDTH / 2
    yield f'<text class="tick" x="{middle:.1f}" y="{bottom + 40}" text-anchor="middle">{escape(x_label)}</text>'
    for series in panel.series:
        if series.values:
            yield from _marks(series, count, left, top)


def _marks(series: Series, count: int, left: int, top: float) -> Iterator[str]:
    y = _height(median(series.values), top)
    yield f'<path class="median s{series.place}" d="M{left} {y:.1f}H{left + _PANEL_WIDTH}"/>'
    for index, value in enumerate(series.values):
        yield _marker(series.place, _across(index, count, left), _height(value, top))


def _marker(place: int, x: float, y: float) -> str:
    """A circle, a square or a triangle, so that the series are told apart without colours."""
    kind = f'class="s{place}" fill-opacity="0.75"'
    if place == 0:
        return f'<circle {kind} cx="{x:.1f}" cy="{y:.1f}" r="{_MARKER}"/>'
    if place == 1:
        return (
            f'<rect {kind} x="{x - _MARKER:.1f}" y="{y - _MARKER:.1f}" width="{2 * _MARKER}" height="{2 * _MARKER}"/>'
        )
    corners = f"M{x:.1f} {y - _MARKER - 0.8:.1f}l{_MARKER + 0.8} {2 * _MARKER + 0.8}h-{2 * _MARKER + 1.6}z"
    return f'<path {kind} d="{corners}"/>'


def _numbers(count: int) -> list[int]:
    """Which places get a number below the axis: the first, the last, and whole steps between them."""
    step = max(1, round(tick_step(count)))
    between = [number for number in range(step, count, step) if number > 1 and count - number >= step / 2]
    return sorted({1, *between, count})


def _across(index: int, count: int, left: int) -> float:
    return left + (index + 0.5) * _PANEL_WIDTH / max(1, count)


def _height(value: float, top: float) -> float:
    return _TOP + _PANEL_HEIGHT * (1 - value / top)
