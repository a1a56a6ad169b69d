"""Embeddings through every provider."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from ray.clock import Deadline
from ray.errors import RayError
from ray.providers.embeddings import TEXTS_PER_CALL
from ray.types import Embeddings
from tests.fakes.llama_server import Answer, error_answer, hanging_answer, json_answer
from tests.providers.llama_cpp.shop import shop, use_of
from tests.providers.setting import LLAMA, OPENAI, backend, run
from tests.providers.test_mock import mock

PATH = "/v1/embeddings"
KINDS = [LLAMA, OPENAI]


def soon() -> Deadline:
    return Deadline.after_ms(15_000)


def answer_of(*vectors: object, indexes: tuple[object, ...] | None = None, usage: object = None) -> Answer:
    data = [
        {"index": index, "embedding": vector}
        for index, vector in zip(indexes or range(len(vectors)), vectors, strict=True)
    ]
    return json_answer({"data": data, "usage": usage})


@pytest.mark.parametrize("kind", KINDS)
def test_given_more_texts_than_one_call_takes_when_embedded_then_all_vectors_come_in_order(kind: str) -> None:
    async def main() -> None:
        async with backend(kind, model={"id": "shown"}) as (fake, provider):
            fake.embeds = True
            texts = tuple("x" * length for length in range(1, TEXTS_PER_CALL + 3))
            found = await provider.embed(texts, soon())
            assert found == Embeddings("shown", tuple((float(len(text)), 0.5) for text in texts), tokens=len(texts))
            bodies = [request.document for request in fake.received(PATH)]
            assert [text for body in bodies for text in body["input"]] == list(texts)  # type: ignore[attr-defined]
            assert {body["model"] for body in bodies} == {"fake-model"}

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        error_answer(501, "This server does not support embeddings. Start it with `--embeddings`"),
        error_answer(404, "File Not Found"),
        error_answer(400, "Pooling type 'none' is not OAI compatible. Please use a different pooling type"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_given_a_backend_without_embeddings_when_asked_then_the_remedy_is_named(kind: str, answer: Answer) -> None:
    async def main() -> None:
        async with backend(kind) as (fake, provider):
            fake.script(PATH, answer)
            with pytest.raises(RayError) as caught:
                await provider.embed(("a",), soon())
            assert (caught.value.code, caught.value.status) == ("embeddings_unsupported", 501)
            assert ("--embeddings" if kind == LLAMA else "/v1/embeddings") in caught.value.message

    run(main())


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (error_answer(500, "broken"), "provider_upstream_error"),
        (error_answer(400, "Input content cannot be empty"), "provider_upstream_error"),
        (answer_of([1.0]), "provider_invalid_response"),
        (answer_of([1.0], [1.0], [1.0]), "provider_invalid_response"),
        (answer_of([1.0], [1.0], indexes=(0, 0)), "provider_invalid_response"),
        (answer_of([1.0], [1.0, 2.0]), "provider_invalid_response"),
        (answer_of([1.0], []), "provider_invalid_response"),
        (answer_of([1.0], [True]), "provider_invalid_response"),
        (answer_of([1.0], ["1"]), "provider_invalid_response"),
        (answer_of([1.0], [[1.0]]), "provider_invalid_response"),
        (answer_of([1.0], [10**400]), "provider_invalid_response"),
        (answer_of([1.0], "AAAA"), "provider_invalid_response"),
        (answer_of([1.0], "not base64"), "provider_invalid_response"),
        (answer_of([1.0], "AADAfw=="), "provider_invalid_response"),
        (answer_of([1.0], None), "provider_invalid_response"),
        (json_answer({"data": 7}), "provider_invalid_response"),
        (json_answer([]), "provider_invalid_response"),
    ],
)
def test_given_an_unusable_answer_when_embedding_then_it_fails_with_its_code(answer: Answer, code: str) -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.script(PATH, answer)
            with pytest.raises(RayError) as caught:
                await provider.embed(("a", "b"), soon())
            assert caught.value.code == code

    run(main())


def test_given_vectors_out_of_order_and_no_count_when_embedded_then_they_are_put_in_order() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.script(PATH, answer_of([2], [1], indexes=(1, 0)))
            found = await provider.embed(("a", "b"), soon())
            assert (found.vectors, found.tokens) == (((1.0,), (2.0,)), None)

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_given_an_embedding_under_way_when_cancelled_then_the_backend_sees_it_leave(kind: str) -> None:
    async def main() -> None:
        async with backend(kind) as (fake, provider):
            fake.script(PATH, hanging_answer())
            task = asyncio.create_task(provider.embed(("a",), soon()))
            received = await fake.wait_for(PATH)
            task.cancel()
            await asyncio.wait([task])
            await received.client_left.wait()

    run(main())


def test_given_a_hot_slot_when_texts_are_embedded_then_nothing_is_claimed_of_it_and_no_failure_is_counted(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path / "kv") as at:
            await at.ask("one")
            await at.ask("two")
            assert use_of(await at.ask("three")).state == "hot"
            at.fake.embeds = True
            epoch = at.provider.slots_epoch
            await at.provider.embed(("a",), soon())
            assert at.provider.slots_epoch > epoch
            # The server used the slot for it.
            at.fake.slots.forget()
            assert use_of(await at.ask("four")).state == "restored"
            assert at.watch.failed_proofs == 0

    run(main())


def test_given_a_backend_without_embeddings_when_asked_then_its_slots_are_as_hot_as_before(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path / "kv") as at:
            epoch = at.provider.slots_epoch
            with pytest.raises(RayError):
                await at.provider.embed(("a",), soon())
            assert at.provider.slots_epoch == epoch

    run(main())


def test_given_an_embedding_in_the_same_slot_when_a_hot_generation_finds_it_gone_then_nobody_is_blamed(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path / "kv") as at:
            for text in ("one", "two", "three"):
                await at.ask(text)
            at.fake.script(PATH, hanging_answer())
            embedding = asyncio.create_task(at.provider.embed(("a",), soon()))
            await at.fake.wait_for(PATH)
            at.fake.slots.forget()
            assert use_of(await at.ask("four")).state == "none"
            embedding.cancel()
            await asyncio.wait([embedding])
            assert at.watch.failed_proofs == 0
            assert use_of(await at.ask("five")).state == "restored"

    run(main())


def test_given_the_mock_when_embedding_then_the_vectors_are_units_that_depend_on_the_text() -> None:
    async def main() -> None:
        provider = mock()
        first = await provider.embed(("a", "b", "a"), soon())
        assert first.model == "m1"
        assert first.vectors[0] == first.vectors[2] != first.vectors[1]
        assert all(math.isclose(math.hypot(*vector), 1.0) for vector in first.vectors)

    run(main())
