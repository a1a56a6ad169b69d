"""A caller's jobs page by page, newest first: pure functions of the records. Source: jobs, section 17 (B4)."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from ray.errors import RayError
from ray.jobs.record import JobRecord, JobStatus, is_job_id

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_CURSOR_CHARS = 512
STATUSES: tuple[str, ...] = get_args(JobStatus)

Position = tuple[str, str]


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some records, without prompts and answers. `next_cursor`: where the next page begins, None after the last."""

    records: tuple[JobRecord, ...]
    next_cursor: str | None


def page_of(records: Iterable[JobRecord], status: str | None, limit: int, cursor: str | None) -> JobPage:
    """One page. `status`: only these, None for all; `limit`: 1 to 100; `cursor`: as the page before gave it.

    Raises `RayError invalid_request` for values out of range. A job that comes or goes between two pages disturbs no
    other: the cursor is a place in the order, not a count.
    """
    if status is not None and status not in STATUSES:
        raise _bad("status", f"status must be one of {', '.join(STATUSES)}")
    if not 1 <= limit <= MAX_LIMIT:
        raise _bad("limit", f"limit must be from 1 to {MAX_LIMIT}")
    after = None if cursor is None else position_in(cursor)
    chosen = sorted(
        (
            record
            for record in records
            if (status is None or record.status == status) and (after is None or _position(record) < after)
        ),
        key=_position,
        reverse=True,
    )
    page = tuple(chosen[:limit])
    return JobPage(page, cursor_after(page[-1]) if len(chosen) > limit else None)


def _position(record: JobRecord) -> Position:
    # One fixed form of timestamp: texts sort as the moments do.
    return (record.created_at, record.id)


def cursor_after(record: JobRecord) -> str:
    """Opaque to clients: the record's place in the order."""
    return urlsafe_b64encode(f"{record.created_at} {record.id}".encode("ascii")).decode("ascii").rstrip("=")


def position_in(cursor: str) -> Position:
    """The place a cursor stands for. Raises `RayError invalid_request` for a text that is none."""
    try:
        if len(cursor) > MAX_CURSOR_CHARS:
            raise ValueError("too long")
        decoded = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode("ascii")
        created_at, job_id = decoded.split(" ")
        if not is_job_id(job_id) or len(created_at) != len("2026-11-21T17:20:01.482Z"):
            raise ValueError("no position")
    except (ValueError, binascii.Error):
        raise _bad("cursor", "cursor is none that a list of jobs gave; begin again without one") from None
    return (created_at, job_id)


def _bad(field: str, message: str) -> RayError:
    return RayError("invalid_request", message, details={"field": field})
