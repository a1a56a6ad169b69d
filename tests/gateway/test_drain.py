"""Leaving in order: running answers finish, new ones are refused, and nothing holds the end up for ever."""

from __future__ import annotations

import asyncio

import pytest

from ray.errors import RayError
from tests.fakes.provider import STOP, FakeProvider
from tests.gateway.harness import request_bytes, running, soon

QUESTION = {"input": "hello"}


def test_given_a_running_answer_when_stopped_then_it_finishes_and_says_close() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        provider = FakeProvider(["Hel", gate, "lo", STOP])
        async with running(provider=provider) as ray, ray.connect() as client:
            asking = asyncio.ensure_future(client.post("/v1/infer", QUESTION))
            await soon(lambda: provider.active == 1)
            stopping = asyncio.ensure_future(ray.gateway.stop(30_000))
            await soon(lambda: ray.gateway.draining)
            gate.set()
            reply = await asking
            assert (reply.status, reply.json()["output"]) == (200, "Hello")
            assert reply.headers["connection"] == "close"
            await stopping
            assert await client.closed()
            assert provider.closed
            assert not ray.lines("gateway shutdown timeout reached; closing active connections")

    asyncio.run(main())


def test_given_only_idle_connections_when_stopped_then_they_close_at_once() -> None:
    async def main() -> None:
        async with running() as ray, ray.connect() as client:
            assert (await client.ask("GET", "/livez")).headers["connection"] == "keep-alive"
            async with asyncio.timeout(25):
                await ray.gateway.stop(30_000)
            assert await client.closed()
            assert not ray.lines()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/jobs/x", 503), ("/readyz", 503), ("/v1/config", 503), ("/livez", 200)]
)
def test_given_a_request_that_arrives_while_draining_then_only_liveness_is_answered(path: str, status: int) -> None:
    async def main() -> None:
        async with running() as ray, ray.connect() as client:
            whole = request_bytes("GET", path)
            # Sent together with a whole request: once that is answered, the beginning of the next one has arrived.
            await client.send(request_bytes("GET", "/livez") + whole[:10])
            assert (await client.reply()).headers["connection"] == "keep-alive"
            stopping = asyncio.ensure_future(ray.gateway.stop(30_000))
            await soon(lambda: ray.gateway.draining)
            await client.send(whole[10:])
            reply = await client.reply()
            assert (reply.status, reply.headers["connection"]) == (status, "close")
            if status == 503:
                assert (reply.code, reply.headers["retry-after"]) == ("gateway_draining", "1")
            await stopping

    asyncio.run(main())


def test_given_a_stuck_request_when_the_time_is_up_then_a_warning_and_the_connection_is_cut() -> None:
    async def main() -> None:
        provider = FakeProvider([asyncio.Event(), STOP])
        async with running(provider=provider) as ray, ray.connect() as client:
            asking = asyncio.ensure_future(client.post("/v1/infer", QUESTION))
            await soon(lambda: provider.active == 1)
            await ray.gateway.stop(20, "SIGTERM")
            (line,) = ray.lines("gateway shutdown timeout reached; closing active connections")
            assert (line["level"], line["signal"], line["timeoutMs"]) == ("warn", "SIGTERM", 20)
            assert provider.active == 0
            assert provider.closed
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await asking

    asyncio.run(main())


def test_given_a_stopped_gateway_when_a_new_connection_is_tried_then_nobody_listens() -> None:
    async def main() -> None:
        async with running() as ray:
            port = ray.gateway.port
            await ray.gateway.stop(1_000)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            assert ray.gateway.services.warm_up.stopped

    asyncio.run(main())


def test_given_a_port_in_use_when_started_then_the_error_names_it_and_the_remedy() -> None:
    async def main() -> None:
        async with running() as first, running() as second:
            with pytest.raises(RayError) as caught:
                await second.gateway.start(port=first.gateway.port)
            assert caught.value.code == "listen_failed"
            assert f"127.0.0.1:{first.gateway.port}" in caught.value.message
            assert "in use" in caught.value.message
            assert "RAY_PORT" in caught.value.message

    asyncio.run(main())
