"""What a client says about a job besides the question: every accepted form, and every refusal with its field."""

from __future__ import annotations

from typing import get_args

import pytest

from ray.errors import RayError
from ray.gateway.job_request import (
    JOB_STATES,
    JobOptions,
    PageQuery,
    job_id,
    job_options,
    page_query,
    wait_seconds,
)
from ray.jobs.job import JobStatus


def refused(error: pytest.ExceptionInfo[RayError]) -> object:
    """The field of an `invalid_request`."""
    assert error.value.code == "invalid_request"
    assert isinstance(error.value.details, dict)
    return error.value.details["field"]


@pytest.mark.parametrize("identifier", ["job_0123456789abcdef", "a", "A-z_9", "x" * 128])
@pytest.mark.parametrize("rest", ["", "/cancel"])
def test_given_a_path_when_its_id_is_of_the_alphabet_then_it_is_taken_as_it_is(identifier: str, rest: str) -> None:
    assert job_id(f"/v1/jobs/{identifier}{rest}") == identifier


@pytest.mark.parametrize("identifier", ["x" * 129, "..", "a%2fb", "job.1", "jöb", "a b", "a\n"])
def test_given_a_path_when_its_id_is_not_then_it_is_refused_with_the_limit(identifier: str) -> None:
    with pytest.raises(RayError) as error:
        job_id(f"/v1/jobs/{identifier}")
    assert refused(error) == "id"
    assert isinstance(error.value.details, dict)
    assert error.value.details["maxChars"] == 128


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({}, JobOptions(None, None)),
        ({"callbackUrl": "https://h.example/x", "unknown": None}, JobOptions("https://h.example/x", None)),
        ({"callbackUrl": ""}, JobOptions("", None)),
        ({"stream": False, "resultTtlMs": 1}, JobOptions(None, 1)),
        ({"resultTtlMs": 60_000.0}, JobOptions(None, 60_000)),
    ],
)
def test_given_a_body_when_read_then_its_options_are_these(body: dict[str, object], options: JobOptions) -> None:
    assert job_options(body) == options


@pytest.mark.parametrize("field", ["callbackUrl", "stream", "resultTtlMs"])
@pytest.mark.parametrize("value", [None, [], {}, True, 1.5, float("inf")])
def test_given_a_body_with_an_option_of_the_wrong_type_when_read_then_its_field_is_named(
    field: str, value: object
) -> None:
    with pytest.raises(RayError) as error:
        job_options({field: value})
    assert refused(error) == field


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", PageQuery(None, 20, None)),
        ("status=&limit=&cursor=", PageQuery(None, 20, None)),
        ("limit=1&status=failed&cursor=abc", PageQuery("failed", 1, "abc")),
        ("limit=100&other=1&other=2", PageQuery(None, 100, None)),
        ("cursor=a%3D", PageQuery(None, 20, "a=")),
        ("limit=007", PageQuery(None, 7, None)),
    ],
)
def test_given_a_query_when_read_then_the_page_is_this(query: str, expected: PageQuery) -> None:
    assert page_query(query) == expected


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=1e1", "limit"),
        ("limit=-1", "limit"),
        ("limit=%31%30%30%30", "limit"),
        ("limit=²", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=a&cursor=a", "cursor"),
    ],
)
def test_given_a_query_that_makes_no_sense_when_read_then_the_parameter_is_named(query: str, field: str) -> None:
    with pytest.raises(RayError) as error:
        page_query(query)
    assert refused(error) == field


@pytest.mark.parametrize(
    ("query", "seconds"), [("", 0), ("wait=", 0), ("wait=0", 0), ("wait=20", 20), ("x=1&wait=7", 7)]
)
def test_given_a_wait_when_read_then_it_is_whole_seconds(query: str, seconds: int) -> None:
    assert wait_seconds(query) == seconds


@pytest.mark.parametrize(
    "query", ["wait=21", "wait=-1", "wait=1.5", "wait=forever", "wait=1&wait=2", "wait=" + "9" * 5000]
)
def test_given_a_wait_that_is_too_long_or_none_when_read_then_it_is_refused(query: str) -> None:
    with pytest.raises(RayError) as error:
        wait_seconds(query)
    assert refused(error) == "wait"


def test_given_the_states_that_are_described_then_they_are_those_of_the_queue() -> None:
    assert get_args(JobStatus) == JOB_STATES


@pytest.mark.parametrize("status", ["done", "QUEUED", "queued,failed"])
def test_given_a_state_that_no_job_has_when_read_then_the_parameter_is_named(status: str) -> None:
    with pytest.raises(RayError) as error:
        page_query(f"status={status}")
    assert refused(error) == "status"
