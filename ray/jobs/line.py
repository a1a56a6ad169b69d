"""Who runs next: the jobs that may run in the order in which they came of age, and those that wait for their time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ray.jobs.book import Entry

# The wall clock may be set back while a job waits: no wait is longer than the longest delay that is ever chosen.
MAX_DELAY_S = 60.0


class JobLine:
    """First in, first out; a job that is tried again comes in at the tail. Holds a job at most once.

    `ready`: called when there is somebody new at the tail.
    """

    def __init__(self, ready: Callable[[], None]) -> None:
        self._ready = ready
        self._due: dict[str, Entry] = {}
        self._armed: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._due)

    @property
    def armed(self) -> int:
        """Jobs that wait for their next attempt."""
        return len(self._armed)

    def add(self, entry: Entry, delay_s: float = 0.0) -> None:
        """Let the job run as soon as its delay is over."""
        self.remove(entry)
        if delay_s <= 0:
            self._due[entry.record.id] = entry
            self._ready()
        else:
            loop = asyncio.get_running_loop()
            self._armed[entry.record.id] = entry
            entry.timer = loop.call_later(min(delay_s, MAX_DELAY_S), self.add, entry)

    def remove(self, entry: Entry) -> None:
        """It does not wait any more."""
        self._due.pop(entry.record.id, None)
        self._armed.pop(entry.record.id, None)
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None

    def next(self) -> Entry | None:
        """Take out the head of the line."""
        if not self._due:
            return None
        job_id = next(iter(self._due))
        return self._due.pop(job_id)

    def disarm(self) -> None:
        """Cancel all timers: the queue stops."""
        for entry in list(self._armed.values()):
            self.remove(entry)
