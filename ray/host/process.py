"""This process as the kernel sees it: memory, CPU time, descriptors, start time.

Source: proc(5). `ru_maxrss` is not used for memory: it is the peak, not the present.
"""

from __future__ import annotations

import os
import resource
import time
from functools import cache
from typing import NamedTuple

from ray.host.files import parse_count, read_text

# Fields of /proc/self/stat are counted from 1 and the command name, field 2, may hold spaces; see `_started_at`.
_START_TIME_FIELD = 22
_FIRST_FIELD_AFTER_NAME = 3


class ProcessReading(NamedTuple):
    """One look at the process. None: the system does not tell. `started_at`: Unix seconds."""

    rss_bytes: int
    virtual_bytes: int | None
    cpu_user_seconds: float
    cpu_system_seconds: float
    open_fds: int | None
    max_fds: int | None
    started_at: float | None
    cpus: int


def read_rss_bytes(root: str = "") -> int:
    """Resident memory now, in bytes; 0 when it cannot be read."""
    return _pages(_statm(root), 1) or 0


def read_process(root: str = "") -> ProcessReading:
    """All figures of this process. `root`: put before /proc, for reading a recorded tree. Never raises."""
    statm = _statm(root)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return ProcessReading(
        rss_bytes=_pages(statm, 1) or 0,
        virtual_bytes=_pages(statm, 0),
        cpu_user_seconds=usage.ru_utime,
        cpu_system_seconds=usage.ru_stime,
        open_fds=_open_fds(root),
        max_fds=None if limit == resource.RLIM_INFINITY else limit,
        started_at=_started_at(root),
        cpus=available_cpus(),
    )


def available_cpus() -> int:
    """CPUs this process may run on, at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _statm(root: str) -> list[str]:
    return (read_text(f"{root}/proc/self/statm") or "").split()


def _pages(statm: list[str], field: int) -> int | None:
    pages = parse_count(statm[field]) if field < len(statm) else None
    return None if pages is None else pages * resource.getpagesize()


def _open_fds(root: str) -> int | None:
    try:
        # One of them is the descriptor that lists the directory.
        return len(os.listdir(f"{root}/proc/self/fd")) - 1
    except OSError:
        return None


@cache
def _started_at(root: str) -> float | None:
    """Now minus the process's age. The kernel counts its start in clock ticks since boot, as CLOCK_BOOTTIME does.

    Asked once: a step of the wall clock must not look like a restart.
    """
    _, closed, after_name = (read_text(f"{root}/proc/self/stat") or "").rpartition(")")
    fields = after_name.split()
    index = _START_TIME_FIELD - _FIRST_FIELD_AFTER_NAME
    ticks = parse_count(fields[index]) if closed and index < len(fields) else None
    boot_clock = getattr(time, "CLOCK_BOOTTIME", None)  # Linux only
    if ticks is None or boot_clock is None:
        return None
    age = time.clock_gettime(boot_clock) - ticks / os.sysconf("SC_CLK_TCK")
    return round(time.time() - age, 2)
