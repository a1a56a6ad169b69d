"""The gateway measurement: what it asks for, and one quick run against the real gateway."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ray.bench.budgets.gateway_bench import FULL, QUICK, Samples, interpreter_name, kind_rows, request_kinds
from ray.bench.processes.process import MeasurementError
from tests.bench.polling import until

ROOT = Path(__file__).parents[3]


def test_the_full_run_serves_at_least_ten_thousand_requests_before_memory_is_read() -> None:
    per_round = FULL.livez + FULL.cached + FULL.uncached + 3 * FULL.single
    assert FULL.rounds * per_round >= 10_000


def test_cached_questions_are_all_alike_and_uncached_ones_all_different() -> None:
    kinds = {kind.id: kind for kind in request_kinds(QUICK)}
    assert len({kinds["cached"].make(turn) for turn in range(5)}) == 1
    assert len({kinds["uncached"].make(turn % 2) for turn in range(5)}) == 5


def test_rows_take_ratios_within_a_round_and_percentiles_over_all_rounds() -> None:
    kinds = request_kinds(QUICK)
    samples = {
        kind.id: Samples(
            per_second=[100.0, 1000.0],
            busy_cpu_us=[90.0, 110.0],
            single_cpu_us=[120.0, 130.0],
            p50_ms=[1.0, 2.0],
            latencies_ms=[float(value) for value in range(1, 101)],
        )
        for kind in kinds
    }
    samples["cached"].per_second = [50.0, 500.0]
    rows = {row.id: row for row in kind_rows(kinds, samples, 8)}
    ratio, p99, cpu = rows["cached_to_livez"].figure, rows["cached_p99_ms"].figure, rows["cached_cpu_us"].figure
    assert ratio is not None
    assert (ratio.low, ratio.high) == (0.5, 0.5)
    assert p99 is not None
    assert p99.value == 99
    assert cpu is not None
    assert (cpu.value, cpu.low, cpu.high) == (100, 90, 110)
    assert rows["cached_cpu_us"].verdict == "ok"


def test_the_interpreter_is_named_with_its_version() -> None:
    assert interpreter_name(sys.executable).startswith(f"Python {sys.version.split()[0]} (")


def test_an_interpreter_that_is_none_is_refused() -> None:
    with pytest.raises(MeasurementError, match="does not run"):
        interpreter_name("/bin/false")


@pytest.mark.integration
def test_a_quick_run_measures_the_real_gateway_from_start_to_freed_slot() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ray.bench", "gateway", "--quick", "--json", "--connections", "4"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    rows = {row["id"]: row for row in document["rows"]}
    measured = {name for name, row in rows.items() if "value" in row}
    assert measured == set(rows) - {"tokens_ratio"}
    assert {"cold_start_ms", "rss_idle_mb", "rss_loaded_mb", "cached_cpu_us", "freed_ms"} <= measured
    for name in measured:
        assert 0 < rows[name]["low"] <= rows[name]["value"] <= rows[name]["high"], name
    for budgeted in ("cold_start_ms", "rss_idle_mb", "rss_loaded_mb", "cached_cpu_us", "freed_ms"):
        assert rows[budgeted]["verdict"] in ("ok", "over")


@pytest.mark.integration
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_takes_its_gateway_along(stop: signal.Signals) -> None:
    command = [sys.executable, "-m", "ray.bench", "gateway", "--json"]
    # A shell that starts this in the background would make SIGINT ignored, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        bench = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    finally:
        signal.signal(signal.SIGINT, before)
    with bench:
        until(lambda: _children(bench.pid) != [])
        gateways = _children(bench.pid)
        bench.send_signal(stop)
        assert bench.wait(60) == 130
        assert bench.stdout is not None
        assert bench.stdout.read() == b""
    assert [pid for pid in gateways if Path(f"/proc/{pid}").exists()] == []


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
