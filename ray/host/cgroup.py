"""What the process's control group uses and may use: memory, swap, CPU time, throttling. cgroup v2 and v1.

Source: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst, scheduler/sched-bwc.rst.
Readings only: what counts as pressure is decided elsewhere.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from ray.host.files import MAX_EXACT_INTEGER, parse_count, parse_counts, read_text

CACHE_SECONDS = 0.25
# A difference over a longer time says nothing about now.
MAX_DELTA_AGE_SECONDS = 60.0
# v1 spells "no limit" as a number close to 2**63; no box has a pebibyte.
UNLIMITED_BYTES = 1024**5

V2_ROOT = "/sys/fs/cgroup"
V1_MEMORY_ROOT = "/sys/fs/cgroup/memory"
V1_CPU_ROOT = "/sys/fs/cgroup/cpu"


class MemoryEvents(NamedTuple):
    """Counters of `memory.events`, or how much they grew. None: not known."""

    high: int | None = None
    max: int | None = None
    oom: int | None = None
    oom_kill: int | None = None

    def since(self, earlier: MemoryEvents) -> MemoryEvents:
        """The growth of each counter; None where either is not known or the counter was reset."""
        return MemoryEvents(
            _growth(self.high, earlier.high),
            _growth(self.max, earlier.max),
            _growth(self.oom, earlier.oom),
            _growth(self.oom_kill, earlier.oom_kill),
        )

    @property
    def any(self) -> bool:
        """Whether anything happened at all."""
        return any((self.high, self.max, self.oom, self.oom_kill))


class CgroupMemory(NamedTuple):
    """Bytes. A limit that is None is unlimited or not known. `recent_events`: growth since the previous reading, None
    on the first reading, after a failed one, and when the previous one is more than 60 s old."""

    current: int
    high: int | None = None
    limit: int | None = None
    swap_current: int | None = None
    swap_limit: int | None = None
    events: MemoryEvents = MemoryEvents()
    recent_events: MemoryEvents | None = None

    @property
    def pressure_ratio(self) -> float | None:
        """Share of the soft limit, or of the hard one where no soft one is set; 4 decimals."""
        limit = self.high or self.limit
        return round(self.current / limit, 4) if limit else None

    @property
    def swap_pressure_ratio(self) -> float | None:
        """Share of the swap limit, 4 decimals. None without swap."""
        if self.swap_current is None or not self.swap_limit:
            return None
        return round(self.swap_current / self.swap_limit, 4)


class CgroupCpu(NamedTuple):
    """Microseconds and quota periods, cumulative. `throttled_ratio`: share of the periods since the previous reading
    in which the group was throttled; None when no period passed, and where `recent_events` would be None."""

    usage_usec: int | None = None
    user_usec: int | None = None
    system_usec: int | None = None
    quota_usec: int | None = None
    period_usec: int | None = None
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_usec: int | None = None
    throttled_ratio: float | None = None

    @property
    def quota_cores(self) -> float | None:
        """How many cores the quota amounts to, 4 decimals. None without a quota."""
        if self.quota_usec is None or not self.period_usec:
            return None
        return round(self.quota_usec / self.period_usec, 4)


class CgroupReading(NamedTuple):
    """Both halves, either of which may be absent."""

    memory: CgroupMemory | None = None
    cpu: CgroupCpu | None = None


class CgroupReader:
    """Reads at most four times a second; what lies between is answered from the last reading, also a failed one."""

    __slots__ = ("_clock", "_read_at", "_reading", "_root")

    def __init__(self, root: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        """`root`: put before every path, for reading a recorded tree. `clock`: monotonic seconds."""
        self._root = root
        self._clock = clock
        self._read_at: float | None = None
        self._reading = CgroupReading()

    def read(self) -> CgroupReading:
        """The control group now. Never raises."""
        now = self._clock()
        age = None if self._read_at is None else now - self._read_at
        if age is not None and age < CACHE_SECONDS:
            return self._reading
        memory, cpu = _read_memory(self._root), _read_cpu(self._root)
        if age is not None and age <= MAX_DELTA_AGE_SECONDS:
            memory = _with_recent_events(memory, self._reading.memory)
            cpu = _with_throttled_ratio(cpu, self._reading.cpu)
        self._read_at = now
        self._reading = CgroupReading(memory, cpu)
        return self._reading


def _with_recent_events(memory: CgroupMemory | None, previous: CgroupMemory | None) -> CgroupMemory | None:
    if memory is None or previous is None:
        return memory
    return memory._replace(recent_events=memory.events.since(previous.events))


def _with_throttled_ratio(cpu: CgroupCpu | None, previous: CgroupCpu | None) -> CgroupCpu | None:
    """The lifetime ratio is never used: a night of throttling would mark the group as busy all the next day."""
    if cpu is None or previous is None:
        return cpu
    periods = _growth(cpu.periods, previous.periods)
    throttled = _growth(cpu.throttled_periods, previous.throttled_periods)
    if not periods or throttled is None:
        return cpu
    return cpu._replace(throttled_ratio=round(min(1.0, throttled / periods), 4))


def _growth(current: int | None, earlier: int | None) -> int | None:
    if current is None or earlier is None or current < earlier:
        return None
    return current - earlier


def _candidates(root: str, controller: str, v1_root: str) -> Iterator[tuple[int, str]]:
    """(cgroup version, directory) of every line in /proc/self/cgroup that can speak about `controller`.

    A line is `hierarchy:controllers:path` (cgroups(7)); the path may hold colons. `0::path` is v2. Paths that lead out
    of the hierarchy, as a process outside its cgroup namespace sees them (`/../..`), are dropped. The root itself is
    permitted: it is what a container sees as its own group.
    """
    for line in (read_text(f"{root}/proc/self/cgroup") or "").split("\n"):
        parts = line.split(":", 2)
        if len(parts) < 3:
            continue
        hierarchy, controllers, path = parts
        if hierarchy == "0" and not controllers:
            version, base = 2, V2_ROOT
        elif controller in controllers.split(","):
            version, base = 1, v1_root
        else:
            continue
        directory = posixpath.normpath(f"{base}/{path}")
        if directory == base or directory.startswith(f"{base}/"):
            yield version, root + directory


def _read_memory(root: str) -> CgroupMemory | None:
    for version, directory in _candidates(root, "memory", V1_MEMORY_ROOT):
        memory = _memory_v2(directory) if version == 2 else _memory_v1(directory)
        if memory is not None:
            return memory
    return None


def _read_cpu(root: str) -> CgroupCpu | None:
    for version, directory in _candidates(root, "cpu", V1_CPU_ROOT):
        cpu = _cpu_v2(directory) if version == 2 else _cpu_v1(directory)
        if cpu != CgroupCpu():
            return cpu
    return None


def _memory_v2(directory: str) -> CgroupMemory | None:
    current = parse_count(read_text(f"{directory}/memory.current"))
    if current is None:
        return None
    events = parse_counts(read_text(f"{directory}/memory.events"))
    return CgroupMemory(
        current,
        high=_limit(f"{directory}/memory.high"),
        limit=_limit(f"{directory}/memory.max"),
        swap_current=parse_count(read_text(f"{directory}/memory.swap.current")),
        swap_limit=_limit(f"{directory}/memory.swap.max"),
        events=MemoryEvents(events.get("high"), events.get("max"), events.get("oom"), events.get("oom_kill")),
    )


def _memory_v1(directory: str) -> CgroupMemory | None:
    """v1 counts memory and swap together (`memsw`), so swap is the difference."""
    current = parse_count(read_text(f"{directory}/memory.usage_in_bytes"))
    if current is None:
        return None
    limit = _limit(f"{directory}/memory.limit_in_bytes")
    both_current = parse_count(read_text(f"{directory}/memory.memsw.usage_in_bytes"))
    both_limit = _limit(f"{directory}/memory.memsw.limit_in_bytes")
    return CgroupMemory(
        current,
        limit=limit,
        swap_current=None if both_current is None else max(0, both_current - current),
        swap_limit=None if both_limit is None or limit is None else max(0, both_limit - limit),
    )


def _limit(path: str) -> int | None:
    """A limit in bytes; None for `max`, for 1024**5 bytes or more, and for what cannot be read."""
    limit = parse_count(read_text(path))
    return limit if limit is not None and limit < UNLIMITED_BYTES else None


def _cpu_v2(directory: str) -> CgroupCpu:
    stat = parse_counts(read_text(f"{directory}/cpu.stat"))
    # `quota period`, where the quota may be `max`.
    quota, _, period = (read_text(f"{directory}/cpu.max") or "").partition(" ")
    return CgroupCpu(
        usage_usec=stat.get("usage_usec"),
        user_usec=stat.get("user_usec"),
        system_usec=stat.get("system_usec"),
        quota_usec=parse_count(quota),
        period_usec=parse_count(period),
        periods=stat.get("nr_periods"),
        throttled_periods=stat.get("nr_throttled"),
        throttled_usec=stat.get("throttled_usec"),
    )


def _cpu_v1(directory: str) -> CgroupCpu:
    stat = parse_counts(read_text(f"{directory}/cpu.stat"))
    return CgroupCpu(
        # "-1" means no quota, and is no plain number.
        quota_usec=parse_count(read_text(f"{directory}/cpu.cfs_quota_us")),
        period_usec=parse_count(read_text(f"{directory}/cpu.cfs_period_us")),
        periods=stat.get("nr_periods"),
        throttled_periods=stat.get("nr_throttled"),
        throttled_usec=_usec_of_nanoseconds(stat),
    )


def _usec_of_nanoseconds(stat: Mapping[str, int]) -> int | None:
    nanoseconds = stat.get("throttled_time")
    return None if nanoseconds is None or nanoseconds > MAX_EXACT_INTEGER else round(nanoseconds / 1000)
