"""The server over real sockets: requests, answers, and when a connection stays open."""

from __future__ import annotations

import asyncio
import re

import pytest

from ray.http import HttpError, Limits, Request, Response, Server
from tests.http.raw import RawClient
from tests.http.serving import echo, pieces, run, serving, until, until_empty


def test_a_request_is_answered_with_the_headers_of_every_response() -> None:
    async def main() -> None:
        async with serving() as site, await site.client() as client:
            await client.request("GET", "/livez?x=1")
            response = await client.response()
            assert response.status == 200
            assert response.body == b"/livez "
            assert re.fullmatch(
                r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT",
                response.headers.pop("date"),
            )
            assert response.headers == {
                "content-type": "text/plain",
                "content-length": "7",
                "connection": "keep-alive",
                "keep-alive": "timeout=5, max=1000",
            }
            ((path, status, sent),) = site.report.completed
            assert (path, status) == ("/livez", 200)
            assert sent > 100

    run(main)


def test_a_connection_serves_many_requests_and_pipelined_ones_in_order() -> None:
    async def main() -> None:
        release = asyncio.Event()

        async def handler(request: Request) -> Response:
            if request.path == "/slow":
                await release.wait()
            return await echo(request)

        async with serving(handler) as site, await site.client() as client:
            await client.request("POST", "/1", body=b"one")
            assert (await client.response()).body == b"/1 one"
            await client.send(
                b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
                b"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                b"GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\n\r\n"
            )
            await until(lambda: site.server.counts().active_requests == 1)
            release.set()
            assert [(await client.response()).body for _ in range(3)] == [b"/slow ", b"/3 abc", b"/4 "]
            assert await client.closed()
            assert [path for path, _, _ in site.report.completed] == ["/1", "/slow", "/3", "/4"]

    run(main)


def test_many_pipelined_requests_beyond_the_read_ahead_are_all_answered() -> None:
    async def main() -> None:
        async with serving(limits=Limits(read_ahead_bytes=13_000)) as site, await site.client() as client:
            count = 900
            request = b"GET /%d HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 200 + b"\r\n\r\n"
            sending = asyncio.create_task(client.send(b"".join(request % number for number in range(count))))
            for number in range(count):
                assert (await client.response()).body == b"/%d " % number
            await sending

    run(main)


def test_a_request_that_arrives_byte_by_byte_is_the_same_request() -> None:
    async def main() -> None:
        async with serving() as site, await site.client() as client:
            for byte in b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc":
                await client.send(bytes([byte]))
            assert (await client.response()).body == b"/x abc"

    run(main)


def test_head_gets_the_headers_of_get_and_no_body() -> None:
    async def main() -> None:
        async def handler(request: Request) -> Response:
            if request.path == "/stream":
                return Response(200, body=pieces(b"a"))
            return await echo(request)

        async with serving(handler) as site, await site.client() as client:
            await client.request("HEAD", "/abc")
            response = await client.response("HEAD")
            assert response.headers["content-length"] == "5"
            await client.request("HEAD", "/stream")
            response = await client.response("HEAD")
            assert response.headers["transfer-encoding"] == "chunked"
            await client.request("GET", "/next")
            assert (await client.response()).body == b"/next "

    run(main)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_content_has_no_length(status: int) -> None:
    async def main() -> None:
        async def handler(request: Request) -> Response:
            return Response(status, body=b"ignored")

        async with serving(handler) as site, await site.client() as client:
            for _ in range(2):
                await client.request("GET", "/")
                assert "content-length" not in (await client.response()).headers

    run(main)


def test_http_1_0_closes_unless_asked_to_keep() -> None:
    async def main() -> None:
        async with serving() as site:
            async with await site.client() as client:
                await client.send(b"GET /a HTTP/1.0\r\n\r\n")
                response = await client.response()
                assert response.headers["connection"] == "close"
                assert await client.closed()
            async with await site.client() as client:
                for _ in range(2):
                    await client.send(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                    assert (await client.response()).headers["connection"] == "keep-alive"

    run(main)


def test_the_last_request_of_a_socket_says_close() -> None:
    async def main() -> None:
        async with serving(limits=Limits(max_requests_per_socket=3)) as site, await site.client() as client:
            connection = []
            for _ in range(3):
                await client.request("GET", "/")
                connection.append((await client.response()).headers["connection"])
            assert connection == ["keep-alive", "keep-alive", "close"]
            assert await client.closed()

    run(main)


def test_large_answers_arrive_whole() -> None:
    async def main() -> None:
        body = bytes(range(256)) * 4_096

        async def handler(request: Request) -> Response:
            return Response(200, body=body if request.path == "/bytes" else pieces(body, b"end"))

        async with serving(handler) as site, await site.client() as client:
            await client.request("GET", "/bytes")
            assert (await client.response()).body == body
            await client.request("GET", "/stream")
            assert (await client.response()).body == body + b"end"

    run(main)


# Bodies


def test_a_body_is_read_up_to_the_limit_exactly() -> None:
    async def main() -> None:
        async def handler(request: Request) -> Response:
            assert request.has_body
            body = await request.read_body(16)
            assert request.body_received
            assert await request.read_body(16) == body
            return Response(200, body=body)

        async with serving(handler) as site:
            async with await site.client() as client:
                await client.request("POST", "/", body=b"x" * 16)
                assert (await client.response()).body == b"x" * 16
                await client.request("POST", "/", "Transfer-Encoding: chunked")
                await client.send(b"10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n")
                assert (await client.response()).body == b"x" * 16
            async with await site.client() as client:
                await client.request("POST", "/", "Content-Length: 17")
                response = await client.response()
                assert (response.status, response.headers["connection"]) == (413, "close")
                assert await client.closed()
            async with await site.client() as client:
                await client.request("POST", "/", "Transfer-Encoding: chunked")
                await client.send(b"11\r\n" + b"x" * 17)
                response = await client.response()
                assert (response.status, response.headers["connection"]) == (413, "close")
                assert await client.closed()
            declared, crossed = (error for error, _ in site.report.errors)
            assert isinstance(declared, HttpError)
            assert declared.details == {"limitBytes": 16, "declaredContentLength": 17}
            assert isinstance(crossed, HttpError)
            assert crossed.details is None

    run(main)


def test_a_broken_chunk_is_400_and_ends_the_connection() -> None:
    async def main() -> None:
        async with serving() as site, await site.client() as client:
            await client.request("POST", "/", "Transfer-Encoding: chunked")
            await client.send(b"2\r\nab\r\nzz\r\n")
            response = await client.response()
            assert (response.status, response.body) == (400, b"invalid_http_request")
            assert await client.closed()

    run(main)


def test_100_continue_is_sent_once_and_only_when_the_body_is_wanted() -> None:
    async def main() -> None:
        admitted = asyncio.Event()

        async def handler(request: Request) -> Response:
            await admitted.wait()
            return await echo(request)

        async with serving(handler) as site, await site.client() as client:
            await client.request("POST", "/x", "Expect: 100-Continue", "Content-Length: 3")
            await until(lambda: site.server.counts().active_requests == 1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await client.reader.read(1)
            admitted.set()
            assert (await client.head()).status == 100
            await client.send(b"abc")
            response = await client.response()
            assert (response.status, response.body) == (200, b"/x abc")

    run(main)


@pytest.mark.parametrize(
    ("framing", "status"),
    [("Content-Length: 100001", 413), ("Transfer-Encoding: chunked", 411), ("X-None: 1", 411)],
)
def test_an_upload_that_cannot_be_accepted_never_gets_100_continue(framing: str, status: int) -> None:
    async def main() -> None:
        async with serving() as site, await site.client() as client:
            await client.request("POST", "/x", "Expect: 100-continue", framing)
            assert (await client.response()).status == status

    run(main)


def test_an_unknown_expectation_is_417_for_the_request_that_made_it() -> None:
    async def main() -> None:
        async with serving() as site, await site.client() as client:
            await client.request("POST", "/v1/infer", "Expect: wait-for-budget", body=b"abc")
            response = await client.response()
            assert (response.status, response.headers["connection"]) == (417, "keep-alive")
            ((_, request),) = site.report.errors
            assert request is not None
            assert request.path == "/v1/infer"

    run(main)


@pytest.mark.parametrize(
    ("method", "headers", "body", "connection"),
    [
        ("GET", (), None, "keep-alive"),
        ("POST", (), b"all of it", "keep-alive"),
        ("POST", ("Content-Length: 0",), None, "keep-alive"),
        ("GET", ("Content-Length: 32",), None, "close"),
        ("POST", ("Content-Length: 32",), None, "close"),
        ("POST", ("Transfer-Encoding: chunked",), None, "close"),
    ],
)
def test_an_answer_before_the_end_of_the_body_closes(
    method: str, headers: tuple[str, ...], body: bytes | None, connection: str
) -> None:
    async def main() -> None:
        async def handler(request: Request) -> Response:
            return Response(404, body=b"no")

        async with serving(handler) as site, await site.client() as client:
            await client.request(method, "/", *headers, body=body)
            response = await client.response()
            assert (response.status, response.body) == (404, b"no")
            assert response.headers["connection"] == connection
            if connection == "close":
                assert await client.closed()

    run(main)


def test_a_client_that_is_still_uploading_receives_the_whole_refusal() -> None:
    async def main() -> None:
        answer = b"n" * 30_000

        async def handler(request: Request) -> Response:
            return Response(413, body=answer)

        async with serving(handler) as site, await site.client() as client:
            await client.request("POST", "/", "Content-Length: 1000000")
            # Far more than the kernel buffers hold: without reading it, the close would be a reset.
            for _ in range(10):
                await client.send(b"x" * 100_000)
            response = await client.response()
            assert response.body == answer
            assert await client.rest() == b""

    run(main)


def test_lingering_ends_after_its_time_and_after_its_bytes() -> None:
    async def main() -> None:
        async def handler(request: Request) -> Response:
            return Response(413)

        for limits in (Limits(linger_timeout_s=0.02), Limits(linger_timeout_s=60, linger_bytes=1_000)):
            async with serving(handler, limits) as site, await site.client() as client:
                await client.request("POST", "/", "Content-Length: 1000000")
                await client.response()
                if limits.linger_bytes == 1_000:
                    await client.send(b"x" * 2_000)
                await until_empty(site)

    run(main)


# What is no request


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 12_288 + b"\r\n\r\n", 431, b"request_headers_too_large"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, b"invalid_http_request"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400, b"invalid_http_request"),
        (b"\x16\x03\x01\x02\x00\x01", 400, b"invalid_http_request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, b"invalid_http_request"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n" + b"y" * 9_000, 400, b"invalid_http_request"),
    ],
)
def test_bytes_that_are_no_request_are_answered_and_the_connection_ends(data: bytes, status: int, code: bytes) -> None:
    async def main() -> None:
        async with serving() as site, await site.client() as client:
            await client.send(data)
            response = await client.response()
            assert (response.status, response.body, response.headers["connection"]) == (status, code, "close")
            assert await client.closed()
            assert [request for _, request in site.report.errors] == [None]
            assert site.report.completed == []

    run(main)


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://[::1", "a", 400),
        ("http://other/x", "a", 400),
        ("/x", "http://example.com", 400),
        ("/x", "a:0", 400),
        ("/x", "a_b", 400),
        ("*", "a", 400),
        ("/" + "a" * 8_193, "a", 414),
    ],
)
def test_a_refused_host_or_target_is_answered_and_the_connection_ends(target: str, host: str, status: int) -> None:
    async def main() -> None:
        async with serving() as site, await site.client() as client:
            await client.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            response = await client.response()
            assert (response.status, response.headers["connection"]) == (status, "close")
            assert await client.closed()
            ((_, request),) = site.report.errors
            assert request is not None
            assert request.path == ""

    run(main)


# Failing handlers


def test_an_exception_of_the_handler_is_answered_and_the_connection_stays() -> None:
    async def main() -> None:
        async def handler(request: Request) -> Response:
            if request.path == "/cancel":
                raise asyncio.CancelledError
            raise LookupError("x")

        async with serving(handler) as site, await site.client() as client:
            for path in ("/fail", "/cancel", "/fail"):
                await client.request("GET", path)
                response = await client.response()
                assert (response.status, response.headers["connection"]) == (500, "keep-alive")
            assert [type(error) for error, _ in site.report.errors] == [LookupError, RuntimeError, LookupError]

    run(main)


@pytest.mark.parametrize(
    "response",
    [
        Response(200, [("x", "a\r\nset-cookie: b")]),
        Response(200, [("x", "a\nb")]),
        Response(200, [("x\r", "a")]),
        Response(200, [("x", "a\0b")]),
        Response(200, [("x", "\u2028")]),
        Response(101),
        Response(99),
    ],
)
def test_a_header_that_would_become_two_is_never_sent(response: Response) -> None:
    async def main() -> None:
        async def handler(request: Request) -> Response:
            return response

        async with serving(handler) as site, await site.client() as client:
            await client.request("GET", "/")
            answer = await client.response()
            assert answer.status == 500
            assert "set-cookie" not in answer.headers
            assert isinstance(site.report.errors[0][0], ValueError)

    run(main)


def test_a_failing_error_callback_still_gives_an_answer() -> None:
    async def main() -> None:
        async def handler(request: Request) -> Response:
            raise LookupError

        def on_error(error: Exception, request: Request | None) -> Response:
            raise ZeroDivisionError

        reported = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
        server = Server(handler, limits=Limits(), on_error=on_error)
        await server.start("127.0.0.1", 0)
        async with await RawClient.connect(server.port) as client:
            await client.request("GET", "/")
            assert (await client.response()).status == 500
        await server.close()
        assert [type(error) for error in reported] == [ZeroDivisionError]

    run(main)


def test_given_a_server_that_was_drained_when_started_again_then_it_serves_and_keeps_connections_as_before() -> None:
    async def main() -> None:
        async with serving() as site:
            assert await site.server.drain(1.0)
            await site.server.start("127.0.0.1", 0)
            async with await site.client() as client:
                for _ in range(2):
                    await client.request("GET", "/livez")
                    response = await client.response()
                    assert (response.status, response.headers["connection"]) == (200, "keep-alive")

    run(main)
