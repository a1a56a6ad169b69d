"""The honest health of a llama-server, against a scripted one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from ray.providers import create_provider
from ray.types import Availability
from tests.fakes.llama_server import (
    Answer,
    FakeLlamaServer,
    body_answer,
    cut_answer,
    error_answer,
    hanging_answer,
    json_answer,
    loading_answer,
    redirect_answer,
)
from tests.providers.llama_cpp.test_provider import OPERATIONAL
from tests.providers.setting import LLAMA, ask, backend, config_for, run


def test_given_a_healthy_server_when_asked_then_it_is_ready_and_described() -> None:
    async def main() -> None:
        async with backend() as (_, provider):
            health = await provider.health()
            assert health.status == "ready"
            assert health.detected_capabilities is not None
            found = health.detected_capabilities
            assert (found.apply_template, found.chat_template, found.json_mode) == ("available",) * 3
            assert (found.backend_model, found.total_slots, found.context_window) == ("fake-model", 2, 4096)
            assert health.details is not None
            assert health.details["slotsIdle"] == 2
            assert health.details["probe"] == "/health + /props + /slots"
            assert "message" not in health.details

    run(main())


@pytest.mark.parametrize(
    ("answers", "status", "says"),
    [
        ({"/health": loading_answer(), "/props": loading_answer()}, "warming", "loading"),
        ({"/health": error_answer(503, "no slot"), "/props": loading_answer()}, "warming", "loading"),
        ({"/health": json_answer({"status": "loading model"})}, "warming", "loading"),
        ({"/props": loading_answer()}, "warming", "loading"),
        ({"/health": cut_answer()}, "unavailable", "/health"),
        ({"/props": error_answer(401)}, "unavailable", "apiKeyEnv"),
        ({"/props": error_answer(403)}, "unavailable", "apiKeyEnv"),
        ({"/props": error_answer(500)}, "degraded", "/props"),
        ({"/props": error_answer(404)}, "degraded", "/props"),
        ({"/props": json_answer([1])}, "degraded", "/props"),
        ({"/props": cut_answer()}, "degraded", "/props"),
        ({"/health": redirect_answer("http://127.0.0.1:9/")}, "degraded", "307"),
        ({"/health": body_answer(b"x" * 1_048_577)}, "degraded", "1048576"),
        ({"/health": error_answer(404), "/props": error_answer(404)}, "unavailable", "404"),
        ({"/health": json_answer({"status": 7, "slots_idle": 10**12})}, "ready", ""),
        ({"/health": body_answer(b"ok", 200, "text/plain")}, "ready", ""),
        ({"/slots": error_answer(501)}, "ready", ""),
        ({"/slots": json_answer(None)}, "ready", ""),
    ],
)
def test_given_a_server_when_asked_then_the_status_is_honest(
    answers: dict[str, Answer], status: str, says: str
) -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            for path, answer in answers.items():
                fake.always(path, answer)
            health = await provider.health()
            assert health.status == status
            assert health.details is not None
            assert says in str(health.details.get("message", ""))

    run(main())


def test_given_a_server_that_died_after_good_service_when_asked_then_it_is_unavailable_and_later_ready_again() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            await ask(provider)
            assert (await provider.health()).status == "ready"
            await fake.stop()
            assert (await provider.health()).status == "unavailable"
            await fake.start()
            assert (await provider.health()).status == "ready"

    run(main())


def test_given_a_hanging_health_route_when_asked_then_the_rest_is_still_told() -> None:
    async def main() -> None:
        async with backend(adapter={"timeoutMs": 1000}) as (fake, provider):
            fake.always("/health", hanging_answer())
            health = await provider.health()
            assert health.status == "unavailable"
            assert health.details is not None
            assert "1000 ms" in str(health.details["healthError"])
            assert health.details["backendModel"] == "fake-model"

    run(main())


@pytest.mark.parametrize(
    ("expected", "answers", "status", "template"),
    [
        (True, {"/apply-template": error_answer(404)}, "degraded", "unavailable"),
        (False, {"/apply-template": error_answer(404)}, "ready", "unavailable"),
        (True, {"/apply-template": cut_answer()}, "ready", "unknown"),
        (True, {}, "ready", "available"),
    ],
)
def test_given_a_template_when_asked_then_a_missing_one_counts_only_if_it_is_expected(
    expected: bool, answers: dict[str, Answer], status: str, template: Availability
) -> None:
    async def main() -> None:
        async with backend(model={"operational": {**OPERATIONAL, "chatTemplateKnown": expected}}) as (fake, provider):
            for path, answer in answers.items():
                fake.always(path, answer)
            health = await provider.health()
            assert health.status == status
            assert health.detected_capabilities is not None
            assert health.detected_capabilities.apply_template == template

    run(main())


def test_given_a_sleeping_server_when_asked_then_it_is_not_woken() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.props["is_sleeping"] = True
            health = await provider.health()
            assert health.status == "ready"
            assert health.details is not None
            assert "sleeps" in str(health.details["message"])
            assert {request.path for request in fake.requests} == {"/health", "/props"}

    run(main())


def test_given_a_server_without_the_slots_route_when_asked_then_it_is_not_polled() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.props["endpoint_slots"] = False
            health = await provider.health()
            assert health.status == "ready"
            assert fake.received("/slots") == []
            assert health.details is not None
            assert "slots" not in health.details

    run(main())


def test_given_health_is_asked_often_when_counted_then_slots_and_template_are_asked_once() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            for _ in range(3):
                await provider.health()
            assert len(fake.received("/health")) == 3
            assert len(fake.received("/slots")) == 1
            assert len(fake.received("/apply-template")) == 1

    run(main())


def test_given_health_is_asked_by_several_when_counted_then_props_are_read_once() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            await asyncio.gather(*(provider.health() for _ in range(3)))
            assert len(fake.received("/props")) == 1

    run(main())


def slots_with(*tasks: int | None) -> Answer:
    """What `/slots` says when the slots' last tasks were these."""
    slots = [{"id": number} if task is None else {"id": number, "id_task": task} for number, task in enumerate(tasks)]
    return json_answer(slots)


def test_given_an_idle_server_that_was_replaced_between_two_looks_when_asked_then_a_restart_is_counted() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            seen = []
            for answer in (slots_with(None, 7), slots_with(9, 7), slots_with(None, None), slots_with(2, None)):
                fake.always("/slots", answer)
                fake.script("/health", error_answer(500))
                await provider.health()  # trouble: the slots are looked at again at once
                seen.append((await provider.health()).restarts)
            assert seen == [0, 0, 1, 1]

    run(main())


def test_given_a_prefix_store_when_a_restart_is_seen_then_nothing_counts_as_hot_any_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeLlamaServer() as fake:
            config = config_for(LLAMA, fake.base_url)
            store = replace(config.prefix_store, enabled=True, storage_dir=str(tmp_path))
            provider = create_provider(replace(config, prefix_store=store), {})
            epochs = []
            for answer in (slots_with(7), slots_with(8), slots_with(0)):
                fake.always("/slots", answer)
                fake.script("/health", error_answer(500))
                await provider.health()
                await provider.health()
                epochs.append(provider.slots_epoch)
            assert epochs[0] == epochs[1] < epochs[2]
            await provider.close()

    run(main())


def test_given_hanging_slots_when_asked_then_health_goes_on_without_them() -> None:
    async def main() -> None:
        async with backend(adapter={"slotSnapshotTimeoutMs": 30}) as (fake, provider):
            fake.always("/slots", hanging_answer())
            health = await provider.health()
            assert health.status == "ready"
            assert health.details is not None
            assert "30 ms" in str(health.details["slotsError"])
            await provider.health()
            assert len(fake.received("/slots")) == 1

    run(main())


def test_given_an_empty_model_name_when_asked_then_it_is_left_out() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.props["model_alias"] = ""
            health = await provider.health()
            assert health.status == "ready"
            assert health.details is not None
            assert "backendModel" not in health.details

    run(main())
