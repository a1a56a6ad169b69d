"""What makes two requests the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from ray.runtime import normalise_request
from ray.runtime.keys import cache_key, twin_key
from ray.types import Caller, InferenceRequest, Message, ToolCall
from tests.runtime.support import ALICE, BOB, TINY

BASE: dict[str, object] = {"input": "hi", "system": "s", "maxTokens": 10, "seed": 1, "stop": ["x"]}


def key(changes: Mapping[str, object] | None = None, *, strategy: str = "input+params", model: str = "m") -> str:
    return cache_key(normalise_request({**BASE, **(changes or {})}, TINY), model, strategy)


def test_the_key_is_a_full_sha256() -> None:
    assert len(key()) == 64


@pytest.mark.parametrize(
    "same",
    [{"metadata": {"trace": "1"}}, {"dedupeKey": "k"}, {"responseFormat": {"type": "text"}}, {"input": " hi "}],
)
def test_what_does_not_shape_the_answer_is_not_in_the_key(same: dict[str, object]) -> None:
    assert key(same) == key()


@pytest.mark.parametrize(
    "other",
    [
        {"input": "ho"},
        {"system": "t"},
        {"system": ""},
        {"seed": 2},
        {"stop": ["y"]},
        {"stop": ["x", "x"]},
        {"responseFormat": {"type": "json_object"}},
        {"maxTokens": 11},
        {"temperature": 0.3},
        {"topP": 0.5},
    ],
)
def test_whatever_shapes_the_answer_is_in_the_key(other: dict[str, object]) -> None:
    assert key(other) != key()


TALK = (
    Message("user", "weather?"),
    Message("assistant", "", (ToolCall("1", "weather", '{"city":"Bonn"}'),)),
    Message("tool", "sunny", tool_call_id="1"),
)
ASKED = InferenceRequest(TALK, 16, response_format="json_schema", json_schema="{}", tools="[]", top_logprobs=2)
OTHER_CALL = Message("assistant", "", (ToolCall("1", "weather", '{"city":"Rome"}'),))


@pytest.mark.parametrize(
    "changes",
    [
        {"json_schema": '{"type":"object"}'},
        {"response_format": None, "json_schema": None},
        {"tools": None},
        {"tools": '[{"type":"function"}]'},
        {"tool_choice": '"required"'},
        {"parallel_tool_calls": False},
        {"parallel_tool_calls": True},
        {"top_logprobs": None},
        {"top_logprobs": 0},
        {"is_raw": True},
        {"messages": (TALK[0], OTHER_CALL, TALK[2])},
        {"messages": (TALK[0], Message("assistant", ""), TALK[2])},
        {"messages": (*TALK[:2], Message("tool", "sunny", tool_call_id="2"))},
        {"messages": (*TALK[:2], Message("user", "sunny"))},
    ],
    ids=lambda changes: f"{changes}"[:60],
)
def test_whatever_the_chat_protocol_adds_tells_requests_apart(changes: dict[str, Any]) -> None:
    other = replace(ASKED, **changes)
    assert cache_key(other, "m", "input") != cache_key(ASKED, "m", "input")
    keys = {twin_key(replace(request, dedupe_key="k"), ALICE, None) for request in (ASKED, other)}
    assert len(keys) == 2


def test_models_do_not_share_answers() -> None:
    assert key(model="other") != key()


def test_no_shift_of_text_between_system_and_input_gives_the_same_key() -> None:
    assert key({"system": "ab", "input": "c"}) != key({"system": "a", "input": "bc"})


@pytest.mark.parametrize("sampling", [{"maxTokens": 11}, {"temperature": 0.3}, {"topP": 0.5}])
def test_the_strategy_input_leaves_the_sampling_out(sampling: dict[str, object]) -> None:
    assert key(sampling, strategy="input") == key(strategy="input")
    assert key({"seed": 9}, strategy="input") != key(strategy="input")


def test_without_a_dedupe_key_the_cache_key_finds_the_twin() -> None:
    request = normalise_request(BASE, TINY)
    assert twin_key(request, ALICE, "shared") == "shared"
    assert twin_key(request, ALICE, None) is None


def twin(caller: Caller = ALICE, **changes: object) -> str | None:
    request = normalise_request({**BASE, "dedupeKey": "k", **changes}, TINY)
    return twin_key(request, caller, "shared")


def test_a_dedupe_key_joins_the_same_caller_asking_the_same_whatever_the_sampling() -> None:
    assert twin() == twin(maxTokens=99, temperature=1, seed=5)


def test_a_dedupe_key_never_joins_other_callers_or_other_prompts() -> None:
    assert len({twin(), twin(BOB), twin(input="other"), twin(system="other"), twin(dedupeKey="k2")}) == 5
