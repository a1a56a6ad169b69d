"""Whole numbers as people type them: decimal digits, nothing else."""

from __future__ import annotations

import re

_DIGITS = re.compile(r"0|[1-9][0-9]{0,15}")


def count_problem(text: str, least: int, most: int) -> str | None:
    """The problem with a number between `least` and `most` as text ("must …"), or None."""
    if _DIGITS.fullmatch(text) and least <= int(text) <= most:
        return None
    return f"must be a whole number from {least} to {most}"
