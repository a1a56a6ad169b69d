"""From an HTTP answer to a document or an exception; the same for both clients. No sockets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NoReturn

from ray.client.calls import Call
from ray.client.documents import Document
from ray.client.errors import (
    RayAnswerError,
    RayClientError,
    RayConnectionError,
    RayRefused,
    RayRequestError,
    RayTimeout,
    RayUnreachable,
)
from ray.errors import CODES
from ray.http import (
    ClientConnectionError,
    ClientError,
    ClientRequestError,
    ClientResponse,
    ClientResponseTooLarge,
    ClientTimeout,
    ClientUnreachable,
)

# What a refusal may say; the gateway's own are far shorter.
MAX_ERROR_BYTES = 65_536
_MAX_SHOWN_CHARS = 1_000
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def document_of(call: Call, response: ClientResponse) -> Document:
    """The JSON object of a 2xx answer; {} for 204. Raises RayRefused and RayAnswerError."""
    if not 200 <= response.status < 300:
        raise refusal(call, response)
    if response.status == 204:
        return {}
    kind = media_type(response.headers)
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        _unusable(call, response, f"answered with content type {_shown(kind) or 'none'} instead of JSON")
    try:
        document = json.loads(response.body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        _unusable(call, response, "answered with invalid JSON")
    if not isinstance(document, dict):
        _unusable(call, response, "answered with JSON that is not an object")
    return document


def listed(call: Call, document: Document, key: str) -> list[Document]:
    """The objects in a list of a document. Raises RayAnswerError when there is none."""
    items = document.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise RayAnswerError(f"{call.shown}: the answer has no list of objects under {key!r}")
    return items


def next_cursor(page: Document) -> str | None:
    cursor = page.get("nextCursor")
    return cursor if isinstance(cursor, str) else None


def refusal(call: Call, response: ClientResponse) -> RayRefused:
    """What an answer that is no success says. A redirect is one, too: a key must not follow it to another host."""
    body = response.body.decode("utf-8", "replace")
    try:
        document = json.loads(body, object_pairs_hook=_without_stack)
        body = json.dumps(document, ensure_ascii=False)
    except (ValueError, RecursionError):
        document = None
    if response.truncated:
        declared = f" of {response.declared_length}" if response.declared_length is not None else ""
        body += f" [cut after {len(response.body)}{declared} bytes]"
    code, message = error_fields_of(document)
    return RayRefused(
        f"{call.shown}: {response.status} {code or ''}".rstrip() + f": {_shown(message or body) or 'no explanation'}",
        status=response.status,
        code=code,
        retry_after=retry_after_seconds(response.headers.get("retry-after")),
        request_id=request_id_of(response.headers),
        body=body,
    )


def stream_refusal(call: Call, data: str, request_id: str | None) -> RayRefused:
    """An error that comes in the middle of a stream. The status line was sent long ago, so the code's own is given."""
    try:
        document = json.loads(data, object_pairs_hook=_without_stack)
    except (ValueError, RecursionError):
        document = None
    code, message = error_fields_of(document)
    rule = CODES.get(code or "")
    return RayRefused(
        f"{call.shown}: in the middle of the answer: {code or 'no code'}: {_shown(message or data)}",
        status=rule.status if rule else None,
        code=code,
        retry_after=rule.retry_after if rule else None,
        request_id=request_id,
        body=data if document is None else json.dumps(document, ensure_ascii=False),
    )


def error_fields_of(document: object) -> tuple[str | None, str | None]:
    """Code and message of an error envelope, of Ray's own or OpenAI's; None for what is not there."""
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict):
        return None, None
    code, message = error.get("code"), error.get("message")
    return (
        code if isinstance(code, str) and _CODE.fullmatch(code) else None,
        message if isinstance(message, str) else None,
    )


def failure(call: Call, error: ClientError, timeout_ms: int, request_id: str | None = None) -> RayClientError:
    """What went wrong on the way, in this room's words."""
    if isinstance(error, ClientTimeout):
        return RayTimeout(f"{call.shown}: no complete answer within {timeout_ms} ms", request_id=request_id)
    if isinstance(error, ClientResponseTooLarge):
        declared = f" ({error.declared_length} declared)" if error.declared_length is not None else ""
        return RayAnswerError(
            f"{call.shown}: the answer is larger than response_body_limit_bytes, {error.limit_bytes} bytes{declared}",
            request_id=request_id,
        )
    if isinstance(error, ClientRequestError):
        return RayRequestError(f"{call.shown}: {error}")
    if isinstance(error, ClientUnreachable):
        return RayUnreachable(f"{call.shown}: cannot reach the gateway: {_shown(str(error))}")
    kind = RayConnectionError if isinstance(error, ClientConnectionError) else RayClientError
    return kind(f"{call.shown}: {_shown(str(error))}", request_id=request_id)


def retry_after_seconds(value: str | None) -> float | None:
    """Seconds of a `Retry-After` header, which may also be a date (RFC 9110, section 10.2.3); None if unreadable."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    import time
    from email.utils import parsedate_to_datetime  # a proxy's way of saying it; Ray writes seconds

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def request_id_of(headers: Mapping[str, str]) -> str | None:
    value = headers.get("x-request-id", "")
    return value if _REQUEST_ID.fullmatch(value) else None


def media_type(headers: Mapping[str, str]) -> str:
    """The content type without its parameters, in lower case."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def unusable(call: Call, response_headers: Mapping[str, str], status: int | None, what: str) -> RayAnswerError:
    return RayAnswerError(f"{call.shown}: {what}", status=status, request_id=request_id_of(response_headers))


def _unusable(call: Call, response: ClientResponse, what: str) -> NoReturn:
    raise unusable(call, response.headers, response.status, what) from None


def _without_stack(pairs: list[tuple[str, object]]) -> dict[str, object]:
    return {key: value for key, value in pairs if key.lower() != "stack"}


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _shown(text: str) -> str:
    """A text from the other side in a message: bounded, and on one line that a terminal can show."""
    text = text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}…"
    return "".join(char if char.isprintable() else " " for char in text).strip()
