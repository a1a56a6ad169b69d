"""A gateway on a machine under pressure, read from a recorded tree: answers get shorter, say why, and recover."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fakes.machine import CALM_STALLS, Machine
from tests.fakes.provider import FakeProvider
from tests.gateway.harness import Reply, Running, running, soon

MIB = 1024 * 1024
QUESTION = {"input": "Tell me about rivers.", "maxTokens": 192, "cache": False}


@asynccontextmanager
async def gateway_on(machine: Machine, **settings: object) -> AsyncIterator[Running]:
    async with running(settings, provider=FakeProvider(), host=machine.host) as ray:
        await ray.ask("GET", "/readyz")  # the reading that later ones are compared with
        yield ray


def press_memory(machine: Machine) -> None:
    machine.memory(760)  # 95 %


def press_swap(machine: Machine) -> None:
    machine.swap(240)


def raise_memory_event(machine: Machine) -> None:
    machine.events(high=3)


def stall_memory(machine: Machine) -> None:
    machine.stalls("memory", "some avg10=12.50 avg60=1.00 avg300=1.00 total=9\n")


def grow(machine: Machine) -> None:
    machine.resident(256)


def throttle(machine: Machine) -> None:
    machine.run(periods=10, throttled=6)


def stall_cpu(machine: Machine) -> None:
    machine.stalls("cpu", "some avg10=61.00 avg60=1.00 avg300=1.00 total=9\n")


def relieve(machine: Machine) -> None:
    """Counters that stand still are relief too: what happened is over."""
    machine.memory(400)
    machine.swap(0)
    machine.resident(20)
    machine.run(periods=10, throttled=0)
    machine.stalls("memory", CALM_STALLS)
    machine.stalls("cpu", CALM_STALLS)


CASES = [
    pytest.param(press_memory, "memory", ["cgroup"], "cgroupMemoryPressureRatio", 0.95, id="95 % of the cgroup"),
    pytest.param(press_swap, "memory", ["cgroup"], "cgroupMemorySwapPressureRatio", 0.9375, id="swap"),
    pytest.param(raise_memory_event, "memory", ["cgroup"], "cgroupMemoryHighEventsDelta", 2, id="memory event"),
    pytest.param(stall_memory, "memory", ["linux_psi"], "linuxMemoryPsiSomeAvg10", 12.5, id="memory stalls"),
    pytest.param(grow, "memory", ["process_rss"], "processRssMiB", 256, id="resident size"),
    pytest.param(throttle, "cpu", None, "cgroupCpuThrottledRatio", 0.6, id="throttling"),
    pytest.param(stall_cpu, "cpu", None, "linuxCpuPsiSomeAvg10", 61, id="CPU stalls"),
]


def block(reply: Reply, *path: str) -> dict[str, object]:
    value: object = reply.json()
    for key in path:
        assert isinstance(value, dict)
        value = value[key]
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(("press", "kind", "sources", "figure", "value"), CASES)
def test_given_pressure_when_asked_then_the_answer_is_clamped_says_so_and_recovers(
    tmp_path: Path, press: object, kind: str, sources: list[str] | None, figure: str, value: float
) -> None:
    assert callable(press)

    async def main() -> None:
        machine = Machine(tmp_path)
        async with gateway_on(machine) as ray:
            press(machine)
            clamped = await ray.post("/v1/infer", QUESTION)
            assert (clamped.status, clamped.json()["degraded"]) == (200, True)
            degradation = block(clamped, "diagnostics", "degradation")
            assert (degradation["applied"], degradation["reasons"]) == (True, [f"{kind}_pressure"])
            assert (degradation["requestedMaxTokens"], degradation["appliedMaxTokens"]) == (192, 96)
            assert degradation.get("memoryPressureSources") == sources
            assert degradation[figure] == value

            # Within the same quarter of a second, so from the same reading.
            ready = await ray.ask("GET", "/readyz")
            assert ready.status == 200
            assert (ready.json()["status"], ready.json()["reasons"]) == ("degraded", [f"{kind}_pressure"])
            assert block(ready, "pressure")[kind] is True
            health = await ray.ask("GET", "/health")
            assert (health.status, health.json()["status"]) == (200, "degraded")
            assert block(health, "runtime", kind)["degraded"] is True
            assert block(health, "runtime", kind)[figure] == value
            assert block(await ray.ask("GET", "/metrics"), "gauges")[f"process.{kind}.pressure"] == 1

            relieve(machine)
            whole = await ray.post("/v1/infer", QUESTION)
            assert whole.json()["degraded"] is False
            assert block(whole, "diagnostics", "degradation")["reasons"] == []
            assert (await ray.ask("GET", "/readyz")).json()["reasons"] == []
            view = await ray.ask("GET", "/metrics")
            assert block(view, "gauges")[f"process.{kind}.pressure"] == 0
            assert block(view, "counters")["requests.degraded"] == 1

    asyncio.run(main())


def test_given_everything_at_once_when_asked_then_memory_is_the_reason_and_readyz_names_both(tmp_path: Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path)
        async with gateway_on(machine) as ray:
            for press in (press_memory, stall_memory, stall_cpu, throttle):
                press(machine)
            degradation = block(await ray.post("/v1/infer", QUESTION), "diagnostics", "degradation")
            assert degradation["reasons"] == ["memory_pressure"]
            assert degradation["memoryPressureSources"] == ["cgroup", "linux_psi"]
            ready = await ray.ask("GET", "/readyz")
            assert ready.json()["reasons"] == ["memory_pressure", "cpu_pressure"]
            assert "cgroup" not in ready.body.decode(), "a stranger learns no figures"

    asyncio.run(main())


def test_given_degradation_off_when_everything_presses_then_nothing_is_clamped_and_the_figures_are_shown(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        machine = Machine(tmp_path)
        async with gateway_on(machine, gracefulDegradation={"enabled": False}) as ray:
            press_memory(machine)
            stall_cpu(machine)
            assert (await ray.post("/v1/infer", QUESTION)).json()["degraded"] is False
            assert (await ray.ask("GET", "/readyz")).json()["reasons"] == []
            memory = block(await ray.ask("GET", "/health"), "runtime", "memory")
            assert (memory["degraded"], memory["sources"], memory["cgroupMemoryPressureRatio"]) == (False, [], 0.95)
            gauges = block(await ray.ask("GET", "/metrics"), "gauges")
            assert (gauges["process.memory.pressure"], gauges["process.memory.cgroup_pressure"]) == (0, 1)
            assert (gauges["process.cpu.pressure"], gauges["process.cpu.linux_psi_pressure"]) == (0, 1)

    asyncio.run(main())


def test_given_pressure_when_scraped_then_prometheus_has_every_signal(tmp_path: Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path)
        async with gateway_on(machine) as ray:
            press_memory(machine)
            text = (await ray.ask("GET", "/metrics?format=prometheus")).body.decode()
            for line in (
                'ray_pressure_active{signal="memory"} 1',
                'ray_pressure_active{signal="cgroup_memory"} 1',
                'ray_pressure_active{signal="cpu"} 0',
                "ray_cgroup_memory_pressure_ratio 0.95",
                f"ray_cgroup_memory_usage_bytes {760 * MIB}",
            ):
                assert line in text.splitlines()

    asyncio.run(main())


def test_given_a_deep_queue_when_asked_then_readyz_names_it_and_late_answers_are_clamped() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        limits = {"queueDepthThreshold": 1}
        provider = FakeProvider([gate, *FakeProvider().scripts[0]])
        async with running({"gracefulDegradation": limits}, provider=provider) as ray, asyncio.TaskGroup() as group:
            asked, queue = [], ray.gateway.services.runtime.queue_snapshot
            for number in range(3):
                asked.append(group.create_task(ray.post("/v1/infer", {**QUESTION, "input": f"question {number}"})))
                await soon(lambda waiting=number: provider.active == 1 and queue().queue_depth == waiting)  # type: ignore[misc]
            assert (await ray.ask("GET", "/readyz")).json()["reasons"] == ["queue_pressure"]
            gate.set()
            replies = [await task for task in asked]
            assert [reply.json()["degraded"] for reply in replies] == [False, False, True]
            assert (await ray.ask("GET", "/readyz")).json()["reasons"] == []

    asyncio.run(main())
