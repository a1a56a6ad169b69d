"""The process's figures in both views."""

from __future__ import annotations

import pytest

from ray.host import ProcessReading, read_process
from ray.telemetry import Metrics, ProcessCollector, metrics_json, prometheus_text

MIB = 1024 * 1024


class FakeProcess:
    """A process and a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 50.0
        self.reading = ProcessReading(
            rss_bytes=25 * MIB + 4096,
            virtual_bytes=100 * MIB,
            cpu_user_seconds=1.0,
            cpu_system_seconds=0.5,
            open_fds=12,
            max_fds=1024,
            started_at=1_795_000_000.25,
            cpus=2,
        )
        self.metrics = Metrics()
        self.metrics.add_collector(ProcessCollector(lambda: self.reading, lambda: self.now))

    def after(self, seconds: float, cpu: float) -> float:
        """CPU percent after so many seconds of which `cpu` were spent computing."""
        self.now += seconds
        self.reading = self.reading._replace(cpu_user_seconds=self.reading.cpu_user_seconds + cpu)
        return self.gauges()["process.cpu.percent"]

    def gauges(self) -> dict[str, float]:
        gauges = metrics_json(self.metrics, include_recent=False)["gauges"]
        assert isinstance(gauges, dict)
        return gauges


def test_json_has_megabytes_and_milliseconds() -> None:
    assert FakeProcess().gauges() == {
        "process.memory.rss_mib": 25,
        "process.cpu.percent": 0,
        "process.cpu.user_ms_total": 1_000,
        "process.cpu.system_ms_total": 500,
    }


@pytest.mark.parametrize(
    "sample",
    [
        f"process_resident_memory_bytes {25 * MIB + 4096}",
        f"process_virtual_memory_bytes {100 * MIB}",
        "process_cpu_seconds_total 1.5",
        'ray_process_cpu_seconds_total{mode="user"} 1',
        'ray_process_cpu_seconds_total{mode="system"} 0.5',
        "process_start_time_seconds 1795000000.25",
        "process_open_fds 12",
        "process_max_fds 1024",
    ],
)
def test_prometheus_has_the_standard_names_in_base_units(sample: str) -> None:
    assert sample in prometheus_text(FakeProcess().metrics).split("\n")


def test_what_the_system_does_not_tell_is_absent() -> None:
    process = FakeProcess()
    process.reading = process.reading._replace(virtual_bytes=None, open_fds=None, max_fds=None, started_at=None)
    text = prometheus_text(process.metrics)
    for name in ("process_virtual_memory_bytes", "process_open_fds", "process_max_fds", "process_start_time_seconds"):
        assert name not in text


@pytest.mark.parametrize(
    ("seconds", "cpu", "percent"),
    [(2.0, 1.0, 25), (2.0, 4.0, 100), (2.0, 4.5, 100), (10.0, 0.0, 0), (2.0, -1.0, 0), (3.0, 1.0, 16.67)],
)
def test_cpu_percent_is_of_all_cpus_since_the_previous_sample(seconds: float, cpu: float, percent: float) -> None:
    assert FakeProcess().after(seconds, cpu) == percent


def test_readers_in_quick_succession_share_one_window() -> None:
    process = FakeProcess()
    assert process.after(2, 1) == 25
    assert process.after(0.5, 0.9) == 25
    assert process.after(0.5, 0.1) == 50


def test_the_last_figures_are_noted_for_recent() -> None:
    process = FakeProcess()
    process.after(3, 1)
    recent = metrics_json(process.metrics, include_recent=True)["recent"]
    assert isinstance(recent, dict)
    assert (recent["lastProcessRssMiB"], recent["lastCpuPercent"]) == (25, 16.67)


def test_the_real_process_fits() -> None:
    metrics = Metrics()
    metrics.add_collector(ProcessCollector(read_process))
    gauges = metrics_json(metrics, include_recent=False)["gauges"]
    assert isinstance(gauges, dict)
    assert gauges["process.memory.rss_mib"] > 1
