"""The llama.cpp provider against a real `llama-server` with a real model: what a fake can only claim."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ray.errors import RayError
from ray.providers import Provider, create_provider
from ray.providers.reading import is_json_object
from ray.types import Chunk
from tests.integration.backend import LlamaServerProcess
from tests.integration.conftest import StartLlamaServer
from tests.providers.setting import LLAMA, OPENAI, ask, config_for, context_for, request_for

STORY = request_for("Tell a long story about a ship and its crew.", max_tokens=512)


@asynccontextmanager
async def provider_of(server: LlamaServerProcess, kind: str = LLAMA) -> AsyncIterator[Provider]:
    # The model's name at the backend is that of its file; the chat route does not insist on it.
    provider = create_provider(config_for(kind, server.base_url, {"timeoutMs": 60_000}), {})
    try:
        yield provider
    finally:
        await provider.close()


async def drain(chunks: AsyncIterator[Chunk]) -> None:
    async for _ in chunks:
        pass


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(120):
            await main

    asyncio.run(bounded())


def test_given_a_real_model_when_asked_twice_then_counts_agree_and_the_second_prompt_is_reused(
    llama_server: LlamaServerProcess,
) -> None:
    async def main() -> None:
        async with provider_of(llama_server) as provider:
            await provider.warm()
            request = request_for("Name three colours.", system="You answer in one short line.", max_tokens=12)
            first, second = await ask(provider, request), await ask(provider, request)
            assert first.text
            assert len(first.chunks) > 2
            prepared = await provider.prepare(request, context_for())
            assert first.finish.tokens is not None
            assert prepared.prompt_tokens == first.finish.tokens.prompt == first.diagnostics.tokens_evaluated
            assert prepared.prompt is not None
            assert "<|im_start|>user\nName three colours.<|im_end|>" in prepared.prompt
            # All of the prompt but its last token.
            assert second.diagnostics.tokens_cached == first.finish.tokens.prompt - 1
            assert second.diagnostics.slot_id is not None
            assert second.diagnostics.timings is not None
            assert second.diagnostics.timings.completion_tokens_per_second

    run(main())


def test_given_json_mode_when_a_real_model_answers_then_it_is_an_object(llama_server: LlamaServerProcess) -> None:
    async def main() -> None:
        async with provider_of(llama_server) as provider:
            answer = await ask(provider, request_for("Name a colour.", max_tokens=128, response_format="json_object"))
            assert answer.finish.reason == "length" or is_json_object(answer.text)
            assert answer.text.lstrip().startswith("{")

    run(main())


def test_given_the_chat_route_when_a_real_model_answers_then_usage_and_reuse_are_reported(
    llama_server: LlamaServerProcess,
) -> None:
    async def main() -> None:
        async with provider_of(llama_server, OPENAI) as provider:
            request = request_for("Name three colours.", max_tokens=8)
            await ask(provider, request)
            answer = await ask(provider, request)
            assert answer.text
            assert answer.finish.tokens is not None
            assert answer.finish.tokens.completion in range(1, 9)
            assert answer.diagnostics.tokens_cached

    run(main())


@pytest.mark.parametrize("kind", [LLAMA, OPENAI])
def test_given_a_prompt_past_the_window_when_asked_then_the_client_learns_the_counts(
    llama_server: LlamaServerProcess, kind: str
) -> None:
    async def main() -> None:
        async with provider_of(llama_server, kind) as provider:
            with pytest.raises(RayError) as caught:
                await ask(provider, request_for("word " * 6_000))
            assert (caught.value.code, caught.value.status) == ("request_context_window_exceeded", 413)
            assert isinstance(caught.value.details, dict)
            assert int(caught.value.details["promptTokens"]) > int(caught.value.details["contextWindow"])

    run(main())


def test_given_an_answer_in_progress_when_its_reader_leaves_then_the_model_stops(
    llama_server: LlamaServerProcess,
) -> None:
    async def main() -> None:
        async with provider_of(llama_server) as provider:
            context = context_for(60_000)
            before = llama_server.tokens_written()
            chunks = provider.stream(await provider.prepare(STORY, context), context)
            await anext(chunks)
            assert llama_server.busy_slots() == 1
            await chunks.aclose()  # type: ignore[attr-defined]
            await asyncio.to_thread(llama_server.wait_idle)
            assert llama_server.tokens_written() - before < 512, "it wrote on for nobody"

    run(main())


def test_given_a_backend_killed_in_mid_answer_when_read_then_it_fails_before_its_deadline_and_recovers_when_restarted(
    start_llama_server: StartLlamaServer,
) -> None:
    server = start_llama_server(slots=1, ctx_size=1024)

    async def main() -> None:
        async with provider_of(server) as provider:
            assert (await provider.health()).status == "ready"
            context = context_for(60_000)
            chunks = provider.stream(await provider.prepare(STORY, context), context)
            await anext(chunks)
            server.kill9()
            with pytest.raises(RayError) as caught:
                await asyncio.wait_for(drain(chunks), 30)
            assert caught.value.code == "provider_request_failed"
            assert (await provider.health()).status == "unavailable"

            server.start()
            seen = set()
            while (status := (await provider.health()).status) != "ready":
                seen.add(status)
                await asyncio.sleep(0.02)
            assert seen <= {"unavailable", "warming"}
            assert (await ask(provider, request_for("Hello", max_tokens=4))).chunks

    run(main())
