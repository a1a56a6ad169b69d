"""`llama-server` as a process under measurement: its command comes from a launch profile, as on a server.

It gets an environment with nothing in it but what the bench sets, and yields the processor to whoever else wants it, so
that both sides of a comparison get the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ray.bench.processes.gateway_process import HOST, answers, wait_for
from ray.bench.processes.load import Address, Reply, ask, request_bytes
from ray.bench.processes.process import MeasurementError, ServerProcess
from ray.config import LlamaCppAdapter, config_from_mapping
from ray.errors import RayError
from ray.providers import launch_command

LOAD_SECONDS = 300.0
# Both cores compute most of the time. Who brings the next work, a client or the gateway, must not wait for their turn
# to end: that would cost several milliseconds at each of the few hand-overs of a request.
NICENESS = 10
HEALTH = request_bytes("GET", "/health")
SLOTS = request_bytes("GET", "/slots")
_METRICS = request_bytes("GET", "/metrics")
_METRIC_PREFIX = "llamacpp:"


def launch_words(document: Mapping[str, object]) -> list[str]:
    """The command that the launch profile of a configuration stands for. Raises `MeasurementError` for a configuration
    that is none, for example with a model path that Ray does not accept."""
    try:
        config = config_from_mapping(document)
    except RayError as error:
        raise MeasurementError(error.message) from error
    adapter = config.model.adapter
    if not isinstance(adapter, LlamaCppAdapter) or adapter.launch_profile is None:
        raise MeasurementError("this configuration has no launchProfile")
    return launch_command(adapter.launch_profile, config.prefix_store)


@contextmanager
def running_server(
    document: Mapping[str, object], port: int, log: Path, environ: Mapping[str, str], load_s: float = LOAD_SECONDS
) -> Iterator[ServerProcess]:
    """The `llama-server` of a configuration, ready to answer on `port`; stopped again at the end.

    `environ`: its whole environment, but for `LD_LIBRARY_PATH`, which a build with shared libraries needs.
    `load_s`: the longest that it may take to get ready.
    """
    inherited = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    environ = {**inherited, **environ}
    with ServerProcess(launch_words(document), cwd=log.parent, environ=environ, log=log, niceness=NICENESS) as server:
        wait_for(server, "llama-server's /health", lambda: answers((HOST, port), HEALTH), load_s)
        yield server


@dataclass(frozen=True, slots=True)
class Work:
    """What `llama-server` has done since it started, by its own counters. Tokens and seconds; `prompt_tokens` are
    those it really read, without the ones it found in the KV cache. Seconds are summed over its slots, so two slots
    that work side by side count twice."""

    prompt_tokens: float
    prompt_seconds: float
    answer_tokens: float
    answer_seconds: float

    def since(self, earlier: Work) -> Work:
        """The work between two readings."""
        return Work(
            self.prompt_tokens - earlier.prompt_tokens,
            self.prompt_seconds - earlier.prompt_seconds,
            self.answer_tokens - earlier.answer_tokens,
            self.answer_seconds - earlier.answer_seconds,
        )


def work_done(address: Address) -> Work:
    """Read the counters of `llama-server`'s `/metrics`."""
    return parse_work(ask(address, _METRICS))


def parse_work(reply: Reply) -> Work:
    """The counters out of a `/metrics` answer. Raises `MeasurementError` when one is missing."""
    found: dict[str, float] = {}
    if reply.status == 200:
        for line in reply.body.decode("utf-8", "replace").splitlines():
            name, _, value = line.partition(" ")
            if name.startswith(_METRIC_PREFIX):
                found[name.removeprefix(_METRIC_PREFIX)] = float(value)
    try:
        return Work(
            found["prompt_tokens_total"],
            found["prompt_seconds_total"],
            found["tokens_predicted_total"],
            found["tokens_predicted_seconds_total"],
        )
    except KeyError as error:
        raise MeasurementError(f"llama-server's /metrics ({reply.status}) has no {error.args[0]}") from error
