"""One durable job as a value. Times are texts of one form, `2026-11-21T17:20:01.482Z`, so they compare as texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
CallbackStatus = Literal["pending", "delivered", "failed"]

TERMINAL: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})
MAX_ID_CHARS = 128

_ID_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


@dataclass(frozen=True, slots=True)
class JobError:
    """Why the last attempt failed. `code`: None for a failure that is no RayError; `details` are bounded JSON."""

    message: str
    code: str | None = None
    details: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class JobCallback:
    """The state of telling someone. `attempts` counts deliveries begun; `last_error` is a coarse reason."""

    url: str
    status: CallbackStatus = "pending"
    attempts: int = 0
    next_attempt_at: str | None = None
    last_attempt_at: str | None = None
    delivered_at: str | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class JobIdempotency:
    """SHA-256 in hex of (owner, Idempotency-Key), and of what was submitted with it."""

    key_hash: str
    payload_hash: str


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job. `request`: the stored request (`stored_request`); `result`: the response object of http-api section 4.2.

    `attempts` counts starts, not failures. `deadline_at`: no attempt begins later. `result_ttl_ms`: the job's own
    retention, None for the configured one. `owner`: scope of the caller who submitted it.
    """

    id: str
    status: JobStatus
    request: Mapping[str, object]
    created_at: str
    updated_at: str
    attempts: int
    max_attempts: int
    deadline_at: str
    next_attempt_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    expires_at: str | None = None
    result_ttl_ms: int | None = None
    result: Mapping[str, object] | None = None
    error: JobError | None = None
    callback: JobCallback | None = None
    owner: str | None = None
    idempotency: JobIdempotency | None = None
    cancel_requested: bool = False

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    @property
    def is_settled(self) -> bool:
        """Nothing is left to do: the job is over, and whoever was to be told was told, or it was given up."""
        return self.is_terminal and (self.callback is None or self.callback.status != "pending")

    @property
    def is_light(self) -> bool:
        """Prompt and answer are on disk only; such a record is refused by `encode`."""
        return not self.request


def is_job_id(name: str) -> bool:
    """1 to 128 of `A-Z a-z 0-9 _ -`: no id can name a file elsewhere."""
    return 1 <= len(name) <= MAX_ID_CHARS and _ID_CHARACTERS.issuperset(name)


def light(record: JobRecord) -> JobRecord:
    """The record without prompt and answer: what the index in memory holds."""
    return record if record.is_light else replace(record, request={}, result=None)
