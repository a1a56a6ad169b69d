"""Columns, and texts that nobody can use to paint on somebody's terminal."""

from __future__ import annotations

import pytest

from ray.bench.report.aligned import aligned, counted, for_terminal, one_line


def test_columns_stand_below_each_other_without_blanks_at_the_end() -> None:
    assert aligned([("family", "n", ""), ("a", "100", "")]) == ["family    n", "a       100"]


def test_counts_stand_in_one_line_whatever_their_names_hold() -> None:
    assert counted({"stop_leak:\n\nOriginal reply:": 2, "missing_cta": 1}) == (
        r"stop_leak:\n\nOriginal reply: 2, missing_cta 1"
    )
    assert counted({}) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\x1b[31mb", r"a\x1b[31mb"), ("a\u2028b\u202ec", r"a\u2028b\u202ec"), ("grüße 😀", "grüße 😀")],
)
def test_one_line_shows_what_would_move_the_cursor(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_a_terminal_gets_lines_and_tabs_but_no_control_characters() -> None:
    assert for_terminal("a\tb\nc\x1b]0;title\x07\r\x9b2J") == "a\tb\nc\ufffd]0;title\ufffd\ufffd\ufffd2J"
