"""Whose turn it is: jobs that are due, one at a time per host, the hosts one after the other."""

from __future__ import annotations

import heapq
from collections import deque


class Turns:
    """Jobs waiting for their time, then for their host. Times are seconds on any one clock that never goes back."""

    def __init__(self) -> None:
        self._later: list[tuple[float, int, str, str]] = []  # a heap: due, order of arrival, job, host
        self._arrivals = 0
        self._ready: dict[str, deque[str]] = {}  # jobs by host; the host at the front is next
        self._waiting: set[str] = set()
        self._busy: set[str] = set()

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def add(self, job_id: str, host: str, due: float) -> None:
        """A job that waits already keeps its place."""
        if job_id in self._waiting:
            return
        self._waiting.add(job_id)
        self._arrivals += 1
        heapq.heappush(self._later, (due, self._arrivals, job_id, host))

    def take(self, now: float) -> tuple[str, str] | None:
        """The job whose turn it is, and its host, which is busy from now until `release`."""
        while self._later and self._later[0][0] <= now:
            _, _, job_id, host = heapq.heappop(self._later)
            self._ready.setdefault(host, deque()).append(job_id)
        # At most as many hosts are busy as there are workers: the walk is short.
        free = next((host for host in self._ready if host not in self._busy), None)
        if free is None:
            return None
        jobs = self._ready.pop(free)
        job_id = jobs.popleft()
        if jobs:
            self._ready[free] = jobs  # at the end: the other hosts come first
        self._waiting.discard(job_id)
        self._busy.add(free)
        return job_id, free

    def release(self, host: str) -> None:
        """The delivery to this host has ended."""
        self._busy.discard(host)

    def next_due(self) -> float | None:
        """When the next job that still waits for its time is due; None when there is none."""
        return self._later[0][0] if self._later else None

    def clear(self) -> None:
        """Forget all that wait."""
        self._later.clear()
        self._ready.clear()
        self._waiting.clear()
