"""Which conversation a request goes on with, and which one a slot holds after its answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ray.runtime.conversation import continued_turns, earlier_turns, reached_turns
from ray.types import InferenceRequest, Message, Role, ToolCall

ROLES: dict[str, Role] = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
CALL = ToolCall("call_1", "weather", '{"city": "Bonn"}')


@pytest.mark.parametrize(
    ("roles", "earlier"),
    [
        ("u", ""),
        ("su", ""),
        ("suau", "sua"),
        ("uauau", "uaua"),
        ("uuau", "uua"),
        ("uauu", "ua"),
        ("uat", "ua"),
        ("uatt", "ua"),
        ("uatatt", "uata"),
        ("uatu", "ua"),
        ("uaua", "ua"),
        ("sua", ""),
        ("uaus", "ua"),
        ("a", ""),
        ("", ""),
    ],
)
def test_earlier_are_the_turns_up_to_the_last_answer_that_something_follows(roles: str, earlier: str) -> None:
    messages = tuple(Message(ROLES[letter], f"{index}") for index, letter in enumerate(roles))
    assert earlier_turns(messages) == messages[: len(earlier)]
    assert "".join(message.role[0] for message in earlier_turns(messages)) == earlier


FIRST = InferenceRequest((Message("system", "be kind"), Message("user", "hello")), 16)


def after(first: InferenceRequest, answer: Message, *more: Message) -> InferenceRequest:
    """The next request of a client that sends everything back."""
    return replace(first, messages=(*first.messages, answer, *more))


def test_the_next_turn_continues_what_the_answer_reached() -> None:
    reached = reached_turns(FIRST, "Hi!", ())
    second = after(FIRST, Message("assistant", "Hi!"), Message("user", "and now?"))
    assert continued_turns(FIRST) is None
    assert continued_turns(second) == reached
    third = after(second, Message("assistant", "Now too."), Message("user", "thanks"))
    assert continued_turns(third) == reached_turns(second, "Now too.", ())
    assert continued_turns(third) != reached


def test_what_tools_answered_continues_the_turn_that_called_them() -> None:
    asked = replace(FIRST, tools="[]")
    answer = Message("assistant", "", (CALL, CALL))
    results = (Message("tool", "sunny", tool_call_id="call_1"), Message("tool", "dry", tool_call_id="call_2"))
    assert continued_turns(after(asked, answer, *results)) == reached_turns(asked, "", (CALL, CALL))


def test_a_client_may_send_an_answer_back_in_its_own_way() -> None:
    sent_back = Message("assistant", " Hi!\n", (replace(CALL, id="another"),))
    assert continued_turns(after(FIRST, sent_back, Message("user", "x"))) == reached_turns(FIRST, "Hi!", (CALL,))


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": (Message("system", "be rude"), *FIRST.messages[1:])},
        {"messages": FIRST.messages[1:]},
        {"messages": (Message("user", "be kind"), *FIRST.messages[1:])},
        {"messages": (Message("system", "be kindhello"), Message("user", ""))},
        {"tools": "[]"},
        {"is_raw": True},
    ],
)
def test_another_conversation_has_another_key(changes: dict[str, Any]) -> None:
    other = replace(FIRST, **changes)
    assert reached_turns(other, "Hi!", ()) != reached_turns(FIRST, "Hi!", ())


@pytest.mark.parametrize(
    "answer", [("Hi", ()), ("Hi!", (CALL,)), ("Hi!", (replace(CALL, arguments="{}"),)), ("Hi!", (CALL, CALL))]
)
def test_another_answer_leads_to_another_conversation(answer: tuple[str, tuple[ToolCall, ...]]) -> None:
    keys = {reached_turns(FIRST, "Hi!", ()), reached_turns(FIRST, *answer)}
    assert len(keys) == 2


def test_how_the_answer_is_made_does_not_tell_conversations_apart() -> None:
    same = replace(FIRST, max_tokens=1, temperature=1.0, seed=3, metadata={"trace": "1"}, top_logprobs=1)
    assert reached_turns(same, "Hi!", ()) == reached_turns(FIRST, "Hi!", ())
