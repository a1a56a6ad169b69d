"""The gateway that a run asks: one that is running already, or one that is started from a config for the run.

A started gateway gets a copy of the config with another port and without durable jobs, so that it can run beside the
one in production and never touches its jobs. It listens on the loopback interface, sees no `RAY_*` variables, and gets
only those secrets that its config names. Its backend is not started.

The prefix store stays on, because what a gateway delivers depends on it, and in its directory, because that is where
the backend writes. A gateway in production that has the directory open keeps it; the copy then measures without a
store, and says so.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.bench.processes.gateway_process import HOST
from ray.bench.processes.process import MeasurementError, ServerProcess, free_port, working_directory
from ray.client import AsyncRayClient, RayClientError, RayConnectionError, RayRefused
from ray.config import Config, MockAdapter, config_document, load_config, resolve_api_keys
from ray.errors import RayError

KEY_VARIABLE = "RAY_BENCHMARK_API_KEY"
MAX_KEY_CHARS = 1_024
START_SECONDS = 30.0
READY_SECONDS = 300.0
POLL_SECONDS = 0.2
PROBE_MS = 5_000
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TMP", "TEMP")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Target:
    """`server`: the process, when the run started it."""

    url: str
    server: ServerProcess | None = None


def read_config(path: str) -> Config:
    """The config without what the environment would change. Raises `MeasurementError`."""
    try:
        return load_config(path, {}, os.getcwd()).config
    except RayError as error:
        raise MeasurementError(f"--config {path}: {error}") from error


def api_key_of(config: Config | None, environ: Mapping[str, str]) -> str | None:
    """The key to ask with: `RAY_BENCHMARK_API_KEY`, otherwise the first one that the config's own variable holds; None
    when there is neither. Raises `MeasurementError`, which never shows a key."""
    given = key_in(KEY_VARIABLE, environ)
    if given is not None:
        return given
    if config is None or not config.auth.enabled:
        return None
    try:
        resolve_api_keys(config, environ)
    except RayError as error:
        raise MeasurementError(str(error)) from error
    parts = environ.get(config.auth.api_key_env, "").replace("\n", ",").split(",")
    return next(part.strip() for part in parts if part.strip())


def key_in(variable: str, environ: Mapping[str, str]) -> str | None:
    """The key that a variable holds; None when it holds nothing. Raises `MeasurementError`, which never shows it."""
    key = environ.get(variable, "").strip()
    if len(key) > MAX_KEY_CHARS or not key.isascii() or not key.isprintable() or " " in key:
        raise MeasurementError(f"{variable} must hold one key of at most {MAX_KEY_CHARS} visible characters")
    return key or None


@contextmanager
def started_gateway(config: Config, environ: Mapping[str, str], python: str) -> Iterator[Target]:
    """A gateway with a copy of `config`, stopped at the end. Raises `MeasurementError` when it cannot be run."""
    port = free_port()
    with working_directory() as directory:
        path = directory / "config.json"
        path.write_text(json.dumps(copied_config(config, port)), encoding="utf-8")
        command = [python, "-S", "-m", "ray", "--config", str(path)]
        # In the directory of the caller, because that is where relative paths of the config start.
        server = ServerProcess(
            command, cwd=Path.cwd(), environ=child_environment(config, environ), log=directory / "gateway.log"
        )
        with server:
            yield Target(f"http://{HOST}:{port}", server)


def copied_config(config: Config, port: int) -> dict[str, object]:
    """The config's document as the started gateway gets it."""
    document = config_document(config)
    server, jobs = document.get("server"), document.get("asyncQueue")
    document["server"] = {**(server if isinstance(server, dict) else {}), "host": HOST, "port": port}
    document["asyncQueue"] = {**(jobs if isinstance(jobs, dict) else {}), "enabled": False}
    return document


def child_environment(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """What the started gateway sees: no `RAY_*` but the keys that its config names."""
    adapter = config.model.adapter
    names = [*_PASSED_ON]
    if config.auth.enabled:
        names.append(config.auth.api_key_env)
    if not isinstance(adapter, MockAdapter) and adapter.api_key_env is not None:
        names.append(adapter.api_key_env)
    passed = {name: environ[name] for name in names if name in environ}
    return {**passed, "PYTHONPATH": str(Path(ray.__file__).parent.parent), "PYTHONDONTWRITEBYTECODE": "1"}


async def wait_until_ready(target: Target, progress: Progress) -> None:
    """Return when `/readyz` says so; of a started gateway it is told when its prefix store is not in use. Raises
    `MeasurementError` when nobody is there or gets ready in time."""
    began, told = time.monotonic(), False
    async with AsyncRayClient(target.url, max_connections=1, timeout_ms=PROBE_MS) as client:
        while True:
            try:
                await client.readyz()
                if target.server is not None:
                    await _tell_of_store(client, progress)
                return
            except RayConnectionError as error:
                reason, limit = str(error), START_SECONDS if target.server is not None else 0.0
            except RayRefused as error:
                if error.status != 503:
                    raise MeasurementError(f"{target.url} is no gateway: {error}") from error
                reason, limit = f"not ready ({error.code or 503}); is the backend running?", READY_SECONDS
            except RayClientError as error:
                reason, limit = str(error), READY_SECONDS
            if target.server is not None:
                target.server.require_running()
            if time.monotonic() - began > limit:
                started = "" if target.server is not None else ": start it, or give --config"
                raise MeasurementError(f"no gateway to measure at {target.url}{started} ({reason})")
            if not told and limit == READY_SECONDS:
                progress("waiting until the gateway is ready")
                told = True
            await asyncio.sleep(POLL_SECONDS)


async def _tell_of_store(client: AsyncRayClient, progress: Progress) -> None:
    """A store that is configured and not in use makes other figures than the config promises."""
    try:
        store = (await client.health()).get("prefixStore")
    except RayClientError:
        # What keeps it from answering is told by the first request.
        return
    if isinstance(store, Mapping) and store.get("active") is False:
        progress(f"measured WITHOUT the prefix store of the config: {store.get('reason')}")
