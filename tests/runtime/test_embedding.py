"""Embeddings: through the scheduler, counted, bounded by the deadline, and no claim about slots afterwards."""

from __future__ import annotations

import asyncio

import pytest

from ray.clock import Deadline
from ray.errors import RayError
from ray.runtime.embedding import groups
from ray.types import Embeddings
from tests.fakes.provider import STOP, FakeProvider, until
from tests.runtime.support import ALICE, House, tiny_config


def embed(house: House, *texts: str, timeout_ms: float = 60_000) -> asyncio.Task[Embeddings]:
    return asyncio.create_task(house.runtime.embed(texts, ALICE, Deadline.after_ms(timeout_ms), "req_e"))


def slots_house(count: int | None = 2, **scheduler: object) -> House:
    provider = FakeProvider(["", "x", STOP])
    provider.assignable_slots = count
    return House(provider, tiny_config(scheduler={"concurrency": 2, **scheduler}))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((), []),
        (("",), [(("",), 1)]),
        (("a" * 8, "b"), [(("a" * 8, "b"), 3)]),
        (("a" * 20, "b" * 20, "c" * 4), [(("a" * 20, "b" * 20), 10), (("c" * 4,), 1)]),
        (("a" * 44, "b"), [(("a" * 44,), 11), (("b",), 1)]),
        (tuple("abcdefghi"), [(tuple("abcdefgh"), 8), (("i",), 1)]),
    ],
    ids=["none", "an empty one", "two", "as many as fit", "one that will never fit", "eight at a time"],
)
def test_texts_go_in_groups_of_eight_that_fit(
    texts: tuple[str, ...], expected: list[tuple[tuple[str, ...], int]]
) -> None:
    assert list(groups(texts, 10)) == expected


def test_vectors_come_in_the_order_of_the_texts_and_are_counted() -> None:
    async def main() -> None:
        house = House()
        texts = tuple("x" * count for count in range(1, 12))
        found = await embed(house, *texts)
        assert [vector[0] for vector in found.vectors] == list(range(1, 12))
        assert (found.model, found.tokens) == ("fake-model", 11)
        assert [len(group) for group in house.provider.embedded] == [8, 3]
        assert house.counter("requests.total", source="provider") == 1
        assert house.counter("provider.prompt_tokens") == 11
        assert sum(house.metrics.histogram("queue.wait", lane="short").counts) == 2
        assert house.is_idle()

    asyncio.run(main())


def test_a_text_that_could_never_run_is_refused_and_logged_once() -> None:
    async def main() -> None:
        house = House()
        with pytest.raises(RayError) as caught:
            await embed(house, "x" * 100_000)
        assert caught.value.code == "request_token_budget_exceeded"
        assert house.counter("requests.errors", code="request_token_budget_exceeded") == 1
        assert house.counter("scheduler.rejections", code="request_token_budget_exceeded") == 1
        assert house.events() == ["inference_rejected"]

    asyncio.run(main())


def test_embeddings_wait_their_turn() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        provider = FakeProvider([gate, "x", STOP])
        house = House(provider, tiny_config(scheduler={"concurrency": 1}))
        reader = await house.ask()
        await until(lambda: provider.active == 1)
        task = embed(house, "text")
        await until(lambda: house.runtime.queue_snapshot().short_queue_depth == 1)
        assert provider.embedded == []
        gate.set()
        await reader.result()
        await task
        assert provider.most_active == 1

    asyncio.run(main())


@pytest.mark.parametrize("waits", [True, False], ids=["in the queue", "in the backend"])
def test_a_client_that_leaves_gives_back_its_place(waits: bool) -> None:
    async def main() -> None:
        never = asyncio.Event()
        provider = FakeProvider([never, STOP])
        provider.embed_steps = [never]
        house = House(provider, tiny_config(scheduler={"concurrency": 1}))
        reader = await house.ask() if waits else None
        task = embed(house, "text")
        await until(lambda: provider.active == 1 and house.runtime.queue_snapshot().queue_depth == int(waits))
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        if reader is not None:
            reader.leave()
        await until(house.is_idle)
        assert house.lines() == []

    asyncio.run(main())


@pytest.mark.parametrize(("waits", "phase"), [(True, "queue"), (False, "generate")])
def test_the_deadline_ends_it_wherever_it_is_and_the_error_says_where(waits: bool, phase: str) -> None:
    async def main() -> None:
        never = asyncio.Event()
        provider = FakeProvider([never, STOP])
        provider.embed_steps = [never]
        house = House(provider, tiny_config(scheduler={"concurrency": 1}))
        reader = await house.ask() if waits else None
        await until(lambda: provider.active == int(waits))
        with pytest.raises(RayError) as caught:
            await embed(house, "text", timeout_ms=200)
        assert caught.value.code == "request_timeout"
        assert caught.value.details == {"phase": phase, "timeoutMs": house.config.scheduler.request_timeout_ms}
        assert house.counter("requests.errors", code="request_timeout") == 1
        assert house.counter("scheduler.rejections", code="request_timeout") == int(waits)
        if reader is not None:
            reader.leave()
        await until(house.is_idle)

    asyncio.run(main())


def test_what_the_provider_raises_reaches_the_caller() -> None:
    async def main() -> None:
        house = House()
        house.provider.embed_steps = [RayError("embeddings_unsupported", "start it with --embeddings")]
        with pytest.raises(RayError, match="--embeddings") as caught:
            await embed(house, "text")
        assert caught.value.code == "embeddings_unsupported"
        assert house.counter("requests.errors", code="embeddings_unsupported") == 1
        assert house.is_idle()

    asyncio.run(main())


def test_a_runtime_that_closes_stops_embeddings_and_refuses_new_ones() -> None:
    async def main() -> None:
        house = House()
        house.provider.embed_steps = [asyncio.Event()]
        task = embed(house, "text")
        await until(lambda: house.provider.active == 1)
        await house.runtime.close()
        with pytest.raises(RayError) as aborted:
            await task
        with pytest.raises(RayError) as refused:
            await embed(house, "text")
        assert (aborted.value.code, refused.value.code) == ("request_aborted", "gateway_draining")

    asyncio.run(main())


def test_after_embeddings_no_idle_slot_is_called_hot() -> None:
    async def main() -> None:
        house = slots_house()
        body: dict[str, object] = {"input": "hello", "cache": False}
        for _ in range(2):
            await house.answer(body)
        assert house.runtime._scheduler._table.hot([])
        await embed(house, "text")
        assert not house.runtime._scheduler._table.hot([])

    asyncio.run(main())


def test_while_embeddings_run_in_a_slot_that_nobody_knows_none_is_given_away() -> None:
    async def main() -> None:
        house = slots_house()
        gate = asyncio.Event()
        house.provider.embed_steps = [gate]
        task = embed(house, "text")
        await until(lambda: house.provider.active == 1)
        reader = await house.ask()
        await until(lambda: house.runtime.queue_snapshot().queue_depth == 1)
        gate.set()
        await task
        await reader.result()
        assert house.provider.most_active == 1
        assert house.is_idle()

    asyncio.run(main())


def test_while_the_backend_chooses_slots_embeddings_and_answers_run_together() -> None:
    async def main() -> None:
        house = slots_house(None)
        gate = asyncio.Event()
        house.provider.embed_steps = [gate]
        task = embed(house, "text")
        await until(lambda: house.provider.active == 1)
        await house.answer()
        gate.set()
        await task
        assert house.provider.most_active == 2

    asyncio.run(main())
