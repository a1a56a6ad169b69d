"""The process's own figures, read when somebody looks and not before."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from ray.telemetry.metrics import Metrics

# CPU load over less than this says little; several scrapers share one window instead of cutting each other's short.
MIN_CPU_WINDOW_SECONDS = 1.0


class ProcessFigures(Protocol):
    """What a reading of the process holds. None: the system does not tell."""

    @property
    def rss_bytes(self) -> int: ...
    @property
    def virtual_bytes(self) -> int | None: ...
    @property
    def cpu_user_seconds(self) -> float: ...
    @property
    def cpu_system_seconds(self) -> float: ...
    @property
    def open_fds(self) -> int | None: ...
    @property
    def max_fds(self) -> int | None: ...
    @property
    def started_at(self) -> float | None: ...
    @property
    def cpus(self) -> int: ...


class ProcessCollector:
    """Sets the `process.*` figures from `read`; to be added with `Metrics.add_collector`."""

    __slots__ = ("_clock", "_percent", "_read", "_sampled_at", "_sampled_cpu")

    def __init__(self, read: Callable[[], ProcessFigures], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        figures = read()
        self._sampled_at = clock()
        self._sampled_cpu = figures.cpu_user_seconds + figures.cpu_system_seconds
        self._percent = 0.0

    def __call__(self, metrics: Metrics) -> None:
        figures = self._read()
        cpu = figures.cpu_user_seconds + figures.cpu_system_seconds
        self._sample_percent(cpu, figures.cpus)
        rss_mib = figures.rss_bytes / 1_048_576
        metrics.set("process.memory.rss_mib", rss_mib)
        metrics.set("process.virtual_memory_bytes", figures.virtual_bytes)
        metrics.set("process.cpu.percent", self._percent)
        metrics.set("process.cpu.seconds", cpu)
        metrics.set("process.cpu.user_ms_total", figures.cpu_user_seconds * 1000)
        metrics.set("process.cpu.system_ms_total", figures.cpu_system_seconds * 1000)
        metrics.set("process.start_time", figures.started_at)
        metrics.set("process.open_fds", figures.open_fds)
        metrics.set("process.max_fds", figures.max_fds)
        metrics.note("lastProcessRssMiB", round(rss_mib, 2))
        metrics.note("lastCpuPercent", round(self._percent, 2))

    def _sample_percent(self, cpu: float, cpus: int) -> None:
        """Share of all available CPUs since the previous sample, 0 to 100."""
        now = self._clock()
        elapsed = now - self._sampled_at
        if elapsed < MIN_CPU_WINDOW_SECONDS:
            return
        share = (cpu - self._sampled_cpu) / elapsed / max(1, cpus)
        self._percent = min(100.0, max(0.0, share * 100))
        self._sampled_at = now
        self._sampled_cpu = cpu
