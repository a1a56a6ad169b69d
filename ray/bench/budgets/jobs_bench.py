"""`python -m ray.bench jobs`: what durable jobs cost, measured on the real process, the real disk and the mock model.

The story: an empty store is started several times and asked for its health. A gateway whose model is slow takes
submissions, so that nothing but admission is measured; one whose model is quick takes the rest while it works off the
backlog. When every job has ended the store is full: its health is asked for again, and it is started several times.
What recovery costs is the difference between the two kinds of start.

Every submission is durable before it is answered, so the disk decides: the temporary directory may be memory.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ray.bench.processes.gateway_process import (
    HOST,
    METRICS,
    MOCK_LATENCY_MS,
    Workplace,
    gauge,
    mock_config,
    wait_for,
    wait_for_livez,
)
from ray.bench.processes.load import LoadResult, ask, request_bytes, run_load
from ray.bench.processes.process import ServerProcess, free_port, resident_mb, working_directory
from ray.bench.report.figures import Figure, quantile, repeated, single
from ray.bench.report.progress import Steps
from ray.bench.report.report import Budget, Row

RECOVERY_MS = Budget(1_000)

MAX_JOBS = 2_000
# Long enough that almost nothing runs beside the submissions, short enough to be waited for at the end.
SLOW_LATENCY_MS = 2_000
DISPATCHED_AT_ONCE = 8
WORK_OFF_SECONDS = 600.0
WORK_OFF_POLL_SECONDS = 0.2
SETTLE_SECONDS = 1.0

HEALTH = request_bytes("GET", "/health")
TEXT = "Summarise in one sentence: a small gateway keeps a small box responsive under load."

Progress = Callable[[str], None]

# About how many seconds things take on two cores, for the estimate of the time left.
_START_COST, _SUBMISSION_COST, _JOB_COST, _HEALTH_COST = 0.3, 0.004, 0.012, 0.0005


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done. `busy`, `single` and `beside` are submissions: over all connections, over one connection, and
    over one connection while jobs are worked off; together they are the retained jobs."""

    starts: int
    busy: int
    single: int
    beside: int
    health: int

    @property
    def retained(self) -> int:
        return self.busy + self.single + self.beside

    @property
    def empty_cost(self) -> float:
        """About the seconds that the starts with an empty store take, and its health."""
        return (self.starts + 2) * _START_COST + SETTLE_SECONDS + self.health * _HEALTH_COST

    @property
    def submit_cost(self) -> float:
        return _START_COST + (self.busy + self.single) * _SUBMISSION_COST

    @property
    def beside_cost(self) -> float:
        return _START_COST + self.beside * _SUBMISSION_COST + self.retained * _JOB_COST

    @property
    def cost(self) -> float:
        return 2 * self.empty_cost + self.submit_cost + self.beside_cost


FULL = Plan(starts=7, busy=1_000, single=500, beside=500, health=1_000)
QUICK = Plan(starts=2, busy=20, single=10, beside=10, health=20)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where it happens: the copy of the gateway, the store, the number of connections for the busy part."""

    workplace: Workplace
    storage: Path
    connections: int


def measure_jobs(plan: Plan, python: str, connections: int, directory: str | None, progress: Progress) -> list[Row]:
    """All rows. `directory`: where the store is made; the system's temporary directory when None.

    Raises `MeasurementError` when one of them cannot be measured.
    """
    with (
        working_directory() as place,
        tempfile.TemporaryDirectory(prefix="ray-bench-store-", dir=directory) as store,
    ):
        bench = Bench(Workplace.prepare(place, python), Path(store), connections)
        steps = Steps(progress, plan.cost)
        steps.begin(f"starting with an empty store {plan.starts + 1} times")
        _start_ms(bench, "first", "empty")
        empty = [_start_ms(bench, f"empty-{turn}", "empty") for turn in range(plan.starts)]
        empty_health, empty_mb = _health(bench, plan, "empty")
        steps.did(plan.empty_cost)
        steps.begin(f"submitting {plan.busy + plan.single} jobs")
        rows = _submit_rows(bench, plan)
        steps.did(plan.submit_cost)
        steps.begin(f"submitting {plan.beside} more while {plan.busy + plan.single} are worked off")
        rows += _beside_rows(bench, plan)
        steps.did(plan.beside_cost)
        full_health, full_mb = _health(bench, plan, "full")
        steps.did(SETTLE_SECONDS + _START_COST + plan.health * _HEALTH_COST)
        steps.begin(f"starting with {plan.retained} retained jobs {plan.starts} times")
        full = [_start_ms(bench, f"full-{turn}", "full") for turn in range(plan.starts)]
        return [
            *rows,
            *start_rows(plan, empty, full),
            *health_rows(plan, empty_health, full_health),
            Row("rss_empty_mb", "resident memory, empty store", "MB", single(empty_mb)),
            Row("rss_full_mb", f"resident memory, {plan.retained} retained jobs", "MB", single(full_mb)),
        ]


def jobs_config(storage: Path, *, latency_ms: int) -> dict[str, object]:
    """The mock gateway with a store in `storage`, as large as it may be."""
    return {
        **mock_config(latency_ms=latency_ms, concurrency=DISPATCHED_AT_ONCE),
        "asyncQueue": {
            "enabled": True,
            "storageDir": str(storage),
            "maxJobs": MAX_JOBS,
            "minFreeStorageMiB": 1,
            "dispatchConcurrency": DISPATCHED_AT_ONCE if latency_ms == MOCK_LATENCY_MS else 1,
        },
    }


def submission(number: int) -> bytes:
    """A `POST /v1/jobs`; all are different, and no answer comes from the cache."""
    body: dict[str, object] = {"input": f"{TEXT} ({number:09d})", "maxTokens": 16, "cache": False}
    return request_bytes("POST", "/v1/jobs", json.dumps(body, separators=(",", ":")).encode())


def start_rows(plan: Plan, empty: list[float], full: list[float]) -> list[Row]:
    """Both kinds of start, and what recovery adds: start by start, in the order in which they were taken."""
    extra = [one - other for one, other in zip(full, empty, strict=True)]
    return [
        Row("start_empty_ms", "start to the first /livez, empty store", "ms", repeated(empty)),
        Row("start_full_ms", f"start to the first /livez, {plan.retained} retained jobs", "ms", repeated(full)),
        Row("recovery_ms", f"recovery of {plan.retained} retained jobs", "ms", repeated(extra), RECOVERY_MS),
    ]


def health_rows(plan: Plan, empty: LoadResult, full: LoadResult) -> list[Row]:
    """`/health` over one connection, with nothing and with everything in the store."""
    rows = []
    for name, label, result in (
        ("empty", "empty store", empty),
        ("full", f"{plan.retained} retained jobs", full),
    ):
        latencies = [seconds * 1_000 for seconds in result.latencies]
        rows += [
            Row(f"health_{name}_p50_ms", f"/health, p50, {label}", "ms", single(quantile(latencies, 0.5))),
            Row(f"health_{name}_p99_ms", f"/health, p99, {label}", "ms", single(quantile(latencies, 0.99))),
        ]
    return rows


def _submit_rows(bench: Bench, plan: Plan) -> list[Row]:
    port = free_port()
    config = jobs_config(bench.storage / "full", latency_ms=SLOW_LATENCY_MS)
    with bench.workplace.start("submit", config, port) as server:
        wait_for_livez(server, (HOST, port))
        busy = _submit(port, plan.busy, bench.connections, 0)
        alone = _submit(port, plan.single, 1, plan.busy)
    per_second = f"submissions, {bench.connections} connections"
    return [
        Row("submit_per_second", per_second, "/s", single(busy.per_second)),
        Row("submit_busy_p99_ms", f"submission, p99, {bench.connections} connections", "ms", _p_ms(busy, 0.99)),
        Row("submit_p50_ms", "submission, p50, 1 connection", "ms", _p_ms(alone, 0.5)),
        Row("submit_p99_ms", "submission, p99, 1 connection", "ms", _p_ms(alone, 0.99)),
    ]


def _beside_rows(bench: Bench, plan: Plan) -> list[Row]:
    """Starts on the backlog and returns when every job has ended."""
    port = free_port()
    backlog = plan.busy + plan.single
    config = jobs_config(bench.storage / "full", latency_ms=MOCK_LATENCY_MS)
    with bench.workplace.start("beside", config, port) as server:
        wait_for_livez(server, (HOST, port))
        started = time.perf_counter()
        result = _submit(port, plan.beside, 1, backlog)
        _wait_until_all_ended(server, port, plan.retained)
        per_second = plan.retained / (time.perf_counter() - started)
    return [
        Row("beside_p99_ms", "submission, p99, 1 connection, while jobs run", "ms", _p_ms(result, 0.99)),
        Row("jobs_per_second", "jobs worked off, mock model", "/s", single(per_second)),
    ]


def _submit(port: int, count: int, connections: int, first: int) -> LoadResult:
    def make(number: int) -> bytes:
        return submission(first + number)

    return run_load((HOST, port), make, count=count, connections=connections, expect=b'"queued"', status=202)


def _wait_until_all_ended(server: ServerProcess, port: int, jobs: int) -> None:
    def ended() -> bool:
        time.sleep(WORK_OFF_POLL_SECONDS)
        return gauge(ask((HOST, port), METRICS), "async_queue.succeeded") == jobs

    wait_for(server, f"the end of {jobs} jobs", ended, WORK_OFF_SECONDS)


def _health(bench: Bench, plan: Plan, store: str) -> tuple[LoadResult, float]:
    """`/health` again and again, and the memory that is resident then."""
    port = free_port()
    config = jobs_config(bench.storage / store, latency_ms=MOCK_LATENCY_MS)
    with bench.workplace.start(f"health-{store}", config, port) as server:
        wait_for_livez(server, (HOST, port))
        time.sleep(SETTLE_SECONDS)
        result = run_load((HOST, port), lambda _: HEALTH, count=plan.health, connections=1, expect=b'"asyncQueue"')
        return result, resident_mb(server.pid)


def _start_ms(bench: Bench, name: str, store: str) -> float:
    """Milliseconds from starting the process to its first 200 on `/livez`; the gateway is stopped again."""
    port = free_port()
    config = jobs_config(bench.storage / store, latency_ms=MOCK_LATENCY_MS)
    started = time.perf_counter()
    with bench.workplace.start(name, config, port) as server:
        wait_for_livez(server, (HOST, port))
        return (time.perf_counter() - started) * 1_000


def _p_ms(result: LoadResult, share: float) -> Figure:
    return single(quantile([seconds * 1_000 for seconds in result.latencies], share))
