"""The health of a runtime: one rule for pressure, and the document."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from ray.clock import iso_now
from ray.runtime import HostPressure
from ray.runtime.figures import SchedulerSnapshot
from ray.runtime.preparation import GateSnapshot
from ray.runtime.report import preparation_is_degraded, queue_is_degraded, service_status
from ray.types import Health, ProviderStatus, ServiceStatus
from tests.fakes.provider import FakeProvider
from tests.host.trees import Tree
from tests.runtime.support import TINY, House

EMPTY_QUEUE = SchedulerSnapshot(0, 0, 0, 0, 32, 1, 0, 0, 12_000, 2_500)


@pytest.mark.parametrize(
    ("provider", "pressure", "expected"),
    [
        ("ready", False, "ok"),
        ("unknown", False, "ok"),
        ("ready", True, "degraded"),
        ("warming", False, "degraded"),
        ("degraded", False, "degraded"),
        ("unavailable", False, "unavailable"),
        ("unavailable", True, "unavailable"),
    ],
)
def test_pressure_degrades_and_only_the_backend_makes_unavailable(
    provider: ProviderStatus, pressure: bool, expected: ServiceStatus
) -> None:
    assert service_status(Health(provider, iso_now()), under_pressure=pressure) == expected


@pytest.mark.parametrize(("depth", "enabled", "expected"), [(7, True, False), (8, True, True), (8, False, False)])
def test_the_queue_is_degraded_at_the_threshold_while_degradation_is_on(
    depth: int, enabled: bool, expected: bool
) -> None:
    config = replace(TINY, graceful_degradation=replace(TINY.graceful_degradation, enabled=enabled))
    assert config.graceful_degradation.queue_depth_threshold == 8
    assert queue_is_degraded(replace(EMPTY_QUEUE, queue_depth=depth), config) is expected


@pytest.mark.parametrize(
    ("queued", "max_queue", "expected"), [(0, 1, False), (1, 1, True), (1, 4, False), (2, 4, True), (0, 4, False)]
)
def test_the_gate_is_degraded_when_half_of_it_is_taken(queued: int, max_queue: int, expected: bool) -> None:
    assert preparation_is_degraded(GateSnapshot(1, 1, queued, max_queue)) is expected


def test_the_document_has_every_block_with_its_figures() -> None:
    async def main() -> None:
        house = House(FakeProvider(["x"]))
        document = await house.runtime.health_document()
        assert list(document) == [
            "status",
            "uptimeMs",
            "queueDepth",
            "inFlight",
            "cacheEntries",
            "profile",
            "modelId",
            "provider",
            "runtime",
        ]
        assert (document["status"], document["profile"], document["modelId"]) == ("ok", "tiny", "fake-model")
        blocks = document["runtime"]
        assert isinstance(blocks, dict)
        assert list(blocks) == ["queue", "preparation", "cache", "memory"]
        assert blocks["queue"] == {
            "degraded": False,
            "depth": 0,
            "depthRatio": 0.0,
            "shortDepth": 0,
            "draftDepth": 0,
            "threshold": 8,
            "maxQueue": 32,
            "inFlight": 0,
            "inFlightRatio": 0.0,
            "concurrency": 1,
            "queuedTokens": 0,
            "queuedTokensRatio": 0.0,
            "maxQueuedTokens": 12_000,
            "inFlightTokens": 0,
            "inFlightTokensRatio": 0.0,
            "maxInflightTokens": 2_500,
        }
        assert blocks["memory"] == {
            "degraded": False,
            "sources": [],
            "processRssMiB": 0.0,
            "memoryRssThresholdMiB": 256,
            "processRssPressureRatio": 0.0,
        }

    asyncio.run(main())


def test_ratios_have_four_decimals() -> None:
    async def main() -> None:
        house = House()
        await house.answer()
        blocks = (await house.runtime.health_document())["runtime"]
        assert isinstance(blocks, dict)
        assert blocks["cache"]["entriesRatio"] == 0.0078  # 1 of 128

    asyncio.run(main())


def test_given_a_machine_that_tells_when_asked_for_health_then_memory_and_cpu_have_their_blocks(tmp_path: Path) -> None:
    async def main() -> None:
        house = House(host=HostPressure(Tree("v2", tmp_path).root))
        document = await house.runtime.health_document()
        assert document["status"] == "degraded"
        blocks = document["runtime"]
        assert isinstance(blocks, dict)
        assert list(blocks) == ["queue", "preparation", "cache", "memory", "cpu"]
        assert (blocks["memory"]["degraded"], blocks["memory"]["sources"]) == (True, ["cgroup", "linux_psi"])
        assert (blocks["cpu"]["degraded"], blocks["cpu"]["cgroupCpuPeriods"]) == (True, 100)

    asyncio.run(main())
