"""Families: what belongs together has one key, what does not has another."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.prompts.family import READ_CHARS, SKELETON_CHARS, family_key, family_seed, skeleton
from ray.types import Message

KEYS = ("promptFamily", "useCase")


@pytest.mark.parametrize(
    ("text", "reduced"),
    [
        ("See https://a.example/x?y=1 now", "see <url> now"),
        ("Mail Bob.Smith+x@mail.example.com today", "mail <email> today"),
        ("Order 4711, room 3b", "order <number>, room 3b"),
        ('Sort: "I am not interested."', "sort: <quote>"),
        ("commit deadbeef01 broke it", "commit <hex> broke it"),
        ("A   lot\n\n\n\nof  room ", "a lot\n\nof room"),
        ("Zähle ٣ Äpfel", "zähle ٣ äpfel"),  # ASCII digits only
    ],
)
def test_skeleton_replaces_what_changes(text: str, reduced: str) -> None:
    assert skeleton(text) == reduced


def test_skeleton_of_two_requests_of_one_kind_is_one() -> None:
    first = skeleton('Order 17 by ann@a.example: "where is it?" https://a.example/17')
    assert first == skeleton('Order 4 by bob@b.example: "cancel, please" http://b.example')


@given(st.text())
def test_skeleton_is_bounded_and_stable(text: str) -> None:
    assert len(skeleton(text)) <= SKELETON_CHARS
    assert skeleton(text) == skeleton(text)


def test_skeleton_reads_a_bounded_beginning() -> None:
    assert skeleton("a" * READ_CHARS + "b") == skeleton("a" * READ_CHARS + "c")


@pytest.mark.parametrize(
    ("metadata", "seed"),
    [
        ({"promptFamily": "mail", "useCase": "sales"}, "metadata:mail"),
        ({"promptFamily": "  ", "useCase": "sales"}, "metadata:sales"),
        ({"other": "x"}, "text:order <number>"),
        ({}, "text:order <number>"),
    ],
)
def test_seed_is_the_first_named_family_else_the_text(metadata: dict[str, str], seed: str) -> None:
    assert family_seed((Message("system", "s"), Message("user", "Order 7")), metadata, KEYS) == seed


def test_seed_of_a_growing_conversation_stays() -> None:
    turns = (Message("user", "Order 7"), Message("assistant", "Yes?"), Message("user", "Where is it?"))
    assert family_seed(turns, {}, KEYS) == family_seed(turns[:1], {}, KEYS)


def test_a_family_named_like_a_text_is_no_text() -> None:
    named = family_seed((Message("user", "x"),), {"useCase": "hi"}, KEYS)
    assert family_key("", named) != family_key("", family_seed((Message("user", "hi"),), {}, KEYS))


def test_key_is_16_hex_digits_that_depend_on_both_parts() -> None:
    key = family_key("system", "seed")
    assert re.fullmatch(r"[0-9a-f]{16}", key)
    assert len({key, family_key("syste", "mseed"), family_key("seed", "system"), family_key("", "seed")}) == 4
    assert family_key("ä", "😀") == family_key("ä", "😀")
