"""The jobs measurement: what it asks for, what it makes of its samples, and one quick run against the real gateway."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ray.bench.budgets.jobs_bench import FULL, MAX_JOBS, health_rows, jobs_config, start_rows, submission
from ray.bench.processes.gateway_process import MOCK_LATENCY_MS
from ray.bench.processes.load import LoadResult
from ray.config import config_from_mapping

ROOT = Path(__file__).parents[3]


def test_the_full_run_fills_the_store_to_its_last_place() -> None:
    assert FULL.retained == MAX_JOBS


def test_its_config_is_one_that_the_gateway_takes(tmp_path: Path) -> None:
    config = config_from_mapping(jobs_config(tmp_path, latency_ms=MOCK_LATENCY_MS))
    assert (config.async_queue.enabled, config.async_queue.max_jobs) == (True, MAX_JOBS)


def test_submissions_are_all_different_and_never_cached() -> None:
    bodies = [json.loads(submission(number).split(b"\r\n\r\n", 1)[1]) for number in range(3)]
    assert len({body["input"] for body in bodies}) == 3
    assert {body["cache"] for body in bodies} == {False}


def test_recovery_is_what_a_full_store_adds_to_a_start() -> None:
    rows = {row.id: row for row in start_rows(FULL, [200.0, 210.0, 220.0], [700.0, 720.0, 1_300.0])}
    recovery = rows["recovery_ms"]
    assert recovery.figure is not None
    assert (recovery.figure.low, recovery.figure.value, recovery.figure.high) == (500.0, 510.0, 1_080.0)
    assert recovery.verdict == "ok"


def test_health_is_shown_with_and_without_jobs() -> None:
    quick, slow = LoadResult(1.0, [0.001, 0.002, 0.003]), LoadResult(1.0, [0.004, 0.005, 0.006])
    figures = {row.id: row.figure for row in health_rows(FULL, quick, slow)}
    empty, full = figures["health_empty_p50_ms"], figures["health_full_p50_ms"]
    assert empty is not None
    assert full is not None
    assert (empty.value, full.value) == (2.0, 5.0)


@pytest.mark.integration
def test_a_quick_run_measures_the_real_gateway_from_submission_to_recovery(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ray.bench", "jobs", "--quick", "--json", "--directory", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    rows = {row["id"]: row for row in json.loads(run.stdout)["rows"]}
    assert all("value" in row for row in rows.values())
    assert {"submit_per_second", "submit_p99_ms", "recovery_ms", "health_full_p99_ms"} <= set(rows)
    assert list(tmp_path.iterdir()) == []
