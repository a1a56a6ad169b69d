"""What a client says about a job besides the question itself: its id, its options, its queries.

Pure functions; everything they refuse is RayError `invalid_request` and names the `field`. They look at forms only:
which callback may be called, how long an answer may be kept and what a cursor stands for is the queue's to judge.
Source: jobs, sections 14 and 17 (B4, B10).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from ray.errors import RayError, truncated

JOBS_PATH = "/v1/jobs"
MAX_ID_CHARS = 128
MAX_SHOWN_CHARS = 128
MAX_WAIT_SECONDS = 20
MAX_PAGE = 100
DEFAULT_PAGE = 20

_ID_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


@dataclass(frozen=True, slots=True)
class JobOptions:
    """`callback_url`: as it was sent. `result_ttl_ms`: None for the configured time."""

    callback_url: str | None
    result_ttl_ms: int | None


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which page of the list is wanted."""

    status: str | None
    limit: int
    cursor: str | None


def job_id(path: str) -> str:
    """The id in `/v1/jobs/{id}` or below it, taken as it is: nothing is decoded. Raises `invalid_request`."""
    text = path.split("/")[3]
    if len(text) > MAX_ID_CHARS or not text or not _ID_CHARS.issuperset(text):
        raise RayError(
            "invalid_request",
            "a job id has 1 to 128 letters, digits, underscores and hyphens",
            details={"field": "id", "maxChars": MAX_ID_CHARS},
        )
    return text


def job_options(body: Mapping[str, object]) -> JobOptions:
    """The fields that only a job has. Raises `invalid_request`; an explicit null is never "absent"."""
    callback_url = body.get("callbackUrl")
    if "callbackUrl" in body and not isinstance(callback_url, str):
        _refuse("callbackUrl must be a string: leave it out for a job without callback", "callbackUrl", callback_url)
    if body.get("stream", False) is not False:
        _refuse("a job's answer cannot be streamed: use POST /v1/infer, or leave stream out", "stream", body["stream"])
    ttl = _milliseconds(body["resultTtlMs"]) if "resultTtlMs" in body else None
    return JobOptions(callback_url if isinstance(callback_url, str) else None, ttl)


def _milliseconds(value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse("resultTtlMs must be a whole number of milliseconds", "resultTtlMs", value)
    return value


def page_query(query: str) -> PageQuery:
    """The parameters of the list; unknown ones are ignored, empty ones count as absent. Raises `invalid_request`."""
    given = _parameters(query, ("status", "limit", "cursor"))
    limit = DEFAULT_PAGE if "limit" not in given else _whole(given["limit"], "limit", 1, MAX_PAGE)
    return PageQuery(given.get("status"), limit, given.get("cursor"))


def wait_seconds(query: str) -> int:
    """How long the answer may wait for the job to settle: `?wait=`, 0 when absent. Raises `invalid_request`."""
    wait = _parameters(query, ("wait",)).get("wait")
    return 0 if wait is None else _whole(wait, "wait", 0, MAX_WAIT_SECONDS)


def _whole(text: str, field: str, low: int, high: int) -> int:
    if len(text) > len(str(high)) or not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
        _refuse(f"{field} must be a whole number from {low} to {high}", field, text)
    return int(text)


def _parameters(query: str, names: tuple[str, ...]) -> dict[str, str]:
    """The parameters with these names. Raises `invalid_request` when one of them is given twice."""
    found: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        if name not in names or not value:
            continue
        if name in found:
            _refuse(f"{name} is given more than once", name, value)
        if "%" in value:
            from urllib.parse import unquote  # nothing that Ray hands out needs escapes

            value = unquote(value)
        found[name] = value
    return found


def _refuse(message: str, field: str, value: object) -> NoReturn:
    shown = truncated(value, MAX_SHOWN_CHARS) if isinstance(value, str) else value
    raise RayError("invalid_request", message, details={"field": field, "value": shown})
