"""What a callback carries, and that it carries the same at every attempt."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ray.config import CallbackPayload
from ray.jobs.callback_body import callback_body
from ray.jobs.record import JobCallback, JobError, JobRecord, decode, encode
from tests.jobs.ended_job import REQUEST, ended_job


def document(record: JobRecord, payload: CallbackPayload = "full") -> dict[str, object]:
    parsed = json.loads(callback_body(record, payload))
    assert isinstance(parsed, dict)
    return parsed


def test_given_a_succeeded_job_when_told_in_full_then_type_time_and_the_whole_job_are_there() -> None:
    told = document(ended_job())
    assert (told["type"], told["timestamp"]) == ("job.succeeded", "2026-11-21T17:20:05.000Z")
    assert told["data"] == {
        "job": {
            "id": "job_0123456789abcdef",
            "status": "succeeded",
            "request": REQUEST,
            "createdAt": "2026-11-21T17:20:00.000Z",
            "startedAt": "2026-11-21T17:20:01.000Z",
            "completedAt": "2026-11-21T17:20:05.000Z",
            "expiresAt": "2026-11-22T17:20:05.000Z",
            "attempts": 1,
            "maxAttempts": 3,
            "result": ended_job().result,
        }
    }


def test_given_a_failed_and_a_cancelled_job_when_told_then_the_type_says_so() -> None:
    failed = replace(ended_job(), status="failed", result=None, error=JobError("no", "provider_timeout", {"a": 1}))
    told = document(failed)
    assert told["type"] == "job.failed"
    assert "provider_timeout" in json.dumps(told["data"])
    assert document(replace(ended_job(), status="cancelled", result=None))["type"] == "job.cancelled"


def test_given_a_thin_payload_when_told_then_neither_prompt_nor_answer_leaves() -> None:
    told = document(ended_job(), "thin")
    assert told == {
        "type": "job.succeeded",
        "timestamp": "2026-11-21T17:20:05.000Z",
        "data": {"job": {"id": "job_0123456789abcdef", "status": "succeeded"}},
    }


@pytest.mark.parametrize("payload", ["full", "thin"])
def test_given_attempts_and_a_restart_when_told_again_then_the_bytes_are_the_same(payload: CallbackPayload) -> None:
    record = ended_job(result_text="ü \ud83d\ude00 1.0 \u2028")
    first = callback_body(record, payload)
    assert record.callback is not None
    tried = JobCallback(
        record.callback.url,
        attempts=3,
        last_attempt_at="2026-11-21T17:20:09.000Z",
        next_attempt_at="2026-11-21T17:21:09.000Z",
        last_error="http_503",
    )
    later = replace(record, callback=tried, updated_at="2026-11-21T17:21:05.000Z")
    assert callback_body(later, payload) == first
    assert callback_body(decode(encode(later), later.id), payload) == first
    assert first.isascii()


@pytest.mark.parametrize("secret", ["hooks.example", "owner-hash", "key-hash", "token=s3cret", "callback", "updatedAt"])
def test_given_what_is_between_ray_and_its_client_when_told_then_it_is_not_repeated(secret: str) -> None:
    record = replace(ended_job(), owner="owner-hash")
    assert secret.encode() not in callback_body(record, "full")


def test_given_keys_in_another_order_when_told_then_the_bytes_are_the_same() -> None:
    record = ended_job()
    assert record.result is not None
    turned = replace(record, result=dict(reversed(list(record.result.items()))))
    assert list(turned.result or {}) != list(record.result)
    assert callback_body(turned, "full") == callback_body(record, "full")
