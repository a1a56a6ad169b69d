"""Warming: what is sent, that it goes through admission like any request, and that no book of requests sees it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ray.config import Config, config_from_mapping
from ray.errors import RayError
from ray.prompts import compile_prompt
from ray.runtime import normalise_request
from ray.runtime.warming import warmup_prompts
from ray.types import Message
from tests.fakes.provider import STOP, FakeProvider, until
from tests.runtime.support import TINY, House, tiny_config


def backend_config(
    *warmups: dict[str, object], templates: dict[str, object] | None = None, **scheduler: object
) -> Config:
    adapter: dict[str, object] = {"kind": "openai-compatible", "baseUrl": "http://127.0.0.1:1", "modelRef": "m"}
    adapter |= {"timeoutMs": 1_000, **({"warmupRequests": list(warmups)} if warmups else {})}
    own = config_from_mapping({"profile": "tiny", "model": {"adapter": adapter}, "templates": templates or {}})
    limits = tiny_config(scheduler=scheduler).scheduler
    return replace(own, scheduler=limits, model=replace(own.model, warm_on_boot=True))


# -- what is sent


def test_without_a_backend_there_is_nothing_to_warm() -> None:
    assert warmup_prompts(TINY) == []


def test_without_configured_requests_one_ping_of_one_token_is_sent() -> None:
    (ping,) = (prompt.request for prompt in warmup_prompts(backend_config()))
    assert ping.messages == (Message("user", "ping"),)
    assert (ping.max_tokens, ping.temperature, ping.top_p, ping.cache) == (1, 0.0, 1.0, False)


def test_configured_requests_are_sent_in_order_with_their_settings() -> None:
    config = backend_config({"input": "one", "system": "s", "seed": 3}, {"input": "two", "maxTokens": 5, "stop": ["x"]})
    first, second = (prompt.request for prompt in warmup_prompts(config))
    assert first.messages == (Message("system", "s"), Message("user", "one"))
    assert (first.seed, first.max_tokens) == (3, 1)
    assert second.messages == (Message("user", "two"),)
    assert (second.max_tokens, second.stop) == (5, ("x",))


def test_a_warm_up_has_the_family_and_the_text_of_real_requests_of_its_template() -> None:
    variables = {"subject": "Parcel", "line": "Where is it?"}
    template = {
        "input": "Subject: {{ subject }}\n{{ line }}",
        "system": "Answer.",
        "lane": "draft",
        "variables": ["subject", "line"],
    }
    entry: dict[str, object] = {"templateId": "desk.v1", "templateVariables": variables}
    config = backend_config(entry, templates={"desk.v1": template})
    (prompt,) = warmup_prompts(config)
    real = normalise_request({"templateId": "desk.v1", "templateVariables": {**variables, "line": "Late."}}, config)
    assert prompt.request.messages[-1].content == "Subject: Parcel\nWhere is it?"
    assert prompt.family == compile_prompt(real, config).family


def test_a_warm_up_is_trimmed_and_shaped_as_a_clients_request_is() -> None:
    values: dict[str, object] = {"templateId": "email.reply_classification.v1", "templateVariables": {"replyText": "x"}}
    config = backend_config({"input": " one ", "system": "\ts "}, values)
    plain, filled_in = (prompt.request for prompt in warmup_prompts(config))
    assert plain.messages == (Message("system", "s"), Message("user", "one"))
    assert filled_in.wants_json
    assert filled_in.messages == normalise_request(values, config).messages


# -- how it is sent


def test_warm_ups_run_after_the_provider_has_found_out_about_its_backend() -> None:
    async def main() -> None:
        order: list[str] = []

        class Provider(FakeProvider):
            async def warm(self) -> None:
                order.append("warm")
                self.assignable_slots = 2

        provider = Provider(["", "x", STOP])
        house = House(provider, backend_config({"input": "one"}, {"input": "two"}))
        await house.runtime.warm()
        assert order == ["warm"]
        assert [request.messages[-1].content for request in provider.streamed] == ["one", "two"]
        assert [(context.slot, context.warming, context.lane) for context in provider.contexts] == [
            (0, True, "short"),
            (1, True, "short"),
        ]
        assert house.runtime.warm_state == "ready"
        assert house.is_idle()

    asyncio.run(main())


def test_a_warm_up_is_in_no_book_of_requests() -> None:
    async def main() -> None:
        house = House(FakeProvider(), backend_config())
        before = {name: house.counter(name) for name in ("requests.degraded", "cache.misses", "cache.hits")}
        await house.runtime.warm()
        assert {name: house.counter(name) for name in before} == before
        assert house.counter("requests.total", source="provider") == 0
        assert house.metrics.histogram("inference.ttft").sum == 0
        assert sum(house.metrics.histogram("queue.wait", lane="short").counts) == 0
        assert house.gauges()["cache.entries"] == 0

    asyncio.run(main())


def test_a_warm_up_waits_for_its_turn_beside_requests() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        provider = FakeProvider([gate, "x", STOP], ["x", STOP])
        house = House(provider, backend_config())
        async with await house.ask() as reader:
            await until(lambda: provider.active == 1)
            warming = asyncio.create_task(house.runtime.warm())
            await until(lambda: house.runtime.queue_snapshot().queue_depth == 1)
            assert len(provider.streamed) == 1
            gate.set()
            await reader.result()
            await warming
        assert (len(provider.streamed), provider.most_active) == (2, 1)

    asyncio.run(main())


def test_a_full_line_is_no_failure_of_the_warm_up() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        provider = FakeProvider([gate, "x", STOP])
        house = House(provider, backend_config(max_queue=1))
        readers = [await house.ask({"input": name}) for name in ("runs", "waits")]
        await until(lambda: house.runtime.queue_snapshot().queue_depth == 1)
        await house.runtime.warm()
        assert house.runtime.warm_state == "ready"
        assert house.counter("scheduler.rejections", code="queue_full") == 0
        gate.set()
        for reader in readers:
            await reader.result()

    asyncio.run(main())


def test_a_backend_that_fails_the_warm_up_is_not_warm() -> None:
    async def main() -> None:
        provider = FakeProvider([RayError("provider_upstream_error", "loading", status=503)], ["x", STOP])
        house = House(provider, backend_config())
        with pytest.raises(RayError, match="loading"):
            await house.runtime.warm()
        states = [house.runtime.warm_state]
        await house.runtime.warm()
        assert [*states, house.runtime.warm_state] == ["failed", "ready"]
        assert house.is_idle()

    asyncio.run(main())


def test_what_a_warm_up_answers_does_not_matter() -> None:
    async def main() -> None:
        provider = FakeProvider([RayError("provider_invalid_response", "no choices")])
        house = House(provider, backend_config())
        await house.runtime.warm()
        assert house.runtime.warm_state == "ready"

    asyncio.run(main())
