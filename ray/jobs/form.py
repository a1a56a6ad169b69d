"""The words in which the form of a stored document is said: texts, numbers, objects with a closed set of keys.

A kind is a function that looks at one JSON value and raises `MalformedRecord` when it does not fit. The same kinds
check what is about to be written and what was read, so that nothing can be written that would not be read again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ray.clock import parse_iso

# Deeper than anything that Ray writes; far from where Python's own recursion ends.
MAX_DEPTH = 32
MAX_EXACT_INTEGER = 2**53 - 1


class MalformedRecord(ValueError):
    """The document is not a record. `reason`: where and why, without the contents."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


Kind = Callable[[object, str], None]


def text(max_chars: int | None = None, *, blank: bool = True) -> Kind:
    """A string of at most `max_chars` code points; `blank`: whether it may be empty or white space only."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, str):
            raise MalformedRecord(f"{where} is not a string")
        if max_chars is not None and len(value) > max_chars:
            raise MalformedRecord(f"{where} is longer than {max_chars} characters")
        if not blank and not value.strip():
            raise MalformedRecord(f"{where} is blank")

    return check


def one_of(*choices: str) -> Kind:
    """One of these strings."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, str) or value not in choices:
            raise MalformedRecord(f"{where} is none of {', '.join(choices)}")

    return check


def whole(low: int, high: int) -> Kind:
    """An integer within these limits. `true` is no integer, and neither is `1.0`."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise MalformedRecord(f"{where} is not an integer")
        if not low <= value <= high:
            raise MalformedRecord(f"{where} is outside {low} to {high}")

    return check


def number(value: object, where: str) -> None:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedRecord(f"{where} is not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise MalformedRecord(f"{where} is not finite")


def boolean(value: object, where: str) -> None:
    """`true` or `false`."""
    if not isinstance(value, bool):
        raise MalformedRecord(f"{where} is not a boolean")


def timestamp(value: object, where: str) -> None:
    """UTC, ISO 8601, milliseconds, `Z`: one form only, so that timestamps can be compared as texts."""
    try:
        parse_iso(value if isinstance(value, str) else "")
    except ValueError:
        raise MalformedRecord(f"{where} is not a UTC timestamp with milliseconds") from None


def hex_digest(value: object, where: str) -> None:
    """A SHA-256 in lowercase hex digits."""
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise MalformedRecord(f"{where} is not a SHA-256 in hex")


def list_of(kind: Kind) -> Kind:
    """An array of values of one kind."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, list):
            raise MalformedRecord(f"{where} is not an array")
        for index, item in enumerate(value):
            kind(item, f"{where}[{index}]")

    return check


def texts(value: object, where: str) -> None:
    """An object whose values are strings."""
    if not isinstance(value, dict):
        raise MalformedRecord(f"{where} is not an object")
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, str):
            raise MalformedRecord(f"{where} holds something that is not a string")


def plain(value: object, where: str) -> None:
    """Any JSON value: finite numbers, string keys, at most 32 levels."""
    _plain(value, where, 0)


def _plain(value: object, where: str, depth: int) -> None:
    if value is None or isinstance(value, str | bool | int):
        return
    if isinstance(value, float):
        number(value, where)
    elif depth >= MAX_DEPTH:
        raise MalformedRecord(f"{where} is nested deeper than {MAX_DEPTH} levels")
    elif isinstance(value, list):
        for item in value:
            _plain(item, where, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise MalformedRecord(f"{where} has a key that is not a string")
            _plain(item, where, depth + 1)
    else:
        raise MalformedRecord(f"{where} holds a {type(value).__name__}, which is not JSON")


def plain_object(value: object, where: str) -> None:
    """Any JSON object."""
    if not isinstance(value, dict):
        raise MalformedRecord(f"{where} is not an object")
    _plain(value, where, 0)


def fields(required: Mapping[str, Kind], optional: Mapping[str, Kind], *, others: Kind | None = None) -> Kind:
    """An object with these keys. `others`: the kind of any further key; None when there must not be one."""
    known = {**required, **optional}

    def check(value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise MalformedRecord(f"{where} is not an object")
        for key in required:
            if key not in value:
                raise MalformedRecord(f"{where} has no {key}")
        for key, item in value.items():
            kind = known.get(key, others)
            if kind is None:
                raise MalformedRecord(f"{where} has an unknown key {str(key)[:64]!r}")
            kind(item, f"{where}.{key}" if key in known else where)

    return check
