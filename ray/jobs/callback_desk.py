"""The queue's side of callbacks: counts attempts, keeps their outcomes, decides when the next one is due.

Both calls raise `RayError async_queue_storage_error` when the disk does not take the change; the caller asks again.
Source: jobs, sections 9 and 17 (B2, B5, B6).
"""

from __future__ import annotations

from ray.clock import parse_iso
from ray.config import AsyncQueueConfig
from ray.jobs.book import JobBook
from ray.jobs.books import callback_host
from ray.jobs.callbacks import INTERRUPTED
from ray.jobs.dispatch import Clockwork
from ray.jobs.ports import CallbackService
from ray.jobs.record import JobRecord
from ray.jobs.retry import CALLBACK_DELAY_CAP_S, retry_delay
from ray.jobs.sender import DeliveryOutcome
from ray.jobs.transitions import (
    NO_ATTEMPTS_LEFT,
    Retention,
    callback_begun,
    callback_delivered,
    callback_given_up,
    callback_interrupted,
    callback_postponed,
)


class CallbackDesk:
    """Owner of the callbacks' state (`CallbackOwner`). `service`: who delivers; None when nobody does."""

    def __init__(
        self,
        settings: AsyncQueueConfig,
        book: JobBook,
        retention: Retention,
        clockwork: Clockwork,
        service: CallbackService | None,
    ) -> None:
        self._settings = settings
        self._book = book
        self._retention = retention
        self._clockwork = clockwork
        self.service = service
        self._open = False

    def open(self) -> None:
        """Begin to deliver: what the start found first."""
        self._open = True
        for entry in self._book:
            self.schedule(entry.record)

    def schedule(self, record: JobRecord) -> None:
        """Have the outcome of a job delivered, if somebody wants it and does not have it yet."""
        callback = record.callback
        if not self._open or self.service is None:
            return
        if callback is None or callback.status != "pending" or not record.is_terminal:
            return
        due = parse_iso(callback.next_attempt_at) if callback.next_attempt_at is not None else 0.0
        # A clock that was set back must not put the delivery off for longer than any delay that is ever chosen.
        now = self._clockwork.now()
        self.service.schedule(record.id, callback_host(callback.url), min(max(due, now), now + CALLBACK_DELAY_CAP_S))

    async def attempt_started(self, job_id: str) -> JobRecord | None:
        """Count one more attempt, durably. The whole record to deliver, or None when there is nothing to deliver."""
        entry = self._book.get(job_id)
        if entry is None:
            return None

        def begun(present: JobRecord) -> JobRecord | None:
            callback = present.callback
            if callback is not None and callback.attempts >= self._settings.max_callback_attempts:
                reason = callback.last_error or NO_ATTEMPTS_LEFT
                return callback_given_up(present, callback, reason, self._clockwork.now(), self._retention)
            return callback_begun(present, self._clockwork.now())

        record = await self._book.change(entry, begun)
        return record if record is not None and not record.is_settled else None

    async def attempt_ended(self, job_id: str, outcome: DeliveryOutcome) -> float | None:
        """Note durably what became of it. Unix time of the next attempt, None when there is none."""
        entry = self._book.get(job_id)
        if entry is None:
            return None
        record = await self._book.change(entry, lambda present: self._after(present, outcome))
        if record is None or record.callback is None or record.callback.next_attempt_at is None:
            return None
        return parse_iso(record.callback.next_attempt_at)

    def _after(self, present: JobRecord, outcome: DeliveryOutcome) -> JobRecord | None:
        callback, now = present.callback, self._clockwork.now()
        if callback is None or callback.status != "pending":
            return None
        if outcome.kind == "delivered":
            return callback_delivered(present, callback, now, self._retention)
        if outcome.reason == INTERRUPTED:
            return callback_interrupted(present, callback, now)
        if outcome.kind == "give_up" or callback.attempts >= self._settings.max_callback_attempts:
            return callback_given_up(present, callback, outcome.reason, now, self._retention)
        delay = retry_delay(
            callback.attempts, self._settings.poll_interval_ms / 1000, CALLBACK_DELAY_CAP_S, self._clockwork.uniform
        )
        # What the receiver asks for is the least; its own hour is the most.
        delay = max(delay, min(outcome.retry_after_s or 0.0, CALLBACK_DELAY_CAP_S))
        return callback_postponed(present, callback, outcome.reason, now + delay)
