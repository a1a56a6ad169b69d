"""Readings of `/proc`, and child processes that never stay behind."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from ray.bench.processes.process import (
    MeasurementError,
    ServerProcess,
    cpu_seconds,
    foreign_share,
    free_port,
    parse_machine_ticks,
    parse_status_bytes,
    peak_resident_mb,
    resident_mb,
)
from tests.bench.polling import until

STATUS = "Name:\tpython3\nVmHWM:\t   21004 kB\nVmRSS:\t   20480 kB\nThreads:\t3\n"


def _python(script: str, log: Path) -> ServerProcess:
    return ServerProcess([sys.executable, "-S", "-c", script], cwd=log.parent, environ={}, log=log)


def _is_zombie(pid: int) -> bool:
    return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


def test_a_kib_line_of_the_status_file_is_given_in_bytes() -> None:
    assert parse_status_bytes(STATUS, "VmRSS") == 20_480 * 1024
    assert parse_status_bytes(STATUS, "VmHWM") == 21_004 * 1024


def test_a_status_without_memory_lines_is_a_failed_measurement_not_zero() -> None:
    with pytest.raises(MeasurementError, match="VmRSS"):
        parse_status_bytes("Name:\tpython3\nState:\tZ (zombie)\n", "VmRSS")


def test_machine_ticks_count_stolen_time_as_busy_and_disk_waits_as_idle() -> None:
    stat = "cpu  100 5 40 1000 30 3 2 20 7 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
    assert parse_machine_ticks(stat) == (170, 1200)


def test_the_readings_of_this_very_process_are_plausible() -> None:
    resident, peak = resident_mb(os.getpid()), peak_resident_mb(os.getpid())
    assert 1 < resident < 4_000
    assert peak > 1


def test_cpu_time_grows_by_what_the_process_computes() -> None:
    before = cpu_seconds(os.getpid())
    sum(range(100_000))
    after = cpu_seconds(os.getpid())
    assert before < after
    assert after - before < 60


def test_readings_of_an_ended_process_name_what_is_missing(tmp_path: Path) -> None:
    with _python("", tmp_path / "log") as server:
        server.stop()
        with pytest.raises(MeasurementError, match="has ended"):
            resident_mb(server.pid)
        with pytest.raises(MeasurementError, match="has ended"):
            cpu_seconds(server.pid)


def test_a_free_port_can_be_bound_and_is_none_that_the_kernel_gives_away() -> None:
    port = free_port()
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not first <= port <= last
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))


def test_a_process_is_stopped_with_sigterm_when_its_block_is_left(tmp_path: Path) -> None:
    waits = "import signal, sys\nsignal.signal(15, lambda *_: sys.exit(7))\nprint('up', flush=True)\nsignal.pause()"
    with _python(waits, tmp_path / "log") as server:
        until(lambda: "up" in server.log_tail())
    assert server.stop() == 7


def test_a_process_is_stopped_also_when_the_block_is_left_by_ctrl_c(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), _python("import signal\nsignal.pause()", tmp_path / "log") as server:
        raise KeyboardInterrupt
    assert not Path(f"/proc/{server.pid}").exists()


def test_a_process_that_ends_by_itself_is_reported_with_its_own_words(tmp_path: Path) -> None:
    with _python("import sys; sys.exit('no such profile')", tmp_path / "log") as server:
        until(lambda: _is_zombie(server.pid))
        with pytest.raises(MeasurementError, match=r"(?s)ended by itself with exit code 1:.*no such profile"):
            server.require_running()


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=r"cannot run /no/such/python: No such file"):
        ServerProcess(["/no/such/python"], cwd=tmp_path, environ={}, log=tmp_path / "log")


def test_what_the_bench_did_not_use_itself_is_foreign() -> None:
    second = os.sysconf("SC_CLK_TCK")
    assert foreign_share((0, 0), (8 * second, 20 * second), 3.0) == 0.25
    assert foreign_share((100, 900), (100, 900), 0.0) == 0


def test_rounding_of_ticks_never_makes_the_foreign_share_negative() -> None:
    second = os.sysconf("SC_CLK_TCK")
    assert foreign_share((0, 0), (3 * second, 20 * second), 3.01) == 0
