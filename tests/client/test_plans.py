"""What may be sent again and when: tables of the pure functions, and plans driven by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ray.client.calls import Repeat
from ray.client.documents import Document
from ray.client.errors import (
    RayAnswerError,
    RayClientError,
    RayConnectionError,
    RayRefused,
    RayTimeout,
    RayUnreachable,
)
from ray.client.options import Retries
from ray.client.plans import Attempt, Plan, may_repeat, pause_before_next, until_ended

RETRIES = Retries(attempts=4, longest_wait_ms=10_000)


def refused(status: int, code: str | None = None, retry_after: float | None = 1.0) -> RayRefused:
    return RayRefused("no", status=status, code=code, retry_after=retry_after)


@pytest.mark.parametrize(
    ("error", "always", "after_refusals", "after_rejections"),
    [
        (RayUnreachable("no"), True, True, True),
        (RayConnectionError("cut"), True, False, False),
        (RayTimeout("late"), True, False, False),
        (RayAnswerError("nonsense"), False, False, False),
        (refused(429, "rate_limited"), True, True, True),
        (refused(429), True, True, False),
        (refused(503, "queue_full"), True, True, False),
        (refused(503, "gateway_draining"), True, True, True),
        (refused(503, "async_queue_full"), True, True, True),
        (refused(503, "async_queue_storage_low"), True, True, True),
        (refused(503, "async_queue_storage_error"), True, True, False),
        (refused(503, "async_queue_disabled", None), False, False, False),
        (refused(504, "request_timeout"), True, True, False),
        (refused(409, "idempotency_in_progress"), True, True, False),
        (refused(400, "invalid_request"), False, False, False),
        (refused(500, "gateway_error"), False, False, False),
        (refused(302), False, False, False),
    ],
)
def test_given_a_failure_when_judged_then_only_what_does_no_harm_is_sent_again(
    error: RayClientError, always: bool, after_refusals: bool, after_rejections: bool
) -> None:
    repeats: tuple[Repeat, ...] = ("always", "refused", "rejected")

    assert [may_repeat(error, repeat) for repeat in repeats] == [always, after_refusals, after_rejections]


@pytest.mark.parametrize(
    ("error", "number", "chance", "expected"),
    [
        (refused(503, retry_after=2.0), 1, 0.0, 2.0),
        (refused(503, retry_after=2.0), 3, 1.0, 2.5),
        (refused(503, retry_after=2.0), 4, 0.0, None),
        (refused(503, retry_after=10.0), 1, 0.0, 10.0),
        (refused(503, retry_after=10.1), 1, 0.0, None),
        (RayUnreachable("no"), 1, 1.0, 0.5),
        (RayUnreachable("no"), 2, 1.0, 1.0),
        (RayUnreachable("no"), 3, 0.5, 1.0),
        (RayUnreachable("no"), 3, 0.0, 0.0),
    ],
)
def test_given_a_failed_attempt_when_the_next_is_planned_then_the_pause_is_what_was_asked_for_or_grows(
    error: RayClientError, number: int, chance: float, expected: float | None
) -> None:
    assert pause_before_next(error, "always", number, RETRIES, lambda: chance) == expected


def test_given_many_attempts_when_the_connection_keeps_breaking_then_the_pause_has_a_limit() -> None:
    patient = Retries(attempts=10, longest_wait_ms=600_000)

    assert pause_before_next(RayUnreachable("no"), "always", 9, patient, lambda: 1.0) == 8.0
    assert pause_before_next(RayUnreachable("no"), "always", 9, Retries(10, 100), lambda: 1.0) == 0.1


@dataclass
class Waiting:
    """A plan of `until_ended` and the clock it looks at. `asked`: the path and pause of each attempt."""

    timeout_ms: int = 60_000
    request_ms: int = 60_000
    now: float = 100.0
    asked: list[tuple[str, float]] = field(default_factory=list)

    def run(self, *outcomes: tuple[float, Document | RayClientError]) -> Document:
        """Each outcome comes after so many seconds."""
        plan: Plan[Document] = until_ended("job_1", self.timeout_ms, self.request_ms, None, lambda: self.now)
        left = list(outcomes)
        try:
            attempt = next(plan)
            while True:
                attempt = self._step(plan, attempt, *left.pop(0))
        except StopIteration as end:
            assert left == []
            job: Document = end.value
            return job

    def _step(self, plan: Plan[Document], attempt: Attempt, took: float, outcome: Document | RayClientError) -> Attempt:
        self.asked.append((attempt.call.path, attempt.after_seconds))
        self.now += attempt.after_seconds + took
        return plan.throw(outcome) if isinstance(outcome, RayClientError) else plan.send(outcome)


RUNNING: Document = {"status": "running"}
DONE: Document = {"status": "succeeded"}


def test_given_a_job_that_runs_when_waited_for_then_each_request_waits_as_long_as_the_gateway_allows() -> None:
    waiting = Waiting()

    assert waiting.run((20.0, RUNNING), (20.0, {"status": "queued"}), (3.0, DONE)) == DONE
    assert waiting.asked == [("/v1/jobs/job_1?wait=20", 0.0)] * 3


def test_given_short_requests_when_waiting_then_none_waits_longer_than_half_of_its_time() -> None:
    waiting = Waiting(request_ms=5_000)
    waiting.run((2.0, RUNNING), (0.0, DONE))

    assert waiting.asked[0] == ("/v1/jobs/job_1?wait=2", 0.0)


def test_given_an_answer_that_came_at_once_when_the_job_still_runs_then_it_is_not_asked_again_at_once() -> None:
    waiting = Waiting()
    waiting.run((0.0, RUNNING), (0.0, DONE))

    assert waiting.asked[1] == ("/v1/jobs/job_1?wait=20", 1.0)


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        (RayConnectionError("cut"), 1.0),
        (RayUnreachable("no"), 1.0),
        (refused(503, retry_after=7.0), 7.0),
        (RayTimeout("late"), 1.0),
    ],
)
def test_given_a_gateway_that_is_away_for_a_while_when_the_job_was_seen_then_waiting_goes_on(
    error: RayClientError, pause: float
) -> None:
    waiting = Waiting()

    assert waiting.run((20.0, RUNNING), (0.0, error), (0.0, DONE)) == DONE
    assert waiting.asked[2][1] == pause


@pytest.mark.parametrize("error", [RayUnreachable("no"), refused(503), refused(404, "job_not_found", None)])
def test_given_a_first_look_that_fails_when_waiting_then_it_ends_there(error: RayClientError) -> None:
    with pytest.raises(type(error)):
        Waiting().run((0.0, error))


def test_given_a_job_that_is_gone_when_it_was_seen_before_then_waiting_ends() -> None:
    with pytest.raises(RayRefused):
        Waiting().run((20.0, RUNNING), (0.0, refused(410, "job_expired", None)))


def test_given_the_time_is_over_when_the_job_still_runs_then_the_last_look_is_short_and_the_error_says_so() -> None:
    waiting = Waiting(timeout_ms=25_000)

    with pytest.raises(RayTimeout, match="job_1 has not ended within 25000 ms; it goes on"):
        waiting.run((20.0, RUNNING), (5.0, RUNNING))
    assert waiting.asked[1] == ("/v1/jobs/job_1?wait=5", 0.0)


def test_given_less_than_a_second_when_waiting_then_there_is_a_last_look_at_its_end() -> None:
    waiting = Waiting(timeout_ms=500)

    assert waiting.run((0.0, RUNNING), (0.0, DONE)) == DONE
    assert waiting.asked == [("/v1/jobs/job_1", 0.0), ("/v1/jobs/job_1", 0.5)]


def test_given_a_refusal_that_asks_for_more_time_than_is_left_when_waiting_then_it_is_over() -> None:
    with pytest.raises(RayTimeout, match="has not ended"):
        Waiting(timeout_ms=25_000).run((20.0, RUNNING), (0.0, refused(503, retry_after=30.0)))


@pytest.mark.parametrize("wrong", [0, 86_400_001])
def test_given_a_time_that_cannot_be_when_waiting_then_it_is_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match="timeout_ms"):
        Waiting(timeout_ms=wrong).run()
