"""Whole conversations through the pipeline: tools, probabilities, raw prompts, and turns that a slot still holds."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ray.clock import Deadline
from ray.errors import RayError
from ray.providers import PromptPrefix
from ray.runtime import Reader, result_document
from ray.types import (
    Chunk,
    Finish,
    InferenceRequest,
    InferenceResult,
    Message,
    TokenLogprob,
    ToolCall,
    ToolCallPart,
)
from tests.fakes.provider import STOP, FakeProvider, Step, until
from tests.runtime.support import ALICE, House, tiny_config

CALLED = Finish("tool_calls")
CALL = ToolCall("call_1", "weather", '{"city":"Bonn"}')
CALL_STEPS: list[Step] = [
    "",
    Chunk(tool_calls=(ToolCallPart(0, "call_1", "weather", '{"city"'),)),
    Chunk(tool_calls=(ToolCallPart(0, arguments=':"Bonn"}'),)),
    CALLED,
]


def house_with(*scripts: list[Step], slots: int | None = None, **scheduler: object) -> House:
    provider = FakeProvider(*scripts, prefix_of=prefix_of)
    provider.assignable_slots = slots
    return House(provider, tiny_config(scheduler={"concurrency": 2, **scheduler}))


def prefix_of(request: InferenceRequest) -> PromptPrefix | None:
    return None if request.system is None else PromptPrefix(request.system.ljust(64, "0"), request.system, 100)


def chat(
    *turns: Message | str,
    cache: bool = False,
    tools: str | None = None,
    top_logprobs: int | None = None,
    is_raw: bool = False,
) -> InferenceRequest:
    """A text is the user's, one that begins with `a:` the model's, with `s:` the system's."""
    roles = {"a:": "assistant", "s:": "system"}
    messages = tuple(
        turn
        if isinstance(turn, Message)
        else Message(roles.get(turn[:2], "user"), turn[2:] if turn[:2] in roles else turn)  # type: ignore[arg-type]
        for turn in turns
    )
    return InferenceRequest(messages, 16, cache=cache, tools=tools, top_logprobs=top_logprobs, is_raw=is_raw)


async def ask(house: House, request: InferenceRequest) -> Reader:
    return await house.runtime.generate(request, ALICE, Deadline.after_ms(60_000), "req_1")


async def answer(house: House, request: InferenceRequest) -> InferenceResult:
    async with await ask(house, request) as reader:
        return await reader.result()


# -- tools and probabilities


def test_an_answer_of_tool_calls_and_no_text_is_streamed_gathered_and_documented() -> None:
    async def main() -> None:
        house = house_with(CALL_STEPS)
        async with await ask(house, chat("weather?", tools="[]")) as reader:
            chunks = [chunk async for chunk in reader]
            result = await reader.result()
        assert [len(chunk.tool_calls) for chunk in chunks] == [1, 1, 0]
        assert (result.output, result.tool_calls, result.finish_reason) == ("", (CALL,), "tool_calls")
        document = result_document(result)
        assert document["toolCalls"] == [{"id": "call_1", "name": "weather", "arguments": '{"city":"Bonn"}'}]
        assert "logprobs" not in document
        assert sum(house.metrics.histogram("inference.ttft").counts) == 1

    asyncio.run(main())


def test_probabilities_are_documented_with_their_alternatives() -> None:
    async def main() -> None:
        entry = TokenLogprob("x", -0.5, (TokenLogprob("x", -0.5), TokenLogprob("y", -1.5)))
        house = house_with([Chunk("x", logprobs=(entry,)), STOP])
        document = result_document(await answer(house, chat("hello", top_logprobs=2)))
        top = [{"token": "x", "logprob": -0.5}, {"token": "y", "logprob": -1.5}]
        assert document["logprobs"] == [{"token": "x", "logprob": -0.5, "top": top}]
        assert "toolCalls" not in document

    asyncio.run(main())


def test_a_cached_answer_brings_its_calls_and_probabilities_back_streamed_and_whole() -> None:
    async def main() -> None:
        entry = TokenLogprob("x", -0.5)
        house = house_with([Chunk("x", logprobs=(entry,)), *CALL_STEPS])
        request = chat("weather?", tools="[]", top_logprobs=0, cache=True)
        first = await answer(house, request)
        async with await ask(house, request) as reader:
            chunks = [chunk async for chunk in reader]
            second = await reader.result()
        assert second.cached
        assert (second.tool_calls, second.logprobs) == (first.tool_calls, first.logprobs) == ((CALL,), (entry,))
        assert chunks[0] == Chunk(
            "x", tool_calls=(ToolCallPart(0, "call_1", "weather", CALL.arguments),), logprobs=(entry,)
        )
        assert not (await answer(house, replace(request, tools='[{"type":"function"}]'))).cached

    asyncio.run(main())


def test_a_cached_answer_with_calls_counts_for_what_it_takes_in_the_cache() -> None:
    async def main() -> None:
        sizes = []
        probable: list[Step] = [Chunk(logprobs=(TokenLogprob("x" * 100, -1.0),) * 8), STOP]
        nothing: list[Step] = [STOP]
        for script in (nothing, CALL_STEPS, probable):
            house = house_with(script)
            await answer(house, chat("hello", top_logprobs=0, cache=True))
            sizes.append((await house.runtime.health()).cache.bytes)
        assert sizes[1] - sizes[0] >= len(CALL.name + CALL.arguments)
        assert sizes[2] - sizes[0] >= 800

    asyncio.run(main())


def test_tools_and_earlier_calls_count_where_nobody_counted_the_prompt() -> None:
    async def main() -> None:
        house = house_with(CALL_STEPS)
        call = Message("assistant", "", (replace(CALL, arguments="x" * 10_000),))
        for request in (
            chat("hello", tools="x" * 10_000),
            chat("a", call, Message("tool", "b", tool_call_id="call_1")),
        ):
            reader = await ask(house, request)
            with pytest.raises(RayError) as caught:
                await reader.result()
            assert caught.value.code in ("request_token_budget_exceeded", "request_context_window_exceeded")

    asyncio.run(main())


def test_a_raw_prompt_reaches_the_provider_as_it_was_written() -> None:
    async def main() -> None:
        house = house_with(["x", STOP])
        text = "  def  f():\n\n\n\treturn   1  \n"
        await answer(house, chat(text, is_raw=True))
        await answer(house, chat(text))
        sent = [request.messages[0].content for request in house.provider.prepared]
        assert sent[0] == text
        assert sent[1] != text
        assert house.provider.contexts[0].family != house.provider.contexts[1].family

    asyncio.run(main())


# -- conversations in slots


def given(house: House) -> list[tuple[int | None, bool, bool]]:
    return [(context.slot, context.hot, context.continues) for context in house.provider.contexts]


def test_the_next_turn_gets_the_slot_that_holds_the_turns_before() -> None:
    async def main() -> None:
        house = house_with(["", "one", STOP], ["", "two", STOP], ["", "three", STOP], slots=2)
        await answer(house, chat("s:be kind", "first"))
        await answer(house, chat("s:be kind", "another's question"))
        await answer(house, chat("s:be kind", "first", "a:one", "second"))
        await answer(house, chat("s:be kind", "first", "a:one", "second", "a:three", "third"))
        # The second is a relative of the first and goes where their prefix is hot; so the conversation is cut off.
        assert given(house)[:2] == [(0, False, False), (0, True, False)]
        assert given(house)[2:] == [(0, True, False), (0, True, True)]

    asyncio.run(main())


def test_two_conversations_keep_their_slots() -> None:
    async def main() -> None:
        house = house_with(["", "one", STOP], slots=2)
        for system in ("s:be kind", "s:be brief"):
            await answer(house, chat(system, "first"))
        for turns in (("first", "a:one", "second"), ("first", "a:one", "second", "a:one", "third")):
            for system in ("s:be kind", "s:be brief"):
                await answer(house, chat(system, *turns))
        assert given(house)[2:] == [(0, True, True), (1, True, True), (0, True, True), (1, True, True)]

    asyncio.run(main())


def test_without_a_system_text_a_conversation_finds_its_slot_too() -> None:
    async def main() -> None:
        house = house_with(["one", STOP], slots=2)
        for request in (chat("first"), chat("else"), chat("first", "a:one", "second")):
            await answer(house, request)
        assert given(house) == [(0, False, False), (1, False, False), (0, False, True)]

    asyncio.run(main())


def test_what_the_tools_answered_goes_on_in_the_slot_of_the_call() -> None:
    async def main() -> None:
        house = house_with(CALL_STEPS, ["", "sunny", STOP], slots=2)
        await answer(house, chat("s:a", "weather?", tools="[]"))
        called = Message("assistant", "", (CALL,))
        results = (Message("tool", "sun", tool_call_id="call_1"),)
        await answer(house, chat("s:a", "weather?", called, *results, tools="[]"))
        await answer(house, chat("s:a", "weather?", called, *results, "a:sunny", "thanks", tools="[]"))
        assert [continues for _, _, continues in given(house)] == [False, True, True]

    asyncio.run(main())


def test_another_question_in_place_of_the_last_one_continues_the_turns_before_it() -> None:
    async def main() -> None:
        house = house_with(["", "one", STOP], slots=2)
        for question in ("second", "another second", "second"):
            if question == "second":
                await answer(house, chat("s:a", "first"))
            await answer(house, chat("s:a", "first", "a:one", question))
        assert [continues for _, _, continues in given(house)] == [False, True, True, False, True]

    asyncio.run(main())


def test_a_reader_that_leaves_in_mid_answer_leaves_the_earlier_turns_in_the_slot() -> None:
    async def main() -> None:
        never = asyncio.Event()
        house = house_with(["", "one", STOP], ["", "tw", never], ["", "two", STOP], slots=1)
        await answer(house, chat("s:a", "first"))
        second = chat("s:a", "first", "a:one", "second")
        reader = await ask(house, second)
        await anext(reader)
        reader.leave()
        await until(house.is_idle)
        await answer(house, second)
        assert given(house)[1:] == [(0, True, True), (0, True, True)]

    asyncio.run(main())


@pytest.mark.parametrize("slots", [None, 1])
def test_a_backend_that_lost_its_caches_holds_no_conversation(slots: int | None) -> None:
    async def main() -> None:
        house = house_with(["", "one", STOP], slots=slots)
        await answer(house, chat("s:a", "first"))
        house.provider.slots_epoch += 1
        await answer(house, chat("s:a", "first", "a:one", "second"))
        assert not any(continues for _, _, continues in given(house))

    asyncio.run(main())


def test_the_next_turn_goes_before_a_relative_that_would_take_its_slot() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        house = house_with(["", "one", STOP], [gate, "x", STOP], ["", "y", STOP], slots=2, concurrency=1)
        await answer(house, chat("s:a", "first"))
        waiting = [chat("s:b", "busy"), chat("s:a", "relative"), chat("s:a", "first", "a:one", "second")]
        readers = [await ask(house, request) for request in waiting]
        await until(lambda: house.runtime.queue_snapshot().queue_depth == 2)
        gate.set()
        for reader in readers:
            await reader.result()
        assert [request.messages[-1].content for request in house.provider.streamed][1:] == [
            "busy",
            "second",
            "relative",
        ]
        assert given(house)[2] == (0, True, True)

    asyncio.run(main())
