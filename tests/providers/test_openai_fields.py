"""Tools, schemas, probabilities and raw prompts on an OpenAI-compatible backend."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ray.errors import RayError
from ray.types import InferenceRequest, Message, TokenLogprob, ToolCall, ToolCallPart
from tests.fakes.llama_server import error_answer, json_answer, stream_answer
from tests.providers.setting import OPENAI, ask, backend, request_for, run

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
TOOLS = [{"type": "function", "function": {"name": "weather"}}]
WITH_TOOLS = replace(request_for("Weather?"), tools=json.dumps(TOOLS), tool_choice='"auto"')
WITH_SCHEMA = replace(request_for("List!"), response_format="json_schema", json_schema='{"type":"array"}')


def event(delta: object, reason: str | None = None, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason, **more}]}


def test_given_tools_when_the_model_calls_one_then_it_is_passed_on() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.calls = [("weather", ["{", "}"])]
            answer = await ask(provider, WITH_TOOLS)
            parts = [part for chunk in answer.chunks for part in chunk.tool_calls]
            assert parts == [ToolCallPart(0, "id0", "weather", "{"), ToolCallPart(0, arguments="}")]
            assert (answer.text, answer.finish.reason) == ("", "tool_calls")
            body = fake.received(CHAT)[0].document
            assert (body["tools"], body["tool_choice"]) == (TOOLS, "auto")
            assert "parallel_tool_calls" not in body
            await ask(provider, replace(WITH_TOOLS, parallel_tool_calls=False))
            assert fake.received(CHAT)[1].document["parallel_tool_calls"] is False

    run(main())


def test_given_tool_turns_when_sent_then_they_are_written_as_the_protocol_does() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            turns = (
                Message("user", "Weather?"),
                Message("assistant", "", (ToolCall("c1", "weather", "{}"),)),
                Message("tool", "", tool_call_id="c1"),
            )
            await ask(provider, InferenceRequest(turns, max_tokens=8))
            function = {"name": "weather", "arguments": "{}"}
            assert fake.received(CHAT)[0].document["messages"] == [
                {"role": "user", "content": "Weather?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c1", "type": "function", "function": function}],
                },
                {"role": "tool", "content": "", "tool_call_id": "c1"},
            ]

    run(main())


@pytest.mark.parametrize(
    ("called", "reason", "expected"),
    [
        (True, "stop", "tool_calls"),
        (True, "tool_calls", "tool_calls"),
        (True, "length", "length"),
        (False, "tool_calls", "stop"),
        (False, "content_filter", "stop"),
    ],
)
def test_given_a_reason_when_it_does_not_fit_the_answer_then_the_answer_decides(
    called: bool, reason: str, expected: str
) -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            call = {"index": 0, "id": "a", "function": {"name": "weather", "arguments": "{}"}}
            first = event({"content": "hi", **({"tool_calls": [call]} if called else {})})
            fake.script(CHAT, stream_answer(first, event({}, reason), done=True))
            assert (await ask(provider, WITH_TOOLS)).finish.reason == expected

    run(main())


def test_given_json_mode_when_the_model_calls_a_tool_then_nothing_is_repaired() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.calls = [("weather", ["{}"])]
            answer = await ask(provider, replace(WITH_TOOLS, response_format="json_object"))
            assert answer.finish.reason == "tool_calls"
            assert len(fake.received(CHAT)) == 1

    run(main())


def test_given_tools_that_the_backend_refuses_when_asked_then_the_client_learns_it() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.script(CHAT, error_answer(500, "tools param requires --jinja flag"))
            with pytest.raises(RayError) as caught:
                await ask(provider, WITH_TOOLS)
            assert caught.value.code == "invalid_request"
            assert isinstance(caught.value.details, dict)
            assert caught.value.details["field"] == "tools"

    run(main())


def test_given_a_schema_when_sent_then_it_has_a_name_and_json_of_any_kind_is_an_answer() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.pieces = ["[1,", "2]"]
            answer = await ask(provider, WITH_SCHEMA)
            assert answer.text == "[1,2]"
            assert len(fake.received(CHAT)) == 1
            assert fake.received(CHAT)[0].document["response_format"] == {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": {"type": "array"}},
            }

    run(main())


def test_given_a_schema_when_the_answer_is_no_json_then_it_is_repaired_once_under_the_same_schema() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            repaired = {"choices": [{"message": {"content": "[1]"}, "finish_reason": "stop"}]}
            fake.script(
                CHAT, stream_answer(event({"content": "one"}), event({}, "stop"), done=True), json_answer(repaired)
            )
            answer = await ask(provider, replace(WITH_SCHEMA, top_logprobs=1, stop=("x",), seed=3))
            assert answer.text == "[1]"
            assert answer.diagnostics.json_repair_succeeded is True
            assert all(chunk.logprobs == () for chunk in answer.chunks)
            first, second = (request.document for request in fake.received(CHAT))
            assert second["response_format"] == first["response_format"]
            assert not {"logprobs", "stop", "seed", "tools"} & set(second)

    run(main())


def test_given_probabilities_when_asked_for_then_they_come_with_the_text_also_in_json_mode() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            content = {"content": [{"token": "{}", "logprob": -1, "top_logprobs": [{"token": "[]", "logprob": -2}]}]}
            scripted = stream_answer(event({"content": "{}"}, logprobs=content), event({}, "stop"), done=True)
            fake.script(CHAT, scripted, scripted)
            for request in (request_for(), request_for(response_format="json_object")):
                answer = await ask(provider, replace(request, top_logprobs=1))
                assert answer.chunks[0].text == "{}"
                assert answer.chunks[0].logprobs == (TokenLogprob("{}", -1.0, (TokenLogprob("[]", -2.0),)),)
            body = fake.received(CHAT)[0].document
            assert (body["logprobs"], body["top_logprobs"]) == (True, 1)

    run(main())


def test_given_a_raw_prompt_when_answered_then_the_completions_route_reads_it_as_it_was_sent() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            request = InferenceRequest(
                (Message("user", " Once upon"),), max_tokens=8, stop=("END",), seed=5, is_raw=True
            )
            answer = await ask(provider, replace(request, top_logprobs=2))
            assert answer.text == "Hello from the fake"
            assert answer.diagnostics.request_shape == "openai-completions"
            assert [token.token for chunk in answer.chunks for token in chunk.logprobs] == fake.pieces
            assert answer.finish.tokens is not None
            assert answer.diagnostics.tokens_cached is None
            assert fake.received(COMPLETIONS)[0].document == {
                "model": "fake-model",
                "prompt": " Once upon",
                "stream": True,
                "stream_options": {"include_usage": True},
                "temperature": 0.2,
                "top_p": 0.95,
                "max_tokens": 8,
                "user": "req_1",
                "seed": 5,
                "stop": ["END"],
                "logprobs": 2,
            }
            assert not fake.received(CHAT)

    run(main())
