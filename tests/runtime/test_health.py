"""Warm state, the cached probe, and a backend that goes away and comes back."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from ray.clock import iso_now
from ray.errors import RayError
from ray.runtime.health import BackendWatch, WarmState, overlaid
from ray.telemetry import Logger, Metrics, metrics_json
from ray.types import DetectedCapabilities, Health, ProviderStatus
from tests.fakes.provider import STOP, FakeProvider, until
from tests.runtime.support import House, tiny_config


def health_of(status: ProviderStatus, **found: int | str) -> Health:
    capabilities = DetectedCapabilities(**found) if found else None  # type: ignore[arg-type]  # names of its fields
    return Health(status, iso_now(), latency_ms=1.0, detected_capabilities=capabilities)


class Scene:
    """A watch over a scripted provider, under a clock of our own."""

    def __init__(self, provider: FakeProvider, *, warm_on_boot: bool = True) -> None:
        self.now = 0.0
        self.log = io.StringIO()
        self.metrics = Metrics()
        self.provider = provider
        self.watch = BackendWatch(
            provider,
            provider.warm,
            warm_on_boot=warm_on_boot,
            model_id="m",
            logger=Logger("test", "info", self.log, self.log),
            metrics=self.metrics,
            clock=lambda: self.now,
        )

    async def status(self, *, after_s: float = 0.0) -> ProviderStatus:
        self.now += after_s
        return (await self.watch.health()).status

    async def needs_warming(self) -> bool:
        return await self.watch.needs_warming()


# -- the overlay, as a table


@pytest.mark.parametrize(
    ("own", "warm_state", "expected"),
    [
        ("ready", "idle", "ready"),
        ("unknown", "idle", "unknown"),
        ("ready", "warming", "warming"),
        ("degraded", "warming", "warming"),
        ("unavailable", "warming", "unavailable"),
        ("ready", "failed", "unavailable"),
        ("warming", "failed", "warming"),
        ("unavailable", "failed", "unavailable"),
        ("ready", "ready", "ready"),
        ("degraded", "ready", "degraded"),
        ("unavailable", "ready", "unavailable"),
    ],
)
def test_the_backends_own_word_is_corrected_by_the_warm_state(
    own: ProviderStatus, warm_state: WarmState, expected: ProviderStatus
) -> None:
    assert overlaid(health_of(own), warm_state, "why").status == expected


def test_the_overlay_says_why_and_keeps_the_backends_details() -> None:
    health = Health("ready", iso_now(), details={"build": "b1"})
    assert overlaid(health, "warming", None).details == {"build": "b1", "rayWarmupStatus": "warming"}
    assert overlaid(health, "failed", "no model").details == {
        "build": "b1",
        "rayWarmupStatus": "failed",
        "rayWarmupMessage": "no model",
    }
    assert health.details == {"build": "b1"}


# -- warming


def test_concurrent_callers_share_one_attempt() -> None:
    async def main() -> None:
        go = asyncio.Event()
        scene = Scene(FakeProvider(warm_steps=[[go]]))
        callers = [asyncio.create_task(scene.watch.warm()) for _ in range(3)]
        await until(lambda: scene.provider.warmed == 1)
        assert scene.watch.warm_state == "warming"
        assert await scene.status() == "warming"
        go.set()
        await asyncio.gather(*callers)
        await scene.watch.warm()
        assert (scene.watch.warm_state, scene.provider.warmed) == ("ready", 1)
        assert await scene.status() == "ready"  # at once: what was seen while warming is forgotten
        assert scene.log.getvalue().count("provider_warmed") == 1

    asyncio.run(main())


def test_a_caller_that_is_cancelled_leaves_the_attempt_to_the_others() -> None:
    async def main() -> None:
        go = asyncio.Event()
        scene = Scene(FakeProvider(warm_steps=[[go]]))
        gone, stays = asyncio.create_task(scene.watch.warm()), asyncio.create_task(scene.watch.warm())
        await until(lambda: scene.provider.warmed == 1)
        gone.cancel()
        go.set()
        await stays
        assert scene.watch.warm_state == "ready"

    asyncio.run(main())


def test_a_failed_attempt_is_unavailable_until_one_succeeds() -> None:
    async def main() -> None:
        failure = RayError("provider_request_failed", "connection refused")
        scene = Scene(FakeProvider(warm_steps=[[failure], []]))
        with pytest.raises(RayError, match="connection refused"):
            await scene.watch.warm()
        health = await scene.watch.health()
        assert (health.status, health.details) == (
            "unavailable",
            {"rayWarmupStatus": "failed", "rayWarmupMessage": "connection refused"},
        )
        assert await scene.needs_warming()
        await scene.watch.warm()
        assert await scene.status() == "ready"
        assert not await scene.needs_warming()

    asyncio.run(main())


def test_a_provider_that_breaks_while_warming_raises_a_ray_error() -> None:
    async def main() -> None:
        scene = Scene(FakeProvider(warm_steps=[[ZeroDivisionError("oops")]]))
        with pytest.raises(RayError, match="warming the backend failed"):
            await scene.watch.warm()
        assert scene.watch.warm_state == "failed"

    asyncio.run(main())


def test_without_warm_on_boot_there_is_nothing_to_do() -> None:
    async def main() -> None:
        scene = Scene(FakeProvider(healths=[health_of("unavailable"), health_of("ready")]), warm_on_boot=False)
        await scene.watch.warm()
        assert (scene.watch.warm_state, scene.provider.warmed) == ("ready", 0)
        assert await scene.status() == "unavailable"
        assert await scene.status(after_s=1.0) == "ready"
        assert not await scene.needs_warming()

    asyncio.run(main())


def test_closing_stops_an_attempt_that_hangs() -> None:
    async def main() -> None:
        scene = Scene(FakeProvider(warm_steps=[[asyncio.Event()]], health_gate=asyncio.Event()))
        waiting = [asyncio.create_task(scene.watch.warm()), asyncio.create_task(_ignore(scene))]
        await until(lambda: scene.provider.warmed == scene.provider.probed == 1)
        await scene.watch.close()
        await asyncio.wait(waiting)
        assert scene.watch.warm_state == "idle"

    asyncio.run(main())


async def _ignore(scene: Scene) -> None:
    await scene.watch.health()


# -- the probe


def test_three_callers_at_once_make_one_probe_and_a_fourth_within_a_second_none() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        scene = Scene(FakeProvider(health_gate=gate))
        callers = [asyncio.create_task(scene.watch.health()) for _ in range(3)]
        await until(lambda: scene.provider.probed == 1)
        gate.set()
        await asyncio.gather(*callers)
        await scene.status(after_s=0.999)
        assert scene.provider.probed == 1
        await scene.status(after_s=0.001)
        assert scene.provider.probed == 2

    asyncio.run(main())


@pytest.mark.parametrize("latency", [math.nan, math.inf, -1.0, 120_001.0])
def test_an_impossible_latency_is_an_unusable_answer(latency: float) -> None:
    async def main() -> None:
        scene = Scene(FakeProvider(healths=[Health("ready", iso_now(), latency_ms=latency)]))
        health = await scene.watch.health()
        assert health.status == "unavailable"
        assert "latencyMs" in message_of(health.details)

    asyncio.run(main())


def message_of(details: Mapping[str, object] | None) -> str:
    assert details is not None
    return str(details["message"])


def test_a_probe_that_raises_is_unavailable_with_its_message() -> None:
    async def main() -> None:
        scene = Scene(FakeProvider(healths=[ZeroDivisionError("oops")]))
        health = await scene.watch.health()
        assert (health.status, message_of(health.details)) == ("unavailable", "oops")

    asyncio.run(main())


def test_the_gauges_show_what_health_said() -> None:
    async def main() -> None:
        scene = Scene(FakeProvider(healths=[health_of("degraded")]))
        await scene.watch.health()
        gauges = metrics_json(scene.metrics, include_recent=False)["gauges"]
        assert isinstance(gauges, dict)
        assert (gauges["provider.health.status"], gauges["provider.health.latency_ms"]) == (0.5, 1)

    asyncio.run(main())


# -- going away and coming back


@pytest.mark.parametrize("gone", ["unavailable", "warming"])
def test_a_backend_that_was_away_is_warmed_again_once_it_answers(gone: ProviderStatus) -> None:
    async def main() -> None:
        scene = Scene(FakeProvider(healths=[health_of("ready"), health_of(gone), health_of("ready")]))
        await scene.watch.warm()
        assert await scene.status() == "ready"
        assert not await scene.needs_warming()
        assert await scene.status(after_s=1.0) == gone
        assert not await scene.needs_warming()  # nobody there to be warmed
        assert await scene.status(after_s=1.0) == "warming"  # it answers, and is cold
        assert await scene.needs_warming()
        await scene.watch.warm()
        assert (scene.provider.warmed, await scene.needs_warming()) == (2, False)
        assert await scene.status() == "ready"
        assert scene.log.getvalue().count("provider_lost") == 1

    asyncio.run(main())


def test_another_backend_in_the_same_place_is_warmed_too() -> None:
    async def main() -> None:
        healths = [health_of("ready", total_slots=2), health_of("ready", total_slots=4)]
        scene = Scene(FakeProvider(healths=healths))
        await scene.watch.warm()
        await scene.status()
        assert not await scene.needs_warming()
        await scene.status(after_s=1.0)
        assert await scene.needs_warming()
        await scene.watch.warm()
        await scene.status(after_s=1.0)
        assert not await scene.needs_warming()

    asyncio.run(main())


def test_the_same_backend_that_has_begun_anew_is_warmed_again() -> None:
    async def main() -> None:
        healths = [replace(health_of("ready", total_slots=2), restarts=count) for count in (0, 1)]
        scene = Scene(FakeProvider(healths=healths))
        await scene.watch.warm()
        await scene.status()
        assert not await scene.needs_warming()
        await scene.status(after_s=1.0)
        assert await scene.needs_warming()
        await scene.watch.warm()
        await scene.status(after_s=1.0)
        assert not await scene.needs_warming()

    asyncio.run(main())


def test_an_answer_that_leaves_something_out_is_still_the_same_backend() -> None:
    async def main() -> None:
        healths = [
            health_of("ready", model_ref="m"),
            health_of("ready", model_ref="m", total_slots=2, context_window=3072),
            health_of("ready"),
            health_of("ready", model_ref="m", backend_model="b"),
        ]
        scene = Scene(FakeProvider(healths=healths))
        await scene.watch.warm()
        for _ in healths:
            await scene.status(after_s=1.0)
            assert not await scene.needs_warming()

    asyncio.run(main())


def test_before_the_first_attempt_only_a_backend_that_answers_needs_warming() -> None:
    async def main() -> None:
        scene = Scene(FakeProvider(healths=[health_of("unavailable"), health_of("ready")]))
        assert not await scene.needs_warming()
        scene.now += 1
        assert await scene.needs_warming()

    asyncio.run(main())


# -- the runtime's view


def test_a_generation_that_lost_its_backend_makes_the_next_health_ask_anew() -> None:
    async def main() -> None:
        lost = RayError("provider_request_failed", "connection lost")
        provider = FakeProvider([lost], healths=[health_of("ready"), health_of("unavailable")])
        house = House(provider, tiny_config(warm_on_boot=True))
        await house.runtime.warm()
        assert (await house.runtime.health()).status == "ok"
        async with await house.ask() as reader:
            with pytest.raises(RayError, match="connection lost"):
                await reader.result()
        health = await house.runtime.health()
        assert (health.status, house.runtime.warm_state) == ("unavailable", "idle")

    asyncio.run(main())


def test_a_backend_that_crashed_and_came_back_between_two_probes_is_warmed_again() -> None:
    async def main() -> None:
        lost = RayError("provider_request_failed", "connection lost")
        house = House(FakeProvider(["a", lost], ["fine", STOP]), tiny_config(warm_on_boot=True))
        await house.runtime.warm()
        async with await house.ask() as reader:
            with pytest.raises(RayError, match="connection lost"):
                await reader.result()
        health = await house.runtime.provider_health()
        assert health.status == "warming"
        assert await house.runtime.needs_warming()
        assert (await house.answer()).output == "fine"  # warm state never gates inference

    asyncio.run(main())


@pytest.mark.parametrize("code", ["queue_full", "request_context_window_exceeded"])
def test_a_refusal_says_nothing_about_the_backend(code: str) -> None:
    async def main() -> None:
        house = House(FakeProvider([RayError(code, "no")]), tiny_config(warm_on_boot=True))
        await house.runtime.warm()
        await house.runtime.provider_health()
        async with await house.ask() as reader:
            with pytest.raises(RayError, match="no"):
                await reader.result()
        await house.runtime.provider_health()
        assert (house.provider.probed, house.runtime.warm_state) == (1, "ready")

    asyncio.run(main())


# -- a backend that generates


def test_given_a_token_a_moment_ago_when_asked_whether_the_backend_answers_then_it_is_not_probed() -> None:
    async def main() -> None:
        scene = Scene(FakeProvider())
        scene.watch.alive()
        assert await scene.watch.answers()
        assert scene.provider.probed == 0
        scene.now += 1.0
        assert await scene.watch.answers()
        assert scene.provider.probed == 1

    asyncio.run(main())


def test_given_a_token_a_moment_ago_when_a_call_fails_then_the_backend_is_probed() -> None:
    async def main() -> None:
        scene = Scene(FakeProvider())
        scene.watch.alive()
        scene.watch.suspect()
        await scene.watch.answers()
        assert scene.provider.probed == 1

    asyncio.run(main())


def test_given_a_token_a_moment_ago_when_health_is_asked_for_then_the_backend_is_probed() -> None:
    """What people read, busy slots for example, is never older than a second."""

    async def main() -> None:
        scene = Scene(FakeProvider())
        scene.watch.alive()
        await scene.status()
        assert scene.provider.probed == 1

    asyncio.run(main())
