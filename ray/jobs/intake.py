"""Taking up the jobs that a start finds: what `recovery.plan` decided is done here.

A decision is on disk before it is in the book. When the disk does not take it, the job is taken up all the same, and
written as soon as it can be: the next start would decide the same. Source: jobs, sections 5 and 17 (B1: I5, I9).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from ray.config import AsyncQueueConfig
from ray.errors import RayError
from ray.jobs.book import Entry, JobBook
from ray.jobs.books import JobBooks
from ray.jobs.dispatch import Clockwork
from ray.jobs.record import JobRecord
from ray.jobs.recovery import plan
from ray.jobs.store import Recovery
from ray.jobs.sweep import Sweep
from ray.jobs.transitions import Retention
from ray.telemetry import Logger, Metrics
from ray.types import Caller


class Intake:
    """Fills the book at the start."""

    def __init__(
        self,
        settings: AsyncQueueConfig,
        book: JobBook,
        sweep: Sweep,
        retention: Retention,
        clockwork: Clockwork,
        logger: Logger,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._book = book
        self._sweep = sweep
        self._retention = retention
        self._clockwork = clockwork
        self._logger = logger
        self._metrics = metrics
        self._books = JobBooks(logger, metrics)

    def report(self, recovery: Recovery) -> None:
        """Say what was in the directory."""
        for file in recovery.quarantined:
            self._metrics.increment("async_queue.records_quarantined")
            self._logger.warn(
                "a file in the job store is no record and was put aside",
                event="job_record_quarantined",
                file=file.name,
                reason=file.reason,
            )
        for name in recovery.unreadable:
            self._logger.warn("a file in the job store cannot be read", event="job_record_unreadable", file=name)
        self._logger.info(
            "job store opened",
            event="job_store_opened",
            jobs=len(recovery.records),
            quarantined=len(recovery.quarantined),
            removedTempFiles=recovery.removed_temp_files,
        )

    async def take_up(self, records: Iterable[JobRecord]) -> list[Entry]:
        """Put the jobs into the book, work first and then by age."""
        now = self._clockwork.now()
        decided = plan(records, now, self._settings, self._retention)
        for record in decided.expired:
            self._books.removed(record, expired=True)
            self._sweep.leave(record.id)
        for record in decided.overflowed:
            self._logger.warn(
                "a settled job was removed: the store holds more than asyncQueue.maxJobs",
                event="job_overflowed",
                jobId=record.id,
                maxJobs=self._settings.max_jobs,
            )
            self._sweep.leave(record.id)
        entries = []
        for record in decided.kept:
            if record.id not in decided.changed:
                entries.append(self._insert(record))
                continue
            entries.append(await self._insert_changed(record))
            if record.id in decided.interrupted:
                self._books.recovered(record)
            elif record.id in decided.ended:
                self._books.ended(record, now, ran=False)
        return entries

    def _insert(self, record: JobRecord) -> Entry:
        # The caller himself is not known any more; his jobs still share answers with each other, and with nobody else.
        return self._book.insert(record, Caller(record.owner, ""))

    async def _insert_changed(self, record: JobRecord) -> Entry:
        try:
            await self._book.write(record)
        except RayError as error:
            self._books.trouble("recovered job could not be written", "job_recovery_unsaved", record.id, error)
            entry = self._insert(record)
            entry.full = record  # the disk says something older
            self._book.carry_on(self._save(entry))
            return entry
        return self._insert(record)

    async def _save(self, entry: Entry) -> None:
        with suppress(RayError):
            await self._book.change_surely(entry, lambda present: present)
