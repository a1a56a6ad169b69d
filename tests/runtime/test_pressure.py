"""What counts as pressure: tables over readings, and readings from recorded trees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ray.host import CgroupCpu, CgroupMemory, MemoryEvents, Psi, Stall
from ray.runtime.pressure import (
    HostPressure,
    HostReading,
    MemorySource,
    assess,
    cpu_document,
    cpu_pressure,
    memory_document,
    memory_sources,
)
from ray.runtime.pressure_gauges import pressure_gauges
from ray.telemetry import Metrics, metrics_json
from ray.telemetry.catalogue_host import HOST_METRICS
from tests.host.trees import SERVICE, FakeClock, Tree
from tests.runtime.support import TINY

LIMITS = TINY.graceful_degradation
OFF = replace(LIMITS, enabled=False)
MIB = 1024 * 1024


def psi(some: float | None = None, full: float | None = None) -> Psi:
    return Psi(
        None if some is None else Stall(avg10=some, avg60=0, avg300=0, total_usec=1),
        None if full is None else Stall(avg10=full, avg60=0, avg300=0, total_usec=1),
    )


EVENTS = CgroupMemory(10, events=MemoryEvents(high=3), recent_events=MemoryEvents(high=2))
QUIET = CgroupMemory(10, events=MemoryEvents(high=3), recent_events=MemoryEvents(0, 0, 0, 0))


# Memory


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (HostReading(), ()),
        (HostReading(rss_bytes=256 * MIB), ("process_rss",)),
        (HostReading(rss_bytes=256 * MIB - 8192), ()),
        (HostReading(memory=CgroupMemory(90, limit=100)), ("cgroup",)),
        (HostReading(memory=CgroupMemory(89, limit=100)), ()),
        (HostReading(memory=CgroupMemory(760, high=800, limit=1000)), ("cgroup",)),
        (HostReading(memory=CgroupMemory(99)), ()),
        (HostReading(memory=CgroupMemory(1, limit=100, swap_current=9, swap_limit=10)), ("cgroup",)),
        (HostReading(memory=CgroupMemory(1, limit=100, swap_current=9, swap_limit=0)), ()),
        (HostReading(memory=EVENTS), ("cgroup",)),
        (HostReading(memory=QUIET), ()),
        (HostReading(memory_psi=psi(some=10)), ("linux_psi",)),
        (HostReading(memory_psi=psi(some=9.99)), ()),
        (HostReading(memory_psi=psi(full=1)), ("linux_psi",)),
        (HostReading(memory_psi=psi(some=9.99, full=0.99)), ()),
        (HostReading(cpu_psi=psi(some=100, full=100)), ()),
        (HostReading(256 * MIB, EVENTS, None, psi(some=50)), ("process_rss", "cgroup", "linux_psi")),
    ],
)
def test_memory_sources_are_named_from_their_threshold_on(
    reading: HostReading, expected: tuple[MemorySource, ...]
) -> None:
    assert memory_sources(reading, LIMITS) == expected
    assert assess(reading, LIMITS).memory is bool(expected)


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (HostReading(), False),
        (HostReading(cpu=CgroupCpu(throttled_ratio=0.2)), True),
        (HostReading(cpu=CgroupCpu(throttled_ratio=0.1999)), False),
        (HostReading(cpu=CgroupCpu(periods=100, throttled_periods=60)), False),
        (HostReading(cpu_psi=psi(some=50)), True),
        (HostReading(cpu_psi=psi(some=49.99, full=4.99)), False),
        (HostReading(cpu_psi=psi(full=5)), True),
        (HostReading(memory_psi=psi(some=100, full=100)), False),
    ],
)
def test_cpu_presses_from_its_thresholds_on(reading: HostReading, expected: bool) -> None:
    assert cpu_pressure(reading, LIMITS) is expected
    assert assess(reading, LIMITS).cpu is expected


def test_given_degradation_off_when_everything_presses_then_nothing_counts_and_the_figures_stay() -> None:
    reading = HostReading(999 * MIB, EVENTS, CgroupCpu(throttled_ratio=1), psi(99, 99), psi(99, 99))
    pressure = assess(reading, OFF)
    assert (pressure.memory_sources, pressure.cpu) == ((), False)
    assert memory_document(pressure)["processRssMiB"] == 999
    figures = dict(pressure_gauges(pressure, OFF))
    assert (figures["process.memory.pressure"], figures["process.cpu.pressure"]) == (False, False)
    signals = ("process.memory.linux_psi_pressure", "process.memory.cgroup_event_pressure")
    assert [figures[name] for name in (*signals, "process.cpu.linux_psi_pressure")] == [True, True, True]


# The figures


FULL = HostReading(
    rss_bytes=64 * MIB,
    memory=CgroupMemory(
        current=760 * MIB,
        high=800 * MIB,
        limit=1000 * MIB,
        swap_current=128 * MIB,
        swap_limit=256 * MIB,
        events=MemoryEvents(4, 3, 2, 1),
        recent_events=MemoryEvents(1, 0, 0, None),
    ),
    cpu=CgroupCpu(8, 6, 2, 150_000, 100_000, 100, 60, 1_250_000, 0.6),
    memory_psi=psi(12.5, 0.5),
    cpu_psi=psi(55, 4),
)


def test_the_memory_document_has_every_figure_under_its_name() -> None:
    assert memory_document(assess(FULL, LIMITS)) == {
        "degraded": True,
        "sources": ["cgroup", "linux_psi"],
        "processRssMiB": 64,
        "memoryRssThresholdMiB": 256,
        "processRssPressureRatio": 0.25,
        "cgroupMemoryCurrentMiB": 760,
        "cgroupMemoryHighMiB": 800,
        "cgroupMemoryLimitMiB": 1000,
        "cgroupMemoryPressureRatio": 0.95,
        "cgroupMemoryPressureRatioThreshold": 0.9,
        "cgroupMemorySwapCurrentMiB": 128,
        "cgroupMemorySwapLimitMiB": 256,
        "cgroupMemorySwapPressureRatio": 0.5,
        "cgroupMemorySwapPressureRatioThreshold": 0.9,
        "cgroupMemoryHighEvents": 4,
        "cgroupMemoryMaxEvents": 3,
        "cgroupMemoryOomEvents": 2,
        "cgroupMemoryOomKillEvents": 1,
        "cgroupMemoryHighEventsDelta": 1,
        "cgroupMemoryMaxEventsDelta": 0,
        "cgroupMemoryOomEventsDelta": 0,
        "linuxMemoryPsiSomeAvg10": 12.5,
        "linuxMemoryPsiSomeAvg10Threshold": 10,
        "linuxMemoryPsiFullAvg10": 0.5,
        "linuxMemoryPsiFullAvg10Threshold": 1,
    }


def test_the_cpu_document_has_every_figure_under_its_name() -> None:
    assert cpu_document(assess(FULL, LIMITS)) == {
        "degraded": True,
        "cgroupCpuUsageUsec": 8,
        "cgroupCpuUserUsec": 6,
        "cgroupCpuSystemUsec": 2,
        "cgroupCpuQuotaUsec": 150_000,
        "cgroupCpuPeriodUsec": 100_000,
        "cgroupCpuQuotaCores": 1.5,
        "cgroupCpuPeriods": 100,
        "cgroupCpuThrottledPeriods": 60,
        "cgroupCpuThrottledUsec": 1_250_000,
        "cgroupCpuThrottledRatio": 0.6,
        "cgroupCpuThrottledThreshold": 0.2,
        "linuxCpuPsiSomeAvg10": 55,
        "linuxCpuPsiSomeAvg10Threshold": 50,
        "linuxCpuPsiFullAvg10": 4,
        "linuxCpuPsiFullAvg10Threshold": 5,
    }


def test_what_nobody_measured_is_left_out() -> None:
    pressure = assess(HostReading(rss_bytes=MIB // 3), LIMITS)
    assert memory_document(pressure) == {
        "degraded": False,
        "sources": [],
        "processRssMiB": 0.33,
        "memoryRssThresholdMiB": 256,
        "processRssPressureRatio": 0.0013,
    }
    assert cpu_document(pressure) is None
    assert cpu_document(assess(HostReading(cpu=CgroupCpu(quota_usec=5)), LIMITS)) == {
        "degraded": False,
        "cgroupCpuQuotaUsec": 5,
    }


# Gauges


# Written by the process's own collector.
OTHERS = {
    "process.memory.rss_mib",
    "process.virtual_memory_bytes",
    "process.cpu.percent",
    "process.cpu.seconds",
    "process.cpu.user_ms_total",
    "process.cpu.system_ms_total",
    "process.start_time",
    "process.open_fds",
    "process.max_fds",
}


def test_every_pressure_row_of_the_catalogue_gets_its_figure() -> None:
    rows = {row.name for row in HOST_METRICS if row.name.startswith("process.")} - OTHERS
    assert {name for name, _ in pressure_gauges(assess(FULL, LIMITS), LIMITS)} == rows
    assert {name for name, _ in pressure_gauges(assess(HostReading(), LIMITS), LIMITS)} == rows


def test_gauges_appear_when_measured_and_vanish_when_no_longer() -> None:
    metrics = Metrics()

    def gauges(reading: HostReading) -> dict[str, float]:
        for name, figure in pressure_gauges(assess(reading, LIMITS), LIMITS):
            metrics.set(name, figure)
        shown = metrics_json(metrics, include_recent=False)["gauges"]
        assert isinstance(shown, dict)
        return {name: figure for name, figure in shown.items() if name.startswith("process.")}

    full = gauges(FULL)
    assert full["process.memory.cgroup_pressure_ratio"] == 0.95
    assert full["process.memory.cgroup_high_events_delta"] == 1
    assert "process.memory.cgroup_oom_kill_events_delta" not in full
    assert full["process.memory.linux_psi_some_avg10"] == 12.5
    assert full["process.cpu.cgroup_throttled_ratio"] == 0.6
    assert (full["process.memory.pressure"], full["process.cpu.pressure"]) == (1, 1)
    assert sorted(name for name in gauges(HostReading()) if not name.endswith("threshold")) == [
        "process.memory.pressure",
        "process.memory.rss_pressure_ratio",
        "process.memory.rss_threshold_mib",
    ]


# Reading


def calm_tree(directory: Path) -> Tree:
    """A service far from every limit, on a machine where nothing waits."""
    tree = Tree("v2", directory)
    tree.write(f"{SERVICE}/memory.current", str(100 * MIB))
    for resource in ("memory", "cpu"):
        tree.remove(f"proc/pressure/{resource}")
    return tree


def test_given_a_fresh_reading_when_asked_again_then_no_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, clock = Tree("v2", tmp_path), FakeClock()
    host = HostPressure(tree.root, clock)
    first = host.read()
    clock.advance(0.249)

    def open_nothing(*_: object) -> int:
        raise AssertionError("a file was opened")

    monkeypatch.setattr("ray.host.files.os.open", open_nothing)
    assert host.read() is first


def test_given_250_ms_when_asked_again_then_every_part_is_read_anew(tmp_path: Path) -> None:
    tree, clock = Tree("v2", tmp_path), FakeClock()
    host = HostPressure(tree.root, clock)
    first = host.read()
    assert first.memory is not None
    assert (first.memory.recent_events, first.rss_bytes) == (None, 0)
    tree.write(f"{SERVICE}/memory.events", "high 3\nmax 0\noom 0\noom_kill 0\n")
    tree.write(f"{SERVICE}/cpu.stat", "nr_periods 200\nnr_throttled 61\n")
    tree.write("proc/pressure/memory", "some avg10=20.00 avg60=1.00 avg300=1.00 total=5\n")
    tree.write("proc/pressure/cpu", "some avg10=60.00 avg60=1.00 avg300=1.00 total=5\n")
    tree.write("proc/self/statm", "9 7 0 0 0 0 0\n")
    clock.advance(0.25)
    second = host.read()
    assert second.memory is not None
    assert second.memory.recent_events == MemoryEvents(2, 0, 0, 0)
    assert second.cpu is not None
    assert second.cpu.throttled_ratio == 0.01
    assert second.memory_psi is not None
    assert second.cpu_psi is not None
    assert second.rss_bytes > 0
    assert memory_sources(second, LIMITS) == ("cgroup", "linux_psi")
    assert cpu_pressure(second, LIMITS)


def test_given_unchanged_counters_when_read_again_then_the_pressure_is_over(tmp_path: Path) -> None:
    tree, clock = calm_tree(tmp_path), FakeClock()
    host = HostPressure(tree.root, clock)
    host.read()
    tree.write(f"{SERVICE}/memory.events", "high 3\n")
    tree.write(f"{SERVICE}/cpu.stat", "nr_periods 110\nnr_throttled 69\n")
    clock.advance(1)
    pressed = assess(host.read(), LIMITS)
    assert (pressed.memory_sources, pressed.cpu) == (("cgroup",), True)
    clock.advance(1)
    relieved = assess(host.read(), LIMITS)
    assert (relieved.memory_sources, relieved.cpu) == ((), False)


def test_given_a_minute_without_a_reading_when_read_then_its_growth_says_nothing(tmp_path: Path) -> None:
    tree, clock = calm_tree(tmp_path), FakeClock()
    host = HostPressure(tree.root, clock)
    host.read()
    tree.write(f"{SERVICE}/memory.events", "high 3\n")
    tree.write(f"{SERVICE}/cpu.stat", "nr_periods 110\nnr_throttled 69\n")
    clock.advance(60.5)
    pressure = assess(host.read(), LIMITS)
    assert (pressure.memory_sources, pressure.cpu) == ((), False)


@pytest.mark.parametrize("name", ["missing", "malformed"])
def test_trees_that_tell_nothing_press_nothing(tmp_path: Path, name: str) -> None:
    pressure = assess(HostPressure(Tree(name, tmp_path).root).read(), LIMITS)
    assert (pressure.memory_sources, pressure.cpu) == ((), False)
