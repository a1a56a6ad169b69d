"""What a client says about a job besides the question itself: its id, its options, its queries.

Pure functions; everything they refuse is RayError `invalid_request` and names the `field`. They look at forms only:
which callback may be called, how long an answer may be kept and what a cursor stands for is the queue's to judge.
Source: jobs, sections 14 and 17 (B4, B10).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict, cast

from ray.errors import truncated
from ray.runtime import INFER_FIELDS, Field, OneOf, Text, Whole, read_fields, refuse

JOBS_PATH = "/v1/jobs"
MAX_ID_CHARS = 128
MAX_SHOWN_CHARS = 128
MAX_KEY_CHARS = 257  # of Idempotency-Key, with its quotation marks
MAX_WAIT_SECONDS = 20
MAX_PAGE = 100
DEFAULT_PAGE = 20

# The states a job can be in. The queue's own list is not read: who keeps no jobs does not load the code for them.
JOB_STATES = ("queued", "running", "succeeded", "failed", "cancelled")

OPTION_FIELDS = (
    Field("callbackUrl", Text(), "Who is told when the job has ended: an absolute http or https URL."),
    Field("stream", OneOf(False), "A job's answer cannot be streamed.", default=False),
    Field(
        "resultTtlMs", Whole(low=1), "How long the job is kept once it has ended, in ms; at most the configured time."
    ),
)
JOB_FIELDS = (*INFER_FIELDS, *OPTION_FIELDS)
PAGE_QUERY = (
    Field("status", OneOf(*JOB_STATES), "Only the jobs in this state."),
    Field("limit", Whole(1, MAX_PAGE), "How many at most.", default=DEFAULT_PAGE),
    Field("cursor", Text(), "The `nextCursor` of the page before."),
)
WAIT_QUERY = (
    Field("wait", Whole(0, MAX_WAIT_SECONDS), "Seconds that the answer may wait for the job to end.", default=0),
)

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


class JobId:
    """The kind of value that names a job."""

    __slots__ = ()

    def fits(self, value: object) -> bool:
        return isinstance(value, str)

    def read(self, value: object, field: str, name: str = "") -> str:
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID_CHARS or not _ID_CHARS.issuperset(value):
            refuse(f"{name or field} must be {self.allowed()}", field, maxChars=MAX_ID_CHARS)
        return value

    def allowed(self) -> str:
        return f"1 to {MAX_ID_CHARS} letters, digits, underscores and hyphens"

    def schema(self) -> dict[str, object]:
        return {"type": "string", "pattern": f"^[A-Za-z0-9_-]{{1,{MAX_ID_CHARS}}}$"}


ID_PATH = (Field("id", JobId(), "The job's id."),)


def job_id(path: str) -> str:
    """The id in `/v1/jobs/{id}` or below it, taken as it is: nothing is decoded. Raises `invalid_request`."""
    return JobId().read(path.split("/")[3], "id")


class _Options(TypedDict, total=False):
    """What reading `OPTION_FIELDS` finds."""

    callbackUrl: str
    resultTtlMs: int


def job_options(body: Mapping[str, object]) -> JobOptions:
    """The fields that only a job has. Raises `invalid_request`; an explicit null is never "absent"."""
    if body.get("stream", False) is not False:
        refuse("a job's answer cannot be streamed: use POST /v1/infer, or leave stream out", "stream")
    given = cast("_Options", read_fields(body, OPTION_FIELDS))
    return JobOptions(given.get("callbackUrl"), given.get("resultTtlMs"))


class _Page(TypedDict, total=False):
    """What reading `PAGE_QUERY` finds."""

    status: str
    limit: int
    cursor: str


def page_query(query: str) -> PageQuery:
    """The parameters of the list; unknown ones are ignored, empty ones count as absent. Raises `invalid_request`."""
    given = cast("_Page", _parameters(query, PAGE_QUERY))
    return PageQuery(given.get("status"), given.get("limit", DEFAULT_PAGE), given.get("cursor"))


def wait_seconds(query: str) -> int:
    """How long the answer may wait for the job to settle: `?wait=`, 0 when absent. Raises `invalid_request`."""
    return cast("int", _parameters(query, WAIT_QUERY).get("wait", 0))


def _parameters(query: str, fields: tuple[Field, ...]) -> dict[str, object]:
    """The parameters with these names, read. Raises `invalid_request` also when one of them is given twice."""
    names = {field.name: field for field in fields}
    found: dict[str, object] = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        field = names.get(name)
        if field is None or not value:
            continue
        if name in found:
            refuse(f"{name} is given more than once", name, value=truncated(value, MAX_SHOWN_CHARS))
        if "%" in value:
            from urllib.parse import unquote  # nothing that Ray hands out needs escapes

            value = unquote(value)
        found[name] = _whole(value, field.kind, name) if isinstance(field.kind, Whole) else value
    return read_fields(found, fields)


def _whole(text: str, kind: Whole, field: str) -> int:
    """Decimal digits and nothing else, so that no sign, space or foreign digit has a meaning by accident."""
    if len(text) > len(str(kind.high)) or not (text.isascii() and text.isdigit()):
        refuse(f"{field} must be {kind.allowed()}", field, value=truncated(text, MAX_SHOWN_CHARS))
    return int(text)
