"""The list of templates, and a request that names one, as a client sees them."""

from __future__ import annotations

import asyncio

from tests.fakes.provider import FakeProvider
from tests.gateway.harness import running

OWN: dict[str, object] = {"desk.sum.v2": {"lane": "short", "input": "Sum up: {{ ticket }}", "system": "SECRET WORDS"}}


def test_the_list_names_built_in_and_own_templates_without_their_texts() -> None:
    async def main() -> None:
        async with running({"templates": OWN}) as ray:
            reply = await ray.ask("GET", "/v1/templates")
            assert reply.status == 200
            listed = reply.json()["templates"]
            assert isinstance(listed, list)
            assert [entry["id"] for entry in listed][3:] == ["email.reply_rewrite.v1", "desk.sum.v2"]
            assert listed[-1] == {
                "id": "desk.sum.v2",
                "version": "v2",
                "family": "desk.sum",
                "lane": "short",
                "variables": ["ticket"],
                "maxTokens": ray.gateway.config.model.max_output_tokens,
            }
            assert b"SECRET" not in reply.body
            assert b"You " not in reply.body
            head = await ray.ask("HEAD", "/v1/templates")
            assert (head.status, head.body) == (200, b"")

    asyncio.run(main())


def test_the_list_needs_a_key_where_keys_are_needed_and_takes_no_budget() -> None:
    async def main() -> None:
        config: dict[str, object] = {"auth": {"enabled": True}, "rateLimit": {"enabled": True, "maxRequests": 1}}
        async with running(config, environ={"RAY_API_KEYS": "key"}) as ray:
            assert (await ray.ask("GET", "/v1/templates")).status == 401
            for _ in range(3):
                assert (await ray.ask("GET", "/v1/templates", headers={"authorization": "Bearer key"})).status == 200

    asyncio.run(main())


def test_a_request_that_names_a_template_reaches_the_backend_with_its_words() -> None:
    async def main() -> None:
        provider = FakeProvider()
        async with running({"templates": OWN}, provider=provider) as ray:
            body = {"templateId": "desk.sum.v2", "templateVariables": {"ticket": "It broke."}}
            assert (await ray.post("/v1/infer", body)).status == 200
            assert provider.streamed[-1].messages[-1].content == "Sum up: It broke."
            refused = await ray.post("/v1/infer", {**body, "templateVariables": {"tickets": "x"}})
            assert refused.status == 400

    asyncio.run(main())
