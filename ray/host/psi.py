"""Pressure stall information: the share of time in which tasks waited for memory or CPU. System-wide.

Source: the kernel's Documentation/accounting/psi.rst. Readings only: what counts as pressure is decided elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, NamedTuple

from ray.host.files import parse_count, read_text

CACHE_SECONDS = 0.25

Resource = Literal["memory", "cpu"]


class Stall(NamedTuple):
    """Percent of the last 10, 60 and 300 seconds (0 to 100, 2 decimals), and microseconds since boot."""

    avg10: float | None = None
    avg60: float | None = None
    avg300: float | None = None
    total_usec: int | None = None


class Psi(NamedTuple):
    """`some`: at least one task was stalled; `full`: all of them were. None: the kernel does not tell."""

    some: Stall | None = None
    full: Stall | None = None


class PsiReader:
    """Reads at most four times a second; what lies between is answered from the last reading, also a failed one."""

    __slots__ = ("_clock", "_path", "_read_at", "_reading")

    def __init__(self, resource: Resource, root: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        """`root`: put before the path, for reading a recorded tree. `clock`: monotonic seconds."""
        self._path = f"{root}/proc/pressure/{resource}"
        self._clock = clock
        self._read_at: float | None = None
        self._reading: Psi | None = None

    def read(self) -> Psi | None:
        """The pressure now, or None where the kernel offers none. Never raises."""
        now = self._clock()
        if self._read_at is None or now - self._read_at >= CACHE_SECONDS:
            self._reading = parse_psi(read_text(self._path) or "")
            self._read_at = now
        return self._reading


def parse_psi(text: str) -> Psi | None:
    """`some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`; None when neither says anything."""
    stalls: dict[str, Stall] = {}
    for line in text.split("\n"):
        kind, *pairs = line.split()[:8] or [""]
        if kind in ("some", "full"):
            stall = _stall(dict(_pair(pair) for pair in pairs))
            if stall != Stall():
                stalls[kind] = stall
    return Psi(stalls.get("some"), stalls.get("full")) if stalls else None


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _stall(values: dict[str, str]) -> Stall:
    return Stall(
        avg10=_percent(values.get("avg10")),
        avg60=_percent(values.get("avg60")),
        avg300=_percent(values.get("avg300")),
        total_usec=parse_count(values.get("total")),
    )


def _percent(text: str | None) -> float | None:
    """0 to 100 in plain decimal notation. float() alone would also take `nan`, `1e1` and `1_0`."""
    if text is None or len(text) > 16:
        return None
    whole, dot, fraction = text.partition(".")
    digits = whole + fraction
    if not (whole and digits.isascii() and digits.isdigit()) or (dot and not fraction):
        return None
    value = float(text)
    return round(value, 2) if value <= 100 else None
