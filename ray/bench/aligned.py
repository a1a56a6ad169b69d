"""Lines of text whose columns stand below each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line for each row: the first column to the left, the others to the right, without trailing blanks."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines


def counted(counts: Mapping[str, int]) -> str:
    """`missing_cta 3, email_wrapper 1`; empty for nothing."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())
