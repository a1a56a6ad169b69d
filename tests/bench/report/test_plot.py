"""The plot: well-formed SVG in which every value stands where it belongs."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from ray.bench.report.plot import Panel, Series, scatter_svg, tick_step

SVG = "{http://www.w3.org/2000/svg}"


def _drawn(*panels: Panel) -> ElementTree.Element:
    return ElementTree.fromstring(scatter_svg("Times <of> all & any", panels, x_label="request", y_label="seconds"))


def _texts(drawing: ElementTree.Element) -> list[str]:
    return ["".join(text.itertext()) for text in drawing.iter(f"{SVG}text")]


def _circle_heights(drawing: ElementTree.Element) -> list[float]:
    """Of the values; the first circle is the legend's."""
    return [float(circle.attrib["cy"]) for circle in drawing.iter(f"{SVG}circle")][1:]


def test_every_value_has_a_marker_and_every_series_its_own_kind() -> None:
    drawing = _drawn(Panel("first", [Series("a", 0, [1, 2, 3]), Series("b", 1, [4, 5]), Series("c", 2, [6])]))
    assert len(_circle_heights(drawing)) == 3
    assert len([one for one in drawing.iter(f"{SVG}rect") if one.attrib["class"] == "s1"]) == 2 + 1
    assert len([one for one in drawing.iter(f"{SVG}path") if one.attrib["class"] == "s2"]) == 1 + 1


def test_larger_values_stand_higher_in_proportion_and_zero_on_the_axis() -> None:
    zero, one, two = _circle_heights(_drawn(Panel("first", [Series("a", 0, [0, 1, 2])])))
    assert zero > one > two
    assert zero - one == pytest.approx(one - two, abs=0.2)


def test_panels_share_one_scale() -> None:
    drawing = _drawn(Panel("first", [Series("a", 0, [5])]), Panel("second", [Series("a", 0, [5, 40])]))
    first, second, _ = _circle_heights(drawing)
    assert first == second


def test_values_of_a_series_stand_from_left_to_right() -> None:
    drawing = _drawn(Panel("first", [Series("a", 0, [3, 1, 2, 5])]))
    places = [float(circle.attrib["cx"]) for circle in drawing.iter(f"{SVG}circle")][1:]
    assert all(left < right for left, right in pairwise(places))


def test_title_panels_axes_and_series_are_named_and_escaped() -> None:
    texts = _texts(_drawn(Panel("cold & dark", [Series("<direct>", 1, [1.5, 2.5])])))
    for expected in ("Times <of> all & any", "cold & dark", "<direct>", "request", "seconds", "dashed: median"):
        assert expected in texts


def test_both_axes_carry_numbers() -> None:
    texts = _texts(_drawn(Panel("p", [Series("a", 0, [30.0, 10.0])])))
    assert [text for text in texts if text.isdecimal()] == ["0", "10", "20", "30", "1", "2"]


def test_everything_lies_within_the_picture() -> None:
    drawing = _drawn(*(Panel(f"{turn}", [Series("a", 0, [0.01, 7.3, 93.0])]) for turn in range(3)))
    width, height = float(drawing.attrib["width"]), float(drawing.attrib["height"])
    for circle in drawing.iter(f"{SVG}circle"):
        assert 0 < float(circle.attrib["cx"]) < width
        assert 0 < float(circle.attrib["cy"]) < height


def test_the_colours_follow_a_dark_theme() -> None:
    assert "prefers-color-scheme: dark" in scatter_svg("t", [Panel("p", [Series("a", 0, [1])])], x_label="", y_label="")


def test_an_empty_series_is_left_out_but_an_empty_plot_is_refused() -> None:
    assert len(_circle_heights(_drawn(Panel("p", [Series("a", 0, [1]), Series("b", 1, [])])))) == 1
    with pytest.raises(ValueError, match="at least one value"):
        _drawn(Panel("p", [Series("a", 0, [])]))


def test_values_that_are_all_zero_can_be_drawn() -> None:
    assert _circle_heights(_drawn(Panel("p", [Series("a", 0, [0, 0])])))


@pytest.mark.parametrize(
    ("largest", "step"), [(0, 1), (0.43, 0.1), (1, 0.2), (5, 1), (7, 2), (10, 2), (32, 10), (93, 20), (101, 50)]
)
def test_steps_are_round_and_at_most_five(largest: float, step: float) -> None:
    assert tick_step(largest) == pytest.approx(step)
