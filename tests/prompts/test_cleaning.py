"""Tidying: what goes, what stays, and that doing it twice is doing it once."""

from __future__ import annotations

import pytest
from hypothesis import given

from ray.prompts.cleaning import clean_whitespace, long_lines, without_repeated_lines
from tests.prompts.support import texts

LONG = "a line that is long enough"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\r\nb", "a\nb"),
        ("a  \t\nb ", "a\nb"),
        ("a \t b", "a b"),
        ("a\tb", "a\tb"),
        ("\n\n  a\n\n\n\n\nb\n \n", "  a\n\nb"),
        ("def f():\n    return  1", "def f():\n    return 1"),
        ("- a\n\t- b", "- a\n\t- b"),
        ("", ""),
        (" \n\t\n", ""),
        ("a\x0b\nb\u2028c", "a\x0b\nb\u2028c"),
        ("a\r\r\nb", "a\nb"),
    ],
)
def test_whitespace(text: str, cleaned: str) -> None:
    assert clean_whitespace(text) == cleaned


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (f"{LONG}\nb\n  {LONG.upper()} \nc", f"{LONG}\nb\nc"),
        ("    return 1;\n}\n    return 1;\n}", "    return 1;\n}\n    return 1;\n}"),
        ("x" * 20 + "\n" + "x" * 20, "x" * 20),
        ("x" * 19 + "\n" + "x" * 19, "x" * 19 + "\n" + "x" * 19),
        (f"{LONG}\n\n{LONG}\n\nb", f"{LONG}\n\nb"),
        ("a\n\n\n\nb", "a\n\n\n\nb"),
    ],
)
def test_only_long_lines_count_as_repeated(text: str, cleaned: str) -> None:
    assert without_repeated_lines(text) == cleaned


def test_lines_known_from_elsewhere_are_dropped_as_long_as_words_are_left() -> None:
    known = long_lines(f"Rule one.\n  {LONG}")

    assert without_repeated_lines(f"{LONG}\n    code\nRule one.", known) == "    code\nRule one."
    assert without_repeated_lines(f"\n{LONG}\n", known) == f"\n{LONG}\n"
    assert without_repeated_lines(f"{LONG}\n{LONG}", known) == LONG


@given(texts, texts)
def test_tidying_is_idempotent_never_lengthens_and_never_empties(text: str, system: str) -> None:
    known = long_lines(system)
    for change in (clean_whitespace, without_repeated_lines, lambda given: without_repeated_lines(given, known)):
        once = change(text)
        assert change(once) == once
        assert len(once) <= len(text)
        assert bool(once.strip()) == bool(text.strip())
