"""Prompts that are too long and hold calls of tools: what is cut never parts a call from its answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.runtime.degradation import degrade_prompt_length, length, shorter_messages
from ray.types import InferenceRequest, Message, ToolCall
from tests.runtime.support import TINY

LIMITS = TINY.graceful_degradation  # 4000 characters


def user(chars: int) -> Message:
    return Message("user", "q" * chars)


def calls(*ids: str, chars: int = 0) -> Message:
    """An assistant's turn of tool calls; each counts for its name and `chars` of arguments."""
    return Message("assistant", "", tuple(ToolCall(name, "f", "x" * chars) for name in ids))


def result(of: str, chars: int) -> Message:
    return Message("tool", "r" * chars, tool_call_id=of)


def shape(messages: tuple[Message, ...]) -> list[tuple[str, int]]:
    return [(message.role, length(message)) for message in messages]


def test_older_turns_with_tools_go_together_with_their_question() -> None:
    messages = (
        user(10),
        calls("1"),
        result("1", 10),
        Message("assistant", "a" * 10),
        user(5),
        calls("2", "3"),
        result("2", 5),
        result("3", 5),
        Message("assistant", "a" * 5),
        user(10),
    )
    kept = [("user", 5), ("assistant", 2), ("tool", 5), ("tool", 5), ("assistant", 5), ("user", 10)]
    assert shape(shorter_messages(messages, 40)) == kept
    assert shape(shorter_messages(messages, 32)) == kept
    assert shape(shorter_messages(messages, 31)) == [("user", 10)]


def test_the_arguments_of_earlier_calls_count_as_text() -> None:
    messages = (user(5), calls("1", chars=50), result("1", 5), Message("assistant", "done"), user(10))
    assert shape(shorter_messages(messages, 60)) == [("user", 10)]
    request = InferenceRequest(
        (user(5), calls("1", chars=5_000), result("1", 5), Message("assistant", "x"), user(5)), 9
    )
    shorter, was_cut = degrade_prompt_length(request, LIMITS)
    assert was_cut
    assert shape(shorter.messages) == [("user", 5)]


@pytest.mark.parametrize(
    ("question", "results", "room", "expected"),
    [
        (10, (100, 10), 81, (10, 60, 10)),
        (10, (100, 100), 81, (10, 35, 35)),
        (90, (20, 20), 81, (40, 20, 20)),
        (90, (90, 90), 31, (10, 10, 10)),
    ],
    ids=["the longest result", "both results", "the question", "all that is long"],
)
def test_of_the_present_turn_the_longest_texts_lose_their_tails_and_the_calls_stay(
    question: int, results: tuple[int, int], room: int, expected: tuple[int, int, int]
) -> None:
    messages = (user(question), calls("1", "2"), result("1", results[0]), result("2", results[1]))
    shorter = shorter_messages(messages, room + 1)
    assert shorter[1] == messages[1]
    assert tuple(len(message.content) for message in (shorter[0], *shorter[2:])) == expected
    assert [message.tool_call_id for message in shorter[2:]] == ["1", "2"]


def test_calls_that_take_all_the_room_leave_a_quarter_of_it_to_what_is_asked() -> None:
    messages = (user(100), calls("1", chars=500), result("1", 100))
    assert shape(shorter_messages(messages, 80)) == [("user", 10), ("assistant", 501), ("tool", 10)]


def test_where_nothing_can_be_cut_nothing_is_called_cut() -> None:
    request = InferenceRequest((user(5), calls("1", chars=5_000), result("1", 5)), 9)
    assert degrade_prompt_length(request, LIMITS) == (request, False)


def test_a_raw_prompt_loses_its_beginning() -> None:
    request = InferenceRequest((Message("user", "old" * 2_000 + "new" * 1_000),), 9, is_raw=True)
    shorter, was_cut = degrade_prompt_length(request, replace(LIMITS, max_prompt_chars=3_003))
    assert was_cut
    assert shorter.messages[0].content == "old" + "new" * 1_000


turn = st.one_of(
    st.tuples(st.just("said"), st.integers(1, 30), st.just(0)),
    st.tuples(st.just("called"), st.integers(1, 30), st.integers(1, 3)),
)


@given(turns=st.lists(turn, max_size=5), is_waiting=st.booleans(), room=st.integers(1, 150))
def test_every_result_follows_its_call_and_every_call_has_its_results(
    turns: list[tuple[str, int, int]], is_waiting: bool, room: int
) -> None:
    messages: list[Message] = []
    for number, (kind, chars, count) in enumerate(turns):
        messages.append(user(chars))
        if kind == "called":
            names = [f"{number}.{index}" for index in range(count)]
            messages += [calls(*names, chars=chars), *(result(name, chars) for name in names)]
        if number < len(turns) - 1 or not is_waiting:
            messages.append(Message("assistant", "a" * chars))
    if not is_waiting or not messages:
        messages.append(user(20))
    after = shorter_messages(messages, room)
    assert after[0].role == "user"
    open_calls: list[str] = []
    for message in after:
        if message.role == "tool":
            assert message.tool_call_id == open_calls.pop(0)
        else:
            assert open_calls == []
        open_calls += [call.id for call in message.tool_calls]
    assert open_calls == []
