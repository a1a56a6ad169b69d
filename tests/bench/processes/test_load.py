"""The load generator: reads answers exactly, keeps connections, and refuses to count a wrong answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ray.bench.processes.load import Address, Reply, ask, parse_reply, request_bytes, run_load
from ray.bench.processes.process import MeasurementError

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}'
ASK = request_bytes("GET", "/livez")


class FakeServer:
    """Answers each request of each connection with `answer(number)`, number counted from 0; empty closes."""

    def __init__(self, answer: Callable[[int], bytes]) -> None:
        self.answer = answer
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.requests: list[bytes] = []
        self.connections = 0
        self.lock = threading.Lock()

    @property
    def address(self) -> Address:
        host, port = self.listener.getsockname()[:2]
        return host, port

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with connection:
            received = b""
            while data := connection.recv(65_536):
                received += data
                while b"\r\n\r\n" in received:
                    request, received = received.split(b"\r\n\r\n", 1)
                    with self.lock:
                        number = len(self.requests)
                        self.requests.append(request)
                    answer = self.answer(number)
                    if not answer:
                        return
                    connection.sendall(answer)
                    if b"connection: close" in answer.lower():
                        return


@contextmanager
def serving(answer: Callable[[int], bytes]) -> Iterator[FakeServer]:
    server = FakeServer(answer)
    thread = threading.Thread(target=server.accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()
        thread.join(5)


def test_an_answer_is_incomplete_until_its_last_byte() -> None:
    assert [parse_reply(OK[:end]) for end in range(len(OK))] == [None] * len(OK)
    assert parse_reply(OK) == Reply(200, b'{"status":"ok"}', closes=False)


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (b"HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}", Reply(503, b"{}", closes=False)),
        (b"HTTP/1.1 204 No\r\nCONTENT-LENGTH:0\r\n\r\n", Reply(204, b"", closes=False)),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: close\r\n\r\n", Reply(200, b"", closes=True)),
    ],
)
def test_status_body_and_close_are_read_in_any_case(received: bytes, expected: Reply) -> None:
    assert parse_reply(received) == expected


def test_an_answer_without_length_is_refused() -> None:
    with pytest.raises(MeasurementError, match="without content-length"):
        parse_reply(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")


def test_bytes_behind_an_answer_are_refused() -> None:
    with pytest.raises(MeasurementError, match="3 bytes too many"):
        parse_reply(OK + b"HTT")


def test_a_request_with_body_announces_its_length_and_type() -> None:
    request = request_bytes("POST", "/v1/infer", b'{"input":"x"}')
    head, body = request.split(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/infer HTTP/1.1\r\nhost: ")
    assert b"content-length: 13" in head
    assert b"content-type: application/json" in head
    assert body == b'{"input":"x"}'


def test_a_run_asks_exactly_as_often_as_told_over_as_many_connections() -> None:
    with serving(lambda _: OK) as server:
        result = run_load(server.address, lambda _: ASK, count=57, connections=4, expect=b'"ok"')
    assert len(server.requests) == len(result.latencies) == 57
    assert server.connections == 4
    assert result.per_second > 0
    assert all(0 < seconds <= result.wall_seconds for seconds in result.latencies)


def test_a_run_makes_each_request_once() -> None:
    with serving(lambda _: OK) as server:
        run_load(server.address, lambda n: request_bytes("GET", f"/{n}"), count=20, connections=3, expect=b"ok")
    paths = {request.split(b" ")[1] for request in server.requests}
    assert paths == {b"/%d" % number for number in range(20)}


def test_a_run_opens_no_more_connections_than_it_has_requests() -> None:
    with serving(lambda _: OK) as server:
        run_load(server.address, lambda _: ASK, count=2, connections=8, expect=b"ok")
    assert server.connections == 2


def test_a_run_reconnects_when_the_server_limits_requests_per_connection() -> None:
    closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with serving(lambda number: closing if number % 5 == 4 else OK) as server:
        result = run_load(server.address, lambda _: ASK, count=23, connections=1, expect=b"ok")
    assert len(result.latencies) == 23
    assert server.connections == 5


def test_a_run_ends_with_the_first_error_answer() -> None:
    busy = b'HTTP/1.1 503 Busy\r\ncontent-length: 10\r\n\r\n"too many"'
    with (
        serving(lambda number: busy if number == 3 else OK) as server,
        pytest.raises(MeasurementError, match=r"status 503.*too many"),
    ):
        run_load(server.address, lambda _: ASK, count=9, connections=1, expect=b"ok")


def test_a_run_ends_when_a_200_does_not_hold_what_was_expected() -> None:
    with serving(lambda _: OK) as server, pytest.raises(MeasurementError, match="not the expected answer"):
        run_load(server.address, lambda _: ASK, count=1, connections=1, expect=b'"cached":true')


def test_a_run_ends_when_the_server_closes_in_mid_answer() -> None:
    with (
        serving(lambda number: b"" if number == 2 else OK) as server,
        pytest.raises(MeasurementError, match="closed a connection"),
    ):
        run_load(server.address, lambda _: ASK, count=9, connections=1, expect=b"ok")


def test_a_single_question_is_answered_on_a_connection_of_its_own() -> None:
    with serving(lambda _: OK) as server:
        assert ask(server.address, ASK) == Reply(200, b'{"status":"ok"}', closes=False)
        assert ask(server.address, ASK).status == 200
    assert server.connections == 2


def test_a_question_that_is_not_answered_in_time_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()[:2]
        with pytest.raises(TimeoutError, match=r"GET /livez: nothing came for"):
            ask((host, port), ASK, timeout=0.01)


def test_a_single_question_that_is_never_answered_names_what_came() -> None:
    with serving(lambda _: b"") as server, pytest.raises(MeasurementError, match="before an answer was complete"):
        ask(server.address, ASK)
