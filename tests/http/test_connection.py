"""The life of a connection: deadlines, clients that go away or do not read, streaming, caps and drain."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ray.http import Limits, Request, Response, Server
from ray.http.server import ConnectionCounts
from tests.http.serving import Site, echo, pieces, run, serving, until, until_empty

NOTHING = ConnectionCounts(0, 0, 0)


# Deadlines


def test_a_connection_that_never_sends_a_byte_is_closed_silently() -> None:
    async def main() -> None:
        async with serving(limits=Limits(headers_timeout_s=0.03)) as site, await site.client() as client:
            assert await client.closed()
            assert site.report.errors == []

    run(main)


def test_an_idle_connection_is_closed_silently_after_the_keep_alive_time() -> None:
    async def main() -> None:
        async with serving(limits=Limits(keep_alive_timeout_s=0.03)) as site, await site.client() as client:
            await client.request("GET", "/")
            await client.response()
            assert await client.closed()
            assert site.report.errors == []

    run(main)


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_a_head_that_is_not_finished_in_time_is_408(first: bytes) -> None:
    async def main() -> None:
        limits = Limits(headers_timeout_s=0.08, keep_alive_timeout_s=10)
        async with serving(limits=limits) as site, await site.client() as client:
            if first:
                await client.send(first)
                await client.response()
            await client.send(b"GET / HTTP/1.1\r\nHos")
            response = await client.response()
            assert (response.status, response.body) == (408, b"http_request_timeout")
            assert response.headers["connection"] == "close"
            assert await client.closed()

    run(main)


def test_dripping_bytes_do_not_move_the_deadline_of_a_head() -> None:
    async def main() -> None:
        async with serving(limits=Limits(headers_timeout_s=0.05)) as site, await site.client() as client:

            async def drip() -> None:
                await client.send(b"GET / HTTP/1.1\r\nX: ")
                while True:
                    await client.send(b"a")
                    await asyncio.sleep(0.005)

            dripping = asyncio.create_task(drip())
            assert (await client.response()).status == 408
            dripping.cancel()

    run(main)


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nHos", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"]
)
def test_a_client_whose_time_is_up_does_not_keep_its_place_a_moment_longer(sent: bytes) -> None:
    async def main() -> None:
        limits = Limits(headers_timeout_s=0.05, request_timeout_s=0.05, linger_timeout_s=3_600)
        async with serving(limits=limits) as site, await site.client() as client:
            await client.send(sent)
            assert (await client.response()).status == 408
            await until(lambda: site.server.counts().sockets == 0)

    run(main)


def test_a_body_that_does_not_arrive_in_time_is_408() -> None:
    async def main() -> None:
        async with serving(limits=Limits(request_timeout_s=0.05)) as site, await site.client() as client:
            await client.request("POST", "/x", "Content-Length: 5")
            await client.send(b"ab")
            response = await client.response()
            assert (response.status, response.body) == (408, b"http_request_timeout")
            assert response.headers["connection"] == "close"
            assert await client.closed()
            ((_, request),) = site.report.errors
            assert request is not None
            assert request.path == "/x"

    run(main)


def test_computing_an_answer_may_take_longer_than_every_deadline_of_the_request() -> None:
    async def main() -> None:
        limits = Limits(headers_timeout_s=0.5, request_timeout_s=0.5, keep_alive_timeout_s=0.5)

        async def handler(request: Request) -> Response:
            await request.read_body(100)
            await asyncio.sleep(0.8)
            return Response(200, body=b"late")

        async with serving(handler, limits) as site, await site.client() as client:
            await client.request("POST", "/", body=b"abc")
            assert (await client.response()).body == b"late"

    run(main)


# The client goes away


class Watched:
    """A handler that waits for ever and tells what became of it."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        await request.read_body(100_000)
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError


@pytest.mark.parametrize("behind", [b"", b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"])
@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
def test_a_client_that_goes_away_cancels_its_handler(how: str, behind: bytes) -> None:
    async def main() -> None:
        handler = Watched()
        async with serving(handler) as site, await site.client() as client:
            await client.request("POST", "/1", body=b"abc")
            await client.send(behind)
            await handler.started.wait()
            assert site.server.counts() == ConnectionCounts(1, 1, 1)
            if how == "close":
                client.writer.close()
            elif how == "reset":
                client.reset()
            else:
                client.shutdown_write()
            await handler.cancelled.wait()
            assert site.server.counts() == NOTHING
            assert site.report.errors == []
            assert site.report.completed == []

    run(main)


class Gate:
    """A handler that answers `/round-trip` at once and passes everything else on when it is opened."""

    def __init__(self, behind: Callable[[Request], Awaitable[Response]]) -> None:
        self.behind = behind
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        if request.path == "/round-trip":
            return Response(200)
        self.reached.set()
        await self.opened.wait()
        return await self.behind(request)


async def round_trip(site: Site) -> None:
    """After this the server has read whatever had been sent to it before, on any connection."""
    async with await site.client() as other:
        await other.request("GET", "/round-trip")
        await other.response()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_reading_request_is_answered_after_the_client_has_closed_its_sending_side(method: str) -> None:
    async def main() -> None:
        gate = Gate(echo)
        async with serving(gate) as site, await site.client() as client:
            await client.request(method, "/1")
            await client.request(method, "/2")
            await gate.reached.wait()
            client.shutdown_write()
            await round_trip(site)
            gate.opened.set()
            assert [(await client.response(method)).status for _ in range(2)] == [200, 200]
            assert await client.closed()

    run(main)


def test_requests_that_arrive_together_with_the_end_of_the_input_are_answered() -> None:
    async def main() -> None:
        async with serving() as site, await site.client() as client:
            await client.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HT")
            client.shutdown_write()
            assert [(await client.response()).body for _ in range(2)] == [b"/1 ", b"/2 "]
            assert await client.closed()
            assert site.report.errors == []

    run(main)


def test_bytes_that_are_no_request_are_refused_also_after_the_end_of_the_input() -> None:
    async def main() -> None:
        # Nothing more will come, so there is nothing to linger for.
        async with serving(limits=Limits(linger_timeout_s=60)) as site, await site.client() as client:
            await client.send(b"not http\r\n\r\n")
            client.shutdown_write()
            assert (await client.response()).status == 400
            await until_empty(site)

    run(main)


@pytest.mark.parametrize(
    ("behind", "statuses"),
    [
        (b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", [200]),
        (b"POST /2 HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 2\r\n\r\n{}", [200, 417]),
        (b"not http\r\n\r\n", [200, 400]),
    ],
)
def test_work_is_not_begun_after_the_end_of_the_input_but_refusals_are_sent(behind: bytes, statuses: list[int]) -> None:
    async def main() -> None:
        gate = Gate(echo)
        # Nothing more will come, so there is nothing to linger for.
        async with serving(gate, Limits(linger_timeout_s=60)) as site, await site.client() as client:
            await client.request("GET", "/1")
            await client.send(behind)
            await gate.reached.wait()
            client.shutdown_write()
            await round_trip(site)
            gate.opened.set()
            assert [(await client.response()).status for _ in statuses] == statuses
            assert await client.closed()
            await until_empty(site)
            assert [status for path, status, _ in site.report.completed if path == "/2"] in ([], [417])

    run(main)


def test_a_handler_that_never_ends_is_given_up_some_time_after_the_end_of_the_input() -> None:
    async def main() -> None:
        handler = Watched()
        async with serving(handler, Limits(request_timeout_s=0.03)) as site, await site.client() as client:
            await client.request("GET", "/")
            await handler.started.wait()
            client.shutdown_write()
            await handler.cancelled.wait()
            assert await client.closed()

    run(main)


def test_a_body_that_ends_too_early_cancels_the_reading() -> None:
    async def main() -> None:
        outcome: list[str] = []

        async def handler(request: Request) -> Response:
            try:
                await request.read_body(100)
            except asyncio.CancelledError:
                outcome.append("cancelled")
                raise
            return Response(200)

        async with serving(handler) as site, await site.client() as client:
            await client.request("GET", "/", "Content-Length: 50")
            await client.send(b"part")
            client.shutdown_write()
            assert await client.closed()
            assert outcome == ["cancelled"]
            assert site.report.errors == []

    run(main)


def test_a_stream_is_not_begun_after_the_end_of_the_input() -> None:
    async def main() -> None:
        gate = Gate(Ticker())
        async with serving(gate) as site, await site.client() as client:
            await client.request("GET", "/")
            await gate.reached.wait()
            client.shutdown_write()
            await round_trip(site)
            gate.opened.set()
            assert await client.closed()

    run(main)


def test_a_client_that_goes_away_during_its_upload_cancels_the_reading() -> None:
    async def main() -> None:
        outcome: list[str] = []

        async def handler(request: Request) -> Response:
            try:
                await request.read_body(100)
            except asyncio.CancelledError:
                outcome.append("cancelled")
                raise
            return Response(200)

        async with serving(handler) as site, await site.client() as client:
            await client.request("POST", "/", "Content-Length: 50")
            await until(lambda: site.server.counts().active_requests == 1)
            client.writer.close()
            await until(lambda: outcome == ["cancelled"])
            assert site.report.errors == []

    run(main)


def test_a_handler_that_ignores_its_cancellation_answers_nobody() -> None:
    async def main() -> None:
        started, finish, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b"never"

        async def handler(request: Request) -> Response:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await finish.wait()
            closed.set()
            return Response(200, body=body())

        async with serving(handler) as site, await site.client() as client:
            await client.request("POST", "/")
            await started.wait()
            client.writer.close()
            await until(lambda: site.server.counts() == NOTHING)
            finish.set()
            await closed.wait()
            assert site.report.completed == []

    run(main)


# Streaming


class Ticker:
    """A streaming body that yields when told to, and tells when it was closed."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.closed = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        return Response(200, [("content-type", "text/event-stream")], self.body())

    async def body(self) -> AsyncIterator[bytes]:
        try:
            while (item := await self.queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed.set()


def test_each_piece_is_sent_as_it_comes_and_the_connection_stays() -> None:
    async def main() -> None:
        handler = Ticker()
        async with serving(handler) as site, await site.client() as client:
            await client.request("GET", "/")
            head = await client.head()
            assert head.headers["transfer-encoding"] == "chunked"
            assert "content-length" not in head.headers
            for piece in (b"one", b"two"):
                handler.queue.put_nowait(piece)
                assert await client.chunk() == piece
            handler.queue.put_nowait(b"")
            handler.queue.put_nowait(None)
            assert await client.chunk() == b""
            await handler.closed.wait()
            handler.queue.put_nowait(None)
            await client.request("GET", "/")
            assert (await client.response()).body == b""
            assert site.report.completed[0][2] > len(b"onetwo")

    run(main)


def test_an_http_1_0_stream_ends_with_its_connection() -> None:
    async def main() -> None:
        async def handler(request: Request) -> Response:
            return Response(200, body=pieces(b"a", b"b"))

        async with serving(handler) as site, await site.client() as client:
            await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            response = await client.response()
            assert response.body == b"ab"
            assert response.headers["connection"] == "close"
            assert "transfer-encoding" not in response.headers

    run(main)


@pytest.mark.parametrize("how", ["close", "half-close"])
def test_a_client_that_goes_away_closes_the_stream(how: str) -> None:
    async def main() -> None:
        handler = Ticker()
        async with serving(handler) as site, await site.client() as client:
            await client.request("GET", "/")
            handler.queue.put_nowait(b"one")
            await client.head()
            await client.chunk()
            if how == "close":
                client.writer.close()
            else:
                client.shutdown_write()
            await handler.closed.wait()
            await until_empty(site)
            assert [status for _, status, _ in site.report.completed] == [200]
            assert site.report.stream_errors == []

    run(main)


@pytest.mark.parametrize("error", [LookupError("x"), ValueError("y")])
def test_a_stream_that_fails_cuts_the_connection_and_is_reported(error: Exception) -> None:
    async def main() -> None:
        handler = Ticker()
        async with serving(handler) as site, await site.client() as client:
            await client.request("GET", "/")
            handler.queue.put_nowait(b"one")
            handler.queue.put_nowait(error)
            await client.head()
            assert await client.chunk() == b"one"
            assert await client.closed()
            assert site.report.stream_errors == [error]
            assert site.report.errors == []

    run(main)


# Clients that do not read


@pytest.mark.parametrize("streaming", [False, True])
def test_a_client_that_does_not_read_holds_little_memory_and_is_cut_off(streaming: bool) -> None:
    async def main() -> None:
        yielded = 0
        block = b"x" * 100_000

        async def endless() -> AsyncIterator[bytes]:
            nonlocal yielded
            while True:
                yielded += len(block)
                yield block

        async def handler(request: Request) -> Response:
            return Response(200, body=endless() if streaming else block * 300)

        limits = Limits(write_stall_timeout_s=0.15)
        async with serving(handler, limits) as site, await site.client(receive_buffer=4_096) as client:
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            tracemalloc.start()
            await client.request("GET", "/")
            await until(lambda: bool(site.server.counts().active_requests or site.report.completed))
            peak = 0
            while site.server.counts().sockets:
                peak = max(peak, tracemalloc.get_traced_memory()[0])
                await asyncio.sleep(0.005)
            tracemalloc.stop()
            # The whole body of bytes belongs to the handler; what the connection adds is a slice or two.
            assert peak < (0 if streaming else len(block) * 300) + 1_000_000
            assert yielded < 5_000_000
            ((_, status, sent),) = site.report.completed
            assert status == 200
            assert sent < 5_000_000

    run(main)


def test_a_slow_reader_that_makes_progress_is_not_cut_off() -> None:
    async def main() -> None:
        body = b"x" * 200_000

        async def handler(request: Request) -> Response:
            return Response(200, body=body)

        # One write for the whole body, which takes about twice the stall time to read.
        limits = Limits(write_stall_timeout_s=1.5, socket_buffer_bytes=4_096, write_slice_bytes=1_000_000)
        loop = asyncio.get_running_loop()
        async with serving(handler, limits) as site:
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                sock.setblocking(False)
                await loop.sock_connect(sock, ("127.0.0.1", site.server.port))
                await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                started = loop.time()
                received = b""
                while data := await loop.sock_recv(sock, 10_000):
                    received += data
                    # As slow as needed to arrive at twice the stall time, whatever the kernel's buffers are.
                    ahead = len(received) / len(body) * 3.0 - (loop.time() - started)
                    await asyncio.sleep(max(0, ahead))
            assert received.endswith(b"\r\n\r\n" + body)

    run(main)


async def shrinks(transport: asyncio.WriteTransport) -> bool:
    """Whether the kernel takes more of what was written, within a generous number of turns of the loop."""
    before = transport.get_write_buffer_size()
    for _ in range(100):
        await asyncio.sleep(0.001)
        if transport.get_write_buffer_size() < before:
            return True
    return False


def test_unread_input_is_bounded_while_a_handler_runs() -> None:
    async def main() -> None:
        release = asyncio.Event()

        async def handler(request: Request) -> Response:
            await release.wait()
            return Response(200)

        async with serving(handler) as site, await site.client() as client:
            await client.request("POST", "/", "Content-Length: 50000000")
            await until(lambda: site.server.counts().active_requests == 1)
            # Written until the kernel takes no more for a while: then the server has stopped reading.
            taken = 0
            transport = client.writer.transport
            while transport.get_write_buffer_size() == 0 or await shrinks(transport):
                assert taken < 10_000_000
                client.writer.write(b"x" * 100_000)
                taken += 100_000
            transport.abort()
            release.set()
            await until_empty(site)

    run(main)


# Caps, counts and drain


def test_connections_over_the_cap_are_closed_without_a_byte_and_a_free_place_is_used_again() -> None:
    async def main() -> None:
        async with serving(limits=Limits(max_connections=2)) as site:
            one, two = await site.client(), await site.client()
            await until(lambda: site.server.counts().sockets == 2)
            extra = await site.client()
            assert await extra.closed()
            await extra.close()
            await one.close()
            await until(lambda: site.server.counts().sockets == 1)
            async with await site.client() as three:
                await three.request("GET", "/3")
                assert (await three.response()).status == 200
            await two.close()

    run(main)


def test_a_request_counts_from_its_head_to_its_answer() -> None:
    async def main() -> None:
        release = asyncio.Event()

        async def handler(request: Request) -> Response:
            await release.wait()
            return await echo(request)

        async with serving(handler) as site, await site.client() as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
            await until(lambda: site.server.counts().sockets == 1)
            assert site.server.counts() == ConnectionCounts(1, 0, 0)
            await client.send(b"\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: site.server.counts() == ConnectionCounts(1, 1, 1))
            release.set()
            await client.response()
            await client.response()
            await until(lambda: site.server.counts() == ConnectionCounts(1, 0, 0))

    run(main)


@asynccontextmanager
async def one_running_request(site: Site, handler: Watched) -> AsyncIterator[None]:
    async with await site.client() as client:
        await client.request("GET", "/")
        await handler.started.wait()
        yield


def test_drain_closes_idle_connections_and_lets_answers_finish_with_close() -> None:
    async def main() -> None:
        started, release = asyncio.Event(), asyncio.Event()

        async def handler(request: Request) -> Response:
            if request.path == "/wait":
                started.set()
                await release.wait()
            return await echo(request)

        async with serving(handler) as site:
            idle, used, busy = await site.client(), await site.client(), await site.client()
            await used.request("GET", "/")
            await used.response()
            await busy.request("GET", "/wait")
            await started.wait()
            await until(lambda: site.server.counts().sockets == 3)
            draining = asyncio.create_task(site.server.drain(10))
            assert await idle.closed()
            assert await used.closed()
            with pytest.raises(ConnectionError):
                await site.client()
            assert not draining.done()
            release.set()
            assert (await busy.response()).headers["connection"] == "close"
            assert await busy.closed()
            assert await draining is True
            for client in (idle, used, busy):
                await client.close()

    run(main)


def test_a_request_that_has_begun_to_arrive_is_still_answered_while_draining() -> None:
    async def main() -> None:
        async with serving() as site, await site.client() as client:
            await client.send(b"GET /x HTTP/1.1\r\nHost:")
            # Its bytes are with the parser as soon as a later connection has been served.
            async with await site.client() as other:
                await other.request("GET", "/")
                await other.response()
            site.server.begin_drain()
            await client.send(b" a\r\n\r\n")
            response = await client.response()
            assert (response.body, response.headers["connection"]) == (b"/x ", "close")
            assert await site.server.drain(10) is True

    run(main)


def test_a_drain_that_runs_out_of_time_closes_the_rest() -> None:
    async def main() -> None:
        handler = Watched()
        async with serving(handler) as site, one_running_request(site, handler):
            assert await site.server.drain(0.01) is False
            assert handler.cancelled.is_set()
            assert site.server.counts() == NOTHING

    run(main)


def test_drain_of_an_idle_server_returns_at_once_and_close_may_be_repeated() -> None:
    async def main() -> None:
        async with serving() as site:
            assert await site.server.drain(10) is True
            await site.server.close()
            await site.server.close()

    run(main)


def test_close_cancels_what_runs() -> None:
    async def main() -> None:
        handler = Watched()
        async with serving(handler) as site, one_running_request(site, handler):
            await site.server.close()
            assert handler.cancelled.is_set()

    run(main)


def test_a_port_in_use_is_an_os_error() -> None:
    async def main() -> None:
        async with serving() as site:
            second = Server(echo, limits=Limits(), on_error=lambda error, request: Response(500))
            with pytest.raises(OSError, match="address"):
                await second.start("127.0.0.1", site.server.port)

    run(main)
