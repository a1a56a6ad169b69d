"""Liveness, readiness, health, metrics and configuration as an operator sees them."""

from __future__ import annotations

import asyncio

import pytest

from ray.clock import iso_now
from ray.errors import RayError
from ray.http import ConnectionCounts, Server
from ray.types import Health, ProviderStatus
from tests.fakes.provider import FakeProvider
from tests.gateway.harness import Running, running, soon

ENVIRON = {"RAY_API_KEYS": "key"}
BEARER = {"authorization": "Bearer key"}
WARMED: dict[str, object] = {"model": {"warmOnBoot": True, "adapter": {"kind": "mock", "latencyMs": 1}}}


def with_health(status: ProviderStatus, **fields: object) -> FakeProvider:
    return FakeProvider(healths=[Health(status, iso_now(), **fields)])  # type: ignore[arg-type]  # the test's own fields


def test_livez_is_constant_and_touches_nothing() -> None:
    async def main() -> None:
        provider = with_health("unavailable")
        async with running(provider=provider) as ray:
            await soon(lambda: ray.gateway.services.warm_up.succeeded)
            reply = await ray.ask("GET", "/livez")
            assert (reply.status, reply.body) == (200, b'{"status":"ok","service":"ray-gateway"}\n')
            assert provider.probed == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "readyz", "health"),
    [
        ("ready", 200, 200),
        ("unknown", 200, 200),
        ("degraded", 200, 200),
        ("warming", 503, 200),
        ("unavailable", 503, 503),
    ],
)
def test_readiness_and_health_follow_the_backend(status: ProviderStatus, readyz: int, health: int) -> None:
    async def main() -> None:
        async with running(provider=with_health(status)) as ray:
            ready = await ray.ask("GET", "/readyz")
            assert (ready.status, ready.json()["providerStatus"]) == (readyz, status)
            assert (await ray.ask("GET", "/health")).status == health
            assert (await ray.ask("HEAD", "/readyz")).status == readyz

    asyncio.run(main())


def test_given_a_backend_that_is_being_warmed_then_it_listens_is_not_ready_and_answers_anyway() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        async with running(WARMED, provider=FakeProvider(warm_steps=[[gate]])) as ray:
            ready = await ray.ask("GET", "/readyz")
            assert (ready.status, ready.json()["reasons"]) == (503, ["provider_warming"])
            assert (await ray.ask("GET", "/health")).status == 200
            assert (await ray.post("/v1/infer", {"input": "hello"})).status == 200
            gauges = await ray.gauges()
            assert (gauges["gateway.warmup.in_flight"], gauges["gateway.warmup.succeeded"]) == (1, 0)
            gate.set()
            await soon(lambda: ray.gateway.services.warm_up.succeeded)
            assert (await ray.ask("GET", "/readyz")).status == 200

    asyncio.run(main())


def test_given_a_failed_warm_up_then_it_is_unavailable_and_a_retry_is_scheduled() -> None:
    async def main() -> None:
        failure = RayError("provider_request_failed", "connection refused")
        async with running(WARMED, provider=FakeProvider(warm_steps=[[failure]])) as ray:
            await soon(lambda: ray.gateway.services.warm_up.failures == 1)
            ready = await ray.ask("GET", "/readyz")
            assert (ready.status, ready.json()["reasons"]) == (503, ["provider_unavailable"])
            gauges = await ray.gauges()
            assert gauges["gateway.warmup.retry_scheduled"] == 1
            assert gauges["gateway.warmup.retry_delay_ms"] == 2_000
            (line,) = ray.lines("provider warmup failed after gateway start")
            assert (line["level"], line["attempt"], line["retryInMs"]) == ("error", 1, 2_000)

    asyncio.run(main())


def test_readyz_tells_a_stranger_nothing_about_the_machine() -> None:
    async def main() -> None:
        provider = with_health("ready", details={"host": "10.0.0.7"})
        async with running({"auth": {"enabled": True}}, environ=ENVIRON, provider=provider) as ray:
            body = (await ray.ask("GET", "/readyz")).json()
            assert set(body) == {
                "status", "service", "providerStatus", "queueDepth", "inFlight", "pressure", "reasons",
            }  # fmt: skip
            assert "fake-model" not in str(body)

    asyncio.run(main())


@pytest.mark.parametrize(("auth", "shown"), [(False, True), (True, False)])
def test_the_banner_names_the_model_only_where_everybody_may_use_it(auth: bool, shown: bool) -> None:
    async def main() -> None:
        async with running({"auth": {"enabled": auth}}, environ=ENVIRON) as ray:
            banner = (await ray.ask("GET", "/")).json()
            assert banner["name"] == "ray"
            assert {"description", "thesis", "docs"} <= banner.keys()
            assert ("profile" in banner, "model" in banner) == (shown, shown)

    asyncio.run(main())


def test_health_holds_every_block() -> None:
    async def main() -> None:
        async with running({"rateLimit": {"enabled": True, "maxKeys": 64}}) as ray:
            health = (await ray.ask("GET", "/health")).json()
            assert {"status", "uptimeMs", "queueDepth", "inFlight", "cacheEntries", "profile", "modelId"} <= set(health)
            assert {"provider", "runtime", "rateLimit", "gateway"} <= set(health)
            assert health["rateLimit"] == {
                "enabled": True, "degraded": False, "activeKeys": 0, "maxKeys": 64, "activeKeysRatio": 0.0,
                "pressureThreshold": 0.9, "windowMs": 60_000, "maxRequests": 120, "keyStrategy": "ip",
                "trustProxyHeaders": False,
            }  # fmt: skip
            assert health["gateway"] == {
                "http": {
                    "degraded": False, "sockets": 1, "activeSockets": 1, "idleSockets": 0, "activeRequests": 1,
                    "maxConnections": 256, "connectionRatio": 1 / 256, "pressureThreshold": 0.9,
                    "requestBodyLimitBytes": 32_000, "maxHeaderBytes": 12_288, "maxHeadersCount": 64,
                    "maxRequestsPerSocket": 1_000, "headersTimeoutMs": 15_000, "requestTimeoutMs": 30_000,
                    "keepAliveTimeoutMs": 5_000,
                }
            }  # fmt: skip

    asyncio.run(main())


def test_given_no_rate_limit_when_health_is_asked_then_it_has_no_such_block() -> None:
    async def main() -> None:
        async with running({"rateLimit": {"enabled": False}}) as ray:
            assert "rateLimit" not in (await ray.ask("GET", "/health")).json()
            gauges = await ray.gauges()
            assert not [name for name in gauges if name.startswith("rate_limit.")]

    asyncio.run(main())


def test_odd_health_details_do_not_break_health() -> None:
    async def main() -> None:
        circular: dict[str, object] = {"ratio": float("nan"), "half": "\ud800", "odd": object()}
        async with running(provider=with_health("ready", details=circular)) as ray:
            reply = await ray.ask("GET", "/health")
            assert (reply.status, reply.json()["status"]) == (200, "ok")

    asyncio.run(main())


def test_given_231_of_256_sockets_then_readiness_is_degraded_without_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "counts", lambda self: ConnectionCounts(231, 1, 1))

    async def main() -> None:
        async with running() as ray:
            ready = await ray.ask("GET", "/readyz")
            assert (ready.status, ready.json()["status"]) == (200, "degraded")
            assert "gateway_http_pressure" in str(ready.json()["reasons"])
            assert b"231" not in ready.body
            health = (await ray.ask("GET", "/health")).json()
            assert health["status"] == "degraded"
            gauges = await ray.gauges()
            assert (gauges["gateway.http.degraded"], gauges["gateway.http.idle_sockets"]) == (1, 230)

    asyncio.run(main())


async def metrics(ray: Running, accept: str | None, query: str = "") -> str:
    reply = await ray.ask("GET", f"/metrics{query}", headers={"accept": accept} if accept else {})
    assert reply.status == 200
    return reply.headers["content-type"]


@pytest.mark.parametrize(
    ("accept", "query", "prometheus"),
    [
        (None, "", False),
        ("*/*", "", False),
        ("application/json", "", False),
        ("text/plain", "", True),
        ("application/openmetrics-text;version=1.0.0;q=0.7,text/plain;version=0.0.4;q=0.3", "", True),
        (None, "?format=prometheus", True),
        ("text/plain", "?format=json", False),
    ],
)
def test_metrics_are_json_unless_prometheus_is_preferred(accept: str | None, query: str, prometheus: bool) -> None:
    async def main() -> None:
        async with running() as ray:
            shown = await metrics(ray, accept, query)
            json_type, text_type = "application/json; charset=utf-8", "text/plain; version=0.0.4; charset=utf-8"
            assert shown == (text_type if prometheus else json_type)

    asyncio.run(main())


def test_metrics_hold_the_gateways_own_figures() -> None:
    async def main() -> None:
        async with running({"rateLimit": {"enabled": True}}) as ray:
            await ray.post("/v1/infer", {"input": "hello"})
            view = (await ray.ask("GET", "/metrics")).json()
            gauges, counters = view["gauges"], view["counters"]
            assert isinstance(gauges, dict)
            assert isinstance(counters, dict)
            assert counters["requests.total"] == 1
            expected = {
                "gateway.http.sockets": 1, "gateway.http.active_requests": 1, "gateway.http.max_connections": 256,
                "gateway.http.headers_timeout_ms": 15_000, "gateway.warmup.attempts": 1, "gateway.warmup.succeeded": 1,
                "rate_limit.active_keys": 1, "rate_limit.max_requests": 120, "queue.depth": 0, "cache.entries": 1,
            }  # fmt: skip
            assert {name: gauges[name] for name in expected} == expected
            assert "recent" not in view, "the tiny profile has no debug metrics"

    asyncio.run(main())


def test_given_debug_metrics_when_asked_then_the_recent_block_is_there() -> None:
    async def main() -> None:
        async with running(
            {"telemetry": {"includeDebugMetrics": True}, "auth": {"enabled": True}}, environ=ENVIRON
        ) as r:
            await r.ask("GET", "/health")
            recent = (await r.ask("GET", "/metrics", headers=BEARER)).json()["recent"]
            assert isinstance(recent, dict)
            assert recent["lastAuthRejectAt"] is not None
            assert recent["lastRateLimitAt"] is None

    asyncio.run(main())


def test_the_config_is_shown_without_header_values_and_keys() -> None:
    async def main() -> None:
        settings: dict[str, object] = {
            "auth": {"enabled": True},
            "model": {
                "adapter": {
                    "kind": "openai-compatible",
                    "baseUrl": "http://127.0.0.1:9",
                    "modelRef": "m",
                    "timeoutMs": 1_000,
                    "headers": {"x-upstream": "hush"},
                }
            },
        }
        async with running(settings, environ={"RAY_API_KEYS": "secret-key"}, provider=FakeProvider()) as ray:
            reply = await ray.ask("GET", "/v1/config", headers={"authorization": "Bearer secret-key"})
            assert b"hush" not in reply.body
            assert b"secret-key" not in reply.body
            assert b'"x-upstream":"[redacted]"' in reply.body
            assert "capabilityHints" in reply.json()

    asyncio.run(main())
