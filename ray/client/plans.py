"""What a client does next: send, wait and send again, give up. Generators without I/O, driven by either client.

A plan yields an `Attempt`, gets back what it brought (or the exception it ended with), and returns the final answer.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TypeVar

from ray.client.calls import MAX_JOB_WAIT_SECONDS, Call, Repeat, job_call
from ray.client.documents import Document
from ray.client.errors import RayClientError, RayConnectionError, RayRefused, RayTimeout, RayUnreachable
from ray.client.options import Retries, whole_number

T = TypeVar("T")

DEFAULT_JOB_TIMEOUT_MS = 600_000
MAX_JOB_TIMEOUT_MS = 86_400_000
_ENDED = frozenset({"succeeded", "failed", "cancelled"})
# Answers after which the same request may succeed, if they say when.
_PASSING = frozenset({409, 429, 503, 504})
# With these the gateway says for certain that it has made nothing.
_REJECTIONS = frozenset({"rate_limited", "gateway_draining", "async_queue_full", "async_queue_storage_low"})
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 8.0
_LOOK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """Send this call, after a pause of so many seconds, and give it so much time."""

    call: Call
    timeout_ms: int
    after_seconds: float = 0.0


Plan = Generator[Attempt, T, T]


def attempts(call: Call, timeout_ms: int, retries: Retries | None, after_seconds: float = 0.0) -> Plan[T]:
    """Send a call until it brings an answer, as often as `retries` allows; once without."""
    attempt = Attempt(call, timeout_ms, after_seconds)
    number = 1
    while True:
        try:
            answer = yield attempt
        except RayClientError as error:
            pause = None if retries is None else pause_before_next(error, call.repeat, number, retries)
            if pause is None:
                raise
            attempt = replace(attempt, after_seconds=pause)
            number += 1
        else:
            return answer


def pause_before_next(
    error: RayClientError, repeat: Repeat, number: int, retries: Retries, chance: Callable[[], float] = random.random
) -> float | None:
    """Seconds until the attempt after attempt `number`, which ended with `error`; None when there is to be none.

    An answer is waited for as long as its `Retry-After` says and up to a quarter longer, so that those who were refused
    together do not come back together; a broken connection for a random time that doubles its limit.
    """
    if number >= retries.attempts or not may_repeat(error, repeat):
        return None
    if error.retry_after is not None:
        pause = error.retry_after * (1 + chance() / 4)
        return pause if error.retry_after * 1000 <= retries.longest_wait_ms else None
    doubled = _FIRST_PAUSE_SECONDS * float(1 << (number - 1))
    limit = min(_LONGEST_PAUSE_SECONDS, doubled, retries.longest_wait_ms / 1000)
    return limit * chance()


def may_repeat(error: RayClientError, repeat: Repeat) -> bool:
    """Whether sending the same once more can do no harm and may help."""
    if isinstance(error, RayUnreachable):
        return True
    if isinstance(error, RayRefused):
        if error.retry_after is None or error.status not in _PASSING:
            return False
        return repeat != "rejected" or error.code in _REJECTIONS
    return repeat == "always" and isinstance(error, RayConnectionError | RayTimeout)


def until_ended(
    job_id: str,
    timeout_ms: int,
    request_timeout_ms: int,
    retries: Retries | None,
    clock: Callable[[], float] = time.monotonic,
) -> Plan[Document]:
    """Ask for a job until it has ended. Raises RayTimeout after `timeout_ms`, and what the first request raises.

    Once the job was seen, a gateway that restarts or refuses for a while does not end the waiting: the job survives
    that, too. The gateway holds each request for up to 20 s, and no longer than half of what a request may take here.
    """
    whole_number("timeout_ms", timeout_ms, 1, MAX_JOB_TIMEOUT_MS)
    end = clock() + timeout_ms / 1000
    seen = False
    pause = 0.0
    while True:
        left = max(0.0, end - clock() - pause)
        wait = min(MAX_JOB_WAIT_SECONDS, int(left), request_timeout_ms // 2000)
        request_ms = min(request_timeout_ms, int(left * 1000) + 2000)
        begun = clock() + pause
        try:
            plan: Plan[Document] = attempts(job_call(job_id, wait), request_ms, retries, pause)
            job = yield from plan
        except RayClientError as error:
            again = _pause_in_waiting(error) if seen else None
            if again is None:
                raise
            pause = again
            over = clock() + pause >= end
        else:
            seen = True
            if job.get("status") in _ENDED:
                return job
            # A gateway that stops answers at once: not asked again in a tight circle.
            early = wait == 0 or clock() - begun < wait - _FIRST_PAUSE_SECONDS
            left = end - clock()
            over = left <= 0
            pause = min(_LOOK_AGAIN_SECONDS, left) if early else 0.0  # and so there is a last look at the end
        if over:
            raise RayTimeout(f"job {job_id} has not ended within {timeout_ms} ms; it goes on")


def _pause_in_waiting(error: RayClientError) -> float | None:
    if not may_repeat(error, "always"):
        return None
    return _LOOK_AGAIN_SECONDS if error.retry_after is None else max(error.retry_after, _LOOK_AGAIN_SECONDS)
