"""What a start makes of the jobs it finds: pure functions. Doing it twice changes nothing more.

Source: jobs, sections 5, 16 (rows 7 to 10, 15, 16) and 17 (B1: I5, B10; N15).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from ray.clock import iso_timestamp, parse_iso
from ray.config import AsyncQueueConfig
from ray.jobs.record import JobError, JobRecord
from ray.jobs.transitions import (
    NO_ATTEMPTS_LEFT,
    Retention,
    callback_given_up,
    cancelled,
    failed,
    is_expired,
    requeued,
)


class Plan(NamedTuple):
    """What is to become of the jobs that were found.

    `kept`: work first, then by age. `changed`: the ids of those among them that differ from what is on disk.
    `interrupted`: those that were running and go on; `ended`: those that have their outcome by this.
    `expired`, `overflowed`: those to be removed.
    """

    kept: tuple[JobRecord, ...]
    changed: frozenset[str]
    interrupted: frozenset[str]
    ended: frozenset[str]
    expired: tuple[JobRecord, ...]
    overflowed: tuple[JobRecord, ...]


def plan(records: Iterable[JobRecord], now: float, settings: AsyncQueueConfig, retention: Retention) -> Plan:
    """Decide about every job that a start finds; nothing is done yet."""
    found = tuple(records)
    decided = {r.id: recovered(r, now, settings.max_callback_attempts, retention) for r in found}
    present = [decided[record.id] or settled_by_now(record, now) for record in found]
    expired = tuple(record for record in present if is_expired(record, iso_timestamp(now)))
    gone = {record.id for record in expired}
    overflowed = overflow((record for record in present if record.id not in gone), settings.max_jobs)
    gone.update(record.id for record in overflowed)
    return Plan(
        kept=tuple(in_order(record for record in present if record.id not in gone)),
        changed=frozenset(job_id for job_id, record in decided.items() if record is not None),
        interrupted=frozenset(r.id for r in found if r.status == "running" and not _now(decided, r).is_terminal),
        ended=frozenset(r.id for r in found if not r.is_terminal and _now(decided, r).is_terminal),
        expired=expired,
        overflowed=tuple(overflowed),
    )


def _now(decided: Mapping[str, JobRecord | None], record: JobRecord) -> JobRecord:
    return decided[record.id] or record


def recovered(record: JobRecord, now: float, max_callback_attempts: int, retention: Retention) -> JobRecord | None:
    """The record that a job found at start goes on with; None when it is as it should be.

    `running` means that the gateway died during the attempt, which counts. What was to be cancelled, is.
    """
    if record.status == "running":
        return _after_crash(record, now, retention)
    if record.status == "queued" and record.cancel_requested:
        return cancelled(record, now, retention)
    callback = record.callback
    waits = record.is_terminal and callback is not None and callback.status == "pending"
    if waits and callback is not None and callback.attempts >= max_callback_attempts:
        return callback_given_up(record, callback, callback.last_error or NO_ATTEMPTS_LEFT, now, retention)
    return None


def _after_crash(record: JobRecord, now: float, retention: Retention) -> JobRecord:
    if record.cancel_requested:
        return cancelled(record, now, retention)
    if record.attempts >= record.max_attempts:
        error = JobError(
            f"the gateway ended during the last of {record.max_attempts} attempts", "job_recovery_attempts_exhausted"
        )
        return failed(record, error, now, retention)
    error = JobError("the gateway ended during an attempt; the job runs again", "job_recovered")
    return requeued(record, error, now, None)


def settled_by_now(record: JobRecord, now: float) -> JobRecord:
    """For the index only: a clock that was set back makes no job stay longer than it would have. A last change in the
    future counts as made now."""
    ahead = parse_iso(record.updated_at) - now
    if ahead <= 0 or record.expires_at is None:
        return record
    return replace(record, expires_at=iso_timestamp(parse_iso(record.expires_at) - ahead))


def in_order(records: Iterable[JobRecord]) -> list[JobRecord]:
    """Work first, and what came earlier before what came later."""
    return sorted(records, key=lambda record: (record.is_settled, record.created_at, record.id))


def overflow(records: Iterable[JobRecord], max_jobs: int) -> list[JobRecord]:
    """The settled jobs that must go for `max_jobs` to hold, the longest settled first. Work is never given up: with
    more of it than places, all of it stays and nothing new is let in."""
    present = list(records)
    settled = sorted((r for r in present if r.is_settled), key=lambda record: (record.updated_at, record.id))
    return settled[: max(0, len(present) - max_jobs)]
