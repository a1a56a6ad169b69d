"""Shared beginnings of prompts: learned from different requests only, cut at words, shrinking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.providers.llama_cpp.prefixes import (
    MAX_FAMILIES,
    MAX_REMEMBERED_CHARS,
    MAX_SIGHTED_KEYS,
    SharedBeginnings,
    Sightings,
    common_prefix,
    continues,
    cut_back,
)

INSTRUCTIONS = "Classify the mail.\nAnswer with one word.\nMail: "


@given(st.text("ab", max_size=40), st.text("ab", max_size=40))
def test_given_two_texts_when_compared_then_the_common_beginning_is_exact(first: str, second: str) -> None:
    shared = common_prefix(first, second)
    assert first.startswith(shared)
    assert second.startswith(shared)
    longer = len(shared) + 1
    assert first[:longer] != second[:longer] or len(shared) == min(len(first), len(second))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("one line\nand another li", "one line\nand another"),
        ("a long first line of instructions\nhal", "a long first line of instructions\n"),
        ("whole line\n", "whole line\n"),
        ("two words ", "two words"),
        ("half a wo", "half a"),
        ("oneword", ""),
        ("", ""),
    ],
)
def test_given_a_beginning_when_cut_back_then_it_ends_with_a_line_or_a_word(text: str, kept: str) -> None:
    assert cut_back(text) == kept


def test_given_three_different_requests_when_seen_then_their_common_beginning_is_known_and_not_before() -> None:
    shared = SharedBeginnings(10)
    assert shared.sight("f", INSTRUCTIONS + "where is my parcel") == ""
    assert shared.sight("f", INSTRUCTIONS + "please call me") == ""
    assert shared.sight("f", INSTRUCTIONS + "thank you") == INSTRUCTIONS.removesuffix("Mail: ")


def test_given_the_same_request_again_and_again_when_seen_then_nothing_is_shared() -> None:
    shared = SharedBeginnings(10)
    for _ in range(10):
        assert shared.sight("f", INSTRUCTIONS + "my secret is 4711") == ""


def test_given_words_of_two_requests_only_when_a_third_disagrees_then_they_are_not_kept() -> None:
    shared = SharedBeginnings(10)
    shared.sight("f", INSTRUCTIONS + "Dear Anna, where is it")
    shared.sight("f", INSTRUCTIONS + "Dear Anna, please call")
    assert "Anna" not in shared.sight("f", INSTRUCTIONS + "Dear Bob, thanks")


def test_given_a_known_beginning_when_a_request_disagrees_then_it_shrinks_and_stays_short() -> None:
    shared = SharedBeginnings(10)
    for rest in ("English mail: a", "English mail: b", "English mail: c"):
        known = shared.sight("f", INSTRUCTIONS + rest)
    assert known.endswith("English mail:")
    shorter = shared.sight("f", INSTRUCTIONS + "German mail: d")
    assert shorter == INSTRUCTIONS.removesuffix("Mail: ")
    assert shared.sight("f", INSTRUCTIONS + "English mail: e") == shorter


def test_given_a_request_that_has_nothing_in_common_when_seen_then_it_is_learned_anew() -> None:
    shared = SharedBeginnings(10)
    for rest in "abc":
        shared.sight("f", INSTRUCTIONS + rest)
    assert shared.sight("f", "Something else altogether") == ""
    seen = [shared.sight("f", INSTRUCTIONS + rest) for rest in "defg"]
    assert seen[-1] == INSTRUCTIONS.removesuffix("Mail: ")


def test_given_two_families_when_seen_then_neither_learns_from_the_other() -> None:
    shared = SharedBeginnings(10)
    for family in "xyz":
        assert shared.sight(family, INSTRUCTIONS + family) == ""


def test_given_a_short_common_beginning_when_seen_then_it_is_none() -> None:
    shared = SharedBeginnings(200)
    for rest in "abcd":
        assert shared.sight("f", INSTRUCTIONS + rest) == ""


def test_given_very_many_long_prompts_when_seen_then_memory_stays_bounded() -> None:
    shared = SharedBeginnings(10)
    for number in range(3 * MAX_FAMILIES):
        for rest in ("a", "b"):
            shared.sight(f"f{number}", f"{number} {rest} " + "word " * 12_000)
    families = shared._families
    assert len(families) <= MAX_FAMILIES
    assert sum(family.chars for family in families.values()) == shared._chars <= MAX_REMEMBERED_CHARS


def test_given_more_keys_than_are_counted_when_seen_then_the_oldest_are_forgotten() -> None:
    sightings = Sightings()
    for number in range(MAX_SIGHTED_KEYS + 1):
        assert sightings.add(str(number)) == 1
    assert (sightings.count("0"), sightings.count("1")) == (0, 1)
    assert sightings.add("1", 5) == 6


def _turns(*texts: str) -> str:
    """A rendered conversation: the customer begins, the model answers, the customer goes on."""
    return "<system>Be kind.\n" + "\n".join(f"<turn>{text}" for text in texts) + "\n<assistant>"


def test_given_one_customers_conversation_when_it_grows_then_their_words_are_never_a_shared_beginning() -> None:
    shared = SharedBeginnings(10)
    turns: list[str] = []
    for text in (
        "my name is Anna and my PIN is 4711",
        "Hello Anna",
        "where is it",
        "here",
        "thanks",
        "bye",
        "one more",
    ):
        turns.append(text)
        assert shared.sight("f", _turns(*turns)) == ""
    # Other customers' conversations make the beginning known that all have, and no more.
    shared.sight("f", _turns("Bob here", "yes"))
    assert shared.sight("f", _turns("this is Eve")) == "<system>Be kind."


def test_given_examples_in_earlier_turns_when_the_last_one_differs_then_the_examples_are_shared() -> None:
    shared = SharedBeginnings(10)
    for text in ("red or blue", "up or down", "left or right"):
        known = shared.sight("f", _turns("hot or cold", "cold", text))
    assert known == _turns("hot or cold", "cold").removesuffix("<assistant>")


@pytest.mark.parametrize(
    ("longer", "shorter", "expected"),
    [
        ("begin one two end", "begin one end", True),
        ("begin one end", "begin one end", True),
        ("begin one end", "begin one two end", False),
        ("begin two end", "begin one end", False),
        ("begin one", "", True),
    ],
)
def test_given_two_prompts_when_one_is_the_other_with_more_put_in_then_it_continues_it(
    longer: str, shorter: str, expected: bool
) -> None:
    assert continues(longer, shorter) is expected


def test_given_prompts_too_long_to_compare_when_seen_then_nothing_is_learned_from_them() -> None:
    shared = SharedBeginnings(10)
    for rest in "abcd":
        assert shared.sight("f", INSTRUCTIONS + "word " * 20_000 + rest) == ""


def test_given_an_established_beginning_when_only_looked_up_then_nothing_is_learned() -> None:
    beginnings = SharedBeginnings(8)
    assert beginnings.known("family", "the rules are apple") == ""
    for fruit in ("apple", "pear", "plum"):
        established = beginnings.sight("family", f"the rules are {fruit}")
    assert established == "the rules are"
    assert beginnings.known("family", "the rules are many") == established
    assert beginnings.known("family", "the exception") == ""
    assert beginnings.known("other", "the rules are many") == ""
    # A request that disagrees would have made it shorter.
    assert beginnings.sight("family", "the rules are cherry") == established
