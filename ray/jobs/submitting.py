"""Accepting a job: repeated or new, allowed or refused, and durable before anybody is told.

The order of the checks: the idempotency key, the number of jobs, the callback's URL, the disk. Source: jobs, sections 3
and 17 (B2, B3; N13, N14).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ray.clock import iso_timestamp, new_id
from ray.config import AsyncQueueConfig
from ray.errors import RayError
from ray.jobs.admission import Places, check_storage, storage_levels
from ray.jobs.book import Entry, JobBook
from ray.jobs.books import JobBooks
from ray.jobs.callback_desk import CallbackDesk
from ray.jobs.dispatch import Clockwork
from ray.jobs.idempotency import IdempotencyIndex, check_same_payload, fingerprint, owner_of
from ray.jobs.ports import Store
from ray.jobs.record import JobCallback, JobIdempotency, JobRecord, stored_request
from ray.jobs.transitions import JOB_LIFETIME_S
from ray.types import Caller, InferenceRequest


@dataclass(frozen=True, slots=True)
class JobSubmission:
    """`record`: the job as it was accepted, always `queued`; `replayed`: an earlier request had made it."""

    record: JobRecord
    replayed: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is submitted, and by whom. `callback_url`: None for no callback, otherwise as it was sent; `key_header`: the
    value of `Idempotency-Key`; `result_ttl_ms`: None for the configured time."""

    request: InferenceRequest
    caller: Caller
    callback_url: object
    key_header: str | None
    result_ttl_ms: int | None


class Submissions:
    """The door for new jobs. `accepted`: gets each job once it is in the book."""

    def __init__(
        self,
        settings: AsyncQueueConfig,
        store: Store,
        book: JobBook,
        books: JobBooks,
        places: Places,
        index: IdempotencyIndex,
        desk: CallbackDesk,
        clockwork: Clockwork,
        accepted: Callable[[Entry], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._book = book
        self._books = books
        self._places = places
        self._index = index
        self._desk = desk
        self._clockwork = clockwork
        self._accepted = accepted

    async def submit(self, wanted: Wanted) -> JobSubmission:
        """Accept a job; it is durable on return. Raises as `JobQueue.submit`."""
        self._check_ttl(wanted.result_ttl_ms)
        idempotency = None
        if wanted.key_header is not None:
            idempotency = fingerprint(
                wanted.key_header, wanted.caller, wanted.request, wanted.callback_url, wanted.result_ttl_ms
            )
            earlier = self._index.job_of(idempotency)
            entry = self._book.get(earlier) if earlier is not None else None
            if entry is not None:
                return self._replay(entry.record, idempotency)
        return await self._book.carry_through(self._admit(wanted, idempotency))

    def _check_ttl(self, result_ttl_ms: int | None) -> None:
        limit = self._settings.completed_ttl_ms
        if result_ttl_ms is not None and not 1 <= result_ttl_ms <= limit:
            raise RayError(
                "invalid_request",
                f"resultTtlMs must be from 1 to {limit}, the value of asyncQueue.completedTtlMs",
                details={"field": "resultTtlMs", "max": limit},
            )

    def _replay(self, record: JobRecord, idempotency: JobIdempotency) -> JobSubmission:
        check_same_payload(record.idempotency, idempotency)
        self._books.replayed(record)
        return JobSubmission(replace(record, status="queued", attempts=0, error=None), replayed=True)

    async def _admit(self, wanted: Wanted, idempotency: JobIdempotency | None) -> JobSubmission:
        """Runs to its end whatever becomes of the client: what is on disk is in the book, and the other way round."""
        try:
            # A full store is said first. A slow DNS answer then holds no place.
            self._places.check(len(self._book))
            callback = await self._callback(wanted.callback_url)
            with self._places.reservation(len(self._book)) as reservation:
                room = await self._store.room()
                if room is not None:
                    check_storage(storage_levels(room, reservation.ahead, self._settings))
                record = self._new_record(wanted, callback, idempotency)
                await self._book.write(record)
                reservation.end()
                entry = self._book.insert(record, wanted.caller)
        except BaseException:
            self._index.release(idempotency, None)
            raise
        self._index.keep(idempotency, record.id)
        self._books.accepted(record)
        self._accepted(entry)
        return JobSubmission(record, replayed=False)

    async def _callback(self, url: object) -> JobCallback | None:
        if url is None:
            return None
        service = self._desk.service
        if service is None:
            raise RayError("invalid_request", "this gateway delivers no callbacks", details={"field": "callbackUrl"})
        return JobCallback(await service.admit(url))

    def _new_record(
        self, wanted: Wanted, callback: JobCallback | None, idempotency: JobIdempotency | None
    ) -> JobRecord:
        now = self._clockwork.now()
        return JobRecord(
            id=new_id("job"),
            status="queued",
            request=stored_request(wanted.request),
            created_at=iso_timestamp(now),
            updated_at=iso_timestamp(now),
            attempts=0,
            max_attempts=self._settings.max_attempts,
            deadline_at=iso_timestamp(now + JOB_LIFETIME_S),
            result_ttl_ms=wanted.result_ttl_ms,
            callback=callback,
            owner=owner_of(wanted.caller),
            idempotency=idempotency,
        )
