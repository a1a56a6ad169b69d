"""Tools on llama-server: its own chat route, with the prompt, the counts and the slots of all other requests."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from ray.errors import RayError
from ray.providers import Provider
from ray.types import Chunk, Counts, InferenceRequest, Message, ToolCall, ToolCallPart
from tests.fakes.llama_server import Answer, error_answer, json_answer, stream_answer
from tests.providers.llama_cpp.shop import SYSTEM, at_slot, generate, shop, use_of
from tests.providers.setting import ask, backend, context_for, run

CHAT = "/v1/chat/completions"
WEATHER = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CLOCK = [{"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}]
CALL = ToolCall("c1", "weather", '{"city":"Rome"}')


def asked(text: str = "Weather?", tools: object = WEATHER, system: str = SYSTEM, **more: object) -> InferenceRequest:
    messages = (Message("system", system), Message("user", text))
    return InferenceRequest(messages, max_tokens=64, tools=json.dumps(tools), **more)  # type: ignore[arg-type]


def answered(request: InferenceRequest) -> InferenceRequest:
    """The next turn: what the call gave."""
    turns = (Message("assistant", "", (CALL,)), Message("tool", "sunny", tool_call_id="c1"))
    return replace(request, messages=(*request.messages, *turns))


def parts(chunks: list[Chunk]) -> list[ToolCallPart]:
    return [part for chunk in chunks for part in chunk.tool_calls]


async def refusal_of(provider: Provider, request: InferenceRequest) -> RayError:
    with pytest.raises(RayError) as caught:
        await ask(provider, request)
    assert (caught.value.code, caught.value.status) == ("invalid_request", 400)
    assert isinstance(caught.value.details, dict)
    return caught.value


def test_given_tools_when_the_model_calls_one_then_the_call_is_streamed_and_the_figures_are_the_backends() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.calls = [("weather", ['{"city":', '"Rome"', "}"]), ("weather", ["{}"])]
            answer = await ask(provider, asked("Weather?", system="be kind", tool_choice='"required"', seed=7))
            assert parts(answer.chunks) == [
                ToolCallPart(0, "id0", "weather", '{"city":'),
                ToolCallPart(0, arguments='"Rome"'),
                ToolCallPart(0, arguments="}"),
                ToolCallPart(1, "id1", "weather", "{}"),
            ]
            assert answer.text == ""
            assert answer.finish.reason == "tool_calls"
            assert answer.finish.tokens == Counts(3, 4, 7)
            found = answer.diagnostics
            assert (found.request_shape, found.prompt_format) == ("llama.cpp-chat", "llama.cpp-template")
            assert (found.tokens_cached, found.tokens_evaluated) == (1, 3)
            assert found.timings is not None
            assert (found.timings.prompt_ms, found.timings.completion_ms) == (20, 40)
            body = fake.received(CHAT)[0].document
            assert body["tools"] == WEATHER
            assert body["tool_choice"] == "required"
            assert (body["temperature"], body["top_p"], body["max_tokens"], body["seed"]) == (0.2, 0.95, 64, 7)
            assert (body["cache_prompt"], body["stream"]) == (True, True)
            assert "id_slot" not in body
            assert not fake.received("/completion")

    run(main())


def test_given_tools_when_the_model_just_answers_then_it_is_text_like_any_other() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            answer = await ask(provider, asked())
            assert (answer.text, answer.finish.reason) == ("Hello from the fake", "stop")
            fake.stop_type = "limit"
            assert (await ask(provider, asked())).finish.reason == "length"

    run(main())


def test_given_tools_when_prepared_then_prompt_and_count_are_those_with_the_tools() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            request = answered(asked(system="be kind", tool_choice='"auto"'))
            prepared = await provider.prepare(request, context_for())
            sent = fake.received("/apply-template")[-1].document
            assert (sent["tools"], sent["tool_choice"]) == (WEATHER, "auto")
            assert sent["messages"] == fake_messages(request)
            assert sent["chat_template_kwargs"] == {"enable_thinking": False}
            assert prepared.prompt is not None
            assert '"weather"' in prepared.prompt
            assert prepared.prompt_tokens == len(prepared.prompt.split())
            await ask(provider, request)
            body = fake.received(CHAT)[0].document
            assert all(
                body[name] == sent[name] for name in ("messages", "tools", "tool_choice", "chat_template_kwargs")
            )

    run(main())


@pytest.mark.parametrize("wish", [True, False])
def test_given_a_wish_about_several_calls_when_asked_then_backend_and_template_learn_it(wish: bool) -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            await ask(provider, asked(parallel_tool_calls=wish))
            assert fake.received("/apply-template")[-1].document["parallel_tool_calls"] is wish
            assert fake.received(CHAT)[0].document["parallel_tool_calls"] is wish
            await ask(provider, asked())
            assert "parallel_tool_calls" not in fake.received(CHAT)[1].document
            await ask(provider, replace(asked(parallel_tool_calls=wish), tools=None))
            assert "parallel_tool_calls" not in fake.received("/completion")[0].document

    run(main())


def fake_messages(request: InferenceRequest) -> list[dict[str, object]]:
    function = {"name": CALL.name, "arguments": CALL.arguments}
    return [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": request.messages[1].content},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "tool", "content": "sunny", "tool_call_id": "c1"},
    ]


def test_given_other_tools_when_prepared_then_no_remembered_prompt_is_mistaken_for_theirs() -> None:
    async def main() -> None:
        async with backend() as (_, provider):
            requests = [asked(), asked(tools=CLOCK), replace(asked(), tools=None), answered(asked())]
            other_call = replace(CALL, arguments="{}")
            turns = (*asked().messages, Message("assistant", "", (other_call,)), Message("tool", "sunny", (), "c1"))
            requests.append(replace(asked(), messages=turns))
            prompts = {(await provider.prepare(request, context_for())).prompt for request in requests}
            assert len(prompts) == len(requests)

    run(main())


def test_given_tool_turns_without_tools_when_answered_then_the_chat_route_is_taken_all_the_same() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            await ask(provider, replace(answered(asked()), tools=None))
            assert "tools" not in fake.received(CHAT)[0].document

    run(main())


def test_given_tools_and_a_schema_when_sent_then_both_go_to_the_chat_route() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            await ask(provider, asked(response_format="json_schema", json_schema='{"type":"array"}'))
            wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "array"}}}
            assert fake.received(CHAT)[0].document["response_format"] == wanted

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        None,
        error_answer(500, "tools param requires --jinja flag"),
        error_answer(404, "File Not Found"),
        json_answer({"prompt": ""}),
    ],
)
def test_given_a_model_that_never_sees_tools_when_asked_with_some_then_the_remedy_is_named(
    answer: Answer | None,
) -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            await provider.warm()
            fake.knows_tools = False
            if answer is not None:
                fake.script("/apply-template", answer)
            error = await refusal_of(provider, asked())
            assert error.details["field"] == "tools"  # type: ignore[index]
            assert "--jinja" in error.message
            await refusal_of(provider, asked())
            # The second time nobody has to ask.
            assert len(fake.received("/apply-template")) == 2
            assert (await ask(provider, replace(asked(), tools=None))).text == "Hello from the fake"

    run(main())


def test_given_a_server_without_a_template_when_asked_with_tools_then_they_are_refused() -> None:
    async def main() -> None:
        async with backend(model={"operational": OPERATIONAL}) as (_, provider):
            assert "--jinja" in (await refusal_of(provider, asked())).message

    run(main())


OPERATIONAL = {
    "recommendedPromptFormat": "plain-completion",
    "supportsJsonMode": True,
    "tokensPerSecondTarget": 10,
    "memoryClassMiB": 4096,
    "preferredCtxSize": 2048,
    "chatTemplateKnown": True,
}


def test_given_a_server_exchanged_for_one_with_tools_when_asked_then_they_are_tried_again() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.knows_tools = False
            await refusal_of(provider, asked())
            fake.knows_tools = True
            fake.props["model_path"] = "/models/other.gguf"
            provider._capabilities.drop()  # type: ignore[attr-defined]
            assert (await ask(provider, asked())).text

    run(main())


def test_given_tools_and_probabilities_when_asked_then_the_combination_is_refused() -> None:
    async def main() -> None:
        async with backend() as (_, provider):
            assert "probabilities" in (await refusal_of(provider, asked(top_logprobs=2))).message

    run(main())


def test_given_tools_that_the_backend_refuses_when_asked_then_the_client_learns_why() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            await ask(provider, asked())
            refused = error_answer(400, "Unable to generate parser: JSON schema error at #: unrecognized type strnig")
            fake.script("/apply-template", refused)
            assert "unrecognized type strnig" in (await refusal_of(provider, asked("other"))).message
            fake.script(CHAT, refused)
            assert "unrecognized type strnig" in (await refusal_of(provider, asked())).message
            await ask(provider, asked())
            # Nothing is wrong with the backend, so nobody looks at it again.
            assert len(fake.received("/props")) == 1

    run(main())


def test_given_a_template_that_refuses_a_conversation_with_tools_when_asked_then_it_is_no_failure_of_the_backend() -> (
    None
):
    async def main() -> None:
        async with backend() as (fake, provider):
            await ask(provider, asked())
            fake.script("/apply-template", error_answer(500, "Conversation roles must alternate"))
            assert "refuses this conversation" in (await refusal_of(provider, answered(asked()))).message

    run(main())


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (stream_answer({"choices": [{"delta": {"content": "a"}}]}), "provider_invalid_response"),
        (stream_answer({"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}), "provider_invalid_response"),
        (stream_answer({"error": {"code": 500, "message": "dead"}}), "provider_upstream_error"),
        (stream_answer({"choices": []}, cut=True), "provider_request_failed"),
        (error_answer(500, "out of memory"), "provider_upstream_error"),
        (json_answer({"choices": []}), "provider_invalid_response"),
    ],
)
def test_given_a_broken_chat_answer_when_read_then_it_fails_with_its_code(answer: Answer, code: str) -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.script(CHAT, answer)
            with pytest.raises(RayError) as caught:
                await ask(provider, asked())
            assert caught.value.code == code

    run(main())


def test_given_arguments_longer_than_the_tokens_allow_when_read_then_the_answer_is_refused() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.calls = [("weather", ["x" * 5_000, "x" * 5_000])]
            with pytest.raises(RayError) as caught:
                await ask(provider, asked())
            assert caught.value.code == "provider_invalid_response"

    run(main())


def test_given_a_call_in_one_document_when_read_then_it_is_the_same_answer() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            message = {"content": None, "tool_calls": [{"id": "a", "function": {"name": "weather", "arguments": "{}"}}]}
            choice = {"message": message, "finish_reason": "tool_calls"}
            fake.script(CHAT, json_answer({"choices": [choice]}))
            answer = await ask(provider, asked())
            assert parts(answer.chunks) == [ToolCallPart(0, "a", "weather", "{}")]
            assert answer.finish.reason == "tool_calls"

    run(main())


def test_given_a_call_being_written_when_the_reader_leaves_then_the_backend_sees_it() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.gate = asyncio.Event()
            context = context_for()
            chunks = provider.stream(await provider.prepare(asked(), context), context)
            await anext(chunks)
            await chunks.aclose()  # type: ignore[attr-defined]
            await fake.received(CHAT)[0].client_left.wait()

    run(main())


def test_given_the_prefix_store_when_requests_share_system_text_and_tools_then_their_prefix_is_read_once(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path / "kv") as at:
            for number, state in enumerate(["evaluated", "hot", "hot"]):
                context = at_slot(1)
                prepared = await at.provider.prepare(asked(f"number{number}"), context)
                prefix = prepared.prefix
                assert prefix is not None
                assert prefix.text.endswith('"parameters": {"type": "object"}}}]</tools>\n<user>')
                use = use_of(await generate(at.provider, prepared, context))
                assert use.state == state
                await at.settle()
            assert prefix is not None
            assert use.tokens_reused >= prefix.tokens - 1
            assert at.fake.received(CHAT)[-1].document["id_slot"] == 1
            assert at.watch.saves == 1
            # Other tools are another beginning.
            other = (await at.provider.prepare(asked(tools=CLOCK), at_slot(1))).prefix
            assert other is not None
            assert other.key != prefix.key

    run(main())
