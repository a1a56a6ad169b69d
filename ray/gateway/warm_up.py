"""Warming a backend in the background, for as long as it takes, and again whenever it came back.

The listener is up before the first attempt: `/livez` answers while a model is still loading. A failed attempt is
repeated after 2, 4, 8, 15, 15, ... seconds without end, because on a single box there is nobody else to ask; a backend
that was not there is warmed within a second of its arrival. After a success the backend is watched once a second, so
that a restarted one is warmed before the next request pays for it.
Source: http-api, section 12.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from ray.errors import RayError
from ray.telemetry import Logger, error_fields

FIRST_RETRY_MS = 2_000
MAX_RETRY_MS = 15_000
WATCH_INTERVAL_MS = 1_000


async def _sleep_ms(milliseconds: int) -> None:
    await asyncio.sleep(milliseconds / 1000)


def retry_delay_ms(failures: int) -> int:
    """How long to wait after this many failures in a row (1 or more)."""
    return min(MAX_RETRY_MS, FIRST_RETRY_MS << min(failures - 1, 4))


class Warmable(Protocol):
    """What is kept warm: a `Runtime`, as far as this file needs it."""

    async def warm(self) -> None: ...

    async def backend_answers(self) -> bool: ...

    async def needs_warming(self) -> bool: ...


class WarmUp:
    """Keeps one runtime's backend warm. Its public attributes are the `gateway.warmup.*` figures.

    `attempts`, `failures`: since the start. `delay_ms`: until the next attempt, 0 when none is scheduled.
    `sleep_ms` stands between the attempts and between two looks at the backend.
    """

    def __init__(
        self,
        runtime: Warmable,
        logger: Logger,
        *,
        sleep_ms: Callable[[int], Awaitable[None]] = _sleep_ms,
        attempted: Callable[[], None] | None = None,
    ) -> None:
        """`attempted`: called once, when the first attempt is over, whichever way."""
        self.attempts = 0
        self.failures = 0
        self.in_flight = False
        self.delay_ms = 0
        self.succeeded = False
        self.stopped = False
        self._runtime = runtime
        self._logger = logger
        self._sleep_ms = sleep_ms
        self._attempted = attempted
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in the background. Needs a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="warm-up")

    async def stop(self) -> None:
        """No further attempt and no further look; an attempt that is running is given up. May be called again."""
        self.stopped = True
        self.delay_ms = 0
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await self._warm_until_ready()
            await self._watch_until_cold()

    async def _warm_until_ready(self) -> None:
        self.succeeded = False
        failures = 0
        while not await self._attempt(failures):
            self._tell_attempted()
            failures += 1
            await self._pause()
            self.delay_ms = 0
        self._tell_attempted()

    def _tell_attempted(self) -> None:
        attempted, self._attempted = self._attempted, None
        if attempted is not None:
            attempted()

    async def _pause(self) -> None:
        """Wait out the delay, or until a backend that did not answer does: from then on waiting helps nobody."""
        if await self._runtime.backend_answers():
            await self._sleep_ms(self.delay_ms)
            return
        remaining_ms = self.delay_ms
        while remaining_ms > 0:
            step_ms = min(remaining_ms, WATCH_INTERVAL_MS)
            await self._sleep_ms(step_ms)
            remaining_ms -= step_ms
            if await self._runtime.backend_answers():
                return

    async def _attempt(self, failures: int) -> bool:
        """One attempt after so many failures in a row; whether it succeeded."""
        self.attempts += 1
        self.in_flight = True
        try:
            await self._runtime.warm()
        except Exception as error:  # noqa: BLE001 - whatever a backend does wrong, the answer is to try again
            self.failures += 1
            self.delay_ms = retry_delay_ms(failures + 1)
            self._report_failure(error, failures + 1)
            return False
        finally:
            self.in_flight = False
        self.succeeded = True
        if failures:
            self._logger.info("provider warmup recovered", event="warmup_recovered", attempts=failures + 1)
        return True

    def _report_failure(self, error: Exception, attempt: int) -> None:
        """The first failure in a row is an error, the others are reminders."""
        described = error_fields(error, stack=not isinstance(error, RayError))
        say, message = (
            (self._logger.error, "provider warmup failed after gateway start")
            if attempt == 1
            else (self._logger.warn, "provider warmup retry failed")
        )
        say(message, event="warmup_failed", attempt=attempt, retryInMs=self.delay_ms, error=described)

    async def _watch_until_cold(self) -> None:
        while True:
            await self._sleep_ms(WATCH_INTERVAL_MS)
            if await self._runtime.needs_warming():
                return
