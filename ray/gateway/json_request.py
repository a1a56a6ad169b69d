"""From the bytes of a request body to a JSON value, with every refusal on the way.

The header checks come before the first byte of the body is asked for, so no `100 Continue` is ever sent to an upload
that would be refused anyway. Source: http-api, section 2, steps 5 to 7; RFC 8259, section 8.1.
"""

from __future__ import annotations

import json
from typing import NoReturn

from ray.errors import RayError, truncated
from ray.http import Headers, Request

MAX_CONTENT_TYPE_CHARS = 256
MAX_CONTENT_ENCODING_CHARS = 128
MAX_SHOWN_CHARS = 128
MAX_PARSE_MESSAGE_CHARS = 256
SUPPORTED_CONTENT_TYPES = ["application/json", "application/*+json"]


async def read_json(request: Request, limit_bytes: int) -> object:
    """The body as a JSON value; an empty body is `{}`.

    Raises RayError `unsupported_media_type`, `unsupported_content_encoding`, `invalid_json`, and what the HTTP layer
    raises while reading (`body_too_large`, `length_required`, `http_request_timeout`).
    """
    check_content_type(request.headers)
    check_content_encoding(request.headers)
    return parse_json(await request.read_body(limit_bytes))


def check_content_type(headers: Headers) -> None:
    """Only JSON media types pass; parameters such as a charset are ignored. Raises `unsupported_media_type`."""
    value = headers.get("content-type")
    if value == "application/json":
        return
    if value is None or not value.strip():
        raise RayError(
            "unsupported_media_type",
            "the Content-Type is missing: send application/json",
            details={"supported": SUPPORTED_CONTENT_TYPES},
        )
    if len(value) > MAX_CONTENT_TYPE_CHARS:
        raise RayError(
            "unsupported_media_type",
            "the Content-Type is too long",
            details={"actualChars": len(value), "maxChars": MAX_CONTENT_TYPE_CHARS},
        )
    media_type = value.partition(";")[0].strip().lower()
    kind, _, subtype = media_type.partition("/")
    if kind == "application" and (subtype == "json" or (subtype.endswith("+json") and len(subtype) > len("+json"))):
        return
    raise RayError(
        "unsupported_media_type",
        "the Content-Type must be application/json or application/*+json",
        details={"contentType": truncated(value, MAX_SHOWN_CHARS), "supported": SUPPORTED_CONTENT_TYPES},
    )


def check_content_encoding(headers: Headers) -> None:
    """Only `identity` passes, however often it is said. Raises `unsupported_content_encoding`."""
    lines = headers.get_all("content-encoding")
    if not lines:
        return
    value = ",".join(lines)
    if len(value) > MAX_CONTENT_ENCODING_CHARS:
        raise RayError(
            "unsupported_content_encoding",
            "the Content-Encoding is too long",
            details={"actualChars": len(value), "maxChars": MAX_CONTENT_ENCODING_CHARS},
        )
    if all(coding.strip().lower() == "identity" for coding in value.split(",")):
        return
    raise RayError(
        "unsupported_content_encoding",
        "compressed request bodies are not supported: send the body as it is",
        details={"contentEncoding": truncated(value, MAX_SHOWN_CHARS), "supported": ["identity"]},
    )


def parse_json(body: bytes) -> object:
    """RFC 8259 and nothing more: no NaN, no byte order mark, no invalid UTF-8. Raises `invalid_json`.

    The last of several equal keys wins, as in every common JSON reader.
    """
    if not body:
        return {}
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _invalid_json("UnicodeDecodeError", f"invalid UTF-8 at byte {error.start}") from None
    try:
        return _DECODE(text)
    except RecursionError:
        raise _invalid_json("RecursionError", "the document is nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, a refused constant, or a number of more digits than Python reads
        raise _invalid_json(type(error).__name__, truncated(str(error), MAX_PARSE_MESSAGE_CHARS)) from None


def _invalid_json(name: str, message: str) -> RayError:
    return RayError(
        "invalid_json",
        "the request body is not valid JSON",
        details={"name": name, "message": message},
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODE = json.JSONDecoder(parse_constant=_refuse_constant).decode
