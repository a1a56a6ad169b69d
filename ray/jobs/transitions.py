"""What happens to a job, as pure functions from one record to the next.

`now` is Unix seconds. Nothing here writes or publishes: a record that is returned is what should be made durable next.
Terminal records never change their status again. Source: jobs, sections 5 to 8 and 17 (B4, B6, B10).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ray.clock import iso_timestamp
from ray.jobs.record import JobCallback, JobError, JobRecord, without_prompt

JOB_LIFETIME_S = 86_400.0

# Why a callback failed whose attempts were used up before the limit was lowered.
NO_ATTEMPTS_LEFT = "no_attempts_left"


class Retention:
    """How long a finished job is kept (`ttl_ms`, unless it has a shorter time of its own), and whether with its
    prompt."""

    __slots__ = ("retain_request", "ttl_ms")

    def __init__(self, ttl_ms: int, *, retain_request: bool) -> None:
        self.ttl_ms = ttl_ms
        self.retain_request = retain_request

    def end_of(self, record: JobRecord, now: float) -> str:
        return iso_timestamp(now + (record.result_ttl_ms or self.ttl_ms) / 1000)


def is_expired(record: JobRecord, moment: str) -> bool:
    """`moment`: a timestamp. Timestamps have one form, so their texts compare as the moments do."""
    return record.expires_at is not None and moment >= record.expires_at and record.is_settled


def is_overdue(record: JobRecord, moment: str) -> bool:
    """Its time is up, and no attempt is under way."""
    return record.status == "queued" and moment >= record.deadline_at


def started(record: JobRecord, now: float) -> JobRecord | None:
    """The next attempt begins, and is counted before it does. None: there is nothing to start any more."""
    if record.status != "queued" or record.cancel_requested:
        return None
    return replace(
        record,
        status="running",
        attempts=record.attempts + 1,
        started_at=iso_timestamp(now),
        updated_at=iso_timestamp(now),
        next_attempt_at=None,
        error=None,
    )


def _text(moment: float | None) -> str | None:
    return None if moment is None else iso_timestamp(moment)


def requeued(record: JobRecord, error: JobError | None, now: float, next_attempt_at: float | None) -> JobRecord:
    """The attempt is over, and there will be another one."""
    return replace(
        record, status="queued", error=error, updated_at=iso_timestamp(now), next_attempt_at=_text(next_attempt_at)
    )


def refunded(record: JobRecord, error: JobError | None, now: float, next_attempt_at: float | None) -> JobRecord:
    """The attempt is over, will be made again, and does not count."""
    record = replace(record, attempts=max(0, record.attempts - 1))
    return requeued(record, error, now, next_attempt_at)


def succeeded(record: JobRecord, result: Mapping[str, object], now: float, retention: Retention) -> JobRecord:
    return _ended(replace(record, status="succeeded", result=dict(result), error=None), now, retention)


def failed(record: JobRecord, error: JobError, now: float, retention: Retention) -> JobRecord:
    return _ended(replace(record, status="failed", error=error, result=None), now, retention)


def cancelled(record: JobRecord, now: float, retention: Retention) -> JobRecord:
    return _ended(replace(record, status="cancelled", error=None, result=None), now, retention)


def cancel_asked(record: JobRecord, now: float) -> JobRecord:
    """A running job that is to end as `cancelled` unless its result comes first."""
    return replace(record, cancel_requested=True, updated_at=iso_timestamp(now))


def _ended(record: JobRecord, now: float, retention: Retention) -> JobRecord:
    return replace(
        record,
        request=record.request if retention.retain_request else without_prompt(record.request),
        completed_at=iso_timestamp(now),
        updated_at=iso_timestamp(now),
        next_attempt_at=None,
        expires_at=retention.end_of(record, now),
        cancel_requested=False,
    )


def callback_begun(record: JobRecord, now: float) -> JobRecord | None:
    """One more delivery is about to be tried, and is counted before it is. None: there is nothing to deliver.

    `updated_at` stays: every attempt carries the same body.
    """
    callback = record.callback
    if callback is None or callback.status != "pending" or not record.is_terminal:
        return None
    begun = replace(callback, attempts=callback.attempts + 1, last_attempt_at=iso_timestamp(now), next_attempt_at=None)
    return replace(record, callback=begun)


def callback_postponed(record: JobRecord, callback: JobCallback, reason: str, next_attempt_at: float) -> JobRecord:
    return replace(record, callback=replace(callback, last_error=reason, next_attempt_at=_text(next_attempt_at)))


def callback_interrupted(record: JobRecord, callback: JobCallback, now: float) -> JobRecord:
    """The gateway stopped during the delivery: a planned restart costs no attempt."""
    begun = replace(callback, attempts=max(0, callback.attempts - 1), next_attempt_at=iso_timestamp(now))
    return replace(record, callback=begun)


def callback_delivered(record: JobRecord, callback: JobCallback, now: float, retention: Retention) -> JobRecord:
    done = replace(callback, status="delivered", delivered_at=iso_timestamp(now), last_error=None, next_attempt_at=None)
    return _told(replace(record, callback=done), now, retention)


def callback_given_up(
    record: JobRecord, callback: JobCallback, reason: str, now: float, retention: Retention
) -> JobRecord:
    done = replace(callback, status="failed", last_error=reason, next_attempt_at=None)
    return _told(replace(record, callback=done), now, retention)


def _told(record: JobRecord, now: float, retention: Retention) -> JobRecord:
    """A settled record can be read for its whole time after it settled; the promise never becomes shorter."""
    return replace(
        record, updated_at=iso_timestamp(now), expires_at=max(record.expires_at or "", retention.end_of(record, now))
    )


def deadline_error(record: JobRecord) -> JobError:
    """Why a job ends that waited too long; with the code of what held it up, if that is known."""
    last = record.error.code if record.error is not None else None
    return JobError(
        f"the job could not be run before its deadline {record.deadline_at}",
        "job_deadline_exceeded",
        {"deadlineAt": record.deadline_at, **({"lastCode": last} if last else {})},
    )
