"""The metrics of durable jobs: what happened to them, how long it took, and how full the queue and its disk are.

The gauges are absent while the queue is off; those about the file system also while it cannot be read. Source: jobs,
sections 12 and 17 (B9).
"""

from __future__ import annotations

from ray.telemetry.metric import MIB_PER_BYTE, MS_PER_SECOND, OTHER, Metric, counter, gauge, histogram

# Why a submission was refused.
JOB_REJECTION_CODES = (
    "invalid_request",
    "async_queue_full",
    "async_queue_storage_low",
    "async_queue_storage_error",
    "async_job_record_too_large",
    "idempotency_key_reused",
    "idempotency_in_progress",
    "gateway_draining",
    OTHER,
)
# With which code a job ended as failed.
JOB_FAILURE_CODES = (
    "invalid_request",
    "async_job_record_too_large",
    "gateway_error",
    "job_deadline_exceeded",
    "job_recovery_attempts_exhausted",
    "queue_full",
    "request_aborted",
    "request_timeout",
    "request_context_window_exceeded",
    "request_token_budget_exceeded",
    "provider_invalid_response",
    "provider_request_body_unbounded",
    "provider_request_failed",
    "provider_request_too_large",
    "provider_response_too_large",
    "provider_result_invalid",
    "provider_preparation_invalid",
    "provider_timeout",
    "provider_upstream_error",
    OTHER,
)
# What became of one attempt to deliver: taken by the receiver, to be tried again, given up.
CALLBACK_OUTCOMES = ("delivered", "retry", "give_up", OTHER)

JOB_SECONDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
WRITE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

_JOBS_HELP = "Jobs in the store, by state."
_CALLBACKS_HELP = "Callbacks of the jobs in the store, by state."
_ACTIVE_HELP = "Work of the job queue under way, by kind."
_RETRIES_HELP = "Work of the job queue that waits for its next attempt, by kind."
_PRESSURE_HELP = "Whether the job queue is under pressure, by what presses."

_EVENTS = (
    counter("async_queue.jobs_submitted", "ray_jobs_submitted_total", "Jobs acknowledged with 202."),
    counter(
        "async_queue.jobs_replayed",
        "ray_jobs_replayed_total",
        "Submissions answered with the job an earlier one with the same idempotency key had made.",
    ),
    counter(
        "async_queue.jobs_rejected",
        "ray_jobs_rejected_total",
        "Submissions refused, by error code.",
        code=JOB_REJECTION_CODES,
    ),
    counter("async_queue.jobs_started", "ray_jobs_started_total", "Attempts to run a job."),
    counter("async_queue.jobs_succeeded", "ray_jobs_succeeded_total", "Jobs that ended with a result."),
    counter(
        "async_queue.jobs_failed",
        "ray_jobs_failed_total",
        "Jobs that ended without a result, by error code.",
        code=JOB_FAILURE_CODES,
    ),
    counter("async_queue.jobs_cancelled", "ray_jobs_cancelled_total", "Jobs that ended because somebody asked."),
    counter("async_queue.jobs_retried", "ray_jobs_retried_total", "Attempts that ended with a later one."),
    counter(
        "async_queue.jobs_recovered", "ray_jobs_recovered_total", "Jobs found half done at start, and queued again."
    ),
    counter("async_queue.jobs_pruned", "ray_jobs_pruned_total", "Settled jobs removed because their time was up."),
    counter("async_queue.jobs_deleted", "ray_jobs_deleted_total", "Settled jobs removed because somebody asked."),
    counter(
        "async_queue.records_quarantined",
        "ray_job_records_quarantined_total",
        "Files that were no readable record and were put aside.",
    ),
    counter(
        "async_queue.write_failures", "ray_job_write_failures_total", "Durable writes of the job store that failed."
    ),
    counter(
        "async_queue.callback_attempts",
        "ray_job_callback_attempts_total",
        "Attempts to deliver a callback, by outcome.",
        outcome=CALLBACK_OUTCOMES,
    ),
    histogram(
        "async_queue.wait", "ray_job_wait_seconds", "Time from submission to the first attempt of a job.", JOB_SECONDS
    ),
    histogram("async_queue.run", "ray_job_run_seconds", "Time one attempt of a job took.", JOB_SECONDS),
    histogram(
        "async_queue.end_to_end", "ray_job_duration_seconds", "Time from submission to the end of a job.", JOB_SECONDS
    ),
    histogram("async_queue.write", "ray_job_write_seconds", "Time one durable write took.", WRITE_SECONDS),
)

_STATES = (
    gauge("async_queue.enabled", "ray_job_queue_enabled", "Whether durable jobs are accepted: 1."),
    gauge("async_queue.degraded"),
    gauge("async_queue.queued", "ray_jobs", _JOBS_HELP, state="queued"),
    gauge("async_queue.running", "ray_jobs", _JOBS_HELP, state="running"),
    gauge("async_queue.succeeded", "ray_jobs", _JOBS_HELP, state="succeeded"),
    gauge("async_queue.failed", "ray_jobs", _JOBS_HELP, state="failed"),
    gauge("async_queue.cancelled", "ray_jobs", _JOBS_HELP, state="cancelled"),
    gauge("async_queue.active_inference_jobs", "ray_job_tasks_active", _ACTIVE_HELP, kind="inference"),
    gauge("async_queue.active_callback_deliveries", "ray_job_tasks_active", _ACTIVE_HELP, kind="callback"),
    gauge("async_queue.callback_pending", "ray_job_callbacks", _CALLBACKS_HELP, state="pending"),
    gauge("async_queue.callback_delivered", "ray_job_callbacks", _CALLBACKS_HELP, state="delivered"),
    gauge("async_queue.callback_failed", "ray_job_callbacks", _CALLBACKS_HELP, state="failed"),
    gauge("async_queue.retry_scheduled"),
    gauge("async_queue.job_retry_scheduled", "ray_job_retries_scheduled", _RETRIES_HELP, kind="inference"),
    gauge("async_queue.callback_retry_scheduled", "ray_job_retries_scheduled", _RETRIES_HELP, kind="callback"),
    gauge(
        "async_queue.oldest_queued_age_ms",
        "ray_job_oldest_queued_age_seconds",
        "Age of the oldest job that is queued, 0 if there is none.",
        divisor=MS_PER_SECOND,
    ),
    gauge("async_queue.total_jobs", "ray_jobs_stored", "Jobs in the store."),
    gauge("async_queue.max_jobs", "ray_jobs_stored_limit", "Most jobs the store keeps."),
    gauge("async_queue.jobs_ratio", decimals=4),
    gauge("async_queue.jobs_pressure", "ray_job_queue_pressure", _PRESSURE_HELP, signal="jobs"),
    gauge("async_queue.pressure_threshold"),
    gauge("async_queue.pending_admissions", "ray_job_admissions_pending", "Submissions being written."),
    gauge("async_queue.pending_writes", "ray_job_writes_pending", "State changes whose write failed and is repeated."),
)

_STORAGE = (
    gauge("async_queue.storage_failing", "ray_job_queue_pressure", _PRESSURE_HELP, signal="storage_failing"),
    gauge("async_queue.quarantined", "ray_job_quarantine_files", "Files put aside as unreadable since the start."),
    gauge("async_queue.reserved_admission_mib"),
    gauge(
        "async_queue.available_storage_mib",
        "ray_job_storage_available_bytes",
        "Free space of the file system the jobs are on.",
        divisor=MIB_PER_BYTE,
    ),
    gauge(
        "async_queue.min_free_storage_mib",
        "ray_job_storage_floor_bytes",
        "Free space below which submissions are refused.",
        divisor=MIB_PER_BYTE,
    ),
    gauge("async_queue.effective_available_storage_mib"),
    gauge("async_queue.storage_reserve_ratio", decimals=4),
    gauge("async_queue.storage_low", "ray_job_queue_pressure", _PRESSURE_HELP, signal="storage"),
    gauge("async_queue.storage_admission_reserve_ratio", decimals=4),
    gauge("async_queue.storage_admission_low", "ray_job_queue_pressure", _PRESSURE_HELP, signal="storage_admission"),
    gauge(
        "async_queue.available_inodes", "ray_job_storage_available_inodes", "Files the file system still has room for."
    ),
    gauge(
        "async_queue.min_free_inodes",
        "ray_job_storage_floor_inodes",
        "Free inodes below which submissions are refused.",
    ),
    gauge(
        "async_queue.store_mib",
        "ray_job_store_size_bytes",
        "Size of all job records.",
        divisor=MIB_PER_BYTE,
        decimals=2,
    ),
    gauge(
        "async_queue.max_store_mib",
        "ray_job_store_size_limit_bytes",
        "Size of all job records above which submissions are refused.",
        divisor=MIB_PER_BYTE,
    ),
)

# Settings, for a person who reads the JSON.
_SETTINGS = tuple(
    gauge(f"async_queue.{name}")
    for name in (
        "completed_ttl_ms",
        "poll_interval_ms",
        "dispatch_concurrency",
        "callback_concurrency",
        "max_attempts",
        "callback_timeout_ms",
        "max_callback_attempts",
    )
)

JOB_METRICS: tuple[Metric, ...] = (*_EVENTS, *_STATES, *_STORAGE, *_SETTINGS)
