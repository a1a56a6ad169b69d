"""Response heads as bytes."""

from __future__ import annotations

import pytest

from ray.http import Response
from ray.http.response import ResponseTail, encode_head, http_date, sends_body


def test_the_date_is_an_imf_fixdate() -> None:
    assert http_date(784_111_777) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert http_date(951_782_400.9) == "Tue, 29 Feb 2000 00:00:00 GMT"


def test_a_head_is_a_status_line_the_headers_and_an_empty_line() -> None:
    response = Response(200, [("content-type", "text/plain"), ("x", "\xe9")])
    assert encode_head(response, "content-length: 0\r\n", "connection: close\r\n") == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx: \xe9\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )


def test_a_status_without_a_known_phrase_keeps_the_space_before_it() -> None:
    assert encode_head(Response(599), "", "") == b"HTTP/1.1 599 \r\n\r\n"


@pytest.mark.parametrize("status", [0, 100, 101, 199, 600])
def test_a_status_that_is_not_final_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="final"):
        encode_head(Response(status), "", "")


@pytest.mark.parametrize(
    "header",
    [("x", "a\r\nb: c"), ("x", "a\n"), ("x", "\ra"), ("x\r\nb", "a"), ("x", "a\0"), ("x", "a\r\n"), ("a\n", "\r")],
)
def test_a_header_cannot_become_two(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        encode_head(Response(200, [header]), "", "")


def test_keep_alive_names_its_limits_and_close_does_not() -> None:
    tail = ResponseTail(5.0, 1_000)
    assert tail.lines(keep_alive=True).endswith("connection: keep-alive\r\nkeep-alive: timeout=5, max=1000\r\n")
    assert tail.lines(keep_alive=False).endswith("GMT\r\nconnection: close\r\n")


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [("GET", 200, True), ("HEAD", 200, False), ("GET", 204, False), ("POST", 304, False), ("POST", 500, True)],
)
def test_which_responses_have_a_body(method: str, status: int, expected: bool) -> None:
    assert sends_body(method, status) is expected
