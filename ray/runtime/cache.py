"""The response cache: finished answers by content digest, bounded by entries, bytes and age.

Least recently read goes first; the time to live counts from the write and is not extended by reads. What is stored is
immutable, so a hit is shared without copying. Nothing runs in the background.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ray.config import CacheConfig

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Entries and bytes now, and what has left the cache since the process started."""

    entries: int
    bytes: int
    evictions: int
    expirations: int
    dropped_oversized_entries: int


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Value]):
    value: Value
    size: int
    expires_at: float


class ResponseCache(Generic[Value]):
    """An LRU with a time to live. `clock`: seconds, monotonic."""

    def __init__(self, config: CacheConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = config.max_entries
        self._max_bytes = config.max_bytes
        self._ttl_s = config.ttl_ms / 1000
        self._clock = clock
        self._entries: OrderedDict[str, _Entry[Value]] = OrderedDict()  # least recently used first
        self._written: dict[str, None] = {}  # oldest write first: with one TTL for all, that is the order of expiry
        self._bytes = 0
        self._evictions = 0
        self._expirations = 0
        self._dropped_oversized = 0

    def get(self, key: str) -> Value | None:
        """The value stored under `key`, or None. An entry is gone at the very instant its time to live is over."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._clock() >= entry.expires_at:
            self._remove(key)
            self._expirations += 1
            return None
        self._entries.move_to_end(key)
        return entry.value

    def put(self, key: str, value: Value, size: int) -> bool:
        """Store `value`, `size` bytes large, in place of what `key` held. False when it is larger than the cache."""
        self._purge_expired()
        if key in self._entries:
            self._remove(key)
        if size > self._max_bytes:
            self._dropped_oversized += 1
            return False
        while self._entries and (len(self._entries) >= self._max_entries or self._bytes + size > self._max_bytes):
            self._remove(next(iter(self._entries)))
            self._evictions += 1
        self._entries[key] = _Entry(value, size, self._clock() + self._ttl_s)
        self._written[key] = None
        self._bytes += size
        return True

    def stats(self) -> CacheStats:
        """The figures of this moment; entries whose time is over are removed and counted first."""
        self._purge_expired()
        return CacheStats(len(self._entries), self._bytes, self._evictions, self._expirations, self._dropped_oversized)

    def clear(self) -> None:
        """Forget every entry; the counters keep their values."""
        self._entries.clear()
        self._written.clear()
        self._bytes = 0

    def _purge_expired(self) -> None:
        now = self._clock()
        while self._written:
            oldest = next(iter(self._written))
            if now < self._entries[oldest].expires_at:
                return
            self._remove(oldest)
            self._expirations += 1

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key)
        del self._written[key]
        self._bytes -= entry.size
