"""The lane rule, as a table."""

from __future__ import annotations

import pytest

from ray.prompts import lane_of
from ray.types import InferenceRequest, Lane, Message, ResponseFormat

SHORT_JOB_MAX_TOKENS = 96


@pytest.mark.parametrize(
    ("max_tokens", "response_format", "prompt_lane", "expected"),
    [
        (96, None, None, "short"),
        (97, None, None, "draft"),
        (192, "json_object", None, "short"),
        (192, "text", None, "draft"),
        (5, "json_object", "draft", "draft"),
        (192, None, "short", "short"),
        (192, None, "weird", "draft"),
        (5, None, "weird", "short"),
    ],
)
def test_lane_is_the_callers_word_then_json_then_length(
    max_tokens: int, response_format: ResponseFormat | None, prompt_lane: str | None, expected: Lane
) -> None:
    request = InferenceRequest(
        messages=(Message("user", "hello"),),
        max_tokens=max_tokens,
        response_format=response_format,
        metadata={} if prompt_lane is None else {"promptLane": prompt_lane},
    )
    assert lane_of(request, SHORT_JOB_MAX_TOKENS) == expected
