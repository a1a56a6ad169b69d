"""The durable jobs of a gateway under test: one is submitted, watched to its end, and found in health and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from ray.clock import Deadline
from ray.config import AsyncQueueConfig
from ray.deploy.gateway_smoke_probe import Probe, SmokeFailed, block_in, text_in

POLL_SECONDS = 0.025
MAX_JOBS = 16
QUESTION = {"input": "Say hello to the operator of this gateway.", "maxTokens": 16}

# By their names in metrics; in `/health` the same in camel case. What is fixed by `small_queue` stands with its value.
FIXED: Mapping[str, float] = {"enabled": 1, "max_jobs": MAX_JOBS, "jobs_pressure": 0}
SHOWN = (
    *FIXED,
    "total_jobs",
    "callback_concurrency",
    "pending_admissions",
    "effective_available_storage_mib",
    "storage_admission_low",
)
AT_REST = ("active_inference_jobs", "active_callback_deliveries")


def small_queue(settings: AsyncQueueConfig, directory: str) -> AsyncQueueConfig:
    """Durable jobs for a few seconds, in a directory of their own, with callbacks that reach nobody."""
    return replace(
        settings,
        enabled=True,
        storage_dir=directory,
        max_jobs=MAX_JOBS,
        min_free_storage_mib=1,
        min_free_inodes=0,
        completed_ttl_ms=60_000,
        poll_interval_ms=20,
        dispatch_concurrency=1,
        max_attempts=2,
        callback_timeout_ms=1_000,
        max_callback_attempts=2,
        callback_allow_private_network=False,
        callback_allowed_hosts=(),
    )


async def run_one_job(probe: Probe, key: str | None) -> dict[str, object]:
    """Submit, wait, look. The `asyncQueue` part of the summary. Raises `SmokeFailed`."""
    created = await probe.ask("POST", "/v1/jobs", QUESTION, key=key)
    accepted = created.expect(202)
    job_id = text_in(accepted, "id", created.asked)
    text_in(accepted, "status", created.asked)
    location = text_in(accepted, "location", created.asked)
    if not location.startswith("/v1/jobs/"):
        raise SmokeFailed(f"{created.asked} answered with a location that is not under /v1/jobs/: {location[:120]!r}")
    output, polls = await _until_succeeded(probe, location, key)
    return {
        "createStatus": created.status,
        "jobId": job_id,
        "location": location,
        "finalStatus": "succeeded",
        "pollCount": polls,
        "outputChars": len(output),
        "observability": await _until_observed(probe, key),
    }


async def _until_succeeded(probe: Probe, location: str, key: str | None) -> tuple[str, int]:
    """The output, and how often was asked."""
    deadline, polls = Deadline.after_ms(probe.timeout_ms), 0
    while True:
        answer = await probe.ask("GET", location, key=key)
        polls += 1
        record = answer.expect(200)
        status = record.get("status")
        if status == "succeeded":
            return text_in(block_in(record, "result", answer.asked), "output", answer.asked), polls
        if status in ("failed", "cancelled"):
            raise SmokeFailed(f"the job ended as {status}: {_reason(record)}")
        if deadline.expired():
            raise SmokeFailed(f"the job is still {status} after {probe.timeout_ms} ms")
        await asyncio.sleep(POLL_SECONDS)


def _reason(record: Mapping[str, object]) -> str:
    error = record.get("error")
    return str(error.get("code")) if isinstance(error, Mapping) else "no error is given"


async def _until_observed(probe: Probe, key: str | None) -> dict[str, object]:
    """The figures once health and metrics agree and nothing runs any more."""
    deadline = Deadline.after_ms(probe.timeout_ms)
    while True:
        health = block_in((await probe.ask("GET", "/health", key=key)).expect(200), "asyncQueue", "GET /health")
        gauges = block_in((await probe.ask("GET", "/metrics", key=key)).expect(200), "gauges", "GET /metrics")
        problem = disagreement(health, gauges)
        if problem is None:
            return {name: health[name] for name in map(in_health, (*SHOWN, *AT_REST))}
        if deadline.expired():
            raise SmokeFailed(f"after {probe.timeout_ms} ms {problem}")
        await asyncio.sleep(POLL_SECONDS)


def disagreement(health: Mapping[str, object], gauges: Mapping[str, object]) -> str | None:
    """What is wrong with the figures at this moment, or None."""
    for name in (*SHOWN, *AT_REST):
        told, gauge = _figure(health.get(in_health(name))), _figure(gauges.get(f"async_queue.{name}"))
        wanted = 0.0 if name in AT_REST else FIXED.get(name, told)
        if told is None or gauge is None:
            where = "GET /health" if told is None else "GET /metrics"
            return f"{where} has no figure for {name} of the async queue"
        if told != wanted or gauge != wanted:
            return f"{name} of the async queue is {told:g} in /health and {gauge:g} in /metrics, not {wanted:g}"
    total = _figure(health.get("totalJobs"))
    return None if total is not None and total >= 1 else "the async queue counts no job"


def in_health(name: str) -> str:
    """The name in `/health` of what metrics call `name`."""
    head, *rest = name.split("_")
    return head + "".join("MiB" if part == "mib" else part.capitalize() for part in rest)


def _figure(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
