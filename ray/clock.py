"""Time and names: one deadline per request, ISO timestamps, ids.

Durations and deadlines use the monotonic clock; the wall clock only ever appears in timestamps that people read.
"""

from __future__ import annotations

import math
import os
import time


class Deadline:
    """A point on the monotonic clock that is made once, at the door, and handed down through every stage.

    A deadline may sit inside another one (`within`): it then never lies later than the outer one, also when the
    outer one is extended afterwards. Extending happens in one case only: a second reader with a later deadline
    joins work that is already under way. Reading `remaining` from a worker thread is safe: it is one float.
    """

    __slots__ = ("_at", "_outer")

    def __init__(self, at: float, outer: Deadline | None = None) -> None:
        """`at`: seconds on `time.monotonic()`."""
        self._at = at
        self._outer = outer

    @classmethod
    def after_ms(cls, milliseconds: float) -> Deadline:
        """A deadline `milliseconds` from now."""
        return cls(time.monotonic() + milliseconds / 1000)

    def within_ms(self, milliseconds: float) -> Deadline:
        """A deadline at most `milliseconds` from now, and never later than this one."""
        return Deadline(time.monotonic() + milliseconds / 1000, outer=self)

    @property
    def at(self) -> float:
        """Seconds on `time.monotonic()`."""
        if self._outer is None:
            return self._at
        return min(self._at, self._outer.at)

    def remaining(self) -> float:
        """Seconds left; zero or negative once it has passed."""
        return self.at - time.monotonic()

    def expired(self) -> bool:
        return self.remaining() <= 0

    def extend_to(self, other: Deadline) -> None:
        """Move to `other` if that lies later. It never moves nearer."""
        self._at = max(self._at, other.at)


def iso_now() -> str:
    """The wall clock as ISO 8601 UTC with milliseconds, for example `2026-11-21T17:20:01.482Z`."""
    return iso_timestamp(time.time())


def iso_timestamp(epoch_seconds: float) -> str:
    """Unix seconds as ISO 8601 UTC with milliseconds and `Z`."""
    milliseconds = math.floor(epoch_seconds * 1000)
    if (milliseconds + 1) / 1000 <= epoch_seconds:
        milliseconds += 1  # 1.001 * 1000 is 1000.9999999999999
    # `datetime` would cost 3 ms of every start.
    moment = time.gmtime(milliseconds // 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{milliseconds % 1000:03d}Z"


def parse_iso(text: str) -> float:
    """Unix seconds of a timestamp in the one form that `iso_timestamp` writes; `iso_timestamp(parse_iso(t)) == t`.

    Raises ValueError for every other text: other precisions, offsets, dates that do not exist.
    """
    try:
        year, month, day = int(text[0:4]), int(text[5:7]), int(text[8:10])
        clock_ms = (int(text[11:13]) * 60 + int(text[14:16])) * 60_000 + int(text[17:19]) * 1000 + int(text[20:23])
        seconds = (_days_since_1970(year, month, day) * 86_400_000 + clock_ms) / 1000
        # Signs, spaces, other scripts' digits, month 13: whatever int() let pass does not come out the same again.
        if iso_timestamp(seconds) == text:
            return seconds
    except (ValueError, OverflowError, OSError):
        pass
    raise ValueError(f"not a UTC timestamp with milliseconds: {text[:40]!r}")


def _days_since_1970(year: int, month: int, day: int) -> int:
    """Of a date in the Gregorian calendar, by counting years from March so that the leap day comes last."""
    year, month = (year - 1, month + 9) if month < 3 else (year, month - 3)
    return year * 365 + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 719_469


def new_id(prefix: str) -> str:
    """`prefix`, an underscore and 16 random hex digits, for example `req_9f86d081884c7d65`."""
    return f"{prefix}_{os.urandom(8).hex()}"
