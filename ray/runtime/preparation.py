"""The preparation gate: a counting semaphore with a bounded number of waiters.

Preparing (rendering the prompt, counting its tokens) costs backend time, so no more run at once than generations may.
Time is not kept here: a request whose deadline passes is cancelled by its readers, and a cancelled waiter or holder
gives back its place at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from types import TracebackType

from ray.errors import RayError


@dataclass(frozen=True, slots=True)
class GateSnapshot:
    active: int
    concurrency: int
    queued: int
    max_queue: int


class PreparationGate:
    """At most `concurrency` inside, at most `max_queue` waiting, first come first served.

    Use as `async with gate:`. Entering raises `RayError queue_full` (details `phase: prepare`) when nobody more may
    wait.
    """

    def __init__(self, concurrency: int, max_queue: int) -> None:
        self._concurrency = concurrency
        self._max_queue = max_queue
        self._active = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self._active < self._concurrency:  # a free place means nobody waits: places are handed over directly
            self._active += 1
            return
        if len(self._waiters) >= self._max_queue:
            raise self._full()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._waiters.remove(waiter)
            else:  # admitted in the same turn of the loop in which the wait was cancelled: pass the place on
                self._leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    def snapshot(self) -> GateSnapshot:
        return GateSnapshot(self._active, self._concurrency, len(self._waiters), self._max_queue)

    def _leave(self) -> None:
        """Hand the place to the first who still waits, or give it up."""
        for waiter in self._waiters:
            if not waiter.done():
                self._waiters.remove(waiter)
                waiter.set_result(None)
                return
        self._active -= 1

    def _full(self) -> RayError:
        return RayError(
            "queue_full",
            "too many requests are waiting to be prepared; retry shortly or raise scheduler.maxQueue",
            details={
                "phase": "prepare",
                "activePreparations": self._active,
                "queuedPreparations": len(self._waiters),
                "concurrency": self._concurrency,
                "maxQueue": self._max_queue,
            },
        )
