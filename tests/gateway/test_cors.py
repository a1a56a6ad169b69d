"""Browsers: what a page of a listed origin may do and read, what another may not, and nothing of it by default."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.gateway.harness import Reply, Running, running

PAGE = "https://chat.example.org"
LISTED: dict[str, object] = {"server": {"corsAllowedOrigins": [PAGE, "http://localhost:5173"]}}
PREFLIGHT = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
ALLOWING = ("access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers")


def with_gateway(
    use: Callable[[Running], Awaitable[None]], document: dict[str, object], environ: dict[str, str] | None = None
) -> None:
    async def main() -> None:
        async with running(document, environ=environ) as ray:
            await use(ray)

    asyncio.run(main())


def lets_read(reply: Reply, origin: str = PAGE) -> None:
    """The page may read this answer, and caches know that another page may not."""
    assert reply.headers["access-control-allow-origin"] == origin
    assert reply.headers["vary"] == "origin"
    exposed = reply.headers["access-control-expose-headers"].split(", ")
    limits = {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}
    assert {"retry-after", "x-request-id", "x-ray-degraded", "x-should-retry", *limits} <= set(exposed)
    assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize("path", ["/v1/infer", "/v1/chat/completions", "/livez", "/v1/jobs/job_1", "/v1/models/a/b"])
@pytest.mark.parametrize("origin", [None, PAGE])
def test_given_no_origins_in_the_config_when_asked_by_a_browser_then_options_is_405_and_cors_does_not_exist(
    path: str, origin: str | None
) -> None:
    async def use(ray: Running) -> None:
        asked = PREFLIGHT if origin else {}
        reply = await ray.ask("OPTIONS", path, headers=asked)
        assert (reply.status, reply.code) == (405, "method_not_allowed")
        assert "allow" in reply.headers
        read = await ray.ask("GET", "/livez", headers=asked)
        for headers in (reply.headers, read.headers):
            assert not [name for name in headers if name.startswith("access-control-") or name == "vary"]

    with_gateway(use, {})


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/infer", "POST"),
        ("/v1/chat/completions", "POST"),
        ("/v1/jobs", "GET, HEAD, POST"),
        ("/v1/jobs/job_1", "DELETE, GET, HEAD"),
        ("/v1/models/owner/name", "GET, HEAD"),
        ("/livez", "GET, HEAD"),
    ],
)
def test_given_a_preflight_of_a_listed_page_when_keys_are_needed_then_it_is_answered_without_one(
    path: str, methods: str
) -> None:
    async def use(ray: Running) -> None:
        for _ in range(3):  # more than the budget: a preflight costs none
            reply = await ray.ask("OPTIONS", path, headers=PREFLIGHT)
            assert (reply.status, reply.body) == (204, b"")
            assert reply.headers["access-control-allow-origin"] == PAGE
            assert reply.headers["access-control-allow-methods"] == methods
            allowed = reply.headers["access-control-allow-headers"].split(", ")
            assert {"authorization", "content-type", "idempotency-key", "x-request-id", "*"} == set(allowed)
            assert reply.headers["vary"] == "origin"
            assert int(reply.headers["access-control-max-age"]) > 0
            assert "x-request-id" in reply.headers

    guarded = {"auth": {"enabled": True}, "rateLimit": {"enabled": True, "maxRequests": 1}}
    with_gateway(use, {**LISTED, **guarded}, {"RAY_API_KEYS": "alpha"})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": PAGE},
        {**PREFLIGHT, "origin": "https://evil.example"},
        {**PREFLIGHT, "origin": "null"},
        {**PREFLIGHT, "origin": PAGE.upper()},
        {**PREFLIGHT, "origin": f"{PAGE}.evil.example"},
        {**PREFLIGHT, "origin": f"{PAGE}:443"},
    ],
)
def test_given_options_that_are_no_preflight_of_a_listed_page_then_they_stay_405(headers: dict[str, str]) -> None:
    async def use(ray: Running) -> None:
        reply = await ray.ask("OPTIONS", "/v1/infer", headers=headers)
        assert reply.status == 405
        assert reply.headers["allow"] == "POST"
        assert reply.headers["vary"] == "origin"
        assert ("access-control-allow-origin" in reply.headers) == (headers.get("origin") == PAGE)
        assert "access-control-allow-methods" not in reply.headers

    with_gateway(use, LISTED)


def test_given_a_preflight_of_an_unknown_path_then_it_is_404() -> None:
    async def use(ray: Running) -> None:
        assert (await ray.ask("OPTIONS", "/v1/nothing", headers=PREFLIGHT)).status == 404

    with_gateway(use, LISTED)


def test_given_a_listed_page_when_it_asks_then_it_may_read_answers_streams_and_errors_of_every_kind() -> None:
    async def use(ray: Running) -> None:
        asked = {"origin": PAGE, "authorization": "Bearer alpha"}
        lets_read(await ray.post("/v1/infer", {"input": "hi"}, asked))
        streamed = await ray.post("/v1/infer", {"input": "hi", "stream": True}, asked)
        assert streamed.headers["content-type"].startswith("text/event-stream")
        lets_read(streamed)
        lets_read(await ray.ask("GET", "/metrics?format=prometheus", headers=asked))
        for reply, status in (
            (await ray.post("/v1/infer", {}, asked), 400),
            (await ray.post("/v1/infer", {"input": "hi"}, {"origin": PAGE}), 401),
            (await ray.ask("GET", "/missing", headers=asked), 404),
            (await ray.ask("PUT", "/v1/infer", headers=asked), 405),
            (await ray.ask("POST", "/v1/infer", headers={**asked, "content-type": "text/plain"}, body=b"{}"), 415),
            (await ray.ask("POST", "/v1/infer", headers={**asked, "expect": "wonders"}, body=b"{}"), 417),
        ):
            assert reply.status == status
            lets_read(reply)

    with_gateway(use, {**LISTED, "auth": {"enabled": True}}, {"RAY_API_KEYS": "alpha"})


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null"])
def test_given_a_page_that_is_not_listed_when_it_asks_then_it_is_answered_but_may_not_read(origin: str | None) -> None:
    async def use(ray: Running) -> None:
        reply = await ray.ask("GET", "/livez", headers={} if origin is None else {"origin": origin})
        assert reply.status == 200
        assert reply.headers["vary"] == "origin"
        assert not [name for name in reply.headers if name.startswith("access-control-")]

    with_gateway(use, LISTED)


def test_given_two_origins_in_one_request_then_neither_counts() -> None:
    async def use(ray: Running) -> None:
        async with ray.connect() as client:
            line = f"origin: {PAGE}\r\n"
            await client.send(f"GET /livez HTTP/1.1\r\nhost: a\r\n{line}{line}\r\n".encode())
            assert "access-control-allow-origin" not in (await client.reply()).headers

    with_gateway(use, LISTED)


def test_given_a_gateway_that_shuts_down_when_a_page_asks_then_it_can_read_that() -> None:
    async def use(ray: Running) -> None:
        async with ray.connect() as client:
            assert (await client.ask("GET", "/livez")).status == 200
            ray.gateway.draining = True
            assert (await client.ask("OPTIONS", "/v1/infer", headers=PREFLIGHT)).status == 204
            refused = await client.post("/v1/infer", {"input": "hi"}, {"origin": PAGE})
            assert refused.code == "gateway_draining"
            lets_read(refused)

    with_gateway(use, LISTED)
