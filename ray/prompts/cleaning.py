"""Tidying of prompt text: what the model need not read is taken out, what may matter stays.

Both functions are idempotent, never lengthen a text and never empty one that has words. Lines end at LF alone:
other characters that Unicode calls line breaks may be data.
"""

from __future__ import annotations

import re
from collections.abc import Collection

# Shorter lines (braces, `return 1;`, a comma-separated row of numbers) repeat for a reason.
MIN_REPEATED_LINE_CHARS = 20
_BLANKS = " \t\r"
_RUN = re.compile(r"[ \t]{2,}")


def clean_whitespace(text: str) -> str:
    """Blanks at line ends, all but one of several blank lines, and blank lines at both ends are dropped; CRLF is LF.

    Inside a line, a run of blanks becomes one space. Indentation stays: in code, lists and YAML it carries meaning.
    """
    return "\n".join(_without_blank_runs([_clean_line(line) for line in text.split("\n")]))


def without_repeated_lines(text: str, known: Collection[str] = ()) -> str:
    """Without lines of 20 or more characters that stood before, compared without indentation and case.

    `known`: lines (as `long_lines` gives them) that stand elsewhere in the prompt, and so are repeated here as well.
    A text that consists of known lines only stays.
    """
    lines = text.split("\n")
    if known:
        new = [line for line in lines if _folded(line) not in known]
        if any(line.strip() for line in new):
            lines = new
    seen: set[str] = set()
    kept: list[str] = []
    for line in lines:
        folded = _folded(line)
        if len(folded) >= MIN_REPEATED_LINE_CHARS:
            if folded in seen:
                continue
            seen.add(folded)
        kept.append(line)
    if len(kept) == text.count("\n") + 1:
        return text
    return "\n".join(_without_blank_runs(kept))


def long_lines(text: str) -> frozenset[str]:
    """The lines of a text that are worth finding again, folded for comparison."""
    folded = (_folded(line) for line in text.split("\n"))
    return frozenset(line for line in folded if len(line) >= MIN_REPEATED_LINE_CHARS)


def _folded(line: str) -> str:
    return line.strip().lower()


def _clean_line(line: str) -> str:
    line = line.rstrip(_BLANKS)
    words = line.lstrip(" \t")
    if "  " not in words and "\t" not in words:
        return line
    return line[: len(line) - len(words)] + _RUN.sub(" ", words)


def _without_blank_runs(lines: list[str]) -> list[str]:
    """At most one blank line in a row, none at either end."""
    kept: list[str] = []
    for line in lines:
        if line.strip(_BLANKS) or (kept and kept[-1].strip(_BLANKS)):
            kept.append(line)
    while kept and not kept[-1].strip(_BLANKS):
        kept.pop()
    return kept
