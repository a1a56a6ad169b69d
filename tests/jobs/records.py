"""Records to test with."""

from __future__ import annotations

from dataclasses import replace

from ray.jobs.record import JobCallback, JobError, JobRecord

CREATED = "2026-11-21T17:20:01.482Z"
LATER = "2026-11-21T17:20:09.000Z"
DEADLINE = "2026-11-22T17:20:01.482Z"
REQUEST: dict[str, object] = {
    "input": "How far is the moon?",
    "maxTokens": 64,
    "temperature": 0.2,
    "topP": 0.95,
    "cache": True,
    "metadata": {"purpose": "test"},
}
RESULT: dict[str, object] = {
    "id": "inf_0123456789abcdef",
    "model": "mock",
    "output": "384 400 km",
    "usage": {"chars": {"prompt": 20, "completion": 10, "total": 30}},
    "cached": False,
    "deduplicated": False,
    "queueTimeMs": 1,
    "latencyMs": 12.5,
    "degraded": False,
    "finishReason": "stop",
    "diagnostics": {},
    "createdAt": LATER,
}


def queued(job_id: str = "job_1") -> JobRecord:
    return JobRecord(job_id, "queued", REQUEST, CREATED, CREATED, 0, 3, DEADLINE)


def running(job_id: str = "job_1") -> JobRecord:
    return replace(queued(job_id), status="running", attempts=1, started_at=LATER, updated_at=LATER)


def succeeded(job_id: str = "job_1") -> JobRecord:
    return replace(running(job_id), status="succeeded", result=RESULT, completed_at=LATER, expires_at=DEADLINE)


def failed(job_id: str = "job_1") -> JobRecord:
    error = JobError("the model did not answer", "provider_timeout", {"timeoutMs": 100})
    return replace(running(job_id), status="failed", error=error, completed_at=LATER, expires_at=DEADLINE)


def with_callback(record: JobRecord, callback: JobCallback | None = None) -> JobRecord:
    return replace(record, callback=callback or JobCallback("https://hooks.example/job"))
