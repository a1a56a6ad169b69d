"""Ranges: bars on one scale, whiskers over the spread, a mark at the limit."""

from __future__ import annotations

import re

from ray.bench.report.range_chart import Range, RangeChart, range_figure


def _widths(markup: str) -> list[float]:
    return [float(width) for width in re.findall(r'class="(?:value|missed)" x="[\d.]+" width="([\d.]+)"', markup)]


def test_bars_share_one_scale() -> None:
    markup = range_figure(RangeChart("T", "", "ms", [Range("a", "50", 50, 50, 50), Range("b", "100", 100, 100, 100)]))
    assert _widths(markup) == [500.0, 1000.0]
    assert "<span>0 ms</span><span>100 ms</span>" in markup


def test_a_spread_has_whiskers_and_a_value_without_one_has_none() -> None:
    assert range_figure(RangeChart("T", "", "", [Range("a", "5", 5, 4, 10)])).count('class="spread"') == 3
    assert range_figure(RangeChart("T", "", "", [Range("a", "5", 5, 5, 5)])).count('class="spread"') == 0


def test_a_limit_is_inside_the_scale_and_a_missed_one_is_marked() -> None:
    markup = range_figure(RangeChart("T", "", "%", [Range("a", "5", 50, 50, 50, 100.0, missed=True)]))
    assert 'class="limit" d="M1000.0 0v18"' in markup
    assert 'class="missed"' in markup


def test_what_lies_beyond_the_end_is_cut_there() -> None:
    markup = range_figure(RangeChart("T", "", "%", [Range("a", "9", 900, 900, 900, 100.0)], 300.0))
    assert _widths(markup) == [1000.0]
    assert 'd="M333.3 0v18"' in markup


def test_values_below_zero_have_their_place() -> None:
    markup = range_figure(RangeChart("T", "", "ms", [Range("a", "-5", -5, -10, 0), Range("b", "10", 10, 10, 10)]))
    assert _widths(markup) == [250.0, 500.0]
    assert "<span>-10.0 ms</span>" in markup
    assert markup.count('class="zero" d="M500.0 0v18"') == 2, "where bars begin can be seen"


def test_a_scale_that_begins_at_zero_has_no_mark_there() -> None:
    assert 'class="zero"' not in range_figure(RangeChart("T", "", "ms", [Range("a", "5", 5, 5, 5)]))


def test_nothing_to_draw_gives_nothing_and_zeros_are_no_error() -> None:
    assert range_figure(RangeChart("T", "", "", [])) == ""
    assert "<svg" in range_figure(RangeChart("T", "", "", [Range("a", "0", 0, 0, 0)]))


def test_names_are_escaped() -> None:
    markup = range_figure(RangeChart("<T>", "a & b", "", [Range('"<x>"', "1", 1, 1, 1)]))
    assert "<T>" not in markup
    assert "<x>" not in markup
