"""Which failures are worth another attempt, what an attempt costs, and how long to wait: pure policy.

A job has few attempts and much time. An attempt is spent when the backend worked on the job and failed; a full queue or
a backend that is away says nothing about the job and costs none. Source: jobs, section 17 (B6).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ray.errors import RayError

JOB_DELAY_CAP_S = 60.0
CALLBACK_DELAY_CAP_S = 3_600.0

# Upstream refusals that pass: request timeout (RFC 9110), too early (RFC 8470), too many requests (RFC 6585).
PASSING_UPSTREAM_STATUSES = frozenset({408, 425, 429})

# What the HTTP client names as the reason when no connection came about: the backend has not seen the request.
_UNREACHED = ("ConnectionRefusedError", "gaierror", "OSError: [Errno 113]", "OSError: [Errno 101]")

Uniform = Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt's failure, as far as policy looks at it.

    `code`: None for an exception that is no `RayError`. `phase`: what the generation was busy with (`prepare`, `queue`,
    `generate`). `upstream_status`: what the backend answered. `unreached`: no connection to it came about.
    """

    code: str | None
    status: int = 500
    phase: str = "generate"
    upstream_status: int | None = None
    unreached: bool = False

    @classmethod
    def of(cls, error: BaseException, phase: str = "generate") -> Failure:
        if not isinstance(error, RayError):
            return cls(None, phase=phase)
        details = error.details if isinstance(error.details, Mapping) else {}
        upstream = details.get("upstreamStatus")
        return cls(
            error.code,
            error.status,
            phase,
            upstream if isinstance(upstream, int) else None,
            str(details.get("error", "")).startswith(_UNREACHED),
        )


def retryable(failure: Failure) -> bool:
    """Could the same request succeed later? By status: the request's own faults are below 500. Two exceptions: the
    backend's refusal of the request (its 4xx, except those that pass), and a backend that cannot do this at all."""
    if failure.code is None:
        return True
    if failure.code == "provider_unsupported":
        return False
    upstream = failure.upstream_status
    if upstream is not None and 400 <= upstream < 500 and upstream not in PASSING_UPSTREAM_STATUSES:
        return False
    return failure.status >= 500


def costs_attempt(failure: Failure) -> bool:
    """Did the backend work on the job? Not so when the queue was full or the time ran out in it, when the gateway shut
    down, and when the backend was away or still loading.

    A connection that breaks while the backend generates does cost: it may be this prompt that kills the backend.
    """
    if failure.code in ("queue_full", "gateway_draining"):
        return False
    if failure.code == "request_timeout":
        return failure.phase != "queue"
    if failure.code == "provider_upstream_error":
        return failure.upstream_status != 503 and failure.status != 503
    if failure.code == "provider_request_failed":
        return failure.phase == "generate" and not failure.unreached
    return True


def retry_delay(failures: int, base_s: float, cap_s: float, uniform: Uniform = random.uniform) -> float:
    """Seconds to wait after the `failures`-th failure in a row (from 1): full jitter, uniform between 0 and
    min(cap, base times 2 to the failures - 1)."""
    # 2**60 seconds is beyond every cap; more would overflow a float some day.
    return uniform(0.0, min(cap_s, base_s * 2.0 ** min(max(failures, 1) - 1, 60)))
