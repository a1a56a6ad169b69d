"""A chart: well-formed SVG, values where they belong, the same page size however long the run was."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from ray.bench.report.chart import STYLE, Chart, Layer, Shape, chart_svg, legend_html


def _chart(*layers: Layer, level: tuple[str, float] | None = None, y_top: float | None = None) -> Chart:
    return Chart("Times <of> all", "seconds & more", "ms", layers, level, y_top)


def _drawn(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(chart_svg(chart))


def _path(drawing: ElementTree.Element, kind: str) -> str:
    return next(path.attrib["d"] for path in drawing.iter("path") if path.attrib["class"] == kind)


def _places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"M([\d.]+) ([\d.]+)", path)]


def test_points_stand_in_proportion_on_both_axes() -> None:
    drawing = _drawn(_chart(Layer("a", 0, [(0, 0), (1, 10), (2, 20)])))
    first, second, third = _places(_path(drawing, "mark s0"))
    assert second[0] - first[0] == pytest.approx(third[0] - second[0], abs=0.2)
    assert first[1] - second[1] == pytest.approx(second[1] - third[1], abs=0.2)
    assert third[0] > first[0]
    assert third[1] < first[1]


@pytest.mark.parametrize(
    ("shape", "place", "kind"),
    [
        ("points", 0, "mark s0"),
        ("points", 1, "mark s1"),
        ("points", 2, "triangle s2"),
        ("line", 0, "line s0"),
        ("steps", 1, "line s1"),
        ("bars", 2, "bar s2"),
    ],
)
def test_a_layer_is_one_path_however_many_values_it_has(shape: Shape, place: int, kind: str) -> None:
    drawing = _drawn(_chart(Layer("a", place, [(number, 5) for number in range(500)], shape)))
    assert len([path for path in drawing.iter("path") if path.attrib["class"] == kind]) == 1


def test_bars_end_where_the_next_begins() -> None:
    path = _path(_drawn(_chart(Layer("a", 0, [(0, 1), (1, 2), (2, 0)], "bars"))), "bar s0")
    bars = [part for part in path.split("z") if part]
    assert len(bars) == 2
    (first_left, _), (second_left, _) = _places(path)
    first_right = float(re.findall(r"H([\d.]+)", bars[0])[0])
    assert first_left < first_right < second_left


def test_the_top_of_the_axis_can_be_given() -> None:
    texts = [text.text for text in _drawn(_chart(Layer("a", 0, [(1, 3)]), y_top=100)).iter("text")]
    assert "100" in texts


def test_a_level_above_all_values_is_still_within() -> None:
    drawing = _drawn(_chart(Layer("a", 0, [(1, 3)]), level=("limit", 90)))
    assert _places(_path(drawing, "level"))[0][1] >= 0
    assert "90" in [text.text for text in drawing.iter("text")] or "100" in [text.text for text in drawing.iter("text")]


def test_a_layer_below_another_is_broad_in_the_drawing_and_in_the_legend() -> None:
    chart = _chart(
        Layer("lower", 1, [(0, 1), (1, 2)], "steps", below=True), Layer("upper", 0, [(0, 1), (1, 2)], "steps")
    )
    assert chart_svg(chart).count('class="line below s1"') == 1
    assert legend_html(chart).count('class="line below s1"') == 1
    assert chart_svg(chart).index("below") < chart_svg(chart).index('class="line s0"')


def test_labels_and_legend_are_escaped_and_empty_layers_are_left_out() -> None:
    chart = _chart(Layer("<a>", 0, [(1, 1)]), Layer("none", 1, []), level=("p50 & more", 1))
    assert _drawn(chart).attrib["aria-label"] == "Times <of> all: ms over seconds & more"
    items = list(ElementTree.fromstring(legend_html(chart)).iter("li"))
    assert ["".join(item.itertext()).strip() for item in items] == ["<a>", "p50 & more"]


def test_one_value_at_zero_can_be_drawn_and_none_is_refused() -> None:
    assert _places(_path(_drawn(_chart(Layer("a", 0, [(0, 0)]))), "mark s0"))
    with pytest.raises(ValueError, match="at least one value"):
        chart_svg(_chart(Layer("a", 0, [])))


def test_the_colours_of_all_three_places_have_a_light_and_a_dark_value() -> None:
    light, dark = STYLE.split("prefers-color-scheme: dark")
    for place in range(3):
        assert f"--s{place}:" in light
        assert f"--s{place}:" in dark


def test_an_axis_that_is_longer_than_the_values_leaves_room() -> None:
    short, long = (
        _places(_path(_drawn(Chart("t", "x", "y", [Layer("a", 0, [(1, 1)])], x_end=end)), "mark s0"))[0][0]
        for end in (0.0, 2.0)
    )
    assert long < short
