"""`/v1/jobs` without a queue: honest, guarded, and out of the log."""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.harness import request_bytes, running


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/jobs"), ("GET", "/v1/jobs/job_1"), ("HEAD", "/v1/jobs/x")])
@pytest.mark.parametrize("enabled", [False, True])
def test_given_no_queue_in_this_version_when_asked_then_it_is_disabled(method: str, path: str, enabled: bool) -> None:
    async def main() -> None:
        async with running({"asyncQueue": {"enabled": enabled}}) as ray:
            reply = await ray.ask(method, path)
            assert (reply.status, "retry-after" in reply.headers) == (503, False)
            assert method == "HEAD" or reply.code == "async_queue_disabled"
            assert ray.lines() == []

    asyncio.run(main())


def test_submitting_takes_budget_and_asking_does_not() -> None:
    async def main() -> None:
        async with running({"rateLimit": {"enabled": True, "maxRequests": 1}}) as ray:
            for _ in range(3):
                status = await ray.ask("GET", "/v1/jobs/job_1")
                assert (status.status, "x-ratelimit-limit" in status.headers) == (503, False)
            first, second = await ray.ask("POST", "/v1/jobs"), await ray.ask("POST", "/v1/jobs")
            assert (first.status, first.headers["x-ratelimit-remaining"]) == (503, "0")
            assert second.status == 429

    asyncio.run(main())


def test_given_a_body_that_never_comes_when_submitted_then_the_refusal_comes_at_once_and_closes() -> None:
    async def main() -> None:
        async with running() as ray, ray.connect() as client:
            await client.send(request_bytes("POST", "/v1/jobs", headers={"content-length": "100"}))
            reply = await client.reply()
            assert (reply.status, reply.headers["connection"]) == (503, "close")

    asyncio.run(main())
