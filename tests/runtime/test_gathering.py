"""An answer as it comes in: what readers see of it, and what is refused."""

from __future__ import annotations

import json
import math

import pytest

from ray.errors import RayError
from ray.providers import Preparation
from ray.runtime.gathering import IMPOSSIBLE_LOGPROB, MAX_TOKEN_CHARS, MAX_TOOL_CALLS, UNCOUNTED_TOKENS, Gathering
from ray.types import Chunk, Finish, InferenceRequest, Message, TokenLogprob, ToolCall, ToolCallPart

STOP = Chunk(finish=Finish("stop"))


def gathering(max_tokens: int = 10, top_logprobs: int | None = None) -> Gathering:
    request = InferenceRequest((Message("user", "hello"),), max_tokens, top_logprobs=top_logprobs)
    return Gathering(Preparation(request), "req_1")


def part(index: int = 0, **more: str) -> Chunk:
    return Chunk(tool_calls=(ToolCallPart(index, **more),))


def test_a_chunk_that_needs_no_change_is_passed_on_as_it_is() -> None:
    chunk = Chunk("text")
    assert gathering().add(chunk) is chunk
    assert gathering().add(STOP) is STOP


def test_an_empty_chunk_is_no_part_of_the_answer() -> None:
    gathered = gathering()
    assert gathered.add(Chunk()) is None
    assert not gathered.has_begun


def test_calls_that_come_in_pieces_are_put_together_in_their_order() -> None:
    gathered = gathering()
    shown = [
        gathered.add(part(1, id="b", name="two")),
        gathered.add(part(0, id="a", name="one", arguments='{"x"')),
        gathered.add(Chunk(tool_calls=(ToolCallPart(0, arguments=":1}"), ToolCallPart(1, arguments="{}")))),
        gathered.add(Chunk(finish=Finish("tool_calls"))),
    ]
    assert None not in shown
    assert gathered.has_begun
    answer = gathered.answer("m", 0, degraded=False)
    assert answer.tool_calls == (ToolCall("a", "one", '{"x":1}'), ToolCall("b", "two", "{}"))
    assert (answer.output, answer.finish_reason) == ("", "tool_calls")
    assert answer.usage.chars.completion == len('one{"x":1}two{}')


def test_a_call_without_an_id_gets_one_that_readers_and_the_answer_agree_on() -> None:
    gathered = gathering()
    shown = gathered.add(part(2, name="one", id=""))
    gathered.add(STOP)
    assert shown == part(2, id="call_req_1_2", name="one")
    assert gathered.answer("m", 0, degraded=False).tool_calls[0].id == "call_req_1_2"


def test_an_id_and_a_name_that_are_repeated_are_shown_once() -> None:
    gathered = gathering()
    gathered.add(part(id="a", name="one"))
    assert gathered.add(part(id="a", name="one", arguments="{}")) == part(arguments="{}")
    assert gathered.add(part(id="a", name="one")) is None


def test_unpaired_surrogates_are_replaced_wherever_they_stand() -> None:
    gathered = gathering(top_logprobs=1)
    top = (TokenLogprob("\udcff", -1.0),)
    gathered.add(
        Chunk(
            "a\ud800",
            tool_calls=(ToolCallPart(0, "i\ud800", "n\ud800", "\ud800"),),
            logprobs=(TokenLogprob("\ud800", -0.5, top),),
        )
    )
    gathered.add(STOP)
    answer = gathered.answer("m", 0, degraded=False)
    assert answer.tool_calls == (ToolCall("i?", "n?", "?"),)
    assert answer.logprobs == (TokenLogprob("?", -0.5, (TokenLogprob("?", -1.0),)),)


@pytest.mark.parametrize(
    "chunk",
    [part(), part(id="a"), part(-1, id="a", name="n")],
    ids=["nothing", "no name", "no number that can be"],
)
def test_a_call_that_nobody_could_make_is_refused(chunk: Chunk) -> None:
    with pytest.raises(RayError) as caught:
        gathering().add(chunk)
    assert caught.value.code == "provider_result_invalid"
    assert caught.value.details == {"field": "toolCalls", "maxCalls": MAX_TOOL_CALLS}


def test_more_calls_than_any_answer_needs_are_refused() -> None:
    gathered = gathering(max_tokens=4_096)
    for index in range(MAX_TOOL_CALLS):
        gathered.add(part(index, id=f"{index}", name="n"))
    with pytest.raises(RayError, match="128"):
        gathered.add(part(MAX_TOOL_CALLS, id="x", name="n"))


def test_text_and_calls_share_one_limit_of_length() -> None:
    gathered = gathering()
    gathered.add(Chunk("x" * 4_096))
    gathered.add(part(id="a", name="b", arguments="y" * 4_094))
    with pytest.raises(RayError) as caught:
        gathered.add(part(arguments="y"))
    assert caught.value.code == "provider_result_invalid"
    assert caught.value.details == {"field": "output", "maxChars": 8_192, "actualChars": 8_193, "maxTokens": 10}


def test_probabilities_are_shown_only_to_those_who_asked_and_no_more_than_they_asked_for() -> None:
    top = tuple(TokenLogprob(token, -1.0) for token in "abc")
    chunk = Chunk("a", logprobs=(TokenLogprob("a", -0.1, top),))
    assert gathering().add(chunk) == Chunk("a")
    assert gathering(top_logprobs=0).add(chunk) == Chunk("a", logprobs=(TokenLogprob("a", -0.1),))
    assert gathering(top_logprobs=2).add(chunk) == Chunk("a", logprobs=(TokenLogprob("a", -0.1, top[:2]),))


def test_probabilities_of_a_token_that_is_half_a_character_are_shown_without_text() -> None:
    chunk = Chunk(logprobs=(TokenLogprob("", -0.1),))
    assert gathering(top_logprobs=0).add(chunk) == chunk
    assert gathering().add(chunk) is None


@pytest.mark.parametrize(
    ("reported", "shown"),
    [(-math.inf, IMPOSSIBLE_LOGPROB), (math.nan, IMPOSSIBLE_LOGPROB), (math.inf, IMPOSSIBLE_LOGPROB), (1e-9, 0.0)],
)
def test_a_probability_is_always_a_number_that_json_can_write(reported: float, shown: float) -> None:
    chunk = gathering(top_logprobs=0).add(Chunk("a", logprobs=(TokenLogprob("a", reported),)))
    assert chunk is not None
    assert chunk.logprobs[0].logprob == shown
    assert json.dumps(shown, allow_nan=False)


def test_more_probabilities_than_the_allowance_has_tokens_are_refused() -> None:
    gathered = gathering(max_tokens=3, top_logprobs=0)
    gathered.add(Chunk("a", logprobs=(TokenLogprob("a", -1.0),) * (3 + UNCOUNTED_TOKENS)))
    with pytest.raises(RayError) as caught:
        gathered.add(Chunk("a", logprobs=(TokenLogprob("a", -1.0),)))
    assert caught.value.code == "provider_result_invalid"


@pytest.mark.parametrize("is_alternative", [False, True])
def test_a_token_that_is_longer_than_any_is_refused(is_alternative: bool) -> None:
    long = TokenLogprob("x" * (MAX_TOKEN_CHARS + 1), -1.0)
    entry = TokenLogprob("x", -1.0, (long,)) if is_alternative else long
    with pytest.raises(RayError, match="513"):
        gathering(top_logprobs=1).add(Chunk("a", logprobs=(entry,)))


def test_an_answer_that_never_said_why_it_ended_is_refused() -> None:
    gathered = gathering()
    gathered.add(part(id="a", name="one"))
    with pytest.raises(RayError) as caught:
        gathered.answer("m", 0, degraded=False)
    assert caught.value.details == {"field": "finish"}
