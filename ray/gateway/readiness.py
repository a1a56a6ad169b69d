"""Is this gateway usable? Pure functions from readings to the answers of `/readyz` and `/health`.

Load never makes a gateway unready: under pressure it is `degraded` and still 200, because sending its traffic elsewhere
helps nobody on a single box. Only a backend that cannot answer makes it 503.
Source: http-api, sections 6.3 and 6.4.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray.types import ProviderStatus, ServiceStatus

SERVICE = "ray-gateway"
CONNECTION_PRESSURE_THRESHOLD = 0.9

_PROVIDER_REASONS: dict[str, str] = {
    "unavailable": "provider_unavailable",
    "warming": "provider_warming",
    "degraded": "provider_degraded",
}


@dataclass(frozen=True, slots=True)
class Pressures:
    """What is under pressure, in the order in which the reasons are listed."""

    queue: bool = False
    preparation: bool = False
    memory: bool = False
    cpu: bool = False
    async_queue: bool = False
    rate_limit: bool = False
    gateway_http: bool = False

    def named(self) -> tuple[tuple[str, str, bool], ...]:
        """(JSON key, reason, whether it applies)."""
        return (
            ("queue", "queue_pressure", self.queue),
            ("preparation", "preparation_pressure", self.preparation),
            ("memory", "memory_pressure", self.memory),
            ("cpu", "cpu_pressure", self.cpu),
            ("asyncQueue", "async_queue_pressure", self.async_queue),
            ("rateLimit", "rate_limit_pressure", self.rate_limit),
            ("gatewayHttp", "gateway_http_pressure", self.gateway_http),
        )

    @property
    def any(self) -> bool:
        return any(applies for _, _, applies in self.named())


def service_status(provider: ProviderStatus, pressures: Pressures) -> ServiceStatus:
    """`unavailable` is never softened; a provider nobody has asked yet (`unknown`) is fine."""
    if provider == "unavailable":
        return "unavailable"
    return "degraded" if provider in ("warming", "degraded") or pressures.any else "ok"


def readiness(
    provider: ProviderStatus, pressures: Pressures, *, queue_depth: int, in_flight: int
) -> tuple[int, dict[str, object]]:
    """The HTTP status and body of `/readyz`. The body names no model, no address and no figures but the queue's."""
    reason = _PROVIDER_REASONS.get(provider)
    reasons = [] if reason is None else [reason]
    reasons += [name for _, name, applies in pressures.named() if applies]
    body: dict[str, object] = {
        "status": service_status(provider, pressures),
        "service": SERVICE,
        "providerStatus": provider,
        "queueDepth": queue_depth,
        "inFlight": in_flight,
        "pressure": {key: applies for key, _, applies in pressures.named()},
        "reasons": reasons,
    }
    return (503 if provider in ("unavailable", "warming") else 200), body


def connection_pressure(sockets: int, max_connections: int) -> bool:
    """Whether the socket table is nearly full: 231 of 256, for example."""
    return sockets / max(1, max_connections) >= CONNECTION_PRESSURE_THRESHOLD
