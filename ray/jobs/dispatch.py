"""Running jobs: one at a time takes an idle place that no interactive request wants, and is a reader like any other.

A job begins only while nobody waits in the scheduler and a place there is free, and while the backend answers. The
attempt is counted on disk before it begins; its outcome is kept here until the disk has taken it, so no inference is
ever repeated because of a write. Source: jobs, sections 6, 7, 11 and 17 (B2, B6, B9).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ray.clock import iso_timestamp
from ray.config import Config
from ray.errors import RayError
from ray.jobs.book import WRITE_RETRY_CAP_S, Change, Entry, JobBook
from ray.jobs.books import JobBooks
from ray.jobs.line import JobLine
from ray.jobs.record import JobError, JobRecord, inference_request, job_error
from ray.jobs.retry import JOB_DELAY_CAP_S, Failure, Uniform, costs_attempt, retry_delay, retryable
from ray.jobs.transitions import (
    Retention,
    cancelled,
    deadline_error,
    failed,
    is_overdue,
    refunded,
    requeued,
    started,
    succeeded,
)
from ray.runtime import Runtime, result_document

# How soon a busy scheduler is looked at again, and how soon at the latest a backend that is away.
BUSY_PAUSE_S = 0.05
AWAY_PAUSE_CAP_S = 5.0
# How long an aborted run may take to let go of the backend and to be written back.
ABORT_GRACE_S = 3.0


@dataclass(frozen=True, slots=True)
class Clockwork:
    """Where time and chance come from. `now`: Unix seconds; `uniform`: a number between two others."""

    now: Callable[[], float]
    uniform: Uniform


class Dispatcher:
    """Starts jobs out of the line and sees each to its end. `ended`: told of every outcome once it is durable."""

    def __init__(
        self,
        config: Config,
        book: JobBook,
        runtime: Runtime,
        books: JobBooks,
        retention: Retention,
        clockwork: Clockwork,
        ended: Callable[[JobRecord], None],
    ) -> None:
        self._config = config
        self._book = book
        self._runtime = runtime
        self._books = books
        self._retention = retention
        self._clockwork = clockwork
        self._ended = ended
        self._base_s = config.async_queue.poll_interval_ms / 1000
        self._wake = asyncio.Event()
        self.line = JobLine(self._wake.set)
        self._running: dict[asyncio.Task[None], Entry] = {}
        self._loop: asyncio.Task[None] | None = None
        self._open = True
        self._again: asyncio.TimerHandle | None = None  # when to look again, while something stands in the way
        self._away = 0  # looks in a row at which the backend was away
        self._refused = 0  # starts in a row that the disk refused
        self._refused_until = 0.0

    @property
    def active(self) -> int:
        """Jobs under way."""
        return len(self._running)

    # -- when

    def resume(self) -> None:
        """Begin to dispatch, or look again at once."""
        if self._loop is None and self._open:
            self._loop = asyncio.get_running_loop().create_task(self._dispatch(), name="job-dispatch")
        self._wake.set()

    def close(self) -> None:
        """Start nothing more. What runs goes on."""
        self._open = False
        self.line.disarm()
        if self._again is not None:
            self._again.cancel()
        if self._loop is not None:
            self._loop.cancel()

    async def _dispatch(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self.line and len(self._running) < self._config.async_queue.dispatch_concurrency:
                pause = await self._obstacle()
                if pause is not None:
                    self._look_again(pause)
                    break
                entry = self.line.next()
                if entry is not None:
                    self._start(entry)

    def _look_again(self, pause: float) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(pause, self._wake.set)

    async def _obstacle(self) -> float | None:
        """None: a job may begin now. Otherwise seconds after which to look again."""
        refused_for = self._refused_until - time.monotonic()
        if refused_for > 0:
            return refused_for
        if not self._scheduler_is_idle():
            return BUSY_PAUSE_S
        if self._runtime.warm_state == "warming" or not await self._runtime.backend_answers():
            self._away += 1
            return retry_delay(self._away, self._base_s, AWAY_PAUSE_CAP_S, self._clockwork.uniform)
        self._away = 0
        # Asking the backend took time, in which somebody may have come.
        return None if self._scheduler_is_idle() else BUSY_PAUSE_S

    def _scheduler_is_idle(self) -> bool:
        """Nobody but jobs waits, and one more generation could begin at once."""
        queue = self._runtime.queue_snapshot()
        readers = [entry.reader for entry in self._running.values()]
        under_way = {reader.generation for reader in readers if reader is not None and not reader.generation.over}
        waiting = sum(1 for generation in under_way if generation.phase == "queue")
        coming = sum(1 for generation in under_way if generation.phase == "prepare") + readers.count(None)
        return queue.queue_depth <= waiting and queue.in_flight + waiting + coming < queue.concurrency

    def _start(self, entry: Entry) -> None:
        task = asyncio.get_running_loop().create_task(self._attend(entry), name="job")
        self._running[task] = entry
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        entry = self._running.pop(task)
        entry.reader = None
        self._wake.set()

    # -- one attempt

    async def _attend(self, entry: Entry) -> None:
        """See one job through one attempt. Whatever happens, it is not stranded."""
        try:
            await self._run(entry)
        except Exception as error:  # noqa: BLE001 - a job that nobody attends to would hang in its state for ever
            self._books.trouble("job attempt broke off", "job_broken_off", entry.record.id, error)
            if not self._open or entry.gone:
                return
            if entry.record.status == "queued":
                self.line.add(entry, WRITE_RETRY_CAP_S)
            elif entry.record.status == "running":
                await self._settle(entry, *self._failure(job_error(error)))

    async def _run(self, entry: Entry) -> None:
        now = self._clockwork.now()
        if is_overdue(entry.record, iso_timestamp(now)):
            await self.fail_overdue(entry)
            return
        try:
            record = await self._book.change(entry, lambda present: started(present, now))
        except RayError as error:
            await self._not_started(entry, error)
            return
        self._refused = 0
        if record is None:
            return  # cancelled in the meantime
        self._books.started(record, now)
        try:
            result = await self._answer(entry, record)
        except Exception as error:  # noqa: BLE001 - policy decides what a failure means, whatever it is
            await self._attempt_failed(entry, error)
        else:
            await self._settle(entry, lambda present: self._success(present, result), self._too_large)
            entry.deferrals = 0

    async def _answer(self, entry: Entry, record: JobRecord) -> dict[str, object]:
        """The result document of one generation."""
        request = inference_request(record.request, self._config)
        reader = await self._runtime.generate(request, entry.caller, self._runtime.new_deadline(), record.id)
        async with reader:
            entry.reader = reader
            if entry.record.cancel_requested or entry.refund:
                reader.leave()  # asked for before there was something to leave
            return result_document(await reader.result())

    async def _not_started(self, entry: Entry, error: RayError) -> None:
        """The attempt could not be written down, so it was not made."""
        if error.code == "async_job_record_too_large":
            await self._settle(entry, *self._failure(job_error(error)))
        else:
            # Of a disk that refuses one start no other is asked before a pause.
            self._refused += 1
            pause = retry_delay(self._refused, self._base_s, WRITE_RETRY_CAP_S, self._clockwork.uniform)
            self._refused_until = time.monotonic() + pause
            self._books.trouble("job could not be started", "job_not_started", entry.record.id, error)
            if self._open:
                self.line.add(entry)

    async def _attempt_failed(self, entry: Entry, error: Exception) -> None:
        reader, record = entry.reader, entry.record
        failure = Failure.of(error, reader.generation.phase if reader is not None else "prepare")
        if not isinstance(error, RayError):
            self._books.trouble("job attempt failed", "job_attempt_failed", record.id, error)
        if entry.refund and failure.code == "request_aborted":
            await self._put_back(entry)
        elif not retryable(failure):
            await self._settle(entry, *self._failure(job_error(error)))
        elif not costs_attempt(failure):
            entry.deferrals += 1
            await self._try_again(entry, job_error(error), entry.deferrals, counted=False)
        elif record.attempts < record.max_attempts:
            await self._try_again(entry, job_error(error), record.attempts, counted=True)
        else:
            await self._settle(entry, *self._failure(job_error(error)))

    async def _try_again(self, entry: Entry, error: JobError, failures: int, *, counted: bool) -> None:
        delay = retry_delay(failures, self._base_s, JOB_DELAY_CAP_S, self._clockwork.uniform)

        def back_in_line(present: JobRecord) -> JobRecord | None:
            now = self._clockwork.now()
            if present.cancel_requested:
                return cancelled(present, now, self._retention)
            queued = (requeued if counted else refunded)(present, error, now, now + delay)
            if is_overdue(queued, iso_timestamp(now)):
                return failed(present, deadline_error(queued), now, self._retention)
            return queued

        record = await self._write(entry, back_in_line)
        if record is None:
            return
        if record.is_terminal:
            self._tell(record, ran=True)
            return
        self._books.retried(record, self._clockwork.now(), counted=counted)
        if self._open:
            self.line.add(entry, delay)

    async def _put_back(self, entry: Entry) -> None:
        """The gateway stops: the job runs again after the next start, and has lost nothing."""

        def back(present: JobRecord) -> JobRecord:
            now = self._clockwork.now()
            if present.cancel_requested:
                return cancelled(present, now, self._retention)
            return refunded(present, None, now, None)

        record = await self._write(entry, back)
        if record is None:
            return
        if record.is_terminal:
            self._tell(record, ran=True)
        else:
            self._books.put_back(record, self._clockwork.now())

    # -- outcomes

    async def fail_overdue(self, entry: Entry) -> None:
        """End a job whose time is up before it could be run. Raises as `JobBook.change`."""

        def overdue(present: JobRecord) -> JobRecord | None:
            now = self._clockwork.now()
            if not is_overdue(present, iso_timestamp(now)):
                return None
            return failed(present, deadline_error(present), now, self._retention)

        record = await self._book.change(entry, overdue)
        if record is not None:
            self.line.remove(entry)
            self._tell(record, ran=False)

    def _success(self, present: JobRecord, result: Mapping[str, object]) -> JobRecord:
        return succeeded(present, result, self._clockwork.now(), self._retention)

    def _too_large(self, present: JobRecord) -> JobRecord:
        error = JobError(
            "the answer does not fit into the job's record; ask for fewer tokens", "async_job_record_too_large"
        )
        return failed(present, error, self._clockwork.now(), self._retention)

    def _failure(self, error: JobError) -> tuple[Change, ...]:
        """Two forms of the same end: should the details not fit, the code and the message do."""

        def ended(present: JobRecord, error: JobError) -> JobRecord:
            now = self._clockwork.now()
            if present.cancel_requested:
                return cancelled(present, now, self._retention)
            return failed(present, error, now, self._retention)

        return (lambda present: ended(present, error), lambda present: ended(present, replace(error, details=None)))

    async def _settle(self, entry: Entry, *ways: Change) -> None:
        """Make the outcome durable as soon as the disk takes it: the first of `ways` that fits into a record at all."""
        for way in ways:
            try:
                record = await self._write(entry, way)
            except Exception as error:  # noqa: BLE001 - an outcome that cannot be put into a record must not strand the job
                self._books.trouble("job outcome does not fit its record", "job_unwritable", entry.record.id, error)
                continue
            if record is not None:
                self._tell(record, ran=True)
            return

    async def _write(self, entry: Entry, way: Change) -> JobRecord | None:
        """The record once it is durable; None when the queue ended before the disk took it: the next start recovers."""
        try:
            return await self._book.change_surely(entry, way)
        except RayError as error:
            if error.code != "async_queue_storage_error":
                raise
            self._books.trouble("job state could not be written", "job_write_given_up", entry.record.id, error)
            return None

    def _tell(self, record: JobRecord, *, ran: bool) -> None:
        self._books.ended(record, self._clockwork.now(), ran=ran)
        self._ended(record)

    # -- the end

    async def stop(self, timeout_s: float) -> bool:
        """Wait for what runs; abort what takes longer and put it back with the attempt refunded. Whether nothing had to
        be aborted. Takes at most `timeout_s` and the grace of 3 seconds."""
        self.close()
        if self._running and timeout_s > 0:
            await asyncio.wait(set(self._running), timeout=timeout_s)
        left = dict(self._running)
        for entry in left.values():
            entry.refund = True
            if entry.reader is not None:
                entry.reader.leave()
        self._book.end()
        if left:
            _, hanging = await asyncio.wait(set(left), timeout=ABORT_GRACE_S)
            for task in hanging:
                task.cancel()
        return not left
