"""Delivery of callbacks: who is told when, by whom, in which words.

What it promises: at most `workers` deliveries at a time and one per host, hosts taking turns, so that a dead receiver
holds up nobody else; an attempt is counted durably before its first byte leaves; every attempt for one job carries the
same `webhook-id` and the same bytes; what became of it is durable before it is forgotten here, also when the disk fails
meanwhile. When the next attempt is due is the owner's decision. Source: jobs, sections 9 and 17 (B2, B5, B6, B9).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from ray.errors import RayError
from ray.jobs.callback_body import callback_body
from ray.jobs.callback_policy import CallbackPolicy
from ray.jobs.record import JobCallback, JobRecord
from ray.jobs.sender import DeliveryOutcome, Sender
from ray.jobs.signing import SECRETS_VARIABLE, WebhookSecrets, message_id
from ray.jobs.turns import Turns
from ray.telemetry import Logger, Metrics, error_fields
from ray.version import VERSION

DEFAULT_WORKERS = 3
# While the owner cannot write, it is asked again after 1 s, 2 s, 4 s and so on.
_FIRST_SETBACK_S = 1.0
_MAX_SETBACK_S = 60.0
# How long `stop` waits for what it interrupted to be written down.
_LAST_WRITES_S = 2.0

INTERRUPTED = "interrupted"


class CallbackOwner(Protocol):
    """Who keeps the records."""

    async def attempt_started(self, job_id: str) -> JobRecord | None:
        """Count one more attempt, durably. The whole record to deliver, or None when there is nothing to deliver."""

    async def attempt_ended(self, job_id: str, outcome: DeliveryOutcome) -> float | None:
        """Note durably what became of it. Unix time of the next attempt, None when there is none."""


class Callbacks:
    """Delivers what is scheduled, on one event loop. `owner` may be set after construction, before `schedule`."""

    def __init__(
        self,
        policy: CallbackPolicy,
        secrets: WebhookSecrets | None,
        owner: CallbackOwner | None,
        logger: Logger,
        metrics: Metrics,
        workers: int = DEFAULT_WORKERS,
        *,
        sender: Sender | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.owner = owner
        self.workers = workers
        self._policy = policy
        self._secrets = secrets
        self._logger = logger
        self._metrics = metrics
        self._sender = sender or Sender(policy)
        self._wall = wall
        self._turns = Turns()
        self._tasks: set[asyncio.Task[None]] = set()
        self._active: set[str] = set()
        self._sending: set[asyncio.Task[DeliveryOutcome]] = set()
        self._unsaved: dict[str, DeliveryOutcome] = {}
        self._setbacks: dict[str, int] = {}
        self._timer: asyncio.Handle | None = None
        self._stopping = False
        self._warned_unsigned = False

    @property
    def active(self) -> int:
        """Deliveries under way."""
        return len(self._tasks)

    @property
    def scheduled(self) -> int:
        """Deliveries that wait for their time or their turn."""
        return len(self._turns)

    async def admit(self, value: object) -> str:
        """The stored form of a submission's `callbackUrl`. Raises `RayError` invalid_request, see `CallbackPolicy`."""
        target = await self._policy.check(value)
        return str(target.url)

    def schedule(self, job_id: str, host: str, due_at: float) -> None:
        """Deliver the outcome of a job to `host` at Unix time `due_at`, or when it is the host's turn."""
        # One that is under way decides itself when the next attempt is due.
        if self._stopping or job_id in self._active:
            return
        # From here on the monotonic clock counts: a wall clock that is put back delays nothing.
        delay = max(0.0, due_at - self._wall())
        self._turns.add(job_id, host, asyncio.get_running_loop().time() + delay)
        self._wake(0.0)

    def cancel_all(self) -> None:
        """Begin no further delivery. What is under way goes on."""
        self._stopping = True
        self._turns.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def stop(self, timeout_s: float) -> bool:
        """`cancel_all`, then wait for what is under way. True when all of it ended in time; the rest is interrupted,
        and its owner told so."""
        self.cancel_all()
        on_time = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            on_time = not late
        for sending in self._sending:
            sending.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_LAST_WRITES_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._policy.close()
        return on_time

    def _wake(self, delay: float) -> None:
        """Look for work after `delay` seconds. One timer serves all."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = (
            loop.call_later(delay, self._begin_what_is_due) if delay > 0 else loop.call_soon(self._begin_what_is_due)
        )

    def _begin_what_is_due(self) -> None:
        self._timer = None
        if self._stopping:
            return
        now = asyncio.get_running_loop().time()
        while len(self._tasks) < self.workers:
            turn = self._turns.take(now)
            if turn is None:
                break
            self._active.add(turn[0])
            task = asyncio.ensure_future(self._deliver(*turn))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        due = self._turns.next_due()
        # What only waits for a worker or for its host is woken by the end of a delivery.
        if due is not None and len(self._tasks) < self.workers:
            self._wake(max(0.001, due - now))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._stopping:
            self._wake(0.0)

    async def _deliver(self, job_id: str, host: str) -> None:
        """One attempt from its counting to its outcome. Nothing is lost when the owner cannot write: it is asked again
        later, and an outcome that it has not noted is not sent again meanwhile."""
        try:
            due_at = await self._attempt(job_id, host)
            self._setbacks.pop(job_id, None)
        except Exception as error:  # noqa: BLE001 - a job whose turn fails must get another one
            due_at = self._set_back(job_id, error)
        finally:
            self._turns.release(host)
            self._active.discard(job_id)
        if due_at is not None:
            self.schedule(job_id, host, due_at)

    async def _attempt(self, job_id: str, host: str) -> float | None:
        owner = self.owner
        if owner is None:
            raise RuntimeError("callbacks were scheduled before they had an owner")
        outcome = self._unsaved.get(job_id)
        if outcome is None:
            record = await owner.attempt_started(job_id)
            if record is None or record.callback is None:
                return None
            outcome = await self._send(record, record.callback, host)
            self._unsaved[job_id] = outcome
        due_at = await owner.attempt_ended(job_id, outcome)
        del self._unsaved[job_id]
        return due_at

    def _set_back(self, job_id: str, error: Exception) -> float:
        failures = self._setbacks[job_id] = self._setbacks.get(job_id, 0) + 1
        log = self._logger.warn if isinstance(error, RayError) else self._logger.error
        log(
            "a callback waits because its job could not be written",
            event="job_callback_delayed",
            jobId=job_id,
            error=error_fields(error, stack=not isinstance(error, RayError)),
        )
        return self._wall() + min(_MAX_SETBACK_S, _FIRST_SETBACK_S * 2.0 ** min(failures - 1, 10))

    async def _send(self, record: JobRecord, callback: JobCallback, host: str) -> DeliveryOutcome:
        body = callback_body(record, self._policy.settings.callback_payload)
        began = time.monotonic()
        sending = asyncio.ensure_future(self._sender.deliver(callback.url, self._headers(record, body), body))
        self._sending.add(sending)
        try:
            outcome = await sending
        except asyncio.CancelledError:
            if not sending.cancelled() or not self._stopping:
                sending.cancel()
                raise
            outcome = DeliveryOutcome("retry", INTERRUPTED)
        finally:
            self._sending.discard(sending)
        self._metrics.increment("async_queue.callback_attempts", outcome=outcome.kind)
        self._logger.info(
            f"callback {_WORDS[outcome.kind]}",
            event=f"job_callback_{outcome.kind}",
            jobId=record.id,
            status=record.status,
            attempt=callback.attempts,
            reason=outcome.reason,
            callbackHost=host,
            durationMs=round((time.monotonic() - began) * 1000, 1),
        )
        return outcome

    def _headers(self, record: JobRecord, body: bytes) -> list[tuple[str, str]]:
        identity, timestamp = message_id(record.id), int(self._wall())
        headers = [
            ("content-type", "application/json"),
            ("user-agent", f"ray-gateway/{VERSION}"),
            ("webhook-id", identity),
            ("webhook-timestamp", str(timestamp)),
        ]
        if self._secrets is not None:
            headers.append(("webhook-signature", self._secrets.signature(identity, timestamp, body)))
        elif not self._warned_unsigned:
            self._warned_unsigned = True
            self._logger.warn(
                f"callbacks are not signed: receivers cannot tell them from forged ones; set {SECRETS_VARIABLE}",
                event="job_callbacks_unsigned",
            )
        return headers


_WORDS = {"delivered": "delivered", "retry": "not delivered", "give_up": "given up"}
