"""`python -m ray.bench gateway --llama-server …`: what the gateway costs in front of a real `llama-server`.

The same questions go to the server directly and through the gateway, in pairs and in turn, so that both sides see
the same machine in the same minutes. No two prompts are equal and each differs from its first word on: neither side
profits from a prompt that the other one has just left in the KV cache. This measures what the gateway costs, not
what prefix reuse gains.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ray.bench.processes.gateway_process import (
    CONNECT_PAUSE_SECONDS,
    HOST,
    Workplace,
    answers,
    infer_request,
    wait_for_livez,
)
from ray.bench.processes.llama_process import HEALTH, SLOTS, running_server
from ray.bench.processes.load import Address, Connection, Reply, ask, request_bytes
from ray.bench.processes.process import MeasurementError, cpu_seconds, free_port, resident_mb, working_directory
from ray.bench.report.figures import repeated, single
from ray.bench.report.progress import Steps
from ray.bench.report.report import Budget, Row

RATIO = Budget(0.97, at_least=True)
FREED_MS = Budget(100)
LOADED_MB = Budget(40)
ANSWER_SECONDS = 120.0

SYSTEM_TEXT = "You are a patient storyteller."
RATIO_LABEL = "tokens per second, through the gateway to directly"
FREED_LABEL = "client gone to llama-server slot free, streamed"

Progress = Callable[[str], None]
# About how many seconds a token takes, of which a pair of answers has so many each, and leaving; on two cores.
_TOKEN_COST, _LEAVING_COST = 0.01, 0.5


@dataclass(frozen=True, slots=True)
class Backend:
    """Where the real model is: a server that already runs at `address`, or a binary and a model to start it with."""

    address: Address | None = None
    binary: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class BackendPlan:
    """`pairs` of questions, `tokens` in each answer, `disconnects` in mid-answer."""

    pairs: int
    tokens: int
    disconnects: int

    @property
    def pair_cost(self) -> float:
        return 2 * self.tokens * _TOKEN_COST

    @property
    def cost(self) -> float:
        """About the seconds that all of it takes, the start of the servers aside."""
        return (self.pairs + 1) * self.pair_cost + self.disconnects * _LEAVING_COST


FULL = BackendPlan(pairs=10, tokens=96, disconnects=5)
QUICK = BackendPlan(pairs=2, tokens=16, disconnects=1)


def rows_without_backend() -> list[Row]:
    """What the report shows when no backend was named."""
    note = "needs a real model: give --llama-server PATH and --model GGUF, or --backend URL"
    return [Row("tokens_ratio", RATIO_LABEL, "", None, RATIO, note)]


def measure_backend(backend: Backend, plan: BackendPlan, python: str, progress: Progress) -> list[Row]:
    """The rows about the gateway in front of a real model. Raises `MeasurementError` when they cannot be measured."""
    with working_directory() as directory:
        workplace = Workplace.prepare(directory, python)
        with _running(backend, workplace, progress) as (direct, config):
            port = free_port()
            through = (HOST, port)
            with workplace.start("backend", config, port) as gateway:
                wait_for_livez(gateway, through)
                steps = Steps(progress, plan.cost)
                steps.begin(f"{plan.pairs} pairs of answers, directly and through the gateway")
                rows = _rate_rows(direct, through, gateway.pid, plan, steps)
                steps.begin(f"leaving {plan.disconnects} times in mid-answer")
                rows.append(_freed_row(direct, through, plan))
                memory = single(resident_mb(gateway.pid))
                return [*rows, Row("rss_backend_mb", "resident memory after these answers", "MB", memory, LOADED_MB)]


@contextmanager
def _running(
    backend: Backend, workplace: Workplace, progress: Progress
) -> Iterator[tuple[Address, Mapping[str, object]]]:
    """A `llama-server` that answers: its address, and the configuration of a gateway in front of it.

    One that was started here is stopped again.
    """
    if backend.address is not None:
        host, port = backend.address
        if not answers(backend.address, HEALTH):
            raise MeasurementError(f"--backend: /health on {host}:{port} does not answer 200")
        yield backend.address, running_config(backend.address)
        return
    address = (HOST, free_port())
    progress("starting llama-server")
    config = launched_config(str(backend.binary), str(backend.model), address[1])
    with running_server(config, address[1], workplace.directory / "llama-server.log", {}):
        yield address, config


def launched_config(binary: str, model: str, port: int) -> dict[str, object]:
    """A configuration whose launch profile starts `binary` with `model` on `port`: one slot, every core.

    The gateway and the server's command both come from it, as on a server. Without a RAM cache no prompt of an
    earlier question can come back.
    """
    launch_profile = {
        "binaryPath": os.path.abspath(binary),
        "modelPath": os.path.abspath(model),
        "port": port,
        "parallel": 1,
        "threads": len(os.sched_getaffinity(0)),
        "cacheRamMiB": 0,
    }
    return _one_at_a_time("sub1b", {"baseUrl": f"http://{HOST}:{port}", "launchProfile": launch_profile})


def running_config(direct: Address) -> dict[str, object]:
    """A configuration for a `llama-server` that somebody else has started at `direct`."""
    return _one_at_a_time("vps", {"kind": "llama.cpp", "baseUrl": f"http://{direct[0]}:{direct[1]}"})


def _one_at_a_time(profile: str, adapter: Mapping[str, object]) -> dict[str, object]:
    """`profile` with this adapter, without limits and clamps that could change an answer's length."""
    return {
        "profile": profile,
        "model": {
            "maxOutputTokens": 256,
            "warmOnBoot": False,
            "adapter": {**adapter, "timeoutMs": int(ANSWER_SECONDS * 1000) - 5_000},
        },
        "scheduler": {
            "concurrency": 1,
            "batchWindowMs": 0,
            "maxInflightTokens": 2_048,
            "requestTimeoutMs": int(ANSWER_SECONDS * 1000),
        },
        "rateLimit": {"enabled": False},
        "auth": {"enabled": False},
        "gracefulDegradation": {"enabled": False},
    }


def question(number: int) -> str:
    """A prompt that asks for more than any answer's token limit, and is different from its first word on."""
    return f"{number} travellers meet at a harbour. Tell a long story about every one of them, with many details."


def direct_request(text: str, tokens: int) -> bytes:
    """The question as a chat completion of `llama-server`, with the parameters the gateway would use."""
    body = {
        "messages": [{"role": "system", "content": SYSTEM_TEXT}, {"role": "user", "content": text}],
        "max_tokens": tokens,
        "temperature": 0,
        "top_p": 0.95,
        "seed": 1,
    }
    return request_bytes("POST", "/v1/chat/completions", json.dumps(body).encode())


def gateway_request(text: str, tokens: int) -> bytes:
    """The same question for the gateway."""
    return infer_request(text, system=SYSTEM_TEXT, maxTokens=tokens, temperature=0, topP=0.95, seed=1, cache=False)


def completion_tokens(reply: Reply) -> int:
    """Generated tokens out of either answer's `usage`. Raises `MeasurementError` when it has none."""
    document = json.loads(reply.body) if reply.status == 200 else {}
    usage = document.get("usage", {})
    tokens = usage.get("completion_tokens", usage.get("tokens", {}).get("completion", 0))
    if not isinstance(tokens, int) or tokens < 1:
        raise MeasurementError(f"an answer without tokens: status {reply.status}, body {reply.body[:300]!r}")
    return tokens


def _timed(address: Address, request: bytes) -> tuple[int, float]:
    """Tokens of one answer, and the seconds it took its client: from connecting to the last byte."""
    started = time.perf_counter()
    reply = ask(address, request, ANSWER_SECONDS)
    return completion_tokens(reply), time.perf_counter() - started


def _rate_rows(direct: Address, through: Address, pid: int, plan: BackendPlan, steps: Steps) -> list[Row]:
    """`pid`: of the gateway."""
    numbers = iter(range(2, 10_000))
    direct_rates: list[float] = []
    through_rates: list[float] = []
    cpu_us: list[float] = []

    def ask_directly() -> None:
        tokens, seconds = _timed(direct, direct_request(question(next(numbers)), plan.tokens))
        direct_rates.append(tokens / seconds)

    def ask_through() -> None:
        before = cpu_seconds(pid)
        tokens, seconds = _timed(through, gateway_request(question(next(numbers)), plan.tokens))
        through_rates.append(tokens / seconds)
        cpu_us.append((cpu_seconds(pid) - before) / tokens * 1e6)

    # Both have something to do once only: the server maps its model, the gateway asks what the server can do.
    ask_directly()
    ask_through()
    steps.did(plan.pair_cost)
    for samples in (direct_rates, through_rates, cpu_us):
        samples.clear()
    for turn in range(plan.pairs):
        # Who goes first changes with every pair, so that a machine which gets slower or faster favours nobody.
        for asking in (ask_through, ask_directly) if turn % 2 else (ask_directly, ask_through):
            asking()
        steps.did(plan.pair_cost, f"pair {turn + 1} of {plan.pairs} done")
    ratios = [ours / theirs for ours, theirs in zip(through_rates, direct_rates, strict=True)]
    return [
        Row("tokens_direct", f"llama-server directly, {plan.tokens} tokens", "tok/s", repeated(direct_rates)),
        Row("tokens_through", f"through the gateway, {plan.tokens} tokens", "tok/s", repeated(through_rates)),
        Row("tokens_ratio", RATIO_LABEL, "", repeated(ratios), RATIO),
        Row("token_cpu_us", "gateway CPU per generated token", "us", repeated(cpu_us)),
    ]


def _freed_row(direct: Address, through: Address, plan: BackendPlan) -> Row:
    if not answers(direct, SLOTS):
        return Row("backend_freed_ms", FREED_LABEL, "ms", None, FREED_MS, "this llama-server does not show its /slots")
    samples = [_freed_after_ms(direct, through, 20_000 + turn) for turn in range(plan.disconnects)]
    return Row("backend_freed_ms", FREED_LABEL, "ms", repeated(samples), FREED_MS)


def _freed_after_ms(direct: Address, through: Address, number: int) -> float:
    """Milliseconds from leaving after the first token until the slot is free. Before the first token it would take as
    long as the batch of the prompt that is being computed: `llama-server` looks up only between batches."""
    request = infer_request(question(number), system=SYSTEM_TEXT, maxTokens=256, cache=False, stream=True)
    client = Connection(through)
    try:
        client.socket.sendall(request)
        read_until(client, b"event: token")
        left = time.perf_counter()
        client.close()
        wait_until_free(direct)
        return (time.perf_counter() - left) * 1000
    finally:
        client.close()


def read_until(client: Connection, expected: bytes) -> None:
    """Read a streamed answer up to the first piece that has `expected` in it. Raises `MeasurementError` at its end."""
    received = b""
    while expected not in received:
        data = client.socket.recv(65_536)
        if not data:
            raise MeasurementError(f"a streamed answer ended before its first token: {received[:300]!r}")
        received += data


def wait_until_free(direct: Address) -> None:
    """Wait until `llama-server` itself says that no slot is busy. Each poll is a connection of its own, because the
    server closes a kept one after 100 requests."""
    give_up = time.perf_counter() + ANSWER_SECONDS
    while slots_busy(ask(direct, SLOTS)):
        if time.perf_counter() > give_up:
            raise MeasurementError("llama-server's slot stayed busy after its client had left")
        time.sleep(CONNECT_PAUSE_SECONDS)


def slots_busy(reply: Reply) -> bool:
    """Whether any slot of a `/slots` answer is processing."""
    document = json.loads(reply.body) if reply.status == 200 else None
    if not isinstance(document, list):
        raise MeasurementError(f"/slots answered {reply.status}: {reply.body[:300]!r}")
    return any(slot.get("is_processing") for slot in document)
