"""`RayClient` alone: connections that are kept, threads, streams that are left."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ray.client import RayClient, RayRequestError, RayTimeout, Retries
from tests.client.scripted import Says, answer, server_that
from tests.client.serving import GatewayThread, gateway_in_a_thread
from tests.fakes.provider import STOP, FakeProvider
from tests.integration.backend import wait_until

FINE = answer(200, b'{"output":"Blue"}', then="keep")


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayThread]:
    with gateway_in_a_thread() as running:
        yield running


def test_given_calls_one_after_the_other_when_made_then_they_share_one_connection() -> None:
    with server_that(FINE, FINE, FINE) as server, RayClient(server.url) as client:
        for _ in range(3):
            client.infer("A question.")

        assert (server.connections, len(server.requests)) == (1, 3)


def test_given_a_refusal_when_it_was_read_to_its_end_then_its_connection_is_used_again() -> None:
    refused = answer(400, b'{"error":{"code":"invalid_request","message":"No."}}', then="keep")
    with server_that(refused, FINE) as server, RayClient(server.url) as client:
        with pytest.raises(Exception, match="invalid_request"):
            client.infer("")
        client.infer("A question.")

        assert server.connections == 1


def test_given_a_server_that_closed_meanwhile_when_called_again_then_another_connection_is_opened() -> None:
    silently = Says(FINE.data, "close")
    with server_that(silently, FINE) as server, RayClient(server.url) as client:
        client.infer("One.")
        (idle, _), *_ = client._connections._idle
        assert select.select([idle], [], [], 20)[0], "the end of the connection arrives"
        client.infer("Two.")

        assert server.connections == 2


@pytest.mark.parametrize(
    "said",
    [
        Says(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n",
            "keep",
        ),
        answer(200, b"{}", ("connection", "close"), then="keep"),
    ],
    ids=["more than the answer", "close"],
)
def test_given_a_connection_that_cannot_be_trusted_when_called_again_then_it_is_not_used(said: Says) -> None:
    with server_that(said, FINE) as server, RayClient(server.url) as client:
        client.infer("One.")

        assert client.infer("Two.") == {"output": "Blue"}
        assert server.connections == 2


def test_given_a_connection_that_idled_too_long_when_called_then_another_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ray.client.connections.MAX_IDLE_SECONDS", 0.0)
    with server_that(FINE, FINE) as server, RayClient(server.url) as client:
        client.infer("One.")
        client.infer("Two.")

        assert server.connections == 2


def test_given_many_threads_when_they_ask_one_client_then_each_gets_its_own_answer(gateway: GatewayThread) -> None:
    found: dict[int, str] = {}

    def ask(client: RayClient, number: int) -> None:
        for turn in range(3):
            found[number * 10 + turn] = client.infer(f"Question {number}.{turn}")["output"]

    with RayClient(gateway.url) as client:
        threads = [threading.Thread(target=ask, args=(client, number)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert len(found) == 18
    for number in range(6):
        for turn in range(3):
            assert found[number * 10 + turn].endswith(f"Question {number}.{turn}")


def test_given_a_client_that_was_closed_when_asked_then_it_says_so(gateway: GatewayThread) -> None:
    client = RayClient(gateway.url, retries=Retries())
    pauses: list[float] = []
    client._sleep = pauses.append
    client.infer("A question.")
    client.close()

    for ask in (lambda: client.infer("A question."), client.livez):
        with pytest.raises(RayRequestError, match="closed"):
            ask()
    assert pauses == []  # it will not open again


def test_given_a_stream_when_left_in_the_middle_then_the_model_stops() -> None:
    provider = FakeProvider(["Blue", asyncio.Event()])
    with gateway_in_a_thread(provider=provider) as gateway, RayClient(gateway.url) as client:
        with client.stream("A question.") as tokens:
            assert next(tokens) == "Blue"
            with pytest.raises(RuntimeError, match="not been read to its end"):
                _ = tokens.result
            assert provider.active == 1

        wait_until(lambda: provider.active == 0, 60, "the generation ends when its client leaves")


def test_given_an_answer_that_takes_too_long_when_the_time_is_over_then_the_model_stops() -> None:
    provider = FakeProvider(["Blue", asyncio.Event()])
    with gateway_in_a_thread(provider=provider) as gateway, RayClient(gateway.url) as client:
        with pytest.raises(RayTimeout):
            client.infer("A question.", timeout_ms=200)

        wait_until(lambda: provider.active == 0, 60, "the generation ends when its client leaves")


def test_given_a_stream_when_tokens_come_one_by_one_then_each_is_there_before_the_next_is_made() -> None:
    gate = asyncio.Event()
    provider = FakeProvider(["Blue", gate, " sky", STOP])
    with (
        gateway_in_a_thread(provider=provider) as gateway,
        RayClient(gateway.url) as client,
        client.stream("A question.") as tokens,
    ):
        assert next(tokens) == "Blue"
        gateway.call(gate.set)

        assert list(tokens) == [" sky"]
        assert tokens.result["output"] == "Blue sky"


def test_given_a_time_for_one_call_when_it_cannot_be_then_it_is_refused(gateway: GatewayThread) -> None:
    with RayClient(gateway.url) as client:
        with pytest.raises(ValueError, match="timeout_ms"):
            client.infer("A question.", timeout_ms=0)
        with pytest.raises(RayRequestError, match="wait_seconds"):
            client.job("job_1", wait_seconds=21)


def test_given_a_server_that_drips_when_the_time_is_over_then_the_bytes_that_come_do_not_extend_it() -> None:
    """Each byte arrives well within the time; all of them would not."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nx-slow: ")
                    while not stop.wait(0.02):
                        connection.sendall(b"a")
                except OSError:
                    pass

        thread = threading.Thread(target=drip)
        thread.start()
        begun = time.monotonic()
        with RayClient(f"http://127.0.0.1:{listener.getsockname()[1]}") as client, pytest.raises(RayTimeout):
            client.infer("A question.", timeout_ms=300)
        assert time.monotonic() - begun < 60
        stop.set()
        thread.join()
