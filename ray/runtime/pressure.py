"""What presses on this box: memory and CPU of the control group, of the process and of the whole machine.

`HostPressure` owns the readings, four a second at most; everything else here is a pure function from a reading and the
thresholds of `gracefulDegradation` to what counts as pressure and to the figures that show it. A figure nobody could
measure is absent, never zero. While degradation is switched off nothing counts as pressure; the figures stay.
Source: runtime specification, section 9.4 and 13; http-api, section 6.4.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

from ray.config import GracefulDegradationConfig
from ray.host import CgroupCpu, CgroupMemory, CgroupReader, Psi, PsiReader, read_rss_bytes
from ray.types import MIB

CACHE_SECONDS = 0.25

MemorySource = Literal["process_rss", "cgroup", "linux_psi"]


# Named tuples, not dataclasses: a dataclass costs half a millisecond of every start.
class HostReading(NamedTuple):
    """One look at the machine. None: the kernel does not tell; `rss_bytes` is then 0."""

    rss_bytes: int = 0
    memory: CgroupMemory | None = None
    cpu: CgroupCpu | None = None
    memory_psi: Psi | None = None
    cpu_psi: Psi | None = None


class HostPressure:
    """The machine's readings, at most 250 ms old. A look costs a dozen small files, in between it costs a clock."""

    __slots__ = ("_cgroup", "_clock", "_cpu_psi", "_memory_psi", "_now", "_read_at", "_reading", "_root")

    def __init__(self, root: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        """`root`: put before every path, for reading a recorded tree. `clock`: monotonic seconds."""
        self._root = root
        self._clock = clock
        self._now = 0.0
        # The readers cache as well. They are shown the time of this reading, so that all of them agree on its age.
        self._cgroup = CgroupReader(root, self._time_of_reading)
        self._memory_psi = PsiReader("memory", root, self._time_of_reading)
        self._cpu_psi = PsiReader("cpu", root, self._time_of_reading)
        self._read_at: float | None = None
        self._reading = HostReading()

    def read(self) -> HostReading:
        """The machine now; the very same object until it is 250 ms old. Never raises."""
        now = self._clock()
        if self._read_at is not None and now - self._read_at < CACHE_SECONDS:
            return self._reading
        self._now = self._read_at = now
        memory, cpu = self._cgroup.read()
        self._reading = HostReading(
            read_rss_bytes(self._root), memory, cpu, self._memory_psi.read(), self._cpu_psi.read()
        )
        return self._reading

    def _time_of_reading(self) -> float:
        return self._now


class Pressure(NamedTuple):
    """What a reading means. `memory_sources`: the signs of memory pressure, in fixed order.

    `memory_figures` and `cpu_figures` are the measured figures under their JSON names, each with its threshold;
    `memory_figures` has the three figures of the process always.
    """

    reading: HostReading
    memory_sources: tuple[MemorySource, ...]
    cpu: bool
    memory_figures: Mapping[str, object]
    cpu_figures: Mapping[str, object]

    @property
    def memory(self) -> bool:
        return bool(self.memory_sources)


def assess(reading: HostReading, limits: GracefulDegradationConfig) -> Pressure:
    """What `reading` means under `limits`."""
    return Pressure(
        reading,
        memory_sources(reading, limits) if limits.enabled else (),
        limits.enabled and cpu_pressure(reading, limits),
        dict(_memory_figures(reading, limits)),
        dict(_cpu_figures(reading, limits)),
    )


def memory_sources(reading: HostReading, limits: GracefulDegradationConfig) -> tuple[MemorySource, ...]:
    """Every sign of memory pressure; each threshold counts as reached when it is met exactly."""
    sources: list[MemorySource] = []
    if rss_mib(reading) >= limits.memory_rss_threshold_mib:
        sources.append("process_rss")
    if cgroup_is_full(reading.memory, limits) or memory_events(reading.memory):
        sources.append("cgroup")
    if memory_stalls(reading.memory_psi, limits):
        sources.append("linux_psi")
    return tuple(sources)


def cpu_pressure(reading: HostReading, limits: GracefulDegradationConfig) -> bool:
    """The group was throttled too often, or too many tasks of the machine waited for a CPU."""
    return _reaches(throttled_ratio(reading.cpu), limits.cpu_throttled_ratio_threshold) or cpu_stalls(
        reading.cpu_psi, limits
    )


def cgroup_is_full(memory: CgroupMemory | None, limits: GracefulDegradationConfig) -> bool:
    """Memory or swap of the control group is nearly used up."""
    threshold = limits.memory_cgroup_pressure_ratio_threshold
    return memory is not None and (
        _reaches(memory.pressure_ratio, threshold) or _reaches(memory.swap_pressure_ratio, threshold)
    )


def memory_events(memory: CgroupMemory | None) -> bool:
    """The kernel has reclaimed, refused or killed since the previous reading."""
    return memory is not None and memory.recent_events is not None and memory.recent_events.any


def memory_stalls(psi: Psi | None, limits: GracefulDegradationConfig) -> bool:
    some, full = averages(psi)
    return _reaches(some, limits.memory_psi_some_avg10_threshold) or _reaches(
        full, limits.memory_psi_full_avg10_threshold
    )


def cpu_stalls(psi: Psi | None, limits: GracefulDegradationConfig) -> bool:
    some, full = averages(psi)
    return _reaches(some, limits.cpu_psi_some_avg10_threshold) or _reaches(full, limits.cpu_psi_full_avg10_threshold)


def averages(psi: Psi | None) -> tuple[float | None, float | None]:
    """`some avg10` and `full avg10`, in percent."""
    if psi is None:
        return None, None
    return psi.some.avg10 if psi.some else None, psi.full.avg10 if psi.full else None


def throttled_ratio(cpu: CgroupCpu | None) -> float | None:
    return cpu.throttled_ratio if cpu is not None else None


def rss_mib(reading: HostReading) -> float:
    return mib(reading.rss_bytes)


def mib(size: int) -> float:
    """Bytes as MiB with two decimals."""
    return round(size / MIB, 2)


def _reaches(figure: float | None, threshold: float) -> bool:
    return figure is not None and figure >= threshold


# The JSON of `/health`; the diagnostics of an answer show the same figures.


def memory_document(pressure: Pressure) -> dict[str, object]:
    """`runtime.memory` of `/health`."""
    return {"degraded": pressure.memory, "sources": list(pressure.memory_sources), **pressure.memory_figures}


def cpu_document(pressure: Pressure) -> dict[str, object] | None:
    """`runtime.cpu` of `/health`; None when the kernel says nothing about CPU."""
    if pressure.reading.cpu is None and pressure.reading.cpu_psi is None:
        return None
    return {"degraded": pressure.cpu, **dict(_cgroup_cpu_counts(pressure.reading.cpu)), **pressure.cpu_figures}


def _memory_figures(reading: HostReading, limits: GracefulDegradationConfig) -> Iterator[tuple[str, object]]:
    resident, threshold = rss_mib(reading), limits.memory_rss_threshold_mib
    yield "processRssMiB", resident
    yield "memoryRssThresholdMiB", threshold
    yield "processRssPressureRatio", round(resident / max(1, threshold), 4)
    if reading.memory is not None:
        yield from _cgroup_memory_figures(reading.memory, limits.memory_cgroup_pressure_ratio_threshold)
    some, full = averages(reading.memory_psi)
    yield from _with_threshold("linuxMemoryPsiSomeAvg10", some, limits.memory_psi_some_avg10_threshold)
    yield from _with_threshold("linuxMemoryPsiFullAvg10", full, limits.memory_psi_full_avg10_threshold)


def _cgroup_memory_figures(memory: CgroupMemory, threshold: float) -> Iterator[tuple[str, object]]:
    yield from _known_mib("cgroupMemoryCurrentMiB", memory.current)
    yield from _known_mib("cgroupMemoryHighMiB", memory.high)
    yield from _known_mib("cgroupMemoryLimitMiB", memory.limit)
    yield from _with_threshold("cgroupMemoryPressureRatio", memory.pressure_ratio, threshold)
    yield from _known_mib("cgroupMemorySwapCurrentMiB", memory.swap_current)
    yield from _known_mib("cgroupMemorySwapLimitMiB", memory.swap_limit)
    yield from _with_threshold("cgroupMemorySwapPressureRatio", memory.swap_pressure_ratio, threshold)
    for suffix, events in (("", memory.events), ("Delta", memory.recent_events)):
        if events is not None:
            yield from _known(f"cgroupMemoryHighEvents{suffix}", events.high)
            yield from _known(f"cgroupMemoryMaxEvents{suffix}", events.max)
            yield from _known(f"cgroupMemoryOomEvents{suffix}", events.oom)
            yield from _known(f"cgroupMemoryOomKillEvents{suffix}", events.oom_kill)


def _cpu_figures(reading: HostReading, limits: GracefulDegradationConfig) -> Iterator[tuple[str, object]]:
    ratio = throttled_ratio(reading.cpu)
    if ratio is not None:
        yield "cgroupCpuThrottledRatio", ratio
        yield "cgroupCpuThrottledThreshold", limits.cpu_throttled_ratio_threshold
    some, full = averages(reading.cpu_psi)
    yield from _with_threshold("linuxCpuPsiSomeAvg10", some, limits.cpu_psi_some_avg10_threshold)
    yield from _with_threshold("linuxCpuPsiFullAvg10", full, limits.cpu_psi_full_avg10_threshold)


def _cgroup_cpu_counts(cpu: CgroupCpu | None) -> Iterator[tuple[str, object]]:
    if cpu is None:
        return
    yield from _known("cgroupCpuUsageUsec", cpu.usage_usec)
    yield from _known("cgroupCpuUserUsec", cpu.user_usec)
    yield from _known("cgroupCpuSystemUsec", cpu.system_usec)
    yield from _known("cgroupCpuQuotaUsec", cpu.quota_usec)
    yield from _known("cgroupCpuPeriodUsec", cpu.period_usec)
    yield from _known("cgroupCpuQuotaCores", cpu.quota_cores)
    yield from _known("cgroupCpuPeriods", cpu.periods)
    yield from _known("cgroupCpuThrottledPeriods", cpu.throttled_periods)
    yield from _known("cgroupCpuThrottledUsec", cpu.throttled_usec)


def _known(name: str, figure: float | None) -> Iterator[tuple[str, object]]:
    if figure is not None:
        yield name, figure


def _known_mib(name: str, size: int | None) -> Iterator[tuple[str, object]]:
    if size is not None:
        yield name, mib(size)


def _with_threshold(name: str, figure: float | None, threshold: float) -> Iterator[tuple[str, object]]:
    if figure is not None:
        yield name, figure
        yield f"{name}Threshold", threshold
