"""What is believed of a backend's JSON."""

from __future__ import annotations

import json

import pytest

from ray.providers.reading import (
    count,
    is_json_media_type,
    is_json_object,
    number,
    openai_usage,
    parse_json,
    text_limit,
    timings,
)
from ray.types import Counts


@pytest.mark.parametrize("document", ["NaN", '{"a": Infinity}', "[-Infinity]", "{", "", "[" * 100_000, b"\xff\xfe"])
def test_given_text_that_is_no_json_when_parsed_then_it_is_a_value_error(document: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is for people
        parse_json(document)


def test_given_a_secret_in_broken_json_when_parsed_then_the_error_does_not_quote_it() -> None:
    with pytest.raises(ValueError, match="at character") as caught:
        parse_json('{"key": sk-secret}')
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/vnd.openai+json; charset=utf-8", True),
        ("text/plain; note=application/json", False),
        ("application/jsonp", False),
        ("application/json-seq", False),
        ("text/json", False),
        ("", False),
    ],
)
def test_given_a_content_type_when_judged_then_only_json_media_types_count(content_type: str, expected: bool) -> None:
    assert is_json_media_type(content_type) is expected


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (10**9, 10**9), (10**9 + 1, None), (-1, None), (True, None)])
def test_given_a_value_when_read_as_a_count_then_only_small_integers_count(value: object, expected: int | None) -> None:
    assert count(value) == expected


@pytest.mark.parametrize("value", [1.5, "3", None, [], float("nan")])
def test_given_no_integer_when_read_as_a_count_then_it_is_absent(value: object) -> None:
    assert count(value) is None


@pytest.mark.parametrize(
    ("value", "expected"), [(1.5, 1.5), (0, 0), (-0.1, None), (float("nan"), None), (json.loads("1e999"), None)]
)
def test_given_a_value_when_read_as_a_number_then_it_is_finite(value: object, expected: float | None) -> None:
    assert number(value) == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, Counts(3, 2, 5)),
        ({"prompt_tokens": 3, "completion_tokens": 2}, Counts(3, 2, 5)),
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 1}, Counts(3, 2, 5)),
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 9}, Counts(3, 2, 9)),
        ({"prompt_tokens": -3, "completion_tokens": 2, "total_tokens": 1}, Counts(0, 2, 2)),
        ({"completion_tokens": 2}, Counts(0, 2, 2)),
        ({"total_tokens": 7}, Counts(0, 0, 7)),
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 1_000_000_001}, Counts(3, 2, 5)),
        ({"prompt_tokens": 1_000_000_000, "completion_tokens": 1}, None),
        ({"prompt_tokens": True, "completion_tokens": "2"}, None),
        ({}, None),
        ("much", None),
        (None, None),
    ],
)
def test_given_a_usage_object_when_read_then_counts_that_cannot_be_are_left_out(
    usage: object, expected: Counts | None
) -> None:
    assert openai_usage(usage) == expected


@pytest.mark.parametrize(("max_tokens", "limit"), [(1, 8_192), (128, 8_192), (200, 12_800), (100_000, 262_144)])
def test_given_a_token_limit_when_turned_into_characters_then_it_is_clamped(max_tokens: int, limit: int) -> None:
    assert text_limit(max_tokens) == limit


def test_given_negative_timings_when_read_then_only_what_was_measured_stays() -> None:
    read = timings({"prompt_ms": -1, "predicted_ms": -2, "predicted_n": -3}, ttft_ms=None, total_ms=7.0)
    assert (read.prompt_ms, read.completion_ms, read.completion_tokens_per_second) == (None, None, None)
    assert (read.ttft_ms, read.total_ms) == (None, 7.0)


def test_given_timings_without_rates_when_read_then_the_rates_are_computed() -> None:
    read = timings({"prompt_n": 10, "prompt_ms": 50, "predicted_n": 5, "predicted_ms": 0}, ttft_ms=1, total_ms=2)
    assert read.prompt_tokens_per_second == 200
    assert read.completion_tokens_per_second is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (' {"a": 1}\n', True),
        ("{}", True),
        ("true", False),
        ("[{}]", False),
        ('```json\n{"a": 1}\n```', False),
        ("", False),
    ],
)
def test_given_a_text_when_judged_then_only_one_whole_object_counts(text: str, expected: bool) -> None:
    assert is_json_object(text) is expected
