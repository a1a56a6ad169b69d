"""The gateway under test: a fresh copy of the package, a mock config, and the real command, as on a server.

What is measured is what an operator starts: `python -S -m ray --config FILE` in a directory that holds a copy of
`ray/` and nothing else, with an empty environment. The copy starts without compiled bytecode, as a fresh install does,
and keeps a checkout that is being edited out of the measurement.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.bench.processes.load import Address, Connection, Reply, ask, request_bytes
from ray.bench.processes.process import MeasurementError, ServerProcess, free_port

START_SECONDS = 30.0
CONNECT_PAUSE_SECONDS = 0.001
HOST = "127.0.0.1"

LIVEZ = request_bytes("GET", "/livez")
METRICS = request_bytes("GET", "/metrics")

MOCK_LATENCY_MS = 1
HELD_LATENCY_MS = 60_000
MAX_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Workplace:
    """A temporary directory with the copy of `ray/` in it. `python`: the interpreter that runs the gateway."""

    directory: Path
    python: str

    @classmethod
    def prepare(cls, directory: Path, python: str) -> Workplace:
        """Copies the package into `directory`, without bytecode."""
        package = Path(ray.__file__).parent
        shutil.copytree(package, directory / "ray", ignore=shutil.ignore_patterns("__pycache__"))
        return cls(directory, python)

    def start(self, name: str, config: Mapping[str, object], port: int) -> ServerProcess:
        """Start a gateway with `config` on `port`; its log goes to `<name>.log`."""
        document = {**config, "server": {"host": HOST, "port": port}}
        path = self.directory / f"{name}.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        return ServerProcess(
            [self.python, "-S", "-m", "ray", "--config", str(path)],
            cwd=self.directory,
            environ={},
            log=self.directory / f"{name}.log",
        )


def mock_config(*, latency_ms: int, concurrency: int) -> dict[str, object]:
    """The smallest profile with its mock model, and nothing in it that a busy machine could switch on.

    Pressure thresholds are out of reach: a clamped answer is not cached, and whether this machine happens to be busy
    must not decide what is measured. They are still evaluated, as in production. The cache keeps its answers longer
    than the bench runs.
    """
    return {
        "profile": "tiny",
        "model": {"adapter": {"kind": "mock", "latencyMs": latency_ms}},
        "scheduler": {
            "concurrency": concurrency,
            "maxQueue": 128,
            "maxInflightTokens": 32_000,
            "maxQueuedTokens": 128_000,
            "requestTimeoutMs": 120_000,
        },
        "cache": {"ttlMs": 3_600_000},
        "telemetry": {"slowRequestThresholdMs": 120_000},
        "rateLimit": {"enabled": False},
        "auth": {"enabled": False},
        "gracefulDegradation": {
            "queueDepthThreshold": 127,
            "memoryRssThresholdMiB": 65_536,
            "memoryCgroupPressureRatioThreshold": 1,
            "cpuThrottledRatioThreshold": 1,
            "memoryPsiSomeAvg10Threshold": 100,
            "memoryPsiFullAvg10Threshold": 100,
            "cpuPsiSomeAvg10Threshold": 100,
            "cpuPsiFullAvg10Threshold": 100,
        },
    }


def infer_request(text: str, **fields: object) -> bytes:
    """A `POST /v1/infer` for `text`, 16 tokens at most unless `fields` say otherwise."""
    body: dict[str, object] = {"input": text, "maxTokens": 16, **fields}
    return request_bytes("POST", "/v1/infer", json.dumps(body, separators=(",", ":")).encode())


def wait_for_livez(server: ServerProcess, address: Address) -> None:
    """Return at the first 200 from `/livez`. Raises `MeasurementError` when the process ends or takes 30 s."""
    wait_for(server, f"/livez on port {address[1]}", lambda: answers(address, LIVEZ), START_SECONDS)


def answers(address: Address, request: bytes) -> bool:
    """Whether `request` is answered with 200 at this moment, or at most 5 s later."""
    try:
        return ask(address, request, timeout=5.0).status == 200
    except (ConnectionError, TimeoutError):
        return False


def wait_for(server: ServerProcess, what: str, ready: Callable[[], bool], seconds: float) -> None:
    """Ask `ready` a millisecond apart. Raises `MeasurementError` when the process ends or the time is up."""
    give_up = time.perf_counter() + seconds
    while not ready():
        server.require_running()
        if time.perf_counter() > give_up:
            raise MeasurementError(f"{what} was not there after {seconds:.0f} s:\n{server.log_tail()}")
        time.sleep(CONNECT_PAUSE_SECONDS)


def cold_start_ms(workplace: Workplace, name: str) -> float:
    """Milliseconds from starting the process to its first 200 on `/livez`; the gateway is stopped again."""
    port = free_port()
    config = mock_config(latency_ms=MOCK_LATENCY_MS, concurrency=1)
    started = time.perf_counter()
    with workplace.start(name, config, port) as server:
        wait_for_livez(server, (HOST, port))
        return (time.perf_counter() - started) * 1000


def gauge(reply: Reply, name: str) -> float:
    """One gauge out of a `/metrics` answer in JSON. Raises `MeasurementError` when it is not there."""
    if reply.status != 200:
        raise MeasurementError(f"/metrics answered {reply.status}: {reply.body[:300]!r}")
    document = json.loads(reply.body)
    value = document.get("gauges", {}).get(name)
    if not isinstance(value, int | float):
        raise MeasurementError(f"/metrics has no gauge {name}")
    return float(value)


def freed_after_ms(address: Address, request: bytes) -> float:
    """Milliseconds from a client's disconnect to `inference.in_flight` 0; nothing else may be running.

    The answer to `request` must take longer than this measurement. The gauge is polled over a connection of its own,
    a millisecond apart, so the result is at most one poll too large.
    """
    metrics = Connection(address)
    client = Connection(address)
    try:
        client.socket.sendall(request)
        _poll_in_flight(metrics, 1)
        left = time.perf_counter()
        client.close()
        _poll_in_flight(metrics, 0)
        return (time.perf_counter() - left) * 1000
    finally:
        client.close()
        metrics.close()


def _poll_in_flight(metrics: Connection, expected: int) -> None:
    give_up = time.perf_counter() + START_SECONDS
    while gauge(metrics.exchange(METRICS), "inference.in_flight") != expected:
        if time.perf_counter() > give_up:
            raise MeasurementError(f"inference.in_flight did not become {expected} within {START_SECONDS:.0f} s")
        time.sleep(CONNECT_PAUSE_SECONDS)
