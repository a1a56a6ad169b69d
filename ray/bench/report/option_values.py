"""What the values of options may be, the same for every command of the bench: readers for `argparse`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

MAX_LABEL_CHARS = 256
MAX_PATH_BYTES = 4_096


def whole_number(smallest: int, largest: int) -> Callable[[str], int]:
    """A whole number from `smallest` to `largest`."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or len(text) > 10 or not smallest <= int(text) <= largest:
            raise argparse.ArgumentTypeError(f"must be a whole number from {smallest} to {largest}")
        return int(text)

    return read


def percent(text: str) -> float:
    """A number from 0 to 100."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError("must be 0 to 100")
    return value


def path_text(text: str) -> str:
    """A path without white space around it; what is there is not looked at."""
    if not text.strip() or text != text.strip() or any(mark in text for mark in "\0\r\n"):
        raise argparse.ArgumentTypeError("must be a path without white space around it")
    if len(text.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
        raise argparse.ArgumentTypeError(f"must have at most {MAX_PATH_BYTES} bytes")
    return text


def label_text(text: str) -> str:
    """A name for people, without the white space around it. Bytes that are no UTF-8 are refused: no report can hold
    them."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("must be UTF-8") from None
    if not 1 <= len(text.strip()) <= MAX_LABEL_CHARS:
        raise argparse.ArgumentTypeError(f"must have 1 to {MAX_LABEL_CHARS} characters")
    return text.strip()


def assignment(text: str) -> tuple[str, str]:
    """`NAME=VALUE`; the value may be empty."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    return name, value
