"""Tool calls in the chat protocol."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ray.providers.tool_calls import MAX_CALLS, ToolCallReader, calls_of, tool_fields, tool_texts, wants_tools
from ray.types import InferenceRequest, Message, ToolCall, ToolCallPart

USER = Message("user", "hi")


def call(index: int | None, name: object = None, arguments: object = None, id: object = None) -> dict[str, object]:
    given: dict[str, object] = {"function": {"name": name, "arguments": arguments}}
    if index is not None:
        given["index"] = index
    return {**given, "id": id} if id is not None else given


def test_given_a_call_in_pieces_when_read_then_its_id_and_name_come_once() -> None:
    reader = ToolCallReader()
    assert not reader.has_calls
    assert reader.take([call(0, "look", "{", "a1")]) == (ToolCallPart(0, "a1", "look", "{"),)
    assert reader.take([call(0, "look", "}", "a1")]) == (ToolCallPart(0, arguments="}"),)
    assert reader.has_calls


def test_given_a_whole_message_when_read_then_its_calls_are_numbered_by_their_place() -> None:
    parts = ToolCallReader().take([call(None, "a", "{}", "1"), call(None, "b", "{}", "2")])
    assert parts == (ToolCallPart(0, "1", "a", "{}"), ToolCallPart(1, "2", "b", "{}"))


def test_given_a_call_without_an_id_when_read_then_it_gets_one_of_its_own() -> None:
    first, second = ToolCallReader().take([call(0, "a", ""), call(1, "a", "")])
    assert first.id
    assert second.id
    assert first.id != second.id


def test_given_arguments_that_are_an_object_when_read_then_they_are_its_text() -> None:
    (part,) = ToolCallReader().take([call(0, "a", {"city": "Köln"}, "1")])
    assert part.arguments == '{"city":"Köln"}'


@pytest.mark.parametrize("value", [None, {}, "x", []])
def test_given_no_calls_when_read_then_there_are_none(value: object) -> None:
    assert ToolCallReader().take(value) == ()


@pytest.mark.parametrize("value", [[None], [{}], [call(0, "")], [call(0, 7)], [call(MAX_CALLS, "a")]])
def test_given_what_cannot_be_a_call_when_read_then_it_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="tool call"):
        ToolCallReader().take(value)


@pytest.mark.parametrize(
    ("request_", "wants"),
    [
        (InferenceRequest((USER,), 8), False),
        (InferenceRequest((USER,), 8, tools="[]"), True),
        (InferenceRequest((USER, Message("assistant", "", (ToolCall("1", "a", "{}"),)), USER), 8), True),
        (InferenceRequest((USER, Message("tool", "x", tool_call_id="1")), 8), True),
        (InferenceRequest((USER, Message("assistant", "b"), USER), 8), False),
    ],
)
def test_given_a_request_when_asked_about_tools_then_earlier_turns_count(
    request_: InferenceRequest, wants: bool
) -> None:
    assert wants_tools(request_) is wants


def test_given_tools_as_text_when_written_then_they_are_json_and_what_is_said_of_them_needs_them() -> None:
    plain = InferenceRequest((Message("user", "hi"),), 8, tool_choice='"auto"', parallel_tool_calls=False)
    assert tool_fields(plain) == {}
    assert tool_fields(replace(plain, tools='[{"a":1}]')) == {
        "tools": [{"a": 1}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
    }
    assert tool_fields(InferenceRequest(plain.messages, 8, tools="[]")) == {"tools": []}


@pytest.mark.parametrize(("given", "sent"), [("", "{}"), (" \n", "{}"), ("{", "{"), ('{"a": 1}', '{"a": 1}')])
def test_given_earlier_calls_when_written_then_only_missing_arguments_are_made_up_for(given: str, sent: str) -> None:
    assert calls_of([ToolCall("c1", "clock", given)]) == [
        {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": sent}}
    ]


def test_given_tools_when_told_apart_then_every_field_about_them_counts() -> None:
    request = InferenceRequest((Message("user", "hi"),), 8, tools="[]")
    others: list[dict[str, Any]] = [{}, {"tools": "[1]"}, {"tool_choice": '"auto"'}, {"parallel_tool_calls": True}]
    texts = {tool_texts(replace(request, **other)) for other in (*others, {"parallel_tool_calls": False})}
    assert len(texts) == 5
