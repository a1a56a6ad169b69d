"""The books of the job queue: one log line per transition, the counters that never fall, and the histograms.

A line has the job's id, status, attempt, durations, error code, and the host of its callback: never a prompt, an answer
or a whole URL. Source: jobs, section 17 (B9).
"""

from __future__ import annotations

from ray.clock import parse_iso
from ray.errors import RayError
from ray.jobs.record import JobRecord
from ray.telemetry import Logger, Metrics, error_fields


class JobBooks:
    """Writes metrics and log lines. `now`: Unix seconds, of the moment that is told about."""

    def __init__(self, logger: Logger, metrics: Metrics) -> None:
        self._logger = logger
        self._metrics = metrics

    def accepted(self, record: JobRecord) -> None:
        self._metrics.increment("async_queue.jobs_submitted")
        self._line("job accepted", "job_accepted", record)

    def replayed(self, record: JobRecord) -> None:
        self._metrics.increment("async_queue.jobs_replayed")
        self._line("job submission repeated", "job_replayed", record)

    def rejected(self, error: RayError) -> None:
        """The gateway logs the refusal with its request; here it is counted."""
        self._metrics.increment("async_queue.jobs_rejected", code=error.code)

    def started(self, record: JobRecord, now: float) -> None:
        waited = _since(record.created_at, now)
        self._metrics.increment("async_queue.jobs_started")
        if record.attempts == 1:
            self._metrics.observe("async_queue.wait", waited)
        self._line("job started", "job_started", record, waitMs=_ms(waited))

    def retried(self, record: JobRecord, now: float, *, counted: bool) -> None:
        """The attempt ended with a later one; `counted`: it cost one of the job's attempts."""
        self._metrics.increment("async_queue.jobs_retried")
        run = self._run(record, now)
        self._line("job waits for another attempt", "job_retried", record, runMs=_ms(run), attemptCounted=counted)

    def put_back(self, record: JobRecord, now: float) -> None:
        """The gateway stops; the job runs again after its next start."""
        self._line("job put back", "job_put_back", record, runMs=_ms(self._run(record, now)))

    def recovered(self, record: JobRecord) -> None:
        """It was running when the gateway died, and runs again."""
        self._metrics.increment("async_queue.jobs_recovered")
        self._line("job recovered", "job_recovered", record)

    def ended(self, record: JobRecord, now: float, *, ran: bool) -> None:
        """The job has its one outcome; `ran`: at the end of an attempt."""
        total = _since(record.created_at, now)
        self._metrics.observe("async_queue.end_to_end", total)
        if record.status == "failed":
            code = record.error.code if record.error is not None and record.error.code is not None else "gateway_error"
            self._metrics.increment("async_queue.jobs_failed", code=code)
        else:
            self._metrics.increment(f"async_queue.jobs_{record.status}")
        durations = {"totalMs": _ms(total)}
        if ran:
            durations["runMs"] = _ms(self._run(record, now))
        self._line(f"job {record.status}", f"job_{record.status}", record, **durations)

    def cancel_asked(self, record: JobRecord) -> None:
        self._line("job is to be cancelled", "job_cancel_requested", record)

    def removed(self, record: JobRecord, *, expired: bool) -> None:
        self._metrics.increment("async_queue.jobs_pruned" if expired else "async_queue.jobs_deleted")
        self._line("job expired" if expired else "job deleted", "job_expired" if expired else "job_deleted", record)

    def trouble(self, message: str, event: str, job_id: str, error: BaseException) -> None:
        """Something that should not happen, or that the disk refused."""
        self._logger.error(message, event=event, jobId=job_id, error=error_fields(error, stack=_is_unforeseen(error)))

    def _run(self, record: JobRecord, now: float) -> float:
        run = _since(record.started_at or record.created_at, now)
        self._metrics.observe("async_queue.run", run)
        return run

    def _line(self, message: str, event: str, record: JobRecord, **fields: object) -> None:
        known = {name: value for name, value in fields.items() if value is not None}
        if record.error is not None:
            known["code"] = record.error.code or "gateway_error"
        if record.next_attempt_at is not None:
            known.setdefault("nextAttemptAt", record.next_attempt_at)
        if record.callback is not None:
            known["callbackHost"] = callback_host(record.callback.url)
        self._logger.info(
            message,
            event=event,
            request_id=None,
            jobId=record.id,
            status=record.status,
            attempt=record.attempts,
            **known,
        )


def callback_host(url: str) -> str:
    """The host of a normalised callback URL; all that is ever shown of it. Port, path and query may be secrets."""
    authority = url.partition("://")[2].partition("/")[0].partition("?")[0]
    if authority.startswith("["):
        return authority.partition("]")[0] + "]"
    return authority.partition(":")[0]


def _since(moment: str, now: float) -> float:
    """Seconds; the wall clock may have been set back in between."""
    return max(0.0, now - parse_iso(moment))


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _is_unforeseen(error: BaseException) -> bool:
    return not isinstance(error, RayError)
