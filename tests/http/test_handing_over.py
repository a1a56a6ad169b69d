"""A server on listening sockets that somebody else keeps: it leaves the line to the next one, and turns nobody away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from ray.http import Limits, Request, Response, Server
from tests.http.raw import PATIENCE_S, RawClient
from tests.http.serving import echo, run, until


@pytest.fixture
def kept() -> Iterator[socket.socket]:
    """The listening socket as the one who keeps it holds it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@asynccontextmanager
async def serving_on(
    *kept: socket.socket, name: bytes = b"first", limits: Limits | None = None
) -> AsyncIterator[Server]:
    async def handler(request: Request) -> Response:
        answer = await echo(request)
        assert isinstance(answer.body, bytes)
        return Response(200, answer.headers, name + b" " + answer.body)

    def on_error(error: Exception, request: Request | None) -> Response:
        raise AssertionError(f"refused: {error}")

    server = Server(handler, limits=limits or Limits(), on_error=on_error)
    await server.start_on([listening.dup() for listening in kept])
    try:
        yield server
    finally:
        await server.close()


def port_of(listening: socket.socket) -> int:
    port: int = listening.getsockname()[1]
    return port


def test_every_given_socket_is_accepted_from(kept: socket.socket) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            async with serving_on(kept, other) as server:
                assert server.port == port_of(kept)
                for listening in (kept, other):
                    async with await RawClient.connect(port_of(listening)) as client:
                        await client.request("GET", "/x")
                        assert (await client.response()).body == b"first /x "

    run(main)


def test_given_a_drained_server_when_a_client_connects_then_it_waits_in_line_for_the_next_server(
    kept: socket.socket,
) -> None:
    async def main() -> None:
        async with serving_on(kept) as first:
            assert await first.drain(10) is True
            async with await RawClient.connect(port_of(kept)) as client:
                await client.request("GET", "/later")
                async with serving_on(kept, name=b"second"):
                    assert (await client.response()).body == b"second /later "

    run(main)


@pytest.mark.parametrize("turns", range(8))
def test_given_a_connection_on_its_way_in_when_drained_at_any_turn_then_one_of_the_two_servers_answers(
    kept: socket.socket, turns: int
) -> None:
    async def main() -> None:
        async with serving_on(kept) as first:
            with socket.create_connection(("127.0.0.1", port_of(kept)), timeout=PATIENCE_S) as client:
                client.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
                for _ in range(turns):
                    await asyncio.sleep(0)
                assert await first.drain(10) is True
                async with serving_on(kept, name=b"second"):
                    answer = await asyncio.to_thread(client.recv, 65_536)
                assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
                assert answer.endswith((b"first /x ", b"second /x "))

    run(main)


def test_given_a_client_between_two_requests_when_drained_then_the_next_one_is_answered_with_close(
    kept: socket.socket,
) -> None:
    async def main() -> None:
        async with serving_on(kept) as server, await RawClient.connect(port_of(kept)) as client:
            await client.request("GET", "/1")
            assert (await client.response()).headers["connection"] == "keep-alive"
            draining = asyncio.create_task(server.drain(10))
            await until(lambda: server.draining)
            await client.request("GET", "/2")
            second = await client.response()
            assert (second.body, second.headers["connection"]) == (b"first /2 ", "close")
            assert await client.closed()
            assert await draining is True

    run(main)


def test_given_a_client_that_has_only_connected_when_drained_then_its_first_request_is_answered(
    kept: socket.socket,
) -> None:
    async def main() -> None:
        async with serving_on(kept) as server, await RawClient.connect(port_of(kept)) as client:
            await until(lambda: server.counts().sockets == 1)
            draining = asyncio.create_task(server.drain(10))
            await until(lambda: server.draining)
            await client.request("POST", "/1", body=b"x" * 1000)
            response = await client.response()
            assert response.headers["connection"] == "close"
            assert response.body == b"first /1 " + b"x" * 1000
            assert await draining is True

    run(main)


def test_given_clients_that_say_nothing_more_when_drained_then_they_are_closed_and_the_drain_ends(
    kept: socket.socket,
) -> None:
    async def main() -> None:
        async with serving_on(kept) as server:
            silent, used = await RawClient.connect(port_of(kept)), await RawClient.connect(port_of(kept))
            await used.request("GET", "/1")
            await used.response()
            await until(lambda: server.counts().sockets == 2)
            assert await server.drain(10) is True
            for client in (silent, used):
                assert await client.closed()
                await client.close()

    run(main)


def test_given_a_head_that_has_begun_to_arrive_when_drained_then_it_has_the_usual_time(kept: socket.socket) -> None:
    async def main() -> None:
        async with serving_on(kept) as server, await RawClient.connect(port_of(kept)) as client:
            await until(lambda: server.counts().sockets == 1)
            draining = asyncio.create_task(server.drain(10))
            await until(lambda: server.draining)
            await client.send(b"GET /slow HTTP/1.1\r\n")
            # Longer than an idle connection would be kept: what has begun is not idle.
            done, _ = await asyncio.wait({draining}, timeout=0.7)
            assert not done
            await client.send(b"Host: a\r\n\r\n")
            assert (await client.response()).body == b"first /slow "
            assert await draining is True

    run(main)


def test_given_a_closed_server_then_nothing_that_it_accepted_lives_on(kept: socket.socket) -> None:
    async def main() -> None:
        async with serving_on(kept) as server, await RawClient.connect(port_of(kept)) as client:
            await client.request("GET", "/1")
            await client.response()
            await server.close()
            assert await client.closed()
            assert server.counts().sockets == 0
            # The line is still there: only this server has left it.
            async with await RawClient.connect(port_of(kept)):
                pass

    run(main)


def test_given_a_server_that_was_handed_sockets_when_it_then_binds_its_own_then_it_closes_them_on_drain(
    kept: socket.socket,
) -> None:
    async def main() -> None:
        async with serving_on(kept) as server:
            await server.drain(10)
            await server.start("127.0.0.1", 0)
            port = server.port
            await server.drain(10)
            with pytest.raises(ConnectionRefusedError):
                await RawClient.connect(port)

    run(main)
