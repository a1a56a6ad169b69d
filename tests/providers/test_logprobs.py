"""Probabilities of tokens, however a backend spells them."""

from __future__ import annotations

import pytest

from ray.providers.logprobs import MAX_TOKEN_CHARS, NEVER, choice_logprobs, token_logprobs
from ray.types import TokenLogprob


def entry(token: object, logprob: object, *others: dict[str, object]) -> dict[str, object]:
    return {"id": 1, "token": token, "bytes": [1], "logprob": logprob, "top_logprobs": list(others)}


def test_given_a_token_with_alternatives_when_read_then_as_many_are_kept_as_were_asked_for() -> None:
    value = [entry("a", -0.5, entry("a", -0.5), entry("b", -1.5), entry("c", -2.5))]
    kept = (TokenLogprob("a", -0.5), TokenLogprob("b", -1.5))
    assert token_logprobs(value, 2) == (TokenLogprob("a", -0.5, kept),)
    assert token_logprobs(value, 0) == (TokenLogprob("a", -0.5),)


@pytest.mark.parametrize(
    ("logprob", "read"),
    [
        (-3.4e38, NEVER),
        (None, NEVER),
        ("x", NEVER),
        (True, NEVER),
        (float("nan"), NEVER),
        (float("-inf"), NEVER),
        (0.25, 0.0),
        (-1, -1.0),
    ],
)
def test_given_an_unlikely_number_when_read_then_it_is_one_that_json_can_write(logprob: object, read: float) -> None:
    assert token_logprobs([entry("a", logprob)], 0) == (TokenLogprob("a", read),)


def test_given_the_token_that_ends_the_answer_when_read_then_it_is_left_out_and_stays_an_alternative() -> None:
    value = [entry("a", -0.5, entry("a", -0.5), entry("", -1.5)), entry("", -0.25, entry("", -0.25))]
    assert token_logprobs(value, 2) == (TokenLogprob("a", -0.5, (TokenLogprob("a", -0.5), TokenLogprob("", -1.5))),)
    assert choice_logprobs({"tokens": ["a", ""], "token_logprobs": [-0.5, -0.25]}, 0) == (TokenLogprob("a", -0.5),)


@pytest.mark.parametrize("value", [None, {}, "x", [None], [{}], [{"token": 7}], [[]]])
def test_given_no_list_of_tokens_when_read_then_there_are_none(value: object) -> None:
    assert token_logprobs(value, 2) == ()


def test_given_an_endless_token_when_read_then_it_is_cut() -> None:
    ((token),) = token_logprobs([entry("x" * 5_000, -1)], 0)
    assert token.token == "x" * MAX_TOKEN_CHARS


def test_given_the_older_protocols_lists_when_read_then_they_are_the_same_noun() -> None:
    value = {
        "tokens": ["a", "b", 7],
        "token_logprobs": [-0.5],
        "top_logprobs": [{"z": -3.0, "a": -0.5, "y": -1.0}],
        "text_offset": [0, 1, 2],
    }
    assert choice_logprobs(value, 2) == (
        TokenLogprob("a", -0.5, (TokenLogprob("a", -0.5), TokenLogprob("y", -1.0))),
        TokenLogprob("b", NEVER),
    )


def test_given_the_chat_protocols_content_when_read_then_it_is_the_list_in_it() -> None:
    assert choice_logprobs({"content": [entry("a", -1)], "refusal": None}, 1) == (TokenLogprob("a", -1.0),)
    assert choice_logprobs({"content": None}, 1) == ()
    assert choice_logprobs(None, 1) == ()
