"""`python -m ray.bench gateway`: what the gateway itself costs, measured on the real process with the mock model.

The story: start it several times, watch it idle, then ask in rounds. Each round asks `/livez`, a cached `/v1/infer`
and an uncached one in turn, first over several connections for throughput and CPU time, then over a single one for
latency. A disturbance from outside therefore hits all kinds alike, the spread shows it, and ratios between kinds are
taken within a round. CPU time per request is the steadiest of these numbers: it counts only what the gateway's
process really used.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ray.bench.processes.gateway_process import (
    HELD_LATENCY_MS,
    HOST,
    LIVEZ,
    MOCK_LATENCY_MS,
    Workplace,
    cold_start_ms,
    freed_after_ms,
    infer_request,
    mock_config,
    wait_for_livez,
)
from ray.bench.processes.load import Address, ask, run_load
from ray.bench.processes.process import (
    MeasurementError,
    cpu_seconds,
    free_port,
    peak_resident_mb,
    resident_mb,
    working_directory,
)
from ray.bench.report.figures import quantile, repeated, single
from ray.bench.report.progress import Steps
from ray.bench.report.report import Budget, Row

COLD_START_MS = Budget(250)
IDLE_MB = Budget(30)
LOADED_MB = Budget(40)
CACHED_CPU_US = Budget(200)
FREED_MS = Budget(100)

SETTLE_SECONDS = 1.0
SYSTEM_TEXT = "You answer briefly and in plain words. You never invent facts, names or numbers."
CACHED_TEXT = "Summarise in one sentence: a small gateway keeps a small box responsive under load."

Progress = Callable[[str], None]

# About how many seconds things take on two cores, for the estimate of the time left.
_START_COST, _LEAVING_COST = 0.25, 0.03
_LIVEZ_COST, _CACHED_COST, _UNCACHED_COST, _SINGLE_COST = 5e-5, 2e-4, 7e-4, 1e-2


@dataclass(frozen=True, slots=True)
class Plan:
    """How often each thing is measured. Requests are per round; `single` ones go over one connection."""

    starts: int
    rounds: int
    livez: int
    cached: int
    uncached: int
    single: int
    disconnects: int

    @property
    def round_cost(self) -> float:
        busy = self.livez * _LIVEZ_COST + self.cached * _CACHED_COST + self.uncached * _UNCACHED_COST
        return busy + self.single * _SINGLE_COST

    @property
    def cost(self) -> float:
        """About the seconds that all of it takes."""
        starts = (self.starts + 3) * _START_COST
        return starts + SETTLE_SECONDS + self.rounds * self.round_cost + 2 * self.disconnects * _LEAVING_COST


FULL = Plan(starts=9, rounds=5, livez=2_000, cached=2_000, uncached=1_000, single=400, disconnects=10)
QUICK = Plan(starts=2, rounds=2, livez=60, cached=60, uncached=40, single=20, disconnects=2)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request: how to make the n-th one, and what its answer must hold."""

    id: str
    label: str
    make: Callable[[int], bytes]
    expect: bytes
    per_round: int


@dataclass(slots=True)
class Samples:
    """What the rounds gave for one kind: one number per round, and all latencies of the single connection."""

    per_second: list[float] = field(default_factory=list)
    busy_cpu_us: list[float] = field(default_factory=list)
    single_cpu_us: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)


def measure_gateway(plan: Plan, python: str, connections: int, progress: Progress) -> list[Row]:
    """All rows about the gateway on its own. Raises `MeasurementError` when one of them cannot be measured."""
    with working_directory() as directory:
        workplace = Workplace.prepare(directory, python)
        steps = Steps(progress, plan.cost)
        return [
            *_start_rows(plan, workplace, steps),
            *_served_rows(plan, workplace, connections, steps),
            *_disconnect_rows(plan, workplace, steps),
        ]


def interpreter_name(python: str) -> str:
    """`Python 3.11.2 (/usr/bin/python3)`. Raises `MeasurementError` when `python` is not a working interpreter."""
    if python == sys.executable:
        version = sys.version.split()[0]
    else:
        command = [python, "-S", "-c", "import sys; print(sys.version.split()[0])"]
        try:
            version = subprocess.run(command, capture_output=True, check=True, text=True, timeout=30).stdout.strip()
        except (OSError, subprocess.SubprocessError) as error:
            raise MeasurementError(f"--python {python} does not run: {error}") from error
    return f"Python {version} ({python})"


def _start_rows(plan: Plan, workplace: Workplace, steps: Steps) -> list[Row]:
    steps.begin(f"starting the gateway {plan.starts + 1} times")
    first = cold_start_ms(workplace, "first")
    later = [cold_start_ms(workplace, f"start-{turn}") for turn in range(plan.starts)]
    steps.did((plan.starts + 1) * _START_COST)
    return [
        Row("cold_start_ms", "cold start to the first /livez", "ms", repeated(later), COLD_START_MS),
        Row("first_start_ms", "the very first start, bytecode not compiled yet", "ms", single(first)),
    ]


def request_kinds(plan: Plan) -> list[Kind]:
    """The three kinds of request that the rounds ask for. Uncached ones are all different, so none joins another."""
    cached = infer_request(CACHED_TEXT, system=SYSTEM_TEXT)
    fresh = iter(range(10**9))
    return [
        Kind("livez", "/livez", lambda _: LIVEZ, b'"ok"', plan.livez),
        Kind("cached", "cached /v1/infer", lambda _: cached, b'"cached":true', plan.cached),
        Kind(
            "uncached",
            "uncached /v1/infer",
            lambda _: infer_request(f"{CACHED_TEXT} ({next(fresh):09d})", system=SYSTEM_TEXT, cache=False),
            b'"cached":false',
            plan.uncached,
        ),
    ]


def _served_rows(plan: Plan, workplace: Workplace, connections: int, steps: Steps) -> list[Row]:
    port = free_port()
    address = (HOST, port)
    kinds = request_kinds(plan)
    samples = {kind.id: Samples() for kind in kinds}
    config = mock_config(latency_ms=MOCK_LATENCY_MS, concurrency=8)
    with workplace.start("served", config, port) as server:
        wait_for_livez(server, address)
        time.sleep(SETTLE_SECONDS)
        idle = resident_mb(server.pid)
        if ask(address, infer_request(CACHED_TEXT, system=SYSTEM_TEXT)).status != 200:
            raise MeasurementError(f"/v1/infer does not answer 200:\n{server.log_tail()}")
        asked = 0
        steps.did(_START_COST + SETTLE_SECONDS)
        for turn in range(plan.rounds):
            steps.begin(f"round {turn + 1} of {plan.rounds}: {', '.join(kind.label for kind in kinds)}")
            for kind in kinds:
                asked += _busy_part(address, server.pid, kind, connections, samples[kind.id])
            for kind in kinds:
                asked += _single_part(address, server.pid, kind, plan.single, samples[kind.id])
            steps.did(plan.round_cost)
        loaded, peak = resident_mb(server.pid), peak_resident_mb(server.pid)
    memory = [
        Row("rss_idle_mb", "resident memory, idle", "MB", single(idle), IDLE_MB),
        Row("rss_loaded_mb", f"resident memory after {asked} requests", "MB", single(loaded), LOADED_MB),
        Row("rss_peak_mb", "resident memory, highest", "MB", single(peak)),
    ]
    return memory + kind_rows(kinds, samples, connections)


def _busy_part(address: Address, pid: int, kind: Kind, connections: int, samples: Samples) -> int:
    """Throughput and CPU time under load. Returns the number of requests."""
    before = cpu_seconds(pid)
    result = run_load(address, kind.make, count=kind.per_round, connections=connections, expect=kind.expect)
    samples.busy_cpu_us.append((cpu_seconds(pid) - before) / kind.per_round * 1e6)
    samples.per_second.append(result.per_second)
    return kind.per_round


def _single_part(address: Address, pid: int, kind: Kind, count: int, samples: Samples) -> int:
    """Latency, and CPU time when each request has the event loop to itself. Returns the number of requests."""
    before = cpu_seconds(pid)
    result = run_load(address, kind.make, count=count, connections=1, expect=kind.expect)
    samples.single_cpu_us.append((cpu_seconds(pid) - before) / count * 1e6)
    latencies = [seconds * 1000 for seconds in result.latencies]
    samples.p50_ms.append(quantile(latencies, 0.5))
    samples.latencies_ms += latencies
    return count


def kind_rows(kinds: Sequence[Kind], samples: dict[str, Samples], connections: int) -> list[Row]:
    """The rows of all kinds, and the ratios between them."""
    rows: list[Row] = []
    for kind in kinds:
        own = samples[kind.id]
        p99 = single(quantile(own.latencies_ms, 0.99))
        budget = CACHED_CPU_US if kind.id == "cached" else None
        busy = f"{kind.label}, gateway CPU per request, {connections} connections"
        alone = f"{kind.label}, gateway CPU per request, 1 connection"
        rows += [
            Row(f"{kind.id}_per_second", f"{kind.label}, {connections} connections", "/s", repeated(own.per_second)),
            Row(f"{kind.id}_p50_ms", f"{kind.label}, p50, 1 connection", "ms", repeated(own.p50_ms)),
            Row(f"{kind.id}_p99_ms", f"{kind.label}, p99, 1 connection", "ms", p99),
            Row(f"{kind.id}_cpu_us", busy, "us", repeated(own.busy_cpu_us), budget),
            Row(f"{kind.id}_single_cpu_us", alone, "us", repeated(own.single_cpu_us)),
        ]
    ratios = [
        cached / livez for cached, livez in zip(samples["cached"].per_second, samples["livez"].per_second, strict=True)
    ]
    rows.append(
        Row(
            "cached_to_livez",
            "cached /v1/infer to /livez, requests per second",
            "",
            repeated(ratios),
            more_is_better=True,
        )
    )
    return rows


def _disconnect_rows(plan: Plan, workplace: Workplace, steps: Steps) -> list[Row]:
    steps.begin(f"leaving {2 * plan.disconnects} times in mid-answer")
    port = free_port()
    address = (HOST, port)
    whole: list[float] = []
    streamed: list[float] = []
    with workplace.start("held", mock_config(latency_ms=HELD_LATENCY_MS, concurrency=1), port) as server:
        wait_for_livez(server, address)
        for turn in range(plan.disconnects):
            whole.append(freed_after_ms(address, infer_request(f"whole {turn}", cache=False)))
            streamed.append(freed_after_ms(address, infer_request(f"streamed {turn}", cache=False, stream=True)))
    return [
        Row("freed_ms", "client gone to slot free, whole answer", "ms", repeated(whole), FREED_MS),
        Row("freed_streamed_ms", "client gone to slot free, streamed answer", "ms", repeated(streamed), FREED_MS),
    ]
