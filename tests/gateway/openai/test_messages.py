"""Which conversations are taken, and what becomes of them."""

from __future__ import annotations

import pytest

from ray.errors import RayError
from ray.gateway.openai.messages import MAX_MESSAGES, MESSAGES, conversation
from ray.types import Message, ToolCall

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Weather in Bern?"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}}
ASKS_TOOL = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOOL = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}


def read(*turns: object) -> tuple[Message, ...]:
    return conversation(MESSAGES.read(list(turns), "messages"))  # type: ignore[arg-type]  # objects, by its schema


def refused(*turns: object) -> tuple[object, str]:
    """The field a refusal names, and its message."""
    with pytest.raises(RayError) as caught:
        read(*turns)
    assert caught.value.code == "invalid_request"
    details = caught.value.details
    assert isinstance(details, dict)
    return details["field"], caught.value.message


def test_given_a_conversation_with_a_tool_call_when_read_then_every_turn_is_kept_as_it_was() -> None:
    answered = {"role": "assistant", "content": "Sunny."}
    assert read(SYSTEM, USER, ASKS_TOOL, TOOL, answered, {"role": "user", "content": " And\n\nZug? "}) == (
        Message("system", "Be brief."),
        Message("user", "Weather in Bern?"),
        Message("assistant", "", (ToolCall("call_1", "weather", '{"city":"Bern"}'),)),
        Message("tool", "sunny", tool_call_id="call_1"),
        Message("assistant", "Sunny."),
        Message("user", " And\n\nZug? "),
    )


def test_given_several_leading_system_texts_when_read_then_they_are_one_with_blank_lines_between() -> None:
    developer = {"role": "developer", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "kind."}]}
    blank = {"role": "system", "content": " \n"}
    assert read(SYSTEM, developer, blank, USER)[0] == Message("system", "Be brief.\n\nBe\nkind.")
    assert read(blank, USER) == (Message("user", "Weather in Bern?"),)


def test_given_what_clients_send_back_of_an_answer_when_read_then_empty_extras_are_no_reason_to_refuse() -> None:
    echoed: dict[str, object] = {
        "role": "assistant",
        "content": "Hello.",
        "refusal": None,
        "audio": None,
        "function_call": None,
        "tool_calls": None,
        "annotations": [],
    }
    assert read(USER, echoed, USER)[1] == Message("assistant", "Hello.")
    assert read(USER, {**echoed, "tool_calls": []}, USER)[1] == Message("assistant", "Hello.")


def test_given_faulty_arguments_of_an_earlier_call_when_read_then_they_are_kept_for_the_model_to_see() -> None:
    call = {**CALL, "function": {"name": "weather", "arguments": '{"city":'}}
    (_, assistant, _) = read(USER, {**ASKS_TOOL, "tool_calls": [call]}, TOOL)
    assert assistant.tool_calls[0].arguments == '{"city":'


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("turns", "field"),
    [
        ([], "messages"),
        ([USER] * (MAX_MESSAGES + 1), "messages"),
        (["hello"], "messages[0]"),
        ([None], "messages[0]"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": "function", "content": "x"}], "messages[0].role"),
        ([{"role": "User", "content": "x"}], "messages[0].role"),
        ([{"role": 7, "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": "  "}], "messages[0].content"),
        ([{"role": "user", "content": []}], "messages[0].content"),
        ([{"role": "user", "content": "\ud800"}], "messages[0].content"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, IMAGE]}],
            "messages[0].content[1].type",
        ),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": ["text"]}]}], "messages[0].content[0].type"),
        ([{**USER, "name": "Ada"}], "messages[0].name"),
        ([{**SYSTEM, "name": "boss"}, USER], "messages[0].name"),
        ([{**USER, "tool_calls": [CALL]}], "messages[0].tool_calls"),
        ([{**USER, "tool_call_id": "call_1"}], "messages[0].tool_call_id"),
        ([USER, {"role": "assistant", "content": "x", "function_call": {"name": "f"}}], "messages[1].function_call"),
        ([USER, {"role": "assistant", "content": None, "refusal": "I won't."}], "messages[1].refusal"),
        ([USER, {"role": "assistant"}, USER], "messages[1].content"),
        ([USER, {"role": "assistant", "tool_calls": []}, USER], "messages[1].content"),
        ([USER, {"role": "assistant", "tool_calls": "x"}, USER], "messages[1].tool_calls"),
        ([USER, {"role": "assistant", "tool_calls": [{**CALL, "id": ""}]}, TOOL], "messages[1].tool_calls[0].id"),
        ([USER, {"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}], "messages[1].tool_calls[0].type"),
        ([USER, {"role": "assistant", "tool_calls": [{"id": "a"}]}], "messages[1].tool_calls[0].function"),
        (
            [USER, {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {}}}]}],
            "messages[1].tool_calls[0].function.arguments",
        ),
        ([USER, {"role": "assistant", "tool_calls": [CALL, CALL]}, TOOL], "messages[1].tool_calls[1].id"),
    ],
)
def test_given_a_malformed_message_when_read_then_the_refusal_names_the_place(turns: list[object], field: str) -> None:
    assert refused(*turns)[0] == field


@pytest.mark.parametrize(
    ("turns", "field"),
    [
        ([SYSTEM], "messages"),
        ([SYSTEM, {"role": "assistant", "content": "Hello."}], "messages"),
        ([USER, SYSTEM, USER], "messages[1].role"),
        ([USER, {"role": "developer", "content": "x"}], "messages[1].role"),
        ([USER, {"role": "assistant", "content": "It is"}], "messages[1].role"),
        ([TOOL, USER], "messages[0].tool_call_id"),
        ([USER, TOOL], "messages[1].tool_call_id"),
        ([USER, ASKS_TOOL], "messages[1]"),
        ([USER, ASKS_TOOL, USER], "messages[2]"),
        ([USER, ASKS_TOOL, {**TOOL, "tool_call_id": "call_2"}], "messages[2].tool_call_id"),
        ([USER, ASKS_TOOL, TOOL, TOOL], "messages[3].tool_call_id"),
        ([USER, ASKS_TOOL, {"role": "tool", "content": "sunny"}], "messages[2].tool_call_id"),
        ([USER, ASKS_TOOL, {"role": "tool", "tool_call_id": "call_1"}], "messages[2].content"),
    ],
)
def test_given_turns_in_an_impossible_order_when_read_then_the_refusal_names_the_turn(
    turns: list[object], field: str
) -> None:
    assert refused(*turns)[0] == field


def test_given_an_image_when_refused_then_the_message_says_that_images_are_not_supported() -> None:
    assert "images are not supported" in refused({"role": "user", "content": [IMAGE]})[1]
