"""Which failures are tried again, what they cost, how long they wait."""

from __future__ import annotations

import pytest

from ray.errors import RayError
from ray.jobs.retry import JOB_DELAY_CAP_S, Failure, costs_attempt, retry_delay, retryable


def of(code: str, phase: str = "generate", **details: object) -> Failure:
    return Failure.of(RayError(code, "m", details=details), phase)


@pytest.mark.parametrize(
    "code",
    [
        "queue_full",
        "request_timeout",
        "request_aborted",
        "provider_timeout",
        "provider_upstream_error",
        "provider_request_failed",
        "provider_invalid_response",
        "provider_response_too_large",
        "provider_result_invalid",
        "provider_preparation_invalid",
        "gateway_error",
        "gateway_draining",
    ],
)
def test_what_is_not_the_requests_fault_is_tried_again(code: str) -> None:
    assert retryable(of(code))


@pytest.mark.parametrize(
    "code",
    [
        "invalid_request",
        "request_token_budget_exceeded",
        "request_context_window_exceeded",
        "provider_request_too_large",
        "provider_request_body_unbounded",
        "async_job_record_too_large",
        "provider_unsupported",
    ],
)
def test_what_would_fail_again_is_final(code: str) -> None:
    assert not retryable(of(code))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, False),
        (401, False),
        (404, False),
        (422, False),
        (408, True),
        (425, True),
        (429, True),
        (500, True),
        (503, True),
    ],
)
def test_a_refusal_of_the_backend_is_final_except_where_it_passes(status: int, expected: bool) -> None:
    assert retryable(of("provider_upstream_error", upstreamStatus=status)) is expected


def test_an_exception_without_a_code_is_tried_again_and_costs_an_attempt() -> None:
    failure = Failure.of(ValueError("x"))
    assert retryable(failure)
    assert costs_attempt(failure)


@pytest.mark.parametrize(
    "failure",
    [
        of("queue_full"),
        of("gateway_draining"),
        of("request_timeout", phase="queue"),
        of("provider_upstream_error", upstreamStatus=503),
        Failure.of(RayError("provider_upstream_error", "still loading", status=503)),
        of("provider_request_failed", phase="prepare", error="TimeoutError"),
        of("provider_request_failed", error="ConnectionRefusedError: [Errno 111] Connection refused"),
        of("provider_request_failed", error="gaierror: [Errno -2] Name or service not known"),
        of("provider_request_failed", error="OSError: [Errno 113] No route to host"),
    ],
    ids=lambda failure: f"{failure.code}-{failure.phase}",
)
def test_a_full_queue_and_a_backend_that_is_away_cost_no_attempt(failure: Failure) -> None:
    assert retryable(failure)
    assert not costs_attempt(failure)


@pytest.mark.parametrize(
    "failure",
    [
        of("provider_timeout"),
        of("request_timeout", phase="generate"),
        of("provider_upstream_error", upstreamStatus=500),
        of("provider_upstream_error", upstreamStatus=429),
        # The backend may have died of this very prompt: free of charge it would die of it all day.
        of("provider_request_failed", error="ConnectionResetError: [Errno 104] Connection reset by peer"),
    ],
    ids=lambda failure: f"{failure.code}-{failure.upstream_status}",
)
def test_work_of_the_backend_that_failed_costs_an_attempt(failure: Failure) -> None:
    assert costs_attempt(failure)


@pytest.mark.parametrize(
    ("failures", "longest"), [(0, 1.0), (1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (10_000, 60.0)]
)
def test_the_delay_is_anywhere_between_nothing_and_a_doubling_bound(failures: int, longest: float) -> None:
    assert retry_delay(failures, 1.0, JOB_DELAY_CAP_S, lambda low, high: high) == longest
    assert retry_delay(failures, 1.0, JOB_DELAY_CAP_S, lambda low, high: low) == 0.0
    assert 0.0 <= retry_delay(failures, 1.0, JOB_DELAY_CAP_S) <= longest
