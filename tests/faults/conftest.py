"""Fixtures of the fault tests: the gateway as a process of its own, on the mock backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.backend import GatewayProcess
from tests.integration.conftest import StartGateway


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


def mock_config(**sections: Mapping[str, object]) -> dict[str, object]:
    """The mock profile with a backend that takes a minute, so that what should wait does wait."""
    adapter = {"kind": "mock", "latencyMs": 60_000, "seed": "ray-tiny"}
    model = {"adapter": adapter, **sections.pop("model", {})}
    return {"profile": "tiny", "model": model, **sections}
