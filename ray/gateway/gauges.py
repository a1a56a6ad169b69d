"""The gateway's own figures: connections, warm-up, rate limit. Read when `/health` or `/metrics` is asked for.

Source: http-api, sections 6.4 and 6.5.
"""

from __future__ import annotations

from collections.abc import Iterator

from ray.gateway.rate_limit import PRESSURE_THRESHOLD
from ray.gateway.readiness import CONNECTION_PRESSURE_THRESHOLD, connection_pressure
from ray.gateway.services import Services
from ray.telemetry import Metrics


def http_document(services: Services) -> dict[str, object]:
    """`gateway.http` of `/health`: connections now, and the limits they are held to."""
    counts, limits = services.connections(), services.http_limits
    return {
        "degraded": connection_pressure(counts.sockets, limits.max_connections),
        "sockets": counts.sockets,
        "activeSockets": counts.active_sockets,
        "idleSockets": max(0, counts.sockets - counts.active_sockets),
        "activeRequests": counts.active_requests,
        "maxConnections": limits.max_connections,
        "connectionRatio": counts.sockets / limits.max_connections,
        "pressureThreshold": CONNECTION_PRESSURE_THRESHOLD,
        "requestBodyLimitBytes": services.config.server.request_body_limit_bytes,
        "maxHeaderBytes": limits.max_header_bytes,
        "maxHeadersCount": limits.max_headers_count,
        "maxRequestsPerSocket": limits.max_requests_per_socket,
        "headersTimeoutMs": int(limits.headers_timeout_s * 1000),
        "requestTimeoutMs": int(limits.request_timeout_s * 1000),
        "keepAliveTimeoutMs": int(limits.keep_alive_timeout_s * 1000),
    }


def rate_limit_document(services: Services) -> dict[str, object] | None:
    """`rateLimit` of `/health`, without the keys themselves; None when limiting is off."""
    if services.limiter is None:
        return None
    table, config = services.limiter.snapshot(), services.config.rate_limit
    return {
        "enabled": True,
        "degraded": table.degraded,
        "activeKeys": table.active_keys,
        "maxKeys": table.max_keys,
        "activeKeysRatio": table.ratio,
        "pressureThreshold": PRESSURE_THRESHOLD,
        "windowMs": config.window_ms,
        "maxRequests": config.max_requests,
        "keyStrategy": config.key_strategy,
        "trustProxyHeaders": config.trust_proxy_headers,
    }


def set_gauges(services: Services, metrics: Metrics) -> None:
    """Bring the gateway's gauges, and those of its runtimes, up to date; runs before metrics are rendered."""
    for runtime in services.runtimes.values():
        runtime.refresh_gauges()
    for name, value in _gauges(services):
        metrics.set(name, value)
    if services.jobs is not None:
        services.jobs.set_gauges(metrics)


def _gauges(services: Services) -> Iterator[tuple[str, float]]:
    warm_up = services.warm_up
    yield "gateway.warmup.attempts", warm_up.attempts
    yield "gateway.warmup.failures", warm_up.failures
    yield "gateway.warmup.in_flight", warm_up.in_flight
    yield "gateway.warmup.retry_scheduled", warm_up.delay_ms > 0
    yield "gateway.warmup.retry_delay_ms", warm_up.delay_ms
    yield "gateway.warmup.succeeded", warm_up.succeeded
    yield "gateway.warmup.stopped", warm_up.stopped
    counts, limits = services.connections(), services.http_limits
    yield "gateway.http.sockets", counts.sockets
    yield "gateway.http.active_sockets", counts.active_sockets
    yield "gateway.http.idle_sockets", max(0, counts.sockets - counts.active_sockets)
    yield "gateway.http.active_requests", counts.active_requests
    yield "gateway.http.max_connections", limits.max_connections
    yield "gateway.http.connection_ratio", counts.sockets / limits.max_connections
    yield "gateway.http.connection_ratio_threshold", CONNECTION_PRESSURE_THRESHOLD
    yield "gateway.http.degraded", connection_pressure(counts.sockets, limits.max_connections)
    yield "gateway.http.request_body_limit_bytes", services.config.server.request_body_limit_bytes
    yield "gateway.http.max_header_bytes", limits.max_header_bytes
    yield "gateway.http.max_headers_count", limits.max_headers_count
    yield "gateway.http.max_requests_per_socket", limits.max_requests_per_socket
    yield "gateway.http.headers_timeout_ms", limits.headers_timeout_s * 1000
    yield "gateway.http.request_timeout_ms", limits.request_timeout_s * 1000
    yield "gateway.http.keep_alive_timeout_ms", limits.keep_alive_timeout_s * 1000
    if services.limiter is not None:
        table, config = services.limiter.snapshot(), services.config.rate_limit
        yield "rate_limit.enabled", 1
        yield "rate_limit.degraded", table.degraded
        yield "rate_limit.active_keys", table.active_keys
        yield "rate_limit.max_keys", table.max_keys
        yield "rate_limit.active_keys_ratio", table.ratio
        yield "rate_limit.pressure_threshold", PRESSURE_THRESHOLD
        yield "rate_limit.window_ms", config.window_ms
        yield "rate_limit.max_requests", config.max_requests
        yield "rate_limit.trust_proxy_headers", config.trust_proxy_headers
