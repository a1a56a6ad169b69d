"""Fixtures of the integration tests.

Without a `llama-server` the tests that need one are skipped, with the reason; with `RAY_REQUIRE_BACKEND=1` they fail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from examples.local_backend import (
    BackendUnavailable,
    fetch_model,
    fetch_sliding_window_model,
    find_llama_server,
    find_sliding_window_model,
)
from tests.integration.backend import GatewayProcess, LlamaServerProcess

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)


class StartLlamaServer(Protocol):
    """Starts a `llama-server` of the test's own, to be killed at will. Healthy on return, unless `wait` is false."""

    def __call__(
        self, *, slots: int = 2, ctx_size: int = 4096, extra: tuple[str, ...] = (), wait: bool = True
    ) -> LlamaServerProcess: ...


class StartGateway(Protocol):
    """Starts a gateway process on a free port, `environ` being its whole environment. It listens on return."""

    def __call__(self, config: Mapping[str, object], environ: Mapping[str, str] | None = None) -> GatewayProcess: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """What a real backend is made of."""

    binary: Path
    model: Path


@pytest.fixture(scope="session")
def backend() -> Backend:
    """A `llama-server` that starts on this machine, and the small model. Skips or fails when there is none."""
    try:
        binary = find_llama_server()
        if binary is None:
            raise BackendUnavailable(
                "no llama-server: put one on PATH, name one in RAY_TEST_LLAMA_SERVER, "
                "or build one with: python3 examples/local_backend.py"
            )
        return Backend(binary, fetch_model())
    except BackendUnavailable as error:
        if os.environ.get("RAY_REQUIRE_BACKEND") == "1":
            pytest.fail(f"RAY_REQUIRE_BACKEND=1, and {error}", pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def sliding_window_model() -> Path:
    """A model most of whose layers only look back over a window. It is large: it is fetched where nothing may be
    skipped, and elsewhere only used when somebody has fetched it."""
    found = find_sliding_window_model()
    if found is None and os.environ.get("RAY_REQUIRE_BACKEND") != "1":
        pytest.skip(
            "no model with a sliding window; get it with: python3 examples/local_backend.py sliding-window-model"
        )
    try:
        return found or fetch_sliding_window_model()
    except BackendUnavailable as error:
        pytest.fail(f"RAY_REQUIRE_BACKEND=1, and {error}", pytrace=False)


@pytest.fixture(scope="session")
def llama_server(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServerProcess]:
    """One running `llama-server` for all tests that leave it alive: 2 slots, a shared pool of 4096 tokens."""
    log = tmp_path_factory.mktemp("llama-server") / "llama-server.log"
    server = LlamaServerProcess(backend.binary, backend.model, log)
    server.start()
    try:
        server.wait_healthy()
        yield server
    finally:
        server.stop()


@pytest.fixture
def start_llama_server(backend: Backend, tmp_path: Path) -> Iterator[StartLlamaServer]:
    started: list[LlamaServerProcess] = []

    def start(
        *, slots: int = 2, ctx_size: int = 4096, extra: tuple[str, ...] = (), wait: bool = True
    ) -> LlamaServerProcess:
        log = tmp_path / f"llama-server-{len(started)}.log"
        server = LlamaServerProcess(backend.binary, backend.model, log, slots=slots, ctx_size=ctx_size, extra=extra)
        started.append(server)
        server.start()
        if wait:
            server.wait_healthy()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[StartGateway]:
    started: list[GatewayProcess] = []

    def start(config: Mapping[str, object], environ: Mapping[str, str] | None = None) -> GatewayProcess:
        gateway = GatewayProcess(config, tmp_path, environ=environ)
        started.append(gateway)
        gateway.start()
        return gateway

    yield start
    for gateway in started:
        gateway.stop()
