"""Lines of text whose columns stand below each other, and texts of others made fit for a terminal."""

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


def counted(counts: Mapping[str, object]) -> str:
    """`missing_cta 3, email_wrapper 1`; empty for nothing."""
    return ", ".join(f"{one_line(name)} {count}" for name, count in counts.items())


def one_line(text: str) -> str:
    """What would break the line or move the cursor is shown as in a program: `stop_leak:\\n\\nOriginal reply:`."""
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii") for mark in text)


def for_terminal(text: str) -> str:
    """Lines without control characters: what a model, a file or a gateway wrote must not steer a terminal."""
    return "".join(mark if mark.isprintable() or mark in "\n\t" else "\ufffd" for mark in text)
