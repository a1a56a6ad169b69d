"""A job that has ended and wants to be told about."""

from __future__ import annotations

from ray.jobs.record import JobCallback, JobRecord

REQUEST: dict[str, object] = {
    "input": "Say hello",
    "maxTokens": 8,
    "temperature": 0.2,
    "topP": 0.95,
    "cache": True,
    "metadata": {},
}


def ended_job(
    job_id: str = "job_0123456789abcdef",
    url: str = "https://hooks.example/in?token=s3cret",
    *,
    attempts: int = 0,
    result_text: str = "Hello.",
) -> JobRecord:
    """A job that succeeded five seconds after it was made, its callback pending."""
    return JobRecord(
        id=job_id,
        status="succeeded",
        request=dict(REQUEST),
        created_at="2026-11-21T17:20:00.000Z",
        updated_at="2026-11-21T17:20:05.000Z",
        attempts=1,
        max_attempts=3,
        deadline_at="2026-11-22T17:20:00.000Z",
        started_at="2026-11-21T17:20:01.000Z",
        completed_at="2026-11-21T17:20:05.000Z",
        expires_at="2026-11-22T17:20:05.000Z",
        result={
            "id": "inf_1",
            "model": "m",
            "output": result_text,
            "usage": {"chars": {"prompt": 9, "completion": 6, "total": 15}},
            "cached": False,
            "deduplicated": False,
            "queueTimeMs": 0.5,
            "latencyMs": 12,
            "degraded": False,
            "createdAt": "2026-11-21T17:20:05.000Z",
        },
        callback=JobCallback(url, attempts=attempts),
    )
