"""Backpressure to rely on: each refusal has its code, its status and its `Retry-After`, and comes at once."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.faults.conftest import mock_config
from tests.integration.backend import PATIENCE_SECONDS, Answer, GatewayProcess, ask, wait_until
from tests.integration.conftest import StartGateway


def error_of(answer: Answer) -> dict[str, object]:
    error = answer.json()["error"]
    assert isinstance(error, dict)
    return error


def gauges(gateway: GatewayProcess) -> dict[str, object]:
    document = gateway.get("/metrics").json()["gauges"]
    assert isinstance(document, dict)
    return document


def hold(gateway: GatewayProcess, *inputs: str) -> list[threading.Thread]:
    """Ask without waiting for the answers; returns when all of them are running or queued."""
    before = _held(gateway)
    threads = []
    for text in inputs:
        document = {"input": text, "maxTokens": 8, "cache": False}
        thread = threading.Thread(target=_ask_quietly, args=(gateway.port, document), daemon=True)
        thread.start()
        threads.append(thread)
    wait_until(
        lambda: _held(gateway) == before + len(inputs), PATIENCE_SECONDS, f"{len(inputs)} more requests are held"
    )
    return threads


@contextmanager
def open_request(port: int, text: str) -> Iterator[None]:
    """A request whose client goes away without reading: the connection closes when the block ends."""
    body = json.dumps({"input": text, "cache": False, "maxTokens": 8}).encode()
    head = (
        f"POST /v1/infer HTTP/1.1\r\nhost: ray\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + body)
        yield


def _held(gateway: GatewayProcess) -> float:
    seen = gauges(gateway)
    return float(str(seen["queue.depth"])) + float(str(seen["inference.in_flight"]))


def _ask_quietly(port: int, document: dict[str, object]) -> None:
    with suppress(OSError, http.client.HTTPException):  # the test ends the gateway while this still waits
        ask(port, "POST", "/v1/infer", document)


def test_given_a_full_queue_then_503_at_once_with_retry_after_and_the_gateway_stays_responsive(
    start_gateway: StartGateway,
) -> None:
    gateway = start_gateway(
        mock_config(
            scheduler={"concurrency": 1, "maxQueue": 2, "affinityLookahead": 2, "requestTimeoutMs": 100_000},
            gracefulDegradation={"queueDepthThreshold": 1},
        )
    )
    hold(gateway, "first", "second", "third")

    refused = gateway.post("/v1/infer", {"input": "fourth", "cache": False})

    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    error = error_of(refused)
    assert error["code"] == "queue_full"
    details = error["details"]
    assert isinstance(details, dict)
    assert (details["queueDepth"], details["maxQueue"], details["inFlight"]) == (2, 2, 1)
    assert gateway.get("/livez").status == 200
    ready = gateway.get("/readyz")
    assert ready.status == 200
    reasons = ready.json()["reasons"]
    assert isinstance(reasons, list)
    # The machine that runs this test may be under pressure of its own.
    assert "queue_pressure" in reasons


def test_given_a_request_over_the_token_budget_then_413_without_waiting(start_gateway: StartGateway) -> None:
    gateway = start_gateway(mock_config(scheduler={"maxInflightTokens": 300}))

    refused = gateway.post("/v1/infer", {"input": "word " * 1_000, "maxTokens": 192})

    assert refused.status == 413
    assert error_of(refused)["code"] == "request_token_budget_exceeded"
    assert "retry-after" not in refused.headers


def test_given_a_deadline_then_504_with_retry_after_and_the_slot_is_free_again(start_gateway: StartGateway) -> None:
    gateway = start_gateway(mock_config(scheduler={"requestTimeoutMs": 300}))

    late = gateway.post("/v1/infer", {"input": "too slow", "cache": False})

    assert (late.status, late.headers["retry-after"]) == (504, "5")
    assert error_of(late)["code"] == "request_timeout"
    wait_until(lambda: gauges(gateway)["inference.in_flight"] == 0, PATIENCE_SECONDS, "the slot is free")


def test_given_a_limit_of_two_then_the_third_is_429_and_says_when_to_come_back(start_gateway: StartGateway) -> None:
    gateway = start_gateway(
        {
            "profile": "tiny",
            "rateLimit": {"enabled": True, "maxRequests": 2, "windowMs": 60_000, "keyStrategy": "ip"},
        }
    )
    statuses = [gateway.post("/v1/infer", {"input": "hello"}).status for _ in range(2)]

    third = gateway.post("/v1/infer", {"input": "hello"})

    assert (statuses, third.status) == ([200, 200], 429)
    assert error_of(third)["code"] == "rate_limited"
    assert 1 <= int(third.headers["retry-after"]) <= 60
    assert (third.headers["x-ratelimit-limit"], third.headers["x-ratelimit-remaining"]) == ("2", "0")
    assert gateway.get("/livez").status == 200


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic c2VjcmV0", "Bearer a b", "Bearer"])
def test_given_auth_when_the_key_is_missing_or_bad_then_401_and_neither_key_is_ever_shown(
    start_gateway: StartGateway, authorization: str | None
) -> None:
    secret = "correct-horse-battery-staple"
    gateway = start_gateway({"profile": "tiny", "auth": {"enabled": True}}, environ={"RAY_API_KEYS": secret})
    headers = {} if authorization is None else {"authorization": authorization}

    refused = gateway.post("/v1/infer", {"input": "hello"}, headers=headers)

    assert refused.status == 401
    assert refused.headers["www-authenticate"] == 'Bearer realm="ray"'
    assert error_of(refused)["code"] == "unauthorized"
    assert gateway.post("/v1/infer", {"input": "hello"}, headers={"authorization": f"Bearer {secret}"}).status == 200
    config = gateway.get("/v1/config", headers={"authorization": f"Bearer {secret}"})
    for shown in (gateway.output(), refused.body.decode(), config.body.decode()):
        assert secret not in shown
        assert "wrong" not in shown


def test_given_auth_without_keys_then_it_does_not_start_and_says_which_variable_is_empty(
    start_gateway: StartGateway,
) -> None:
    with pytest.raises(AssertionError, match="the gateway ended with 1") as refused:
        start_gateway({"profile": "tiny", "auth": {"enabled": True}})

    line = json.loads(str(refused.value).splitlines()[1])
    assert (line["level"], line["message"]) == ("error", "gateway boot failed")
    assert "RAY_API_KEYS" in line["error"]["message"]


def test_given_a_taken_port_then_it_ends_with_1_and_names_the_address(start_gateway: StartGateway) -> None:
    first = start_gateway({"profile": "tiny"})

    with pytest.raises(AssertionError, match="the gateway ended with 1") as refused:
        start_gateway({"profile": "tiny", "server": {"port": first.port}})

    assert f"127.0.0.1:{first.port}" in str(refused.value)
    assert first.get("/livez").status == 200


def test_given_more_clients_than_places_when_all_leave_then_nothing_is_left_behind(start_gateway: StartGateway) -> None:
    gateway = start_gateway(
        mock_config(
            model={"adapter": {"kind": "mock", "latencyMs": 60_000}},
            scheduler={"concurrency": 2, "maxQueue": 16, "requestTimeoutMs": 100_000},
        )
    )
    with ExitStack() as clients:
        for number in range(10):
            clients.enter_context(open_request(gateway.port, f"client {number}"))
        wait_until(lambda: _held(gateway) == 10, PATIENCE_SECONDS, "ten requests are held")

    wait_until(lambda: _held(gateway) == 0, PATIENCE_SECONDS, "all are gone")
    seen = gauges(gateway)
    assert (seen["queue.tokens"], seen["inference.in_flight_tokens"]) == (0, 0)
