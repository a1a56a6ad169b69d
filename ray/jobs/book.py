"""The jobs in memory, found by id: exactly what is durable, without prompts and answers, which stay on disk.

A record is published here only after it was written. Each job has a lock around "look, decide, write, publish", so no
two changes of one job can pass each other, and a change that was begun is carried through even when the request that
asked for it is given up. Source: jobs, sections 4.3 and 17 (B1: I1, I4; N4, N5).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from ray.errors import RayError
from ray.jobs.ports import Store
from ray.jobs.record import JobRecord, light
from ray.jobs.retry import Uniform, retry_delay
from ray.runtime import Reader
from ray.telemetry import Logger, Metrics
from ray.types import Caller

# How many expired jobs are remembered as such: 410 instead of 404.
MAX_TOMBSTONES = 1_024

# A full disk is looked at again this often at least.
WRITE_RETRY_CAP_S = 5.0

# Without a success or a further failure, this is how long a failed write degrades health.
FAILING_MEMORY_S = 60.0

Result = TypeVar("Result")
Change = Callable[[JobRecord], JobRecord | None]


@dataclass(slots=True, eq=False)
class Entry:
    """One job. `record`: the durable one without prompt and answer, `full`: with them, kept only while it runs, and
    while what the disk has may be a later one that it refused.

    `caller`: for whom it runs; `reader`: of its answer, while it runs; `timer`: until its next attempt.

    `refund`: the gateway stops, so the attempt does not count. `deferrals`: attempts in a row that did not count.
    """

    record: JobRecord
    caller: Caller
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    full: JobRecord | None = None
    reader: Reader | None = None
    timer: asyncio.TimerHandle | None = None
    refund: bool = False
    gone: bool = False
    deferrals: int = 0
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    def wake(self) -> None:
        """Let those who wait for the end look again."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class JobBook:
    """All jobs, and the only way to change one."""

    def __init__(
        self, store: Store, logger: Logger, metrics: Metrics, *, retry_base_s: float, uniform: Uniform
    ) -> None:
        self._store = store
        self._logger = logger
        self._metrics = metrics
        self._retry_base_s = retry_base_s
        self._uniform = uniform
        self._entries: dict[str, Entry] = {}
        self._tombstones: OrderedDict[str, str | None] = OrderedDict()  # owners of expired jobs, by job id
        self._repeating: set[str] = set()  # jobs with a state that is decided and cannot be written yet
        self._work: set[asyncio.Task[object]] = set()
        self._ending = asyncio.Event()
        self._failed_at: float | None = None  # when the disk last refused, if it has taken nothing since

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, job_id: str) -> Entry | None:
        return self._entries.get(job_id)

    @property
    def pending_writes(self) -> int:
        """Jobs whose decided state could not be written yet."""
        return len(self._repeating)

    @property
    def failing(self) -> bool:
        """The disk does not take what is written. A refusal that nothing followed is forgotten after a minute."""
        if self._failed_at is None:
            return False
        return bool(self._repeating) or time.monotonic() - self._failed_at < FAILING_MEMORY_S

    def insert(self, record: JobRecord, caller: Caller) -> Entry:
        """Publish a job that has just become durable."""
        entry = Entry(light(record), caller)
        self._entries[record.id] = entry
        return entry

    def drop(self, entry: Entry, *, expired: bool) -> None:
        """Forget a job. An expired one leaves a tombstone."""
        entry.gone = True
        entry.wake()
        self._entries.pop(entry.record.id, None)
        if expired:
            self._tombstones[entry.record.id] = entry.record.owner
            while len(self._tombstones) > MAX_TOMBSTONES:
                self._tombstones.popitem(last=False)

    def expired_owner(self, job_id: str) -> tuple[str | None] | None:
        """The owner of a job that expired lately, in a tuple; None when no such job is remembered."""
        return (self._tombstones[job_id],) if job_id in self._tombstones else None

    async def read(self, entry: Entry) -> JobRecord:
        """The whole record. Raises `RayError async_queue_storage_error` when it cannot be read, `job_not_found` when it
        was removed meanwhile."""
        record = entry.full or await self._store.read(entry.record.id)
        if record is None and entry.gone:
            raise RayError("job_not_found", "there is no such job any more")
        if record is None:
            raise RayError("async_queue_storage_error", "the job's record cannot be read; look at the gateway's log")
        return record

    async def write(self, record: JobRecord) -> None:
        """Make `record` durable. Raises as `Store.put`."""
        await self.attempt(lambda: self._store.put(record))

    async def attempt(self, operation: Callable[[], Coroutine[object, object, None]]) -> None:
        """One operation of the store, timed; remembers and counts whether the disk takes it."""
        began = time.monotonic()
        try:
            await operation()
        except RayError as error:
            if error.code == "async_queue_storage_error":
                self._metrics.increment("async_queue.write_failures")
                self._note_disk(failing=True)
            raise
        self._note_disk(failing=False)
        self._metrics.observe("async_queue.write", max(0.0, time.monotonic() - began))

    async def change(self, entry: Entry, make: Change) -> JobRecord | None:
        """Take the job to the record that `make` returns for its present one: durable, then published, on return.

        None when `make` returned None, or the job is gone: nothing was changed. Raises as `Store.put`; then nothing was
        published. Cancelling the caller does not undo or interrupt the change.
        """
        return await self.carry_through(self._change(entry, make))

    async def remove(self, entry: Entry) -> bool:
        """Take a settled job off the disk, then forget it. False: it is not settled, or gone. Raises `RayError
        async_queue_storage_error`; then it is as it was."""
        async with entry.lock:
            if entry.gone or not entry.record.is_settled:
                return False
            await self.attempt(lambda: self._store.remove(entry.record.id))
            self.drop(entry, expired=False)
            return True

    async def change_surely(self, entry: Entry, make: Change) -> JobRecord | None:
        """`change`, repeated with back-off for as long as the disk does not take it; the job keeps its old state until
        then. Raises `RayError async_queue_storage_error` only once the queue ends, `async_job_record_too_large` at
        once."""
        failures = 0
        try:
            while True:
                try:
                    return await self.change(entry, make)
                except RayError as error:
                    if error.code != "async_queue_storage_error" or self._ending.is_set():
                        raise
                self._repeating.add(entry.record.id)
                failures += 1
                await self._pause(retry_delay(failures, self._retry_base_s, WRITE_RETRY_CAP_S, self._uniform))
        finally:
            self._repeating.discard(entry.record.id)

    def end(self) -> None:
        """From now on a write that fails is given up after one more attempt."""
        self._ending.set()
        for entry in self._entries.values():
            entry.wake()

    async def carry_through(self, work: Coroutine[object, object, Result]) -> Result:
        """The result of `work`, which goes on even when the caller is cancelled."""
        return await asyncio.shield(self.carry_on(work))

    def carry_on(self, work: Coroutine[object, object, Result]) -> asyncio.Task[Result]:
        """Have `work` done in the background; `finish` waits for it."""
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._done)
        return task

    async def finish(self, timeout_s: float) -> None:
        """Wait for what is being carried through."""
        if self._work:
            await asyncio.wait(self._work, timeout=timeout_s)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._work.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waited has it; nobody else need be told

    async def _change(self, entry: Entry, make: Change) -> JobRecord | None:
        async with entry.lock:
            if entry.gone:
                return None
            present = entry.full or await self.read(entry)
            record = make(present)
            if record is None:
                return None
            try:
                await self.write(record)
            except RayError as error:
                if error.code == "async_queue_storage_error":
                    # The disk may have it all the same. What counts is what was published: it is shown, and the next
                    # change begins there.
                    entry.full = present
                raise
            entry.record = light(record)
            entry.full = record if record.status == "running" else None
            if record.is_terminal:
                entry.wake()
            return record

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()

    def _note_disk(self, *, failing: bool) -> None:
        was_failing = self._failed_at is not None
        self._failed_at = time.monotonic() if failing else None
        if failing and not was_failing:
            self._logger.error(
                "the job store cannot be written; jobs keep their state until it can", event="job_store_failing"
            )
        elif was_failing and not failing:
            self._logger.info("the job store can be written again", event="job_store_recovered")
