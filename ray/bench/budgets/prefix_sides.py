"""The sides of the prefix comparison as running processes: `llama-server` alone, and `llama-server` behind the gateway.

Both start from the same configuration: model, slots, context, threads, batch sizes, environment. What differs is what
suits each: the RAM cache on the direct side, the prefix store on Ray's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ray.bench.budgets.doors import DIRECT, THROUGH, Door
from ray.bench.processes.gateway_process import HOST, METRICS, Workplace, wait_for_livez
from ray.bench.processes.llama_process import running_server
from ray.bench.processes.load import Address, Reply, ask, request_bytes
from ray.bench.processes.process import MeasurementError, ServerProcess, free_port

STORE_MIB = 512
MIN_STORE_TOKENS = 16
CONTEXT_STEP = 1_024
LARGEST_CONTEXT = 32_768  # of a launch profile
# Beside prefix and answer: the customer's line, the chat template's own tokens, and room for the backend's rounding.
SPARE_TOKENS_PER_SLOT = 256
REQUEST_TIMEOUT_MS = 120_000  # the longest there is
STORE_METRICS = "prefix_store."


@dataclass(frozen=True, slots=True)
class Model:
    """The real model: `llama-server` binary and model file, and the environment both sides' servers get."""

    binary: str
    path: str
    environ: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Shape:
    """What both sides have in common. `context`: tokens of the whole KV cache, for all slots together."""

    slots: int
    threads: int
    context: int
    answer_tokens: int

    @classmethod
    def of(cls, *, slots: int, prefix_tokens: int, answer_tokens: int) -> Shape:
        """A context in which every slot has room for a prompt and its answer, and one thread for each core."""
        needed = slots * (prefix_tokens + answer_tokens + SPARE_TOKENS_PER_SLOT)
        context = -(-needed // CONTEXT_STEP) * CONTEXT_STEP
        return cls(slots, len(os.sched_getaffinity(0)), context, answer_tokens)


@dataclass(frozen=True, slots=True)
class Side:
    """One side. `cache_ram_mib`: `llama-server`'s own prompt cache in RAM. `gateway`: asked through Ray; `store`: with
    its prefix store, that writes a prefix from `min_sightings` on."""

    id: str
    label: str
    cache_ram_mib: int
    gateway: bool = False
    store: bool = False
    min_sightings: int = 2

    def saving_at_once(self) -> Side:
        """The same side with a store that saves a prefix at its first sighting."""
        return replace(self, min_sightings=1)


@dataclass(frozen=True, slots=True)
class Running:
    """A side that answers: `door` at `address`, its server at `backend`. `gateway` None when asked directly."""

    door: Door
    address: Address
    backend: Address
    server: ServerProcess
    gateway: ServerProcess | None


def direct_side(cache_ram_mib: int) -> Side:
    """`llama-server` asked directly, with its RAM cache of that size, 0 for none."""
    return Side(f"direct_{cache_ram_mib}", f"directly, --cache-ram {cache_ram_mib}", cache_ram_mib)


def ray_side(store: bool) -> Side:
    """Through Ray: the server without a RAM cache, and Ray's prefix store unless it is off."""
    return Side("ray", "through Ray" if store else "through Ray, store off", 0, gateway=True, store=store)


def side_config(side: Side, shape: Shape, model: Model, port: int, store: Path) -> dict[str, object]:
    """The configuration of a side, from which its server's command and its gateway both come.

    Nothing in it may shorten or refuse an answer: no rate limit, no degradation, no adaptive caps.
    """
    launch_profile = {
        "binaryPath": os.path.abspath(model.binary),
        "modelPath": os.path.abspath(model.path),
        "port": port,
        "parallel": shape.slots,
        "threads": shape.threads,
        "ctxSize": shape.context,
        "cacheRamMiB": side.cache_ram_mib,
        "cacheIdleSlots": side.cache_ram_mib != 0,
        "contextShift": False,
    }
    document: dict[str, object] = {
        "profile": "sub1b",
        "model": {
            "contextWindow": shape.context,
            "maxOutputTokens": max(shape.answer_tokens, 256),
            "warmOnBoot": False,
            "operational": {"preferredCtxSize": shape.context},
            "adapter": {
                "baseUrl": f"http://{HOST}:{port}",
                "timeoutMs": REQUEST_TIMEOUT_MS,
                "launchProfile": launch_profile,
            },
        },
        "scheduler": {
            "concurrency": shape.slots,
            "batchWindowMs": 0,
            "maxQueue": 512,
            "maxQueuedTokens": 262_144,
            "maxInflightTokens": shape.context,
            "requestTimeoutMs": REQUEST_TIMEOUT_MS,
        },
        "rateLimit": {"enabled": False},
        "auth": {"enabled": False},
        "gracefulDegradation": {"enabled": False},
        "adaptiveTuning": {"enabled": False},
        "telemetry": {"slowRequestThresholdMs": REQUEST_TIMEOUT_MS},
    }
    if side.store:
        document["prefixStore"] = {
            "enabled": True,
            "storageDir": str(store),
            "maxMiB": STORE_MIB,
            "minTokens": MIN_STORE_TOKENS,
            "minSightings": side.min_sightings,
        }
    return document


@contextmanager
def running(side: Side, shape: Shape, model: Model, workplace: Workplace, name: str, store: Path) -> Iterator[Running]:
    """A fresh server, and a fresh gateway where the side has one; `name` is for their logs. Stopped at the end.

    `store`: the directory of the prefix store; what an earlier run left there is found again.
    """
    port, gateway_port = free_port(), free_port()
    document = side_config(side, shape, model, port, store)
    backend = (HOST, port)
    if side.store:
        store.mkdir(mode=0o700, exist_ok=True)
    with ExitStack() as stack:
        log = workplace.directory / f"{name}-server.log"
        server = stack.enter_context(running_server(document, port, log, model.environ))
        if not side.gateway:
            yield Running(DIRECT, backend, backend, server, None)
            return
        gateway = stack.enter_context(workplace.start(name, document, gateway_port))
        wait_for_livez(gateway, (HOST, gateway_port))
        yield Running(THROUGH, (HOST, gateway_port), backend, server, gateway)


def count_tokens(backend: Address, text: str) -> int:
    """Tokens of a text, by `llama-server`'s `/tokenize`."""
    reply = ask(backend, request_bytes("POST", "/tokenize", json.dumps({"content": text}).encode()))
    document = json.loads(reply.body) if reply.status == 200 else {}
    tokens = document.get("tokens") if isinstance(document, dict) else None
    if not isinstance(tokens, list):
        raise MeasurementError(f"/tokenize answered {reply.status}: {reply.body[:300]!r}")
    return len(tokens)


def store_metrics(gateway: Address) -> dict[str, float]:
    """What the gateway's `/metrics` say about the prefix store: counters and gauges by name."""
    return parse_store_metrics(ask(gateway, METRICS))


def parse_store_metrics(reply: Reply) -> dict[str, float]:
    """The same out of an answer in JSON. Empty when the gateway has no such metrics."""
    if reply.status != 200:
        raise MeasurementError(f"/metrics answered {reply.status}: {reply.body[:300]!r}")
    document = json.loads(reply.body)
    return {
        name.removeprefix(STORE_METRICS): float(value)
        for block in ("counters", "gauges")
        for name, value in document.get(block, {}).items()
        if name.startswith(STORE_METRICS) and isinstance(value, int | float)
    }
