"""`JobQueue`: accepted work that ends in exactly one visible state. The one door to durable jobs.

Acknowledged means durable: a job is in the book, and its submission answered, only once its record is on disk. What
runs it, writes it and tells of it stands in files of its own (`dispatch`, `book`, `callback_desk`); here is what
callers ask for. A job belongs to the caller who submitted it; to everybody else it does not exist.

Source: jobs, sections 3, 8, 11, 12 and 17 (B2 to B4, B9, B10).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from ray.clock import iso_timestamp, parse_iso
from ray.config import Config
from ray.errors import RayError
from ray.jobs.admission import Places
from ray.jobs.book import Entry, JobBook
from ray.jobs.books import JobBooks
from ray.jobs.callback_desk import CallbackDesk
from ray.jobs.dispatch import Clockwork, Dispatcher
from ray.jobs.idempotency import IdempotencyIndex, owner_of
from ray.jobs.intake import Intake
from ray.jobs.listing import DEFAULT_LIMIT, JobPage, page_of
from ray.jobs.ports import CallbackService, Store
from ray.jobs.record import JobRecord, is_job_id
from ray.jobs.retry import Uniform
from ray.jobs.sender import DeliveryOutcome
from ray.jobs.snapshot import Activity, JobSnapshot, set_gauges, snapshot_of
from ray.jobs.submitting import JobSubmission, Submissions, Wanted
from ray.jobs.sweep import Sweep
from ray.jobs.transitions import Retention, cancel_asked, cancelled, is_expired
from ray.runtime import Runtime
from ray.telemetry import Logger, Metrics
from ray.types import Caller, InferenceRequest

__all__ = ["JobQueue", "JobSubmission"]

MAX_WAIT_S = 20.0


class JobQueue:
    """The jobs of one model. Owner of the callbacks' state (`CallbackOwner`), see `callbacks`."""

    def __init__(
        self,
        config: Config,
        store: Store,
        runtime: Runtime,
        callbacks: CallbackService | None,
        logger: Logger,
        metrics: Metrics,
        *,
        wall: Callable[[], float] = time.time,
        uniform: Uniform = random.uniform,
    ) -> None:
        """`wall`: Unix seconds; `uniform`: a number between two others, for jitter."""
        settings = config.async_queue
        self._settings = settings
        self._store = store
        self._logger = logger
        self._metrics = metrics
        self._clockwork = Clockwork(wall, uniform)
        self._books = JobBooks(logger, metrics)
        self._places = Places(settings.max_jobs)
        self._index = IdempotencyIndex()
        self._book = JobBook(store, logger, metrics, retry_base_s=settings.poll_interval_ms / 1000, uniform=uniform)
        self._retention = Retention(settings.completed_ttl_ms, retain_request=settings.retain_request)
        self._desk = CallbackDesk(settings, self._book, self._retention, self._clockwork, callbacks)
        self._dispatcher = Dispatcher(
            config, self._book, runtime, self._books, self._retention, self._clockwork, self._desk.schedule
        )
        self._sweep = Sweep(
            settings, self._book, store, self._books, self._clockwork, self._forget, self._dispatcher.fail_overdue
        )
        self._submissions = Submissions(
            settings,
            store,
            self._book,
            self._books,
            self._places,
            self._index,
            self._desk,
            self._clockwork,
            self._dispatcher.line.add,
        )
        self._intake = Intake(settings, self._book, self._sweep, self._retention, self._clockwork, logger, metrics)
        self._open = False
        self._stopping = False

    # -- the life of the queue

    @property
    def callbacks(self) -> CallbackService | None:
        """Who delivers; may be set until `resume`, since the deliverer needs the queue as its owner."""
        return self._desk.service

    @callbacks.setter
    def callbacks(self, service: CallbackService | None) -> None:
        self._desk.service = service

    async def start(self) -> None:
        """Open the store and take up the jobs in it. Nothing runs before `resume`. Starting again changes nothing.

        Raises `RayError` as `JobStore.open`: `async_queue_locked`, `async_queue_storage_error`,
        `async_queue_recovery_limit_exceeded`.
        """
        if self._open:
            return
        recovery = await self._store.open()
        self._open = True
        self._intake.report(recovery)
        for entry in await self._intake.take_up(recovery.records):
            self._index.keep(entry.record.idempotency, entry.record.id)
            if entry.record.status == "queued":
                due = entry.record.next_attempt_at
                self._dispatcher.line.add(entry, parse_iso(due) - self._clockwork.now() if due else 0.0)
        await self._sweep.refresh_room()

    def resume(self) -> None:
        """Begin to run jobs and to deliver; call again whenever the backend has become usable."""
        if self._stopping or not self._open:
            return
        if not self._sweep.running:
            self._desk.open()
            self._sweep.start()
        self._dispatcher.resume()

    def begin_stop(self) -> None:
        """Start nothing more, no job and no delivery; who waits for a job is answered now. Submissions are still
        accepted until `stop`: they are on disk for the next start."""
        self._stopping = True
        self._dispatcher.close()
        self._sweep.stop()
        if self._desk.service is not None:
            self._desk.service.cancel_all()
        for entry in self._book:
            entry.wake()

    async def stop(self, timeout_s: float) -> bool:
        """End: wait up to `timeout_s` seconds for what runs, abort the rest and put it back with its attempt refunded,
        close the store. Whether nothing had to be aborted. Takes at most about 5 seconds longer than `timeout_s`."""
        self.begin_stop()
        service = self._desk.service
        deliveries = asyncio.ensure_future(service.stop(timeout_s)) if service is not None else None
        clean = await self._dispatcher.stop(timeout_s)
        if deliveries is not None:
            clean = await deliveries and clean
        self._open, was_open = False, self._open
        await self._sweep.finish()
        await self._book.finish(timeout_s=1.0)
        if was_open:
            await self._store.close()
        return clean

    async def let_go(self) -> None:
        """Close the store and nothing else, from any event loop: for when the queue's own loop was closed under it, and
        nothing that ran on it can be ended any more. What was running is taken up by the next start."""
        self._stopping = True
        self._open, was_open = False, self._open
        if was_open:
            await self._store.close()

    # -- submitting

    async def submit(
        self,
        request: InferenceRequest,
        caller: Caller,
        callback_url: object = None,
        idempotency_key: str | None = None,
        result_ttl_ms: int | None = None,
    ) -> JobSubmission:
        """Accept a job; it is durable on return.

        `callback_url`: None for no callback; `idempotency_key`: the header as it was sent; `result_ttl_ms`: how long to
        keep the outcome, at most `asyncQueue.completedTtlMs`.

        Raises `RayError`: `invalid_request`, `async_queue_full`, `async_queue_storage_low`,
        `async_queue_storage_error`, `async_job_record_too_large`, `idempotency_key_reused`, `idempotency_in_progress`,
        `gateway_draining`.
        """
        try:
            if not self._open:
                raise RayError("gateway_draining", "the gateway is shutting down; send the job again in a moment")
            self._sweep.prune()
            wanted = Wanted(request, caller, callback_url, idempotency_key, result_ttl_ms)
            return await self._submissions.submit(wanted)
        except RayError as error:
            self._books.rejected(error)
            raise

    # -- asking

    async def find(self, job_id: str, caller: Caller) -> JobRecord:
        """The whole job. Raises `RayError`: `invalid_request` for what is no id, `job_not_found`, `job_expired`,
        `async_queue_storage_error` when the answer cannot be read."""
        return await self._book.read(self._entry(job_id, caller))

    async def wait(self, job_id: str, caller: Caller, seconds: float) -> JobRecord:
        """`find`, but not before the job has ended, `seconds` (at most 20) have passed, or the queue stops."""
        entry = self._entry(job_id, caller)
        if not entry.record.is_terminal and seconds > 0 and not self._stopping:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry.waiters.append(waiter)
            try:
                async with asyncio.timeout(min(seconds, MAX_WAIT_S)):
                    await waiter
            except TimeoutError:
                pass
            finally:  # also when the client has gone: a job may be waited for all day
                if waiter in entry.waiters:
                    entry.waiters.remove(waiter)
        return await self.find(job_id, caller)

    def page(
        self, caller: Caller, status: str | None = None, limit: int = DEFAULT_LIMIT, cursor: str | None = None
    ) -> JobPage:
        """The caller's jobs, newest first, without prompts and answers. Raises `RayError invalid_request`."""
        self._sweep.prune()
        owner = owner_of(caller)
        own = (entry.record for entry in self._book if entry.record.owner in (None, owner))
        return page_of(own, status, limit, cursor)

    def _entry(self, job_id: str, caller: Caller) -> Entry:
        if not is_job_id(job_id):
            raise RayError(
                "invalid_request",
                "a job id has 1 to 128 letters, digits, hyphens and underscores",
                details={"maxChars": 128},
            )
        entry, owner = self._book.get(job_id), owner_of(caller)
        if entry is not None and is_expired(entry.record, iso_timestamp(self._clockwork.now())):
            self._sweep.prune()
            entry = None
        if entry is not None and entry.record.owner in (None, owner):
            return entry
        expired = self._book.expired_owner(job_id)
        if expired is not None and expired[0] in (None, owner):
            raise RayError("job_expired", "the job has ended and its time to be fetched is over")
        raise RayError("job_not_found", "there is no such job")

    # -- ending

    async def cancel(self, job_id: str, caller: Caller) -> tuple[JobRecord, bool]:
        """End a job before its time. A queued one is cancelled on return; for a running one that is written down, its
        backend connection is aborted, and the second value is True: it ends soon, as `cancelled` unless its result came
        first. One that has ended stays as it is. Raises as `find`, and `async_queue_storage_error` when the disk does
        not take it; then nothing has happened."""
        entry = self._entry(job_id, caller)
        return await self._book.carry_through(self._cancel(entry))

    async def _cancel(self, entry: Entry) -> tuple[JobRecord, bool]:
        def asked(present: JobRecord) -> JobRecord | None:
            now = self._clockwork.now()
            if present.status == "queued":
                return cancelled(present, now, self._retention)
            if present.status == "running" and not present.cancel_requested:
                return cancel_asked(present, now)
            return None

        record = await self._book.change(entry, asked)
        if record is not None and record.is_terminal:
            self._dispatcher.line.remove(entry)
            self._books.ended(record, self._clockwork.now(), ran=False)
            self._desk.schedule(record)
        elif record is not None:
            self._books.cancel_asked(record)
        if entry.record.cancel_requested and entry.reader is not None:
            entry.reader.leave()
        present = await self._book.read(entry)
        return present, present.status == "running"

    async def delete(self, job_id: str, caller: Caller) -> None:
        """Remove a job that has ended and whose callback, if any, is settled. Raises as `find`, `job_not_settled`, and
        `async_queue_storage_error`; then it is still there."""
        entry = self._entry(job_id, caller)
        await self._book.carry_through(self._delete(entry))

    async def _delete(self, entry: Entry) -> None:
        if await self._book.remove(entry):
            self._forget(entry.record)
            self._books.removed(entry.record, expired=False)
        elif not entry.gone:
            raise RayError(
                "job_not_settled",
                "the job has not ended, or its callback is still to be delivered; cancel it or wait, then delete it",
                details={"status": entry.record.status},
            )

    def _forget(self, record: JobRecord) -> None:
        self._index.release(record.idempotency, record.id)

    # -- callbacks' owner

    async def attempt_started(self, job_id: str) -> JobRecord | None:
        """See `CallbackDesk.attempt_started`."""
        return await self._desk.attempt_started(job_id)

    async def attempt_ended(self, job_id: str, outcome: DeliveryOutcome) -> float | None:
        """See `CallbackDesk.attempt_ended`."""
        return await self._desk.attempt_ended(job_id, outcome)

    # -- seen

    async def refresh(self) -> None:
        """Read the disk, at most once a second; call before the snapshot is shown. Never raises."""
        if self._open:
            await self._sweep.refresh_room()

    def snapshot(self) -> JobSnapshot:
        """The queue now. The disk is as the last `refresh` (or submission, or sweep) found it."""
        return snapshot_of(
            self._settings,
            (entry.record for entry in self._book),
            self._clockwork.now(),
            activity=Activity(
                running=self._dispatcher.active,
                armed=self._dispatcher.line.armed,
                reservations=self._places.reserved,
                pending_writes=self._book.pending_writes,
                storage_failing=self._book.failing,
                quarantined=self._store.quarantined,
            ),
            callbacks=self._desk.service,
            room=self._sweep.room,
        )

    def health_document(self) -> dict[str, object]:
        """The `asyncQueue` block of `/health`."""
        return self.snapshot().document()

    def set_gauges(self, metrics: Metrics) -> None:
        """Bring the gauges `async_queue.*` up to date."""
        set_gauges(self.snapshot(), metrics)
