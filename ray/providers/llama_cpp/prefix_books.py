"""What the prefix store has done, for `/health` and for whoever observes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ray.providers.base import PrefixObserver
from ray.types import PrefixState

# Shorter readings say little about the speed, and each new one counts for a fifth.
MIN_TIMED_TOKENS = 32
NEWEST_SHARE = 0.2
STATES: tuple[PrefixState, ...] = ("hot", "restored", "evaluated", "none")
# Bytes, snapshots, files that are not the store's own, whether the store is in use.
Level = tuple[int, int, int, bool]


class PrefixBooks:
    """Counters since the start of the process. `level` reads what the store holds now."""

    def __init__(self, observer: PrefixObserver | None, level: Callable[[], Level]) -> None:
        self._observer = observer
        self._level = level
        self._uses: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._tokens = 0
        self._seconds = 0.0
        self._saves = self._restores = self._evictions = self._failed_proofs = 0

    def figures(self) -> dict[str, object]:
        """JSON for the block of `/health`."""
        return {
            "uses": {state: self._uses[state] for state in STATES},
            "tokensSaved": self._tokens,
            "secondsSaved": round(self._seconds, 3),
            "saves": self._saves,
            "restores": self._restores,
            "evictions": self._evictions,
            "failedProofs": self._failed_proofs,
            "failures": dict(self._failures),
        }

    def hit(self, state: PrefixState, tokens: int, seconds: float) -> None:
        self._uses[state] += 1
        self._tokens += tokens
        self._seconds += seconds
        if self._observer is not None:
            self._observer.hit(state, tokens, seconds)

    def saved(self, size: int) -> None:
        self._saves += 1
        if self._observer is not None:
            self._observer.saved(size)

    def restored(self) -> None:
        self._restores += 1
        if self._observer is not None:
            self._observer.restored()

    def evicted(self, count: int) -> None:
        self._evictions += count
        if self._observer is not None:
            self._observer.evicted(count)

    def proof_failed(self) -> None:
        self._failed_proofs += 1
        if self._observer is not None:
            self._observer.proof_failed()

    def failed(self, operation: str) -> None:
        self._failures[operation] += 1
        if self._observer is not None:
            self._observer.failed(operation)

    def switched_off(self, reason: str) -> None:
        if self._observer is not None:
            self._observer.switched_off(reason)

    def changed(self) -> None:
        """What the store holds, or whether it is in use, is different now."""
        if self._observer is not None:
            self._observer.level(*self._level())


class ReadingSpeed:
    """How fast the backend has read prompts lately."""

    def __init__(self) -> None:
        self._ms_per_token: float | None = None

    def learn(self, tokens: int, milliseconds: float | None) -> None:
        """`tokens` were read in `milliseconds`, None when that is not known."""
        if milliseconds and tokens >= MIN_TIMED_TOKENS:
            seen, known = milliseconds / tokens, self._ms_per_token
            self._ms_per_token = seen if known is None else known + NEWEST_SHARE * (seen - known)

    def suppose(self, tokens: int, milliseconds: int) -> None:
        """What is known from before a restart, until something is read now."""
        if self._ms_per_token is None:
            self.learn(tokens, milliseconds)

    def seconds(self, tokens: int) -> float:
        """What reading `tokens` would take; 0 while nothing is known."""
        return tokens * (self._ms_per_token or 0.0) / 1000
