"""Fixed-window rate limiting with a bounded table of keys.

Every key has one window, opened by its first request; all windows are equally long, so the table, kept in opening
order, is also in closing order: the oldest entry is the first to expire, and making room never scans the table.
Windows run on the monotonic clock; the wall clock is read only for `x-ratelimit-reset`, which callers compare with
their own.
Source: http-api, section 10.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ray.config import RateLimitConfig
from ray.errors import RayError
from ray.types import Caller

PRESSURE_THRESHOLD = 0.9


@dataclass(frozen=True, slots=True)
class Decision:
    """What one request found. `reset_at`: Unix seconds, rounded up; `retry_after`: seconds, 1 or more."""

    allowed: bool
    limit: int
    remaining: int
    reset_at: int
    retry_after: int

    def headers(self) -> list[tuple[str, str]]:
        """The three headers that every answer of a limited route carries."""
        return [
            ("x-ratelimit-limit", str(self.limit)),
            ("x-ratelimit-remaining", str(self.remaining)),
            ("x-ratelimit-reset", str(self.reset_at)),
        ]

    def refusal(self) -> RayError:
        """The 429 for a request that was not allowed."""
        return RayError(
            "rate_limited",
            f"too many requests: retry after {self.retry_after} s",
            retry_after=self.retry_after,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How full the table is. `ratio`: keys in use of `max_keys`, 4 decimals."""

    active_keys: int
    max_keys: int
    ratio: float

    @property
    def degraded(self) -> bool:
        return self.ratio >= PRESSURE_THRESHOLD


class _Window:
    __slots__ = ("closes_at", "count")

    def __init__(self, closes_at: int) -> None:
        self.count = 1
        self.closes_at = closes_at


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class RateLimiter:
    """The table of windows. Times are whole milliseconds, so that rounding up to seconds is exact."""

    def __init__(
        self,
        config: RateLimitConfig,
        *,
        clock_ms: Callable[[], int] = _monotonic_ms,
        wall_ms: Callable[[], int] = _wall_ms,
    ) -> None:
        self._max_requests = config.max_requests
        self._max_keys = config.max_keys
        self._window_ms = config.window_ms
        self._strategy = config.key_strategy
        self._clock_ms = clock_ms
        self._wall_ms = wall_ms
        self._windows: dict[str, _Window] = {}

    def take(self, caller: Caller) -> Decision:
        """Count one request of `caller` and say whether it may go on. Refused requests are counted too."""
        now = self._clock_ms()
        key = limit_key(caller, self._strategy)
        window = self._windows.get(key)
        if window is not None and window.closes_at > now:
            window.count += 1
        else:
            if window is not None:
                del self._windows[key]  # the new window goes to the end: opening order is kept
            elif len(self._windows) >= self._max_keys:
                self._drop_expired(now)
                if len(self._windows) >= self._max_keys:
                    earliest = next(iter(self._windows.values()))
                    return self._decision(False, 0, earliest.closes_at - now)
            window = self._windows[key] = _Window(now + self._window_ms)
        remaining = self._max_requests - window.count
        return self._decision(remaining >= 0, max(0, remaining), window.closes_at - now)

    def snapshot(self) -> Snapshot:
        """How many windows are open now."""
        self._drop_expired(self._clock_ms())
        active = len(self._windows)
        return Snapshot(active, self._max_keys, round(active / self._max_keys, 4))

    def _drop_expired(self, now: int) -> None:
        expired = []
        for key, window in self._windows.items():
            if window.closes_at > now:
                break
            expired.append(key)
        for key in expired:
            del self._windows[key]

    def _decision(self, allowed: bool, remaining: int, left_ms: int) -> Decision:
        return Decision(
            allowed=allowed,
            limit=self._max_requests,
            remaining=remaining,
            reset_at=_seconds_rounded_up(self._wall_ms() + left_ms),
            retry_after=max(1, _seconds_rounded_up(left_ms)),
        )


def limit_key(caller: Caller, strategy: str) -> str:
    """The table key of a caller: by address, by API key (as SHA-256, never the key itself), or by both."""
    if caller.key_hash is None or strategy == "ip":
        return f"ip:{caller.address}"
    if strategy == "api-key":
        return f"api-key-sha256:{caller.key_hash}"
    return f"api-key-sha256:{caller.key_hash}:ip:{caller.address}"


def _seconds_rounded_up(milliseconds: int) -> int:
    return -(-milliseconds // 1000)
