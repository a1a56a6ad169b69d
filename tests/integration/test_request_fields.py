"""Tools, schemas, probabilities, raw prompts, embeddings and long conversations with a real `llama-server`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ray.clock import Deadline
from ray.errors import RayError
from ray.providers import CallContext, Provider, create_provider
from ray.types import InferenceRequest, Message, ToolCallPart
from tests.integration.backend import LlamaServerProcess
from tests.integration.conftest import Backend
from tests.integration.test_llama_cpp_provider import provider_of, run
from tests.integration.tool_use import ANSWER_PART, CONVERSATION, TEMPLATE_FLAGS, TOOLS
from tests.providers import setting
from tests.providers.llama_cpp.shop import Watch, generate, use_of
from tests.providers.setting import LLAMA, OPENAI, Whole, config_for, context_for, request_for

KINDS = [LLAMA, OPENAI]
SYSTEM = "You answer customers of a parcel service. " + " ".join(
    f"Rule {number}: the customer is greeted in line {number}." for number in range(20)
)
WITH_TOOLS = InferenceRequest(CONVERSATION, max_tokens=64, temperature=0.0, seed=1, tools=json.dumps(TOOLS))
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "hot": {"type": "boolean"}},
    "required": ["city", "hot"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def prefixes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefixes")


@pytest.fixture(scope="module")
def able_server(backend: Backend, prefixes: Path) -> Iterator[LlamaServerProcess]:
    """Shows tools to its model, embeds, and saves slots."""
    slots = ("--no-kv-unified", "--cache-ram", "0", "--no-cache-idle-slots", "--slot-save-path", f"{prefixes}/")
    extra = (*TEMPLATE_FLAGS, "--embeddings", "--pooling", "mean", *slots)
    log = prefixes.parent / "able-server.log"
    server = LlamaServerProcess(backend.binary, backend.model, log, slots=2, ctx_size=4096, extra=extra)
    server.start()
    try:
        server.wait_healthy()
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def with_store(server: LlamaServerProcess, directory: Path) -> AsyncIterator[tuple[Provider, Watch]]:
    sections = {"prefixStore": {"enabled": True, "storageDir": str(directory), "minSightings": 1}}
    watch = Watch()
    provider = create_provider(config_for(LLAMA, server.base_url, {"timeoutMs": 60_000}, sections=sections), {}, watch)
    try:
        await provider.warm()
        yield provider, watch
    finally:
        await provider.close()


async def ask(provider: Provider, request: InferenceRequest) -> Whole:
    # A machine that does other work as well takes its time.
    return await setting.ask(provider, request, context_for(60_000))


def arguments_of(answer: Whole) -> tuple[ToolCallPart, object]:
    """The one call of an answer: its first piece, and its arguments."""
    parts = [part for chunk in answer.chunks for part in chunk.tool_calls]
    assert {part.index for part in parts} == {0}
    return parts[0], json.loads("".join(part.arguments for part in parts))


@pytest.mark.parametrize("kind", KINDS)
def test_given_a_tool_when_the_model_calls_it_and_learns_the_result_then_it_answers(
    able_server: LlamaServerProcess, kind: str
) -> None:
    async def main() -> None:
        async with provider_of(able_server, kind) as provider:
            answer = await ask(provider, WITH_TOOLS)
            first, arguments = arguments_of(answer)
            assert (first.name, arguments) == ("get_weather", {"city": "Rome"})
            assert answer.finish.reason == "tool_calls"
            assert answer.finish.tokens is not None
            if kind == LLAMA:
                prepared = await provider.prepare(WITH_TOOLS, context_for())
                assert prepared.prompt_tokens == answer.finish.tokens.prompt == answer.diagnostics.tokens_evaluated
            call = Message("assistant", "", (replace(CONVERSATION[1].tool_calls[0], id=first.id or ""),))
            turns = (*CONVERSATION, call, Message("tool", "rainy", tool_call_id=first.id))
            final = await ask(provider, replace(WITH_TOOLS, messages=turns))
            assert ANSWER_PART in final.text
            assert final.finish.reason in ("stop", "length")

    run(main())


@pytest.mark.parametrize("tools", [TOOLS, None])
def test_given_a_model_whose_template_knows_no_tools_when_asked_with_some_then_they_are_refused(
    llama_server: LlamaServerProcess, tools: object
) -> None:
    async def main() -> None:
        async with provider_of(llama_server) as provider:
            with pytest.raises(RayError) as caught:
                await ask(provider, replace(WITH_TOOLS, tools=json.dumps(tools) if tools else None))
            assert caught.value.code == "invalid_request"
            assert isinstance(caught.value.details, dict)
            assert caught.value.details["field"] == "tools"

    run(main())


@pytest.mark.parametrize(
    "tool", [{"type": "function"}, {"type": "function", "function": {"name": "f", "parameters": {"type": "strnig"}}}]
)
def test_given_a_faulty_tool_when_asked_then_it_is_the_clients_fault(
    able_server: LlamaServerProcess, tool: object
) -> None:
    async def main() -> None:
        async with provider_of(able_server) as provider:
            with pytest.raises(RayError) as caught:
                await ask(provider, replace(WITH_TOOLS, tools=json.dumps([tool])))
            assert caught.value.code == "invalid_request"

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_given_a_schema_when_a_real_model_answers_then_it_conforms(llama_server: LlamaServerProcess, kind: str) -> None:
    async def main() -> None:
        async with provider_of(llama_server, kind) as provider:
            request = replace(
                request_for("Is Rome hot?", max_tokens=96),
                response_format="json_schema",
                json_schema=json.dumps(SCHEMA),
            )
            answer = json.loads((await ask(provider, request)).text)
            assert set(answer) == {"city", "hot"}
            assert isinstance(answer["hot"], bool)

    run(main())


def test_given_a_faulty_schema_when_asked_then_the_client_learns_what_is_wrong_with_it(
    llama_server: LlamaServerProcess,
) -> None:
    async def main() -> None:
        async with provider_of(llama_server) as provider:
            request = replace(request_for(), response_format="json_schema", json_schema='{"type":"strnig"}')
            with pytest.raises(RayError) as caught:
                await ask(provider, request)
            assert caught.value.code == "invalid_request"
            assert "strnig" in caught.value.message

    run(main())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_raw", [False, True])
def test_given_probabilities_when_asked_for_then_each_token_has_them(
    llama_server: LlamaServerProcess, kind: str, is_raw: bool
) -> None:
    async def main() -> None:
        async with provider_of(llama_server, kind) as provider:
            request = replace(request_for("Once upon a", max_tokens=6, seed=3), top_logprobs=2, is_raw=is_raw)
            answer = await ask(provider, request)
            tokens = [token for chunk in answer.chunks for token in chunk.logprobs]
            assert "".join(token.token for token in tokens) == answer.text
            assert all(token.logprob <= 0 and len(token.top) == 2 for token in tokens)
            assert all(token.top[0].logprob >= token.top[1].logprob for token in tokens)

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_given_a_raw_prompt_when_answered_then_nothing_was_put_around_it(
    llama_server: LlamaServerProcess, kind: str
) -> None:
    async def main() -> None:
        async with provider_of(llama_server, kind) as provider:
            request = replace(request_for("Once upon a", max_tokens=4), is_raw=True, temperature=0.0)
            answer = await ask(provider, request)
            assert answer.finish.tokens is not None
            assert answer.finish.tokens.prompt == 3
            assert answer.text.startswith(" time")

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_given_texts_when_embedded_then_like_texts_are_closer_than_others(
    able_server: LlamaServerProcess, kind: str
) -> None:
    async def main() -> None:
        async with provider_of(able_server, kind) as provider:
            texts = ("The cat sleeps.", "A cat is asleep.", "Tax law of 1994, section 7")
            found = await provider.embed(texts, Deadline.after_ms(60_000))
            assert found.tokens
            assert len({len(vector) for vector in found.vectors}) == 1
            first, second, third = found.vectors
            assert _product(first, second) > _product(first, third)

    run(main())


def _product(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    return sum(one * other for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_given_a_server_without_embeddings_when_asked_then_the_refusal_is_honest(
    llama_server: LlamaServerProcess, kind: str
) -> None:
    async def main() -> None:
        async with provider_of(llama_server, kind) as provider:
            with pytest.raises(RayError) as caught:
                await provider.embed(("a",), Deadline.after_ms(60_000))
            assert (caught.value.code, caught.value.status) == ("embeddings_unsupported", 501)

    run(main())


@pytest.mark.parametrize("tools", [None, json.dumps(TOOLS)])
def test_given_a_second_turn_when_its_slot_holds_the_first_then_only_what_is_new_is_read(
    able_server: LlamaServerProcess, prefixes: Path, tools: str | None
) -> None:
    async def main() -> None:
        async with with_store(able_server, prefixes) as (provider, watch):
            story = "Tell me about parcels. " + " ".join(
                f"Parcel {number} went to town {number}." for number in range(30)
            )
            turns: tuple[Message, ...] = (Message("system", SYSTEM), Message("user", story))
            request = InferenceRequest(turns, max_tokens=24, temperature=0.0, seed=1, tools=tools)
            context = CallContext("req_1", Deadline.after_ms(60_000), "short", slot=0, family="parcels")
            first = await generate(provider, await provider.prepare(request, context), context)
            assert first.finish.tokens is not None
            turns += (Message("assistant", first.text), Message("user", "And then?"))
            context = replace(context, hot=True, continues=True)
            prepared = await provider.prepare(replace(request, messages=turns), context)
            second = await generate(provider, prepared, context)
            assert use_of(second).state == "hot"
            assert use_of(second).tokens_reused >= first.finish.tokens.prompt
            assert prepared.prefix is not None
            assert use_of(second).tokens_reused > prepared.prefix.tokens + 100
            assert second.finish.tokens is not None
            # What is new: the question, and what stands between two turns.
            assert second.finish.tokens.prompt - use_of(second).tokens_reused < 40
            assert (watch.failed_proofs, watch.failures) == (0, {})

    run(main())
