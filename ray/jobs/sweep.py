"""What happens by the clock: expired jobs go, overdue ones end, the disk is looked at.

Expired jobs leave the book at once and the disk soon: a file that cannot be unlinked now is tried again by the next
sweep, and by the next start. Source: jobs, sections 8 and 17 (B9, B10; N10, N21).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from ray.clock import iso_timestamp
from ray.config import AsyncQueueConfig
from ray.errors import RayError
from ray.jobs.book import Entry, JobBook
from ray.jobs.books import JobBooks
from ray.jobs.dispatch import Clockwork
from ray.jobs.ports import Store
from ray.jobs.record import JobRecord
from ray.jobs.store import StorageRoom
from ray.jobs.transitions import is_expired, is_overdue

LONGEST_PAUSE_S = 60.0
SHORTEST_PAUSE_S = 1.0


def sweep_pause(completed_ttl_ms: int) -> float:
    """Seconds between sweeps: a quarter of the time that jobs are kept, from one second to one minute."""
    return min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, completed_ttl_ms / 4_000))


class Sweep:
    """`forget`: told of each job that went; `fail_overdue`: ends a job whose deadline has passed."""

    def __init__(
        self,
        settings: AsyncQueueConfig,
        book: JobBook,
        store: Store,
        books: JobBooks,
        clockwork: Clockwork,
        forget: Callable[[JobRecord], None],
        fail_overdue: Callable[[Entry], Awaitable[None]],
    ) -> None:
        self._pause_s = sweep_pause(settings.completed_ttl_ms)
        self._book = book
        self._store = store
        self._books = books
        self._clockwork = clockwork
        self._forget = forget
        self._fail_overdue = fail_overdue
        self._leftovers: set[str] = set()  # jobs that are forgotten and whose files are still there
        self._removing: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.room: StorageRoom | None = None

    @property
    def running(self) -> bool:
        return self._task is not None

    def start(self) -> None:
        """Sweep now, and from now on."""
        self._task = asyncio.get_running_loop().create_task(self._repeat(), name="job-sweep")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def finish(self) -> None:
        """Wait for the file that is being removed; the next start removes the others."""
        self._leftovers.clear()
        if self._removing is not None:
            await asyncio.wait([self._removing])

    def prune(self) -> None:
        """Let expired jobs go."""
        moment = iso_timestamp(self._clockwork.now())
        for entry in [entry for entry in self._book if is_expired(entry.record, moment)]:
            self._book.drop(entry, expired=True)
            self._forget(entry.record)
            self._books.removed(entry.record, expired=True)
            self._leftovers.add(entry.record.id)
        self._remove_leftovers()

    def leave(self, job_id: str) -> None:
        """Have the file of a job removed that is not in the book."""
        self._leftovers.add(job_id)
        self._remove_leftovers()

    async def refresh_room(self) -> None:
        """Look at the disk; the store looks at most once a second."""
        self.room = await self._store.room()

    async def _repeat(self) -> None:
        while True:
            self.prune()
            await self._end_overdue()
            await self.refresh_room()
            await asyncio.sleep(self._pause_s)

    async def _end_overdue(self) -> None:
        moment = iso_timestamp(self._clockwork.now())
        for entry in [entry for entry in self._book if is_overdue(entry.record, moment)]:
            try:
                await self._fail_overdue(entry)
            except Exception as error:  # noqa: BLE001 - the next sweep tries again
                self._books.trouble("overdue job could not be ended", "job_not_ended", entry.record.id, error)
                if isinstance(error, RayError) and error.code == "async_queue_storage_error" and self._book.failing:
                    return  # the disk would refuse the others as well; one record that cannot be read is no such sign

    def _remove_leftovers(self) -> None:
        if self._leftovers and (self._removing is None or self._removing.done()):
            self._removing = asyncio.get_running_loop().create_task(self._remove_files(), name="job-removal")

    async def _remove_files(self) -> None:
        """One after the other, off the way of requests. A disk that refuses is left alone until the next sweep."""
        while self._leftovers:
            job_id = next(iter(self._leftovers))
            try:
                await self._book.attempt(partial(self._store.remove, job_id))
            except RayError as error:
                self._books.trouble("expired job could not be removed", "job_not_removed", job_id, error)
                return
            self._leftovers.discard(job_id)
