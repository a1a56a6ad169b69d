"""What a generation tells the scheduler and what the scheduler tells the provider: slots, hot prefixes, relatives."""

from __future__ import annotations

import asyncio

import pytest

from ray.errors import RayError
from ray.providers import PromptPrefix
from ray.runtime import result_document
from ray.types import Counts, Finish, InferenceRequest, PrefixUse, ProviderDiagnostics
from tests.fakes.provider import STOP, FakeProvider, Step, finish_with, until
from tests.runtime.support import House, tiny_config


def prefix_of(request: InferenceRequest) -> PromptPrefix | None:
    """The system text is the prefix."""
    return None if request.system is None else PromptPrefix(request.system.ljust(64, "0"), request.system, 100)


def house_with(*scripts: list[Step], slots: int | None = 2, concurrency: int = 2) -> tuple[House, FakeProvider]:
    provider = FakeProvider(*scripts, prefix_of=prefix_of)
    provider.assignable_slots = slots
    return House(provider, tiny_config(scheduler={"concurrency": concurrency})), provider


def ask_of(system: str | None, text: str) -> dict[str, object]:
    return {"input": text, "cache": False, **({"system": system} if system is not None else {})}


def slots_given(provider: FakeProvider) -> list[tuple[int | None, bool]]:
    return [(context.slot, context.hot) for context in provider.contexts]


def test_each_generation_gets_a_slot_and_a_prefix_that_lies_there_is_called_hot() -> None:
    async def main() -> None:
        house, provider = house_with(["", "x", STOP])
        for system in ("a", "b", "a", "b", "c", "b"):
            await house.answer(ask_of(system, f"for {system}"))
        assert slots_given(provider) == [(0, False), (1, False), (0, True), (1, True), (0, False), (1, True)]
        assert house.is_idle()

    asyncio.run(main())


def test_a_request_without_a_prefix_is_kept_together_by_its_family_and_never_called_hot() -> None:
    async def main() -> None:
        house, provider = house_with(["x", STOP])
        for _ in range(2):
            await house.answer(ask_of(None, "hello"))
        assert slots_given(provider) == [(0, False), (0, False)]
        assert provider.contexts[0].family is not None

    asyncio.run(main())


def test_while_the_backend_chooses_no_slot_is_named() -> None:
    async def main() -> None:
        house, provider = house_with(["x", finish_with(slot_id=1)], slots=None)
        for _ in range(2):
            await house.answer(ask_of("a", "hello"))
        assert slots_given(provider) == [(None, False), (None, False)]

    asyncio.run(main())


def test_no_more_run_than_there_are_slots() -> None:
    async def main() -> None:
        house, provider = house_with(["x", STOP], slots=1, concurrency=4)
        readers = [await house.ask(ask_of(name, name)) for name in "abc"]
        for reader in readers:
            await reader.result()
        assert provider.most_active == 1
        assert house.runtime.queue_snapshot().concurrency == 1

    asyncio.run(main())


def test_an_empty_chunk_is_not_part_of_the_answer_and_lets_the_relatives_go() -> None:
    async def main() -> None:
        may_read, may_answer = asyncio.Event(), asyncio.Event()
        house, provider = house_with([may_read, "", may_answer, "one", STOP], ["", "two", STOP])
        first, second = await house.ask(ask_of("a", "first")), await house.ask(ask_of("a", "second"))
        await until(lambda: provider.active == 1 and house.runtime.queue_snapshot().queue_depth == 1)
        may_read.set()
        assert (await second.result()).output == "two"
        assert first.generation.chunks == []
        may_answer.set()
        assert [chunk.text async for chunk in first] == ["one", ""]
        assert slots_given(provider) == [(0, False), (1, False)]

    asyncio.run(main())


def test_while_a_cold_prefix_is_read_another_family_goes_before_the_relatives() -> None:
    async def main() -> None:
        may_read = asyncio.Event()
        house, provider = house_with([may_read, "", "x", STOP], ["", "y", STOP])
        readers = [await house.ask(ask_of(system, text)) for system, text in (("a", "1"), ("a", "2"), ("b", "3"))]
        await readers[2].result()
        assert [request.messages[-1].content for request in provider.streamed] == ["1", "3"]
        may_read.set()
        for reader in readers:
            await reader.result()
        assert house.is_idle()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("script", "hot_next"),
    [
        ([RayError("provider_upstream_error", "no")], False),
        (["", RayError("provider_upstream_error", "no")], True),
        (["x", RayError("provider_upstream_error", "no")], True),
    ],
    ids=["before the prefix was read", "after it", "in the middle of the answer"],
)
def test_a_failed_generation_leaves_a_known_slot_only_if_its_prefix_was_read(
    script: list[Step], hot_next: bool
) -> None:
    async def main() -> None:
        house, provider = house_with(script, ["", "x", STOP])
        with pytest.raises(RayError, match="no"):
            await house.answer(ask_of("a", "1"))
        await house.answer(ask_of("a", "2"))
        assert provider.contexts[1].hot is hot_next

    asyncio.run(main())


@pytest.mark.parametrize("read", [False, True])
def test_a_client_that_leaves_frees_the_slot_and_what_it_holds_is_known_only_if_it_was_read(read: bool) -> None:
    async def main() -> None:
        never = asyncio.Event()
        house, provider = house_with(["", never] if read else [never], ["", "x", STOP])
        reader = await house.ask(ask_of("a", "1"))
        await until(lambda: provider.active == 1)
        for _ in range(5):
            await asyncio.sleep(0)
        reader.leave()
        await until(lambda: provider.active == 0)
        await house.answer(ask_of("a", "2"))
        assert provider.contexts[1].hot is read
        assert house.is_idle()

    asyncio.run(main())


def test_a_backend_that_lost_its_caches_has_nothing_hot() -> None:
    async def main() -> None:
        house, provider = house_with(["", "x", STOP])
        await house.answer(ask_of("a", "1"))
        provider.slots_epoch += 1
        await house.answer(ask_of("a", "2"))
        await house.answer(ask_of("a", "3"))
        assert [hot for _, hot in slots_given(provider)] == [False, False, True]

    asyncio.run(main())


def test_a_backend_that_used_another_slot_than_the_one_it_was_given_is_not_believed_about_either() -> None:
    async def main() -> None:
        house, provider = house_with(["", "x", STOP], ["", "x", finish_with(slot_id=0)], ["", "x", STOP])
        for system in ("a", "b", "a", "b"):  # b is given slot 1 and answered from slot 0
            await house.answer(ask_of(system, "1"))
        assert [hot for _, hot in slots_given(provider)] == [False, False, False, False]

    asyncio.run(main())


def test_without_slots_of_its_own_ray_prefers_what_the_answers_called_hot() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        house, provider = house_with(
            ["x", finish_with(slot_id=0)], [gate, "x", STOP], ["x", STOP], slots=None, concurrency=1
        )
        await house.answer(ask_of("a", "1"))
        readers = [await house.ask(ask_of(system, text)) for system, text in (("b", "2"), ("c", "3"), ("a", "4"))]
        await until(lambda: house.runtime.queue_snapshot().queue_depth == 2)
        gate.set()
        for reader in readers:
            await reader.result()
        assert [request.messages[-1].content for request in provider.streamed] == ["1", "2", "4", "3"]

    asyncio.run(main())


def test_without_any_word_about_slots_relatives_are_not_held() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        house, provider = house_with([gate, "x", STOP], slots=None)
        readers = [await house.ask(ask_of("a", text)) for text in ("1", "2")]
        await until(lambda: provider.active == 2)
        gate.set()
        for reader in readers:
            await reader.result()

    asyncio.run(main())


def test_the_answer_says_how_its_prefix_came_in() -> None:
    async def main() -> None:
        diagnostics = ProviderDiagnostics(slot_id=0, prefix=PrefixUse("restored", 357))
        house, _ = house_with(["", "x", Finish("stop", Counts.of(400, 1), diagnostics)])
        document = result_document(await house.answer(ask_of("a", "1")))
        assert isinstance(document["diagnostics"], dict)
        assert document["diagnostics"]["provider"]["prefix"] == {"state": "restored", "tokensReused": 357}

    asyncio.run(main())


def test_health_shows_the_store_where_there_is_one() -> None:
    async def main() -> None:
        house, provider = house_with()
        assert "prefixStore" not in await house.runtime.health_document()
        provider.prefix_block = {"enabled": True, "entries": 3}
        assert (await house.runtime.health_document())["prefixStore"] == {"enabled": True, "entries": 3}

    asyncio.run(main())
