"""The figures of the scheduler, as health, metrics and refusals show them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchedulerSnapshot:
    """The queue at one moment; counts of requests and of tokens."""

    queue_depth: int
    short_queue_depth: int
    draft_queue_depth: int
    in_flight: int
    max_queue: int
    concurrency: int
    queued_tokens: int
    in_flight_tokens: int
    max_queued_tokens: int
    max_inflight_tokens: int

    def details(self) -> dict[str, object]:
        """The ten figures under their wire names, as refusals carry them."""
        return {
            "queueDepth": self.queue_depth,
            "shortQueueDepth": self.short_queue_depth,
            "draftQueueDepth": self.draft_queue_depth,
            "inFlight": self.in_flight,
            "maxQueue": self.max_queue,
            "concurrency": self.concurrency,
            "queuedTokens": self.queued_tokens,
            "inFlightTokens": self.in_flight_tokens,
            "maxQueuedTokens": self.max_queued_tokens,
            "maxInflightTokens": self.max_inflight_tokens,
        }
