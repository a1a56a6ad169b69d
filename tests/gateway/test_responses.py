"""How answers are written."""

from __future__ import annotations

import json

import pytest

from ray.errors import RayError
from ray.gateway.responses import error_response, json_body, json_response


class Strange:
    def __str__(self) -> str:
        return "strange"


CIRCULAR: dict[str, object] = {"a": 1}
CIRCULAR["self"] = CIRCULAR


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a": 1, "b": [True, None]}, b'{"a":1,"b":[true,null]}\n'),
        ({"text": "Grüße 🐍"}, '{"text":"Grüße 🐍"}\n'.encode()),
        ({"half": "\ud83d"}, b'{"half":"\\ud83d"}\n'),
        ({"half": "\ud83d", "whole": "ü"}, b'{"half":"\\ud83d","whole":"\\u00fc"}\n'),
        ({"ratio": float("nan"), "limit": float("inf")}, b'{"ratio":"NaN","limit":"Infinity"}\n'),
        ({"odd": Strange()}, b'{"odd":"strange"}\n'),
        (CIRCULAR, b'{"a":1,"self":"[Circular]"}\n'),
    ],
)
def test_json_is_compact_with_one_newline_and_always_succeeds(value: object, written: bytes) -> None:
    assert json_body(value) == written
    json.loads(written)


def test_every_json_answer_says_what_it_is_and_is_not_stored() -> None:
    response = json_response(200, {}, [("x-request-id", "req_1")])
    assert response.headers == [
        ("content-type", "application/json; charset=utf-8"),
        ("cache-control", "no-store"),
        ("x-request-id", "req_1"),
    ]


@pytest.mark.parametrize(
    ("error", "header"),
    [
        (RayError("queue_full", "full"), ("retry-after", "1")),
        (RayError("provider_timeout", "slow"), ("retry-after", "5")),
        (RayError("async_queue_storage_low", "low"), ("retry-after", "30")),
        (RayError("rate_limited", "again", retry_after=42), ("retry-after", "42")),
        (RayError("unauthorized", "who?"), ("www-authenticate", 'Bearer realm="ray"')),
    ],
)
def test_an_error_carries_the_header_its_code_asks_for(error: RayError, header: tuple[str, str]) -> None:
    assert header in error_response(error).headers


@pytest.mark.parametrize("code", ["provider_upstream_error", "async_queue_disabled", "request_aborted", "invalid_json"])
def test_other_errors_have_no_retry_after(code: str) -> None:
    assert all(name != "retry-after" for name, _ in error_response(RayError(code, "no")).headers)


def test_error_details_keep_the_status_and_lose_every_stack() -> None:
    details = {"self": CIRCULAR, "big": 10**30, "__proto__": "x", "Stack": "secret", "deep": [{"stack": "secret"}]}
    response = error_response(RayError("invalid_request", "odd", details=details))
    assert response.status == 400
    assert isinstance(response.body, bytes)
    assert b"secret" not in response.body
    written = json.loads(response.body)["error"]["details"]
    assert written["big"] == "[integer too large]"
    assert written["__proto__"] == "x"
    assert written["deep"] == [{}]
