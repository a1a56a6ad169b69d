"""Headers and requests as values."""

from __future__ import annotations

import asyncio

from ray.http import Headers, HttpError, Limits, Request


def test_headers_are_found_in_any_case_and_repeated_ones_read_as_a_list() -> None:
    headers = Headers([("X-Forwarded-For", "a"), ("accept", "*/*"), ("x-forwarded-for", "b, c")])
    assert headers.get("X-FORWARDED-FOR") == "a, b, c"
    assert headers.get_all("x-Forwarded-For") == ["a", "b, c"]
    assert headers.get("host") is None
    assert headers.get("host", "x") == "x"
    assert "Accept" in headers
    assert "host" not in headers
    assert len(headers) == 3
    assert headers.items()[0] == ("x-forwarded-for", "a")


def test_a_request_without_a_body_has_received_all_of_it() -> None:
    request = Request("GET", "/a?b", "/a", "b", "1.1", Headers(), "127.0.0.1", 0.0)
    assert not request.has_body
    assert request.body_received
    assert asyncio.run(request.read_body(0)) == b""


def test_an_error_keeps_its_own_copy_of_the_details() -> None:
    details: dict[str, object] = {"limitBytes": 1}
    error = HttpError(413, "body_too_large", "too large", details)
    details.clear()
    assert (error.status, error.code, str(error), error.details) == (
        413,
        "body_too_large",
        "too large",
        {"limitBytes": 1},
    )


def test_the_limits_are_those_that_are_documented() -> None:
    limits = Limits()
    assert (limits.max_connections, limits.max_header_bytes, limits.max_headers_count) == (256, 12_288, 64)
    assert (limits.max_target_chars, limits.max_host_chars, limits.max_requests_per_socket) == (8_192, 512, 1_000)
    assert (limits.headers_timeout_s, limits.request_timeout_s, limits.keep_alive_timeout_s) == (15, 30, 5)
    assert limits.write_stall_timeout_s == 30
    assert limits.read_ahead_bytes > limits.max_header_bytes
