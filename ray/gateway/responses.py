"""How answers are written: compact JSON with one trailing newline, and the headers every answer carries.

Whatever a backend put into a health detail, writing an answer never fails: what JSON cannot hold is replaced by text.
Source: http-api, sections 7, 8 and 16.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from ray.errors import RayError, bounded
from ray.gateway.auth import CHALLENGE
from ray.http import Response

Header = tuple[str, str]

JSON_CONTENT_TYPE = "application/json; charset=utf-8"
EVENT_STREAM_CONTENT_TYPE = "text/event-stream; charset=utf-8"
NO_STORE: Header = ("cache-control", "no-store")
REQUEST_ID_HEADER = "x-request-id"

_JSON_HEADERS: tuple[Header, ...] = (("content-type", JSON_CONTENT_TYPE), NO_STORE)
# `x-accel-buffering` asks nginx-like proxies to hand every event on at once.
_EVENT_STREAM_HEADERS: tuple[Header, ...] = (
    ("content-type", EVENT_STREAM_CONTENT_TYPE),
    NO_STORE,
    ("x-accel-buffering", "no"),
)

_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_ENCODE_ASCII = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode


def json_text(value: object) -> str:
    """`value` as compact JSON that has a UTF-8 form.

    Non-finite numbers, cycles and foreign objects become text (`ray.errors.bounded`); a lone surrogate (half of a pair,
    which no UTF-8 can hold) is written as an escape.
    """
    try:
        text = _ENCODE(value)
    except (TypeError, ValueError, RecursionError):
        value = bounded(value)
        text = _ENCODE(value)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return _ENCODE_ASCII(value)
    return text


def json_body(value: object) -> bytes:
    """`json_text` as UTF-8 with one trailing newline."""
    return json_text(value).encode("utf-8") + b"\n"


def json_response(status: int, value: object, headers: Sequence[Header] = ()) -> Response:
    """A JSON answer; `headers` come after the ones every JSON answer has."""
    return Response(status, [*_JSON_HEADERS, *headers], json_body(value))


def prepared_json_response(body: bytes, headers: Sequence[Header] = ()) -> Response:
    """A 200 whose body `json_body` has made before."""
    return Response(200, [*_JSON_HEADERS, *headers], body)


def event_stream_headers(headers: Sequence[Header] = ()) -> list[Header]:
    """The headers of a server-sent event stream."""
    return [*_EVENT_STREAM_HEADERS, *headers]


def error_response(
    error: RayError,
    headers: Sequence[Header] = (),
    document: Callable[[RayError], dict[str, object]] = RayError.envelope,
) -> Response:
    """The error as a `document`, with the headers its code asks for (`retry-after`, `www-authenticate`)."""
    own: list[Header] = []
    if error.retry_after is not None:
        own.append(("retry-after", str(error.retry_after)))
    if error.status == 401:
        own.append(CHALLENGE)
    return json_response(error.status, document(error), [*own, *headers])
