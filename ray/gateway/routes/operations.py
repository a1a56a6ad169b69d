"""The routes for people and machines that run Ray: liveness, readiness, health, metrics, effective configuration.

Source: http-api, section 6.
"""

from __future__ import annotations

from ray.config import sanitised_config
from ray.gateway.exchange import Exchange
from ray.gateway.gauges import http_document, rate_limit_document
from ray.gateway.readiness import SERVICE, Pressures, connection_pressure, readiness
from ray.gateway.responses import NO_STORE, json_body, json_response, prepared_json_response
from ray.gateway.routes.route import Route
from ray.gateway.services import Services
from ray.http import Response
from ray.runtime import Field, RuntimeHealth, Text
from ray.telemetry import PROMETHEUS_CONTENT_TYPE, metrics_json, prometheus_text, wants_prometheus

_BANNER: dict[str, object] = {
    "name": "ray",
    "description": "A lean AI gateway for one cheap box.",
    "thesis": "Bounded queues, prefix reuse and honest health make a small machine serve a local model well.",
}
_DOCS = {
    "architecture": "docs/architecture.md",
    "roadmap": "docs/roadmap.md",
    "principles": "docs/principles.md",
}
_LIVE = json_body({"status": "ok", "service": SERVICE})


async def banner(services: Services, exchange: Exchange) -> Response:
    """Who answers here. Profile and model are for everybody only where everybody may use them."""
    document = dict(_BANNER)
    if not services.config.auth.enabled:
        document |= {"profile": services.config.profile, "model": services.runtime.model_id}
    document["docs"] = _DOCS
    return json_response(200, document, exchange.headers)


async def livez(services: Services, exchange: Exchange) -> Response:
    """The process answers; nothing else is touched."""
    return prepared_json_response(_LIVE, exchange.headers)


async def readyz(services: Services, exchange: Exchange) -> Response:
    """Usable or not, without anything that tells a stranger about the machine."""
    status, body = await readiness_document(services)
    return json_response(status, body, exchange.headers)


async def readiness_document(services: Services) -> tuple[int, dict[str, object]]:
    """Status and body of `/readyz`."""
    await _look_at_disk(services)
    health = await services.runtime.health()
    return readiness(
        health.provider.status,
        pressures(health, services),
        queue_depth=health.queue.queue_depth,
        in_flight=health.queue.in_flight,
    )


async def health(services: Services, exchange: Exchange) -> Response:
    """Everything an operator wants to see at once. 503 only when the backend is unavailable."""
    document = await health_document(services)
    return json_response(503 if document["status"] == "unavailable" else 200, document, exchange.headers)


async def health_document(services: Services) -> dict[str, object]:
    """The body of `/health`."""
    await _look_at_disk(services)
    document = await services.runtime.health_document()
    surroundings: dict[str, dict[str, object] | None] = {
        "asyncQueue": None if services.jobs is None else services.jobs.health_document(),
        "rateLimit": rate_limit_document(services),
    }
    http = http_document(services)
    blocks = {name: block for name, block in surroundings.items() if block is not None}
    if document["status"] == "ok" and any(block["degraded"] for block in (*blocks.values(), http)):
        document["status"] = "degraded"
    document |= blocks
    document["gateway"] = {"http": http}
    return document


async def metrics(services: Services, exchange: Exchange) -> Response:
    """The figures, as JSON or as Prometheus text: whichever the client prefers."""
    await _look_at_disk(services)
    request = exchange.request
    if wants_prometheus(request.headers.get("accept"), request.query):
        body = prometheus_text(services.metrics).encode("utf-8")
        return Response(200, [("content-type", PROMETHEUS_CONTENT_TYPE), NO_STORE, *exchange.headers], body)
    view = metrics_json(services.metrics, include_recent=services.config.telemetry.include_debug_metrics)
    return json_response(200, view, exchange.headers)


async def config(services: Services, exchange: Exchange) -> Response:
    """The effective configuration without secrets."""
    return json_response(200, sanitised_config(services.config), exchange.headers)


async def _look_at_disk(services: Services) -> None:
    """Have what is said about the job store's disk be at most a second old."""
    if services.jobs is not None:
        await services.jobs.refresh()


def pressures(health: RuntimeHealth, services: Services) -> Pressures:
    """Everything that presses at this moment."""
    limiter, jobs = services.limiter, services.jobs
    return Pressures(
        queue=health.queue_degraded,
        preparation=health.preparation_degraded,
        memory=health.pressure.memory,
        cpu=health.pressure.cpu,
        async_queue=jobs is not None and jobs.snapshot().degraded,
        rate_limit=limiter is not None and limiter.snapshot().degraded,
        gateway_http=connection_pressure(services.connections().sockets, services.http_limits.max_connections),
    )


BANNER = Route("GET", "/", banner, protected=False, doc="Who answers here.", responses={200: "Banner"})
LIVEZ = Route("GET", "/livez", livez, protected=False, doc="Is the process alive?", responses={200: "Liveness"})
READYZ = Route(
    "GET",
    "/readyz",
    readyz,
    protected=False,
    doc="Should traffic come here?",
    responses={200: "Readiness", 503: "Readiness"},
)
HEALTH = Route(
    "GET",
    "/health",
    health,
    doc="The state of every part, for an operator.",
    responses={200: "ServiceHealth", 503: "ServiceHealth"},
)
METRICS = Route(
    "GET",
    "/metrics",
    metrics,
    doc="Counters and gauges, as JSON or as Prometheus text.",
    query=(Field("format", Text(), "`json` or `prometheus`; otherwise the `Accept` header decides."),),
    responses={200: "Metrics"},
)
CONFIG = Route(
    "GET", "/v1/config", config, doc="The effective configuration, without secrets.", responses={200: "Config"}
)
