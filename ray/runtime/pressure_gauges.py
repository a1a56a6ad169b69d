"""The pressure figures as gauges: one value for every name of the catalogue, None for what nobody could measure.

The flags of single signals show the machine as it is; `process.memory.pressure` and `process.cpu.pressure` are what
degradation acts on, so they stay 0 while it is switched off.
Source: scheduler, cache and telemetry specification, section 3.12.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from ray.config import GracefulDegradationConfig
from ray.host import CgroupCpu, CgroupMemory, MemoryEvents, Psi
from ray.runtime.pressure import (
    HostReading,
    Pressure,
    cgroup_is_full,
    cpu_stalls,
    memory_events,
    memory_stalls,
    rss_mib,
)
from ray.types import MIB

Gauge = tuple[str, float | None]

NO_EVENTS = MemoryEvents()
NO_CPU = CgroupCpu()
NO_PSI = Psi()


def pressure_gauges(pressure: Pressure, limits: GracefulDegradationConfig) -> Iterator[Gauge]:
    """(catalogue name, figure) of everything that is known about memory and CPU pressure."""
    reading = pressure.reading
    threshold_mib = limits.memory_rss_threshold_mib
    yield "process.memory.rss_threshold_mib", threshold_mib
    yield "process.memory.rss_pressure_ratio", rss_mib(reading) / max(1, threshold_mib)
    yield from _cgroup_memory(reading.memory, limits)
    yield from _stalls("memory", reading.memory_psi)
    yield "process.memory.linux_psi_some_avg10_threshold", limits.memory_psi_some_avg10_threshold
    yield "process.memory.linux_psi_full_avg10_threshold", limits.memory_psi_full_avg10_threshold
    yield "process.memory.linux_psi_pressure", _flag(reading.memory_psi, memory_stalls(reading.memory_psi, limits))
    yield "process.memory.pressure", pressure.memory
    yield from _cgroup_cpu(reading.cpu or NO_CPU)
    yield "process.cpu.cgroup_throttled_threshold", limits.cpu_throttled_ratio_threshold
    yield from _stalls("cpu", reading.cpu_psi)
    yield "process.cpu.linux_psi_some_avg10_threshold", limits.cpu_psi_some_avg10_threshold
    yield "process.cpu.linux_psi_full_avg10_threshold", limits.cpu_psi_full_avg10_threshold
    yield "process.cpu.linux_psi_pressure", _flag(reading.cpu_psi, cpu_stalls(reading.cpu_psi, limits))
    yield "process.cpu.pressure", _cpu_flag(pressure)


def _cgroup_memory(memory: CgroupMemory | None, limits: GracefulDegradationConfig) -> Iterator[Gauge]:
    prefix, threshold = "process.memory.cgroup", limits.memory_cgroup_pressure_ratio_threshold
    ratio = memory.pressure_ratio if memory else None
    swap_ratio = memory.swap_pressure_ratio if memory else None
    yield f"{prefix}_current_mib", _mib(memory.current if memory else None)
    yield f"{prefix}_high_mib", _mib(memory.high if memory else None)
    yield f"{prefix}_limit_mib", _mib(memory.limit if memory else None)
    yield f"{prefix}_pressure_ratio", ratio
    yield f"{prefix}_pressure_ratio_threshold", threshold
    yield f"{prefix}_swap_current_mib", _mib(memory.swap_current if memory else None)
    yield f"{prefix}_swap_limit_mib", _mib(memory.swap_limit if memory else None)
    yield f"{prefix}_swap_pressure_ratio", swap_ratio
    yield f"{prefix}_swap_pressure_ratio_threshold", threshold
    any_ratio = ratio if ratio is not None else swap_ratio
    yield f"{prefix}_pressure", _flag(any_ratio, cgroup_is_full(memory, limits))
    events = memory.events if memory else NO_EVENTS
    recent = memory.recent_events if memory else None
    for name, figure in events._asdict().items():
        yield f"{prefix}_{name}_events", figure
    for name, figure in (recent or NO_EVENTS)._asdict().items():
        yield f"{prefix}_{name}_events_delta", figure
    yield f"{prefix}_event_pressure", _flag(recent, memory_events(memory))


def _cgroup_cpu(cpu: CgroupCpu) -> Iterator[Gauge]:
    prefix = "process.cpu.cgroup"
    yield f"{prefix}_usage_usec", cpu.usage_usec
    yield f"{prefix}_user_usec", cpu.user_usec
    yield f"{prefix}_system_usec", cpu.system_usec
    yield f"{prefix}_quota_usec", cpu.quota_usec
    yield f"{prefix}_period_usec", cpu.period_usec
    yield f"{prefix}_quota_cores", cpu.quota_cores
    yield f"{prefix}_periods", cpu.periods
    yield f"{prefix}_throttled_periods", cpu.throttled_periods
    yield f"{prefix}_throttled_usec", cpu.throttled_usec
    yield f"{prefix}_throttled_ratio", cpu.throttled_ratio


def _stalls(resource: Literal["memory", "cpu"], psi: Psi | None) -> Iterator[Gauge]:
    for kind, stall in (psi or NO_PSI)._asdict().items():
        prefix = f"process.{resource}.linux_psi_{kind}"
        yield f"{prefix}_avg10", stall.avg10 if stall else None
        yield f"{prefix}_avg60", stall.avg60 if stall else None
        yield f"{prefix}_avg300", stall.avg300 if stall else None
        yield f"{prefix}_total_usec", stall.total_usec if stall else None


def _cpu_flag(pressure: Pressure) -> float | None:
    reading: HostReading = pressure.reading
    return None if reading.cpu is None and reading.cpu_psi is None else pressure.cpu


def _flag(measured: object, applies: bool) -> float | None:
    """0 or 1; None where there was nothing to measure."""
    return None if measured is None else applies


def _mib(size: int | None) -> float | None:
    return None if size is None else size / MIB
