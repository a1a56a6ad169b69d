"""`AsyncRayClient` alone: tasks that are cancelled, many at once, closing."""

from __future__ import annotations

import asyncio

import pytest

from ray.client import AsyncRayClient, RayRequestError, Retries
from tests.fakes.provider import FakeProvider
from tests.gateway.harness import running, soon


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def test_given_a_task_that_waits_for_an_answer_when_cancelled_then_the_model_stops() -> None:
    async def main() -> None:
        provider = FakeProvider(["Blue", asyncio.Event()])
        async with running(provider=provider) as gateway, AsyncRayClient(url(gateway.gateway.port)) as client:
            task = asyncio.create_task(client.infer("A question."))
            await soon(lambda: provider.active == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

            await soon(lambda: provider.active == 0)

    asyncio.run(main())


def test_given_a_stream_when_left_in_the_middle_then_the_model_stops() -> None:
    async def main() -> None:
        provider = FakeProvider(["Blue", asyncio.Event()])
        async with running(provider=provider) as gateway, AsyncRayClient(url(gateway.gateway.port)) as client:
            async with client.stream("A question.") as tokens:
                assert await anext(aiter(tokens)) == "Blue"
                with pytest.raises(RuntimeError, match="not been read to its end"):
                    _ = tokens.result

            await soon(lambda: provider.active == 0)

    asyncio.run(main())


def test_given_many_tasks_when_they_ask_one_client_with_few_connections_then_each_gets_its_own_answer() -> None:
    async def main() -> None:
        async with running() as gateway, AsyncRayClient(url(gateway.gateway.port), max_connections=3) as client:
            answers = await asyncio.gather(*(client.infer(f"Question {number}") for number in range(12)))

        assert [answer["output"].rsplit("\n", 1)[-1] for answer in answers] == [f"Question {n}" for n in range(12)]

    asyncio.run(main())


def test_given_a_client_that_was_closed_when_asked_then_it_says_so() -> None:
    async def main() -> None:
        async with running() as gateway:
            client = AsyncRayClient(url(gateway.gateway.port), retries=Retries())
            pauses: list[float] = []

            async def pause(seconds: float) -> None:
                pauses.append(seconds)

            client._sleep = pause
            await client.close()
            with pytest.raises(RayRequestError, match="closed"):
                await client.infer("A question.")
            with pytest.raises(RayRequestError, match="closed"):
                await client.livez()
            assert pauses == []  # it will not open again

    asyncio.run(main())


def test_given_a_number_of_connections_that_cannot_be_when_made_then_it_is_refused() -> None:
    with pytest.raises(ValueError, match="max_connections"):
        AsyncRayClient("http://127.0.0.1", max_connections=0)
