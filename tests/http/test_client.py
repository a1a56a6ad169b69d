"""The HTTP client against a scripted server: caps, deadlines, cancellation, back-pressure and connection reuse."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ray.clock import Deadline
from ray.http import (
    ClientConnectionError,
    ClientRequestError,
    ClientResponse,
    ClientResponseTooLarge,
    ClientTimeout,
    HttpClient,
)
from ray.http.exchange import MAX_UNREAD_BYTES, Ask, Exchange
from tests.fakes.llama_server import (
    Answer,
    FakeLlamaServer,
    body_answer,
    cut_answer,
    hanging_answer,
    json_answer,
    raw_answer,
    redirect_answer,
    stream_answer,
)
from tests.fakes.llama_server import Exchange as FakeExchange


class Allowance:
    """A deadline that a test sets by hand."""

    def __init__(self, seconds: float = 20.0) -> None:
        self.seconds = seconds
        self.asked = 0

    def remaining(self) -> float:
        self.asked += 1
        return self.seconds


@asynccontextmanager
async def setting(threads: int = 2) -> AsyncIterator[tuple[FakeLlamaServer, HttpClient]]:
    async with FakeLlamaServer() as fake:
        client = HttpClient(fake.base_url, threads=threads, name="test-client")
        try:
            yield fake, client
        finally:
            await client.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await main

    asyncio.run(bounded())


async def get(client: HttpClient, path: str = "/x", *, limit: int = 100_000, seconds: float = 20.0) -> ClientResponse:
    deadline = Deadline.after_ms(seconds * 1000)
    return await client.request("GET", path, deadline=deadline, max_body_bytes=limit)


def answer_with(*lines: str, body: bytes = b"") -> Answer:
    """A raw answer: status 200, these header lines, this body, then the end of the connection."""
    return raw_answer("\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode("latin-1") + body)


def test_given_an_answer_when_requested_then_status_headers_and_body_arrive() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.script("/x", body_answer(b"hello", 200, "text/plain", x_one="1"))
            answer = await get(client)
            assert (answer.status, answer.body, answer.declared_length) == (200, b"hello", 5)
            assert answer.headers["x-one"] == "1"
            assert answer.truncated is False

    run(main())


def test_given_a_request_when_sent_then_it_asks_for_identity_and_carries_its_length_and_headers() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            await client.request(
                "POST", "/health", headers=[("x-a", "b")], body=b"{}", deadline=Allowance(), max_body_bytes=100
            )
            sent = fake.requests[0]
            assert sent.headers["accept-encoding"] == "identity"
            assert sent.headers["content-length"] == "2"
            assert sent.headers["x-a"] == "b"
            assert sent.headers["host"] == fake.base_url.removeprefix("http://")
            assert sent.body == b"{}"

    run(main())


def test_given_a_base_url_with_a_path_when_requested_then_it_is_a_prefix() -> None:
    async def main() -> None:
        async with FakeLlamaServer() as fake:
            client = HttpClient(fake.base_url + "/api/", threads=1, name="test-client")
            await get(client, "/v1/models")
            await client.close()
            assert client.base_path == "/api"
            assert fake.requests[0].path == "/api/v1/models"

    run(main())


def test_given_proxy_variables_when_requested_then_they_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def main() -> None:
        async with setting() as (_, client):
            assert (await get(client, "/health")).status == 200

    run(main())


def test_given_a_stream_when_a_piece_is_sent_then_it_arrives_before_the_next_one_exists() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.gate = asyncio.Event()
            async with client.stream("POST", "/completion", body=b'{"prompt": "a"}', deadline=Allowance()) as stream:
                first = await anext(stream)
                assert b"Hello" in first
                assert b"from" not in first
                fake.gate.set()
                rest = b"".join([piece async for piece in stream])
                assert b'"stop": true' in rest

    run(main())


def test_given_a_redirect_when_requested_then_it_is_returned_and_not_followed() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.script("/x", redirect_answer(fake.base_url + "/health"))
            assert (await get(client)).status == 307
            assert [request.path for request in fake.requests] == ["/x"]

    run(main())


def test_given_a_long_error_body_when_requested_then_only_its_beginning_is_kept() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.script("/x", body_answer(b"e" * 16_384, 500, "text/html"), body_answer(b"e" * 4_096, 500, "text/html"))
            cut, whole = await get(client), await get(client)
            assert (len(cut.body), cut.truncated) == (4_096, True)
            assert (len(whole.body), whole.truncated) == (4_096, False)

    run(main())


@pytest.mark.parametrize(
    ("answer", "bytes_read", "declared"),
    [
        (answer_with("Content-Length: 1001", body=b"x" * 1001), 0, 1001),
        (answer_with("Transfer-Encoding: chunked", body=b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"), 1001, None),
        (answer_with("Connection: close", body=b"x" * 5000), 1001, None),
    ],
    ids=["declared", "chunked", "until-close"],
)
def test_given_a_body_over_the_limit_when_requested_then_it_is_refused(
    answer: Answer, bytes_read: int, declared: int | None
) -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.script("/x", answer)
            with pytest.raises(ClientResponseTooLarge) as caught:
                await get(client, limit=1000)
            assert caught.value.bytes_read == bytes_read
            assert caught.value.declared_length == declared
            assert caught.value.limit_bytes == 1000

    run(main())


def test_given_a_body_of_exactly_the_limit_when_requested_then_it_is_accepted() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.script(
                "/x", answer_with("Transfer-Encoding: chunked", body=b"3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n")
            )
            assert len((await get(client, limit=1000)).body) == 1000

    run(main())


def numbered(count: int, value: str = "v") -> list[str]:
    return [f"x-{number}: {value}" for number in range(count)]


@pytest.mark.parametrize(
    "answer",
    [
        answer_with("Content-Length: 0", *numbered(64)),
        answer_with("Content-Length: 0", "x-long: " + "v" * 8_192),
        answer_with("Content-Length: 0", *numbered(10, "v" * 7_000)),
        answer_with("Transfer-Encoding: chunked", body=b"0\r\n" + b"t: v\r\n" * 100 + b"\r\n"),
        answer_with("Transfer-Encoding: chunked", body=b"1;" + b"e" * 9_000 + b"\r\nx\r\n0\r\n\r\n"),
    ],
    ids=["65-lines", "long-line", "64-KiB", "trailers", "chunk-line"],
)
def test_given_headers_over_a_cap_when_requested_then_the_answer_is_refused(answer: Answer) -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.script("/x", answer)
            with pytest.raises(ClientConnectionError, match="too large"):
                await get(client)

    run(main())


def test_given_64_header_lines_when_requested_then_the_answer_is_accepted() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.script("/x", answer_with("Content-Length: 0", *numbered(63)))
            assert (await get(client)).status == 200

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        answer_with("Content-Length: 2", "Content-Encoding: gzip", body=b"xx"),
        answer_with("Content-Length: -1"),
        answer_with("Content-Length: 2, 3", body=b"xx"),
        answer_with("Content-Length: 2", "Content-Length: 3", body=b"xxx"),
        answer_with("Content-Length: 2", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        answer_with("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
        answer_with("Transfer-Encoding: chunked", body=b"zz\r\nxx\r\n0\r\n\r\n"),
        raw_answer(b"SSH-2.0-OpenSSH_9.6\r\n"),
        raw_answer(b"\x00\xff\x00\xff" * 100),
        raw_answer(b"HTTP/1.1 200 OK\r\nContent-Le"),
        raw_answer(b""),
    ],
)
def test_given_an_answer_that_breaks_the_rules_when_requested_then_it_is_a_connection_error(answer: Answer) -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.script("/x", answer)
            with pytest.raises(ClientConnectionError):
                await get(client)

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        answer_with("Content-Length: 10", body=b"12345"),
        answer_with("Transfer-Encoding: chunked", body=b"a\r\n12345"),
        answer_with("Transfer-Encoding: chunked", body=b"5\r\n12345\r\n"),
        stream_answer({"a": 1}, cut=True),
    ],
    ids=["declared", "inside-chunk", "between-chunks", "reset"],
)
def test_given_a_connection_cut_in_mid_body_when_read_then_it_is_a_connection_error(answer: Answer) -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.script("/x", answer)
            with pytest.raises(ClientConnectionError):
                await get(client)

    run(main())


def test_given_nobody_listens_when_requested_then_it_is_a_connection_error_at_once() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            await fake.stop()
            with pytest.raises(ClientConnectionError, match="ConnectionRefusedError"):
                await get(client)
            await fake.start()

    run(main())


def test_given_a_dying_server_when_a_stream_is_read_then_the_failure_arrives() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.gate = asyncio.Event()
            async with client.stream("POST", "/completion", body=b'{"prompt": "a"}', deadline=Allowance()) as stream:
                await anext(stream)
                await fake.stop()
                with pytest.raises(ClientConnectionError):
                    await anext(stream)
            await fake.start()

    run(main())


@pytest.mark.parametrize("answer", [hanging_answer(), raw_answer(b"HTTP/1.1 200 OK\r\n", then_cut=False)])
def test_given_a_silent_server_when_the_deadline_passes_then_it_is_a_timeout(answer: Answer) -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.script("/x", answer)
            deadline = Allowance(0.01)
            asking = asyncio.create_task(client.request("GET", "/x", deadline=deadline, max_body_bytes=100))
            await fake.wait_for("/x")
            deadline.seconds = 0  # seen when it is looked at next, a hundredth of a second later
            with pytest.raises(ClientTimeout):
                await asking
            await asyncio.wait_for(fake.requests[0].client_left.wait(), 30)

    run(main())


def test_given_a_deadline_that_is_extended_when_the_first_one_passes_then_the_exchange_goes_on() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.gate = asyncio.Event()
            deadline = Allowance(0.01)
            async with client.stream("POST", "/completion", body=b'{"prompt": "a"}', deadline=deadline) as stream:
                deadline.seconds = 20.0
                # Looked at once at the start; the second look finds the extension.
                while deadline.asked < 2:  # noqa: ASYNC110 - nobody announces it
                    await asyncio.sleep(0)
                fake.gate.set()
                assert b"stop" in b"".join([piece async for piece in stream])

    run(main())


def test_given_all_workers_busy_when_the_deadline_passes_then_nothing_was_sent() -> None:
    async def main() -> None:
        async with setting(threads=1) as (fake, client):
            fake.script("/slow", hanging_answer())
            slow = asyncio.create_task(get(client, "/slow"))
            await fake.wait_for("/slow")
            with pytest.raises(ClientTimeout):
                await get(client, "/late", seconds=0.03)
            slow.cancel()
            await asyncio.wait([slow])
            assert (await get(client, "/health")).status == 200
            assert fake.received("/late") == []

    run(main())


def test_given_all_workers_busy_when_a_waiting_request_is_cancelled_then_nothing_was_sent() -> None:
    async def main() -> None:
        async with setting(threads=1) as (fake, client):
            fake.script("/slow", hanging_answer())
            slow = asyncio.create_task(get(client, "/slow"))
            await fake.wait_for("/slow")
            late = asyncio.create_task(get(client, "/late"))
            await asyncio.sleep(0)
            late.cancel()
            with pytest.raises(asyncio.CancelledError):
                await late
            slow.cancel()
            await asyncio.wait([slow])
            assert (await get(client, "/health")).status == 200
            assert fake.received("/late") == []

    run(main())


def test_given_a_running_request_when_its_task_is_cancelled_then_the_server_sees_the_client_leave() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.script("/slow", hanging_answer())
            task = asyncio.create_task(get(client, "/slow"))
            request = await fake.wait_for("/slow")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(request.client_left.wait(), 30)

    run(main())


def test_given_a_stream_when_its_block_is_left_early_then_the_server_sees_the_client_leave() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.gate = asyncio.Event()
            async with client.stream("POST", "/completion", body=b'{"prompt": "a"}', deadline=Allowance()) as stream:
                await anext(stream)
            await asyncio.wait_for(fake.requests[0].client_left.wait(), 30)

    run(main())


def test_given_a_connect_that_does_not_come_through_when_cancelled_then_the_worker_is_free_again() -> None:
    # A listener whose queue is full: the kernel drops further SYNs, so a connect neither succeeds nor fails.
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())

        async def main() -> None:
            client = HttpClient(f"http://127.0.0.1:{listener.getsockname()[1]}", threads=1, name="stuck-connect")
            with pytest.raises(ClientTimeout):
                await get(client, seconds=0.05)
            await client.close()
            assert not any(thread.name.startswith("stuck-connect") for thread in threading.enumerate())

        run(main())


def test_given_nobody_reads_when_the_server_sends_without_end_then_the_worker_waits() -> None:
    async def main() -> None:
        ask = Ask("GET", "/", (), None, 10**9, 0, fresh=True)
        exchange = Exchange(asyncio.get_running_loop(), ask, Allowance())
        piece = b"x" * 65_536
        wanted = 4 * MAX_UNREAD_BYTES // len(piece)

        def produce() -> None:
            for _ in range(wanted):
                exchange.deliver(piece)
            exchange.end(None)

        worker = threading.Thread(target=produce, daemon=True)
        worker.start()
        worker.join(0.1)
        assert worker.is_alive()
        largest = total = 0
        while data := await exchange.read():
            largest, total = max(largest, len(data)), total + len(data)
        worker.join(30)
        assert total == wanted * len(piece)
        assert largest <= MAX_UNREAD_BYTES + len(piece)

    run(main())


def test_given_a_worker_that_waits_for_a_reader_when_the_exchange_is_aborted_then_it_is_released() -> None:
    async def main() -> None:
        ask = Ask("GET", "/", (), None, 10**9, 0, fresh=True)
        exchange = Exchange(asyncio.get_running_loop(), ask, Allowance())

        def produce() -> None:
            with contextlib.suppress(ClientConnectionError):
                while True:
                    exchange.deliver(b"x" * 65_536)

        worker = threading.Thread(target=produce, daemon=True)
        worker.start()
        exchange.abort(None)
        worker.join(30)
        assert not worker.is_alive()

    run(main())


def test_given_an_answer_of_declared_length_when_asked_again_at_once_then_the_connection_is_reused() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            await get(client, "/health")
            await get(client, "/health")
            assert fake.connections == 1

    run(main())


@pytest.mark.parametrize(
    "first",
    [
        body_answer(b"{}", connection="close"),
        stream_answer({"a": 1}),
        raw_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", then_cut=True),
        raw_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n", then_cut=False),
        body_answer(b"e" * 5_000, 500),
    ],
    ids=["announced", "chunked", "closed", "leftover", "unread"],
)
def test_given_a_connection_in_doubt_when_asked_again_then_a_new_one_is_used(first: Answer) -> None:
    async def main() -> None:
        async with setting(threads=1) as (fake, client):
            fake.script("/x", first)
            await get(client)
            assert (await get(client, "/health")).body == b'{"status": "ok"}'
            assert fake.connections == 2

    run(main())


def test_given_a_connection_that_idled_too_long_when_asked_again_then_a_new_one_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ray.http.connector.MAX_IDLE_SECONDS", 0.0)

    async def main() -> None:
        async with setting() as (fake, client):
            await get(client, "/health")
            await get(client, "/health")
            assert fake.connections == 2

    run(main())


def test_given_a_kept_connection_when_a_stream_is_asked_for_then_it_gets_one_of_its_own() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            await get(client, "/health")
            async with client.stream("POST", "/completion", body=b'{"prompt": "a"}', deadline=Allowance()) as stream:
                assert stream.status == 200
            assert fake.connections == 2

    run(main())


def test_when_streams_and_requests_are_sent_then_only_a_stream_asks_for_the_end_of_its_connection() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            await get(client, "/health")
            async with client.stream("POST", "/completion", body=b'{"prompt": "a"}', deadline=Allowance()):
                pass
            assert [request.headers.get("connection") for request in fake.requests] == [None, "close"]

    run(main())


def test_given_pieces_that_are_gathered_when_the_connection_ends_then_the_first_came_alone_and_the_rest_together() -> (
    None
):
    """The time to gather never ends here: only the end of the connection can hand the rest over."""
    first_was_read = asyncio.Event()

    async def answer(exchange: FakeExchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(b"a")
        await first_was_read.wait()
        await exchange.chunk(b"b")
        await exchange.chunk(b"c")
        await exchange.end_stream()

    async def main() -> None:
        async with setting() as (fake, client):
            fake.script("/completion", answer)
            async with client.stream(
                "POST", "/completion", deadline=Allowance(), gather_seconds=lambda: 3600
            ) as stream:
                pieces = [await anext(stream)]
                first_was_read.set()
                pieces += [piece async for piece in stream]
            assert (pieces[0], b"".join(pieces)) == (b"a", b"abc")

    run(main())


@pytest.mark.parametrize("seconds", [0.0, 0.001])
def test_given_a_silence_longer_than_the_gathering_when_a_piece_arrives_then_it_is_there_at_once(
    seconds: float,
) -> None:
    """The answer never ends here, and a byte is far less than what would end the gathering."""
    was_read = asyncio.Queue[None]()

    async def answer(exchange: FakeExchange) -> None:
        await exchange.start_stream()
        for piece in (b"a", b"b", b"c"):
            await exchange.chunk(piece)
            await was_read.get()
        await asyncio.Event().wait()

    async def main() -> None:
        async with setting() as (fake, client):
            fake.script("/completion", answer)
            gather = lambda: seconds  # noqa: E731
            async with client.stream("POST", "/completion", deadline=Allowance(), gather_seconds=gather) as stream:
                for expected in (b"a", b"b", b"c"):
                    assert await anext(stream) == expected
                    was_read.put_nowait(None)

    run(main())


def test_given_a_large_piece_when_gathering_then_it_does_not_wait() -> None:
    first_was_read = asyncio.Event()

    async def answer(exchange: FakeExchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(b"a")
        await first_was_read.wait()
        await exchange.chunk(b"b" * 100_000)
        await asyncio.Event().wait()

    async def main() -> None:
        async with setting() as (fake, client):
            fake.script("/completion", answer)
            async with client.stream(
                "POST", "/completion", deadline=Allowance(), gather_seconds=lambda: 3600
            ) as stream:
                await anext(stream)
                first_was_read.set()
                assert (await anext(stream)).startswith(b"b")

    run(main())


def test_given_a_gathering_stream_when_its_block_is_left_then_the_server_sees_the_client_leave() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.script("/completion", stream_answer("a", ended=False))
            async with client.stream(
                "POST", "/completion", deadline=Allowance(), gather_seconds=lambda: 3600
            ) as stream:
                await anext(stream)
            await asyncio.wait_for(fake.requests[0].client_left.wait(), 30)

    run(main())


@pytest.mark.parametrize("value", ["line\r\nbreak", "nul\0", "snow ☃"])
def test_given_a_header_that_cannot_be_sent_when_requested_then_it_is_named_but_not_shown(value: str) -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            with pytest.raises(ClientRequestError) as caught:
                await client.request("GET", "/x", headers=[("x-key", value)], deadline=Allowance(), max_body_bytes=1)
            assert "x-key" in str(caught.value)
            assert value not in str(caught.value)
            assert fake.connections == 0

    run(main())


def test_given_running_requests_when_the_client_closes_then_they_fail_and_no_thread_is_left() -> None:
    async def main() -> None:
        async with FakeLlamaServer() as fake:
            client = HttpClient(fake.base_url, threads=2, name="closing")
            fake.script("/slow", hanging_answer())
            slow = asyncio.create_task(get(client, "/slow"))
            await fake.wait_for("/slow")
            await client.close()
            with pytest.raises(ClientConnectionError, match="closed"):
                await slow
            with pytest.raises(ClientConnectionError, match="closed"):
                await get(client)
            assert not any(thread.name.startswith("closing") for thread in threading.enumerate())

    run(main())


def test_given_few_requests_when_sent_one_after_another_then_one_thread_is_enough() -> None:
    async def main() -> None:
        async with FakeLlamaServer() as fake:
            client = HttpClient(fake.base_url, threads=8, name="on-demand")
            for _ in range(3):
                await get(client, "/health")
                end = time.monotonic() + 30
                # The worker is free a moment after its last byte was handed over.
                while client._workers._free == 0 and time.monotonic() < end:  # noqa: ASYNC110 - nobody announces it
                    await asyncio.sleep(0.001)
            assert sum(thread.name.startswith("on-demand") for thread in threading.enumerate()) == 1
            await client.close()

    run(main())


@pytest.mark.parametrize(
    "base_url", ["ftp://x", "x", "http://", "http://u:p@x", "http://x?q", "http://x#f", "http://x:99999"]
)
def test_given_an_unusable_base_url_when_a_client_is_made_then_it_is_refused(base_url: str) -> None:
    with pytest.raises(ValueError, match=r"base URL|[Pp]ort"):
        HttpClient(base_url, threads=1, name="x")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_given_an_https_server_when_its_certificate_is_not_trusted_then_it_fails_and_when_trusted_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    arguments = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    more = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *arguments, *more], check=True, capture_output=True)
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(certificate, key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
            await reader.read()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "localhost", 0, family=socket.AF_INET, ssl=served)
        port = server.sockets[0].getsockname()[1]
        for trusted in (False, True):
            if trusted:
                monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            client = HttpClient(f"https://localhost:{port}", threads=1, name="tls")
            if trusted:
                assert (await get(client)).body == b"ok"
            else:
                with pytest.raises(ClientConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
                    await get(client)
            await client.close()
        server.close()

    run(main())


def test_given_a_request_refused_before_it_was_read_when_sent_then_the_answer_still_arrives() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.script("/x", json_answer({"error": "no"}, 413))
            answer = await client.request("POST", "/x", body=b"x" * 500_000, deadline=Allowance(), max_body_bytes=1000)
            assert answer.status == 413

    run(main())


def test_given_a_server_that_cuts_at_once_when_requested_then_there_is_no_second_try() -> None:
    async def main() -> None:
        async with setting() as (fake, client):
            fake.script("/x", cut_answer(), cut_answer(reset=True))
            for _ in range(2):
                with pytest.raises(ClientConnectionError):
                    await get(client)
            assert len(fake.requests) == 2

    run(main())
