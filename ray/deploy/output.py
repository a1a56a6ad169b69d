"""How commands show their results: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from ray.deploy.findings import Finding

MARKS = {"error": "ERROR", "warn": "WARN", "info": "ok"}


def print_json(document: Mapping[str, object], out: TextIO) -> None:
    """One JSON object, indented by two, with a newline at its end."""
    out.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def table(rows: Iterable[Sequence[str]], headings: Sequence[str] = ()) -> str:
    """Aligned columns, two blanks apart, one line per row; the last column is as wide as it likes."""
    lines = [list(row) for row in ([headings] if headings else [])] + [list(row) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)] if lines else []
    text = ""
    for line in lines:
        cells = [f"{cell:<{width}}" for cell, width in zip(line, widths, strict=False)]
        text += "  ".join([*cells, line[-1]]).rstrip() + "\n"
    return text


def findings_table(findings: Iterable[Finding]) -> str:
    """One line per finding: its level, its code, what it says."""
    return table([(MARKS[finding.level], finding.code, finding.message) for finding in findings])


def count_of(findings: Iterable[Finding]) -> str:
    """`1 error, 2 warnings, 12 ok`."""
    levels = [finding.level for finding in findings]
    errors, warnings = levels.count("error"), levels.count("warn")
    return (
        f"{errors} error{'' if errors == 1 else 's'}, {warnings} warning{'' if warnings == 1 else 's'}, "
        f"{levels.count('info')} ok"
    )


def mib(figure: int) -> str:
    """`1,024 MiB`."""
    return f"{figure:,} MiB"
