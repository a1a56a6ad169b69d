"""Does a llama-server know the flags that it will be started with? Its own help is asked, word by word."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_NAMED_FLAGS = 32
# A letter after the dashes: `-1` is a value. What stands behind `=` is a value, too.
_FLAG = re.compile(r"(--?[A-Za-z][A-Za-z0-9_-]*)(?:=.*)?", re.DOTALL)
_WORD = re.compile(r"(?<![A-Za-z0-9_-])--?[A-Za-z][A-Za-z0-9_-]*")


def required_flags(arguments: Iterable[str]) -> tuple[str, ...]:
    """The flags of a command line, without values, sorted."""
    found = (_FLAG.fullmatch(word) for word in arguments)
    return tuple(sorted({match[1] for match in found if match is not None}))


def missing_flags(flags: Iterable[str], help_text: str) -> tuple[str, ...]:
    """Those that the help does not name as words of their own: `--model` is not found in `--model-url`."""
    known = set(_WORD.findall(help_text))
    return tuple(flag for flag in flags if flag not in known)
