"""One attempt against real receivers: pinned addresses, TLS, strange answers, and receivers that waste time."""

from __future__ import annotations

import asyncio
import socket
from asyncio.selector_events import BaseSelectorEventLoop

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.jobs.addresses import packed_address
from ray.jobs.callback_policy import CallbackPolicy
from ray.jobs.sender import MAX_HEAD_BYTES, DeliveryOutcome, Sender, outcome_of, read_answer
from tests.jobs.attempt import BODY, ELSEWHERE, HEADERS, HERE, delivered_by
from tests.jobs.callback_stage import NO_CONTENT, Names, Receiver, Script, answering, settings


def test_given_a_receiver_when_a_callback_is_delivered_then_the_request_is_what_a_server_expects() -> None:
    receiver = Receiver()
    assert delivered_by(receiver) == DeliveryOutcome("delivered", "http_204")
    [request] = receiver.arrived
    assert request.line == "POST /in?x=1 HTTP/1.1"
    assert request.body == BODY
    assert request.headers == {
        "host": f"hooks.example:{receiver.port}",
        "content-type": "application/json",
        "webhook-id": "msg_job_1",
        "content-length": str(len(BODY)),
        "accept-encoding": "identity",
        "connection": "close",
    }


def test_given_a_body_of_two_mebibytes_when_delivered_then_all_of_it_arrives() -> None:
    receiver, body = Receiver(), bytes(range(256)) * 8_192
    assert delivered_by(receiver, body=body).kind == "delivered"
    assert receiver.arrived[0].body == body


@pytest.mark.parametrize(
    ("status", "retry_after", "outcome"),
    [
        (200, None, DeliveryOutcome("delivered", "http_200")),
        (299, None, DeliveryOutcome("delivered", "http_299")),
        (300, None, DeliveryOutcome("retry", "http_300")),
        (302, None, DeliveryOutcome("retry", "http_302")),
        (400, None, DeliveryOutcome("retry", "http_400")),
        (404, None, DeliveryOutcome("retry", "http_404")),
        (410, "5", DeliveryOutcome("give_up", "http_410")),
        (429, "5", DeliveryOutcome("retry", "http_429", 5.0)),
        (503, "7200", DeliveryOutcome("retry", "http_503", 3600.0)),
        (503, "soon", DeliveryOutcome("retry", "http_503")),
        (500, "5", DeliveryOutcome("retry", "http_500")),
        (101, None, DeliveryOutcome("retry", "http_101")),
        (999, None, DeliveryOutcome("retry", "http_999")),
    ],
)
def test_given_a_status_when_it_is_judged_then_only_2xx_is_delivered_and_410_ends_it(
    status: int, retry_after: str | None, outcome: DeliveryOutcome
) -> None:
    assert outcome_of(status, retry_after, 1000.0) == outcome


def test_given_a_redirect_when_answered_then_it_is_not_followed() -> None:
    async def main() -> DeliveryOutcome:
        async with Receiver() as inner:
            location = f"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{inner.port}/\r\n\r\n".encode()
            async with Receiver(answering(location)) as outer:
                policy = CallbackPolicy(settings(), frozenset())
                outcome = await Sender(policy).deliver(f"http://127.0.0.1:{outer.port}/", HEADERS, BODY)
                policy.close()
            assert inner.connections == 0
            return outcome

    assert asyncio.run(main()) == DeliveryOutcome("retry", "http_302")


def test_given_proxy_variables_when_delivered_then_they_are_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert delivered_by(Receiver()).kind == "delivered"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n", DeliveryOutcome("delivered", "http_200")),
        (b"HTTP/1.1 200\r\n\r\n", DeliveryOutcome("delivered", "http_200")),
        (b"HTTP/1.1 204 No Content\n\n", DeliveryOutcome("delivered", "http_204")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + NO_CONTENT, DeliveryOutcome("delivered", "http_204")),
        (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + NO_CONTENT, DeliveryOutcome("delivered", "http_204")),
        (b"HTTP/1.1 429 Slow\r\nRETRY-AFTER:  17 \r\n\r\n", DeliveryOutcome("retry", "http_429", 17.0)),
        (b"HTTP/1.1 503 Busy\r\nx: y\r\nretry-after: 99999\r\n\r\n", DeliveryOutcome("retry", "http_503", 3600.0)),
        (
            b"HTTP/1.1 100 C\r\nretry-after: 5\r\n\r\nHTTP/1.1 503 X\r\n\r\n",
            DeliveryOutcome("retry", "http_503"),
        ),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 16_000 + b"\r\n\r\n", DeliveryOutcome("delivered", "http_200")),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n", DeliveryOutcome("retry", "invalid_response")),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 3_000 + b"\r\n", DeliveryOutcome("retry", "invalid_response")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000, DeliveryOutcome("retry", "invalid_response")),
        (b"x" * (MAX_HEAD_BYTES * 3), DeliveryOutcome("retry", "invalid_response")),
        (b"HTTP/2 200\r\n\r\n", DeliveryOutcome("retry", "invalid_response")),
        (b"HTTP/1.1 20 OK\r\n\r\n", DeliveryOutcome("retry", "invalid_response")),
        (b"HTTP/1.1 2000 OK\r\n\r\n", DeliveryOutcome("retry", "invalid_response")),
        (b"HTTP/1.1 \xd9\xa200 OK\r\n\r\n", DeliveryOutcome("retry", "invalid_response")),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", DeliveryOutcome("retry", "invalid_response")),
        (b"\r\n\r\n", DeliveryOutcome("retry", "invalid_response")),
    ],
    ids=range(19),
)
def test_given_an_answer_when_read_then_status_and_headers_decide_and_nothing_else(
    answer: bytes, outcome: DeliveryOutcome
) -> None:
    assert delivered_by(Receiver(answering(answer))) == outcome


PIECES = st.sampled_from(
    [
        b"HTTP/1.1 ",
        b"100 Continue",
        b"204 No Content",
        b"200",
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"x: y",
        b"retry-after: ",
        b"5",
        b":",
        b" ",
        b"\0",
        b"\xff",
        b"y" * 9_000,
    ]
)


@given(st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=14).map(b"".join)))
def test_given_any_bytes_when_read_as_an_answer_then_they_are_a_final_status_or_no_answer(answer: bytes) -> None:
    async def main() -> int | None:
        reader = asyncio.StreamReader(limit=MAX_HEAD_BYTES)
        reader.feed_data(answer)
        reader.feed_eof()
        try:
            status, _ = await read_answer(reader)
        except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return None
        return status

    status = asyncio.run(main())
    assert status is None or 200 <= status <= 999 or status == 101


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def hang_up_in_the_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nx: y\r\n")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("script", [hang_up, hang_up_in_the_headers])
def test_given_a_receiver_that_hangs_up_before_its_headers_end_when_read_then_nothing_was_delivered(
    script: Script,
) -> None:
    assert delivered_by(Receiver(script)) == DeliveryOutcome("retry", "connection_lost")


async def never_end_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        await writer.drain()


def test_given_a_body_without_end_when_read_then_its_headers_were_enough() -> None:
    assert delivered_by(Receiver(never_end_the_body)) == DeliveryOutcome("delivered", "http_200")


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A header without end, one byte at a time: no single read ever waits long."""
    writer.write(b"HTTP/1.1 200 OK\r\nx: ")
    while not reader.at_eof() and not writer.is_closing():
        writer.write(b"y")
        await writer.drain()
        await asyncio.sleep(0.002)


async def never_stop_continuing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while not reader.at_eof() and not writer.is_closing():
        writer.write(b"HTTP/1.1 100 C\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("script", [say_nothing, drip, never_stop_continuing])
def test_given_a_receiver_that_wastes_time_when_the_deadline_passes_then_the_attempt_ends(script: Script) -> None:
    assert delivered_by(Receiver(script), changes={"callbackTimeoutMs": 80}) == DeliveryOutcome("retry", "timeout")


def test_given_a_receiver_that_never_reads_when_the_deadline_passes_then_the_attempt_ends() -> None:
    async def main() -> DeliveryOutcome:
        with socket.create_server(("127.0.0.1", 0)) as server:  # its backlog accepts, nobody reads
            policy = CallbackPolicy(settings(callbackTimeoutMs=80), frozenset())
            url = f"http://127.0.0.1:{server.getsockname()[1]}/"
            outcome = await Sender(policy).deliver(url, HEADERS, b"x" * 2**23)
            policy.close()
            return outcome

    assert asyncio.run(main()) == DeliveryOutcome("retry", "timeout")


def test_given_nobody_listening_when_delivered_then_connecting_failed() -> None:
    receiver = Receiver()

    async def main() -> DeliveryOutcome:
        async with receiver:
            pass
        policy = CallbackPolicy(settings(), frozenset())
        outcome = await Sender(policy).deliver(f"http://127.0.0.1:{receiver.port}/", HEADERS, BODY)
        policy.close()
        return outcome

    assert asyncio.run(main()) == DeliveryOutcome("retry", "connect_failed")


def test_given_the_first_address_refusing_when_delivered_then_the_next_one_is_tried() -> None:
    receiver = Receiver()
    names = Names({"hooks.example": [(ELSEWHERE, HERE)]})
    assert delivered_by(receiver, names=names).kind == "delivered"
    assert receiver.connections == 1


def test_given_a_first_address_that_never_answers_when_delivered_then_the_next_one_still_gets_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = BaseSelectorEventLoop.sock_connect

    async def swallowed(loop: BaseSelectorEventLoop, sock: socket.socket, address: tuple[str, int]) -> None:
        if address[0] == "127.0.0.2":
            await asyncio.Event().wait()
        await real(loop, sock, address)

    monkeypatch.setattr(BaseSelectorEventLoop, "sock_connect", swallowed)
    names = Names({"hooks.example": [(ELSEWHERE, HERE)]})
    assert delivered_by(Receiver(), names=names, changes={"callbackTimeoutMs": 1_000}).kind == "delivered"


def test_given_no_more_file_descriptors_when_delivered_then_it_is_one_more_failed_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def exhausted(address: bytes, port: int) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("ray.jobs.sender._connection_to", exhausted)
    assert delivered_by(Receiver()) == DeliveryOutcome("retry", "connect_failed")


@pytest.mark.parametrize(
    ("url", "changes", "outcome"),
    [
        ("http://unknown.example/", {}, DeliveryOutcome("retry", "dns_failed")),
        (
            "http://hooks.example/",
            {"callbackAllowPrivateNetwork": False},
            DeliveryOutcome("give_up", "blocked_address"),
        ),
        ("http://hooks.example:22/", {}, DeliveryOutcome("give_up", "blocked_port")),
        ("http://hooks.example/", {"callbackRequireHttps": True}, DeliveryOutcome("give_up", "https_required")),
        ("http://hooks.example/#x", {}, DeliveryOutcome("give_up", "invalid_url")),
    ],
)
def test_given_a_url_that_may_not_be_called_any_more_when_delivered_then_no_connection_is_made(
    url: str, changes: dict[str, object], outcome: DeliveryOutcome
) -> None:
    receiver = Receiver()
    assert delivered_by(receiver, url=url, changes=changes) == outcome
    assert receiver.connections == 0


# --- a name that resolves differently the second time


def test_given_a_name_that_changes_its_address_when_delivered_then_it_is_asked_once_and_that_one_is_used() -> None:
    receiver = Receiver()
    names = Names({"hooks.example": [(HERE,), (ELSEWHERE,)]})
    trusted = {"callbackAllowPrivateNetwork": False, "callbackAllowedHosts": ["hooks.example"]}
    outcome = delivered_by(receiver, names=names, changes=trusted)
    assert outcome.kind == "delivered"
    assert names.asked == ["hooks.example"]


def test_given_a_name_that_turns_private_after_admission_when_delivered_then_nothing_arrives_there() -> None:
    public = packed_address("8.8.8.8")
    assert public is not None
    names = Names({"rebind.example": [(public,), (HERE,)]})

    async def main() -> tuple[DeliveryOutcome, int]:
        async with Receiver() as receiver:
            policy = CallbackPolicy(settings(callbackAllowPrivateNetwork=False), frozenset(), lookup=names)
            target = await policy.check(f"http://rebind.example:{receiver.port}/")
            outcome = await Sender(policy).deliver(str(target.url), HEADERS, BODY)
            policy.close()
            return outcome, receiver.connections

    assert asyncio.run(main()) == (DeliveryOutcome("give_up", "blocked_address"), 0)


def test_given_a_peer_that_is_not_the_judged_address_when_connected_then_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when the system's tables send the packets elsewhere."""
    receiver = Receiver()

    real = BaseSelectorEventLoop.sock_connect

    async def led_astray(loop: BaseSelectorEventLoop, sock: socket.socket, address: tuple[str, int]) -> None:
        assert address == ("127.0.0.2", receiver.port)
        await real(loop, sock, ("127.0.0.1", receiver.port))

    monkeypatch.setattr(BaseSelectorEventLoop, "sock_connect", led_astray)
    outcome = delivered_by(receiver, names=Names({"hooks.example": [(ELSEWHERE,)]}))
    assert outcome == DeliveryOutcome("retry", "connect_failed")
    assert receiver.arrived == []


def test_given_an_attempt_when_it_is_cancelled_then_the_connection_ends_at_once() -> None:
    async def main() -> None:
        asked, gone = asyncio.Event(), asyncio.Event()

        async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await reader.read()
            gone.set()

        async with Receiver(wait_for_the_end) as receiver:
            policy = CallbackPolicy(settings(), frozenset())
            url = f"http://127.0.0.1:{receiver.port}/"
            attempt = asyncio.ensure_future(Sender(policy).deliver(url, HEADERS, BODY))
            async with asyncio.timeout(30):
                await asked.wait()
            attempt.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attempt
            async with asyncio.timeout(30):
                await gone.wait()
            policy.close()

    asyncio.run(main())
