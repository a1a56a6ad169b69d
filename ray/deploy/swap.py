"""Swap space and swappiness, as the kernel tells them in /proc."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ray.deploy.places import read_small

MEMINFO = "/proc/meminfo"
SWAPPINESS = "/proc/sys/vm/swappiness"
MEMINFO_CAP_BYTES = 64 << 10
SWAPPINESS_CAP_BYTES = 1 << 10
_LINE = re.compile(r"(Swap(?:Total|Free)):\s+([0-9]{1,15}) kB")


@dataclass(frozen=True, slots=True)
class Swap:
    """`total_mib`, `free_mib`: rounded down, None when unreadable. `swappiness`: None when unreadable."""

    status: Literal["available", "missing", "unreadable"]
    total_mib: int | None = None
    free_mib: int | None = None
    error: str | None = None
    swappiness: int | None = None
    swappiness_error: str | None = None


def read_swap(meminfo: str = MEMINFO, swappiness: str = SWAPPINESS) -> Swap:
    """Never raises."""
    rate, rate_error = _swappiness(swappiness)
    try:
        found = dict(_LINE.findall(read_small(meminfo, MEMINFO_CAP_BYTES)))
        total, free = int(found["SwapTotal"]) // 1024, int(found["SwapFree"]) // 1024
    except OSError as error:
        return Swap("unreadable", None, None, f"{meminfo}: {error.strerror}", rate, rate_error)
    except KeyError as error:
        return Swap("unreadable", None, None, f"{meminfo} has no usable {error.args[0]}", rate, rate_error)
    return Swap("available" if total else "missing", total, free, None, rate, rate_error)


def _swappiness(path: str) -> tuple[int | None, str | None]:
    try:
        text = read_small(path, SWAPPINESS_CAP_BYTES).strip()
    except OSError as error:
        return None, f"{path}: {error.strerror}"
    if not re.fullmatch(r"[0-9]{1,9}", text):
        return None, f"{path} does not hold a number"
    return int(text), None
