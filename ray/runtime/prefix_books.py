"""The books of the prefix store: its events as metrics, and the few that an operator must know of as log lines."""

from __future__ import annotations

from ray.telemetry import Logger, Metrics
from ray.types import PrefixState


class PrefixBooks:
    """A provider's `PrefixObserver`. Remembers only which failures were reported already: a disk that stays full must
    not fill the log as well."""

    def __init__(self, model_id: str, logger: Logger, metrics: Metrics) -> None:
        self._model_id = model_id
        self._logger = logger
        self._metrics = metrics
        self._reported: set[str] = set()

    def hit(self, state: PrefixState, tokens: int, seconds: float) -> None:
        """A generation with a prefix is over."""
        if state in ("hot", "restored"):
            self._metrics.increment("prefix_store.hits", state=state)
        else:
            self._metrics.increment("prefix_store.misses", state=state)
        self._metrics.increment("prefix_store.tokens_saved", max(0, tokens))
        self._metrics.increment("prefix_store.seconds_saved", max(0.0, seconds))

    def saved(self, size: int) -> None:
        """A snapshot of `size` bytes was written."""
        self._metrics.increment("prefix_store.saves")
        self._metrics.increment("prefix_store.saved_bytes", max(0, size))

    def restored(self) -> None:
        """A snapshot was read back into a slot."""
        self._metrics.increment("prefix_store.restores")

    def evicted(self, count: int) -> None:
        """Snapshots were deleted to make room."""
        self._metrics.increment("prefix_store.evictions", max(0, count))

    def proof_failed(self) -> None:
        """The backend read tokens again that should have been in its KV cache."""
        self._metrics.increment("prefix_store.proof_failures")

    def failed(self, operation: str) -> None:
        """An operation did not work. Logged once per kind of operation, counted always."""
        self._metrics.increment("prefix_store.failures", operation=operation)
        if operation not in self._reported:
            self._reported.add(operation)
            self._logger.warn(
                "a prefix store operation failed; requests go on without it, further failures are only counted",
                event="prefix_store_failure",
                operation=operation,
                modelId=self._model_id,
            )

    def level(self, size: int, entries: int, unknown_files: int, enabled: bool) -> None:
        """What the store holds now."""
        self._metrics.set("prefix_store.bytes", size)
        self._metrics.set("prefix_store.entries", entries)
        self._metrics.set("prefix_store.unknown_files", unknown_files)
        self._metrics.set("prefix_store.enabled", int(enabled))

    def switched_off(self, reason: str) -> None:
        """The store is out of use for this backend."""
        self._metrics.set("prefix_store.enabled", 0)
        self._logger.warn(
            "the prefix store is off: this backend does not bring back what was saved; requests go on without it",
            event="prefix_store_off",
            reason=reason,
            modelId=self._model_id,
        )
