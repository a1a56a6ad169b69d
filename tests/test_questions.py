"""Questions as a text, a mapping, or keywords; the same for the clients and for an embedded gateway."""

from __future__ import annotations

import pytest

from ray.gateway.job_request import JOB_FIELDS
from ray.questions import InferFields, JobFields, Question, body_of
from ray.runtime import INFER_FIELDS


def fields_of(form: type[InferFields]) -> set[str]:
    return set(body_of(None, dict.fromkeys(form.__annotations__, "something"), form))


def test_the_keywords_of_a_question_are_the_fields_of_its_route() -> None:
    assert fields_of(InferFields) == {field.name for field in INFER_FIELDS}


def test_the_keywords_of_a_job_are_the_fields_of_its_route() -> None:
    assert fields_of(JobFields) | {"stream"} == {field.name for field in JOB_FIELDS}


@pytest.mark.parametrize(
    ("question", "keywords", "asked"),
    [
        (None, {}, {}),
        ({"input": "x"}, {}, {"input": "x"}),
        ("x", {}, {"input": "x"}),
        ("x", {"max_tokens": 8}, {"input": "x", "maxTokens": 8}),
        (None, {"input": "x", "max_tokens": 8, "top_p": 0.5}, {"input": "x", "maxTokens": 8, "topP": 0.5}),
        ({"input": "x", "maxTokens": 8}, {"max_tokens": 9}, {"input": "x", "maxTokens": 9}),
        ({"input": "x", "unknown": 1}, {}, {"input": "x", "unknown": 1}),
        (None, {"input": "x", "seed": None}, {"input": "x"}),
        ({"input": "x", "seed": None}, {}, {"input": "x", "seed": None}),
    ],
)
def test_body_and_keywords_become_one_body(
    question: Question | None, keywords: dict[str, object], asked: dict[str, object]
) -> None:
    assert body_of(question, keywords, InferFields) == asked


@pytest.mark.parametrize("keyword", ["maxTokens", "stream", "callback_url", "inptu"])
def test_given_a_keyword_that_a_question_does_not_have_then_it_is_a_type_error_that_names_it(keyword: str) -> None:
    with pytest.raises(TypeError, match=keyword):
        body_of(None, {"input": "x", keyword: 1}, InferFields)


def test_given_something_else_than_a_text_or_a_mapping_then_the_error_says_what_a_question_is() -> None:
    with pytest.raises(TypeError, match="a text or a mapping, not list"):
        body_of(["Say hello."], {}, InferFields)  # type: ignore[arg-type]
