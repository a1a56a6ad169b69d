"""The health of a runtime as a value, and as the JSON of `/health` (http-api section 6.4)."""

from __future__ import annotations

from dataclasses import dataclass

from ray.config import Config
from ray.runtime.cache import CacheStats
from ray.runtime.figures import SchedulerSnapshot
from ray.runtime.preparation import GateSnapshot
from ray.runtime.pressure import Pressure, cpu_document, memory_document
from ray.types import Health, ServiceStatus, as_json

# A few waiters at the gate are ordinary; half a full gate is pressure.
GATE_PRESSURE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class RuntimeHealth:
    """How one model's runtime is at one moment. `provider`: the backend's health, warm state included.

    `queue_degraded`, `preparation_degraded` and what `pressure` says of memory and CPU are load: they make the status
    `degraded`, never `unavailable`.
    """

    status: ServiceStatus
    uptime_ms: int
    model_id: str
    provider: Health
    queue: SchedulerSnapshot
    queue_degraded: bool
    preparation: GateSnapshot
    preparation_degraded: bool
    cache: CacheStats
    pressure: Pressure


def queue_is_degraded(queue: SchedulerSnapshot, config: Config) -> bool:
    """Graceful degradation is on and would act at this depth."""
    limits = config.graceful_degradation
    return limits.enabled and queue.queue_depth >= limits.queue_depth_threshold


def preparation_is_degraded(gate: GateSnapshot) -> bool:
    """At least half of the places at the gate are taken."""
    return gate.queued > 0 and gate.queued >= gate.max_queue * GATE_PRESSURE_SHARE


def service_status(provider: Health, *, under_pressure: bool) -> ServiceStatus:
    """A backend that nobody asked yet (`unknown`) counts as fine."""
    if provider.status == "unavailable":
        return "unavailable"
    if provider.status in ("degraded", "warming") or under_pressure:
        return "degraded"
    return "ok"


def health_document(health: RuntimeHealth, config: Config) -> dict[str, object]:
    """The runtime's part of the `/health` body. Ratios have four decimals."""
    cpu = cpu_document(health.pressure)
    return {
        "status": health.status,
        "uptimeMs": health.uptime_ms,
        "queueDepth": health.queue.queue_depth,
        "inFlight": health.queue.in_flight,
        "cacheEntries": health.cache.entries,
        "profile": config.profile,
        "modelId": health.model_id,
        "provider": as_json(health.provider),
        "runtime": {
            "queue": _queue(health, config.graceful_degradation.queue_depth_threshold),
            "preparation": _preparation(health),
            "cache": _cache(health.cache, config),
            "memory": memory_document(health.pressure),
            **({"cpu": cpu} if cpu is not None else {}),
        },
    }


def _queue(health: RuntimeHealth, threshold: int) -> dict[str, object]:
    queue = health.queue
    return {
        "degraded": health.queue_degraded,
        "depth": queue.queue_depth,
        "depthRatio": _ratio(queue.queue_depth, queue.max_queue),
        "shortDepth": queue.short_queue_depth,
        "draftDepth": queue.draft_queue_depth,
        "threshold": threshold,
        "maxQueue": queue.max_queue,
        "inFlight": queue.in_flight,
        "inFlightRatio": _ratio(queue.in_flight, queue.concurrency),
        "concurrency": queue.concurrency,
        "queuedTokens": queue.queued_tokens,
        "queuedTokensRatio": _ratio(queue.queued_tokens, queue.max_queued_tokens),
        "maxQueuedTokens": queue.max_queued_tokens,
        "inFlightTokens": queue.in_flight_tokens,
        "inFlightTokensRatio": _ratio(queue.in_flight_tokens, queue.max_inflight_tokens),
        "maxInflightTokens": queue.max_inflight_tokens,
    }


def _preparation(health: RuntimeHealth) -> dict[str, object]:
    gate = health.preparation
    return {
        "degraded": health.preparation_degraded,
        "active": gate.active,
        "concurrency": gate.concurrency,
        "activeRatio": _ratio(gate.active, gate.concurrency),
        "queued": gate.queued,
        "maxQueue": gate.max_queue,
        "queuedRatio": _ratio(gate.queued, gate.max_queue),
    }


def _cache(stats: CacheStats, config: Config) -> dict[str, object]:
    limits = config.cache
    return {
        "enabled": limits.enabled,
        "entries": stats.entries,
        "maxEntries": limits.max_entries,
        "entriesRatio": _ratio(stats.entries, limits.max_entries),
        "bytes": stats.bytes,
        "maxBytes": limits.max_bytes,
        "bytesRatio": _ratio(stats.bytes, limits.max_bytes),
        "ttlMs": limits.ttl_ms,
        "evictions": stats.evictions,
        "expirations": stats.expirations,
        "droppedOversizedEntries": stats.dropped_oversized_entries,
        # Every answer can be measured here; the key stays for those who read it.
        "droppedUnmeasurableEntries": 0,
    }


def _ratio(value: float, capacity: float) -> float:
    return round(value / max(1, capacity), 4)
