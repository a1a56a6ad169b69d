"""The queue at one moment: as a value, as the `asyncQueue` block of `/health`, and as gauges.

What concerns the file system is absent while it cannot be read. Source: jobs, sections 12 and 17 (B9).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ray.clock import parse_iso
from ray.config import AsyncQueueConfig
from ray.jobs.admission import RECORD_MIB, StorageLevels, storage_levels
from ray.jobs.ports import CallbackService
from ray.jobs.record import JobRecord
from ray.jobs.store import StorageRoom
from ray.telemetry import Metrics

# At this share of `maxJobs` the queue calls itself under pressure; it admits up to the whole.
PRESSURE_THRESHOLD = 0.9

COUNTED = (
    "queued",
    "running",
    "succeeded",
    "failed",
    "cancelled",
    "callback_pending",
    "callback_delivered",
    "callback_failed",
)


@dataclass(frozen=True, slots=True)
class Activity:
    """What is going on. `armed`: jobs that wait for their next attempt; `reservations`: submissions being written;
    `pending_writes`: states that are decided and cannot be written yet; `quarantined`: files put aside since the
    start."""

    running: int
    armed: int
    reservations: int
    pending_writes: int
    storage_failing: bool
    quarantined: int


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """`counts`: jobs by status, and by their callbacks' status (`COUNTED`); `queued` includes those that wait for their
    next attempt. `oldest_queued_ms`: age of the oldest queued job. `callbacks_armed`: deliveries that wait. `levels`:
    None when the disk cannot be read."""

    settings: AsyncQueueConfig
    counts: Mapping[str, int]
    total: int
    oldest_queued_ms: int
    activity: Activity
    callbacks_active: int
    callback_workers: int
    callbacks_armed: int
    levels: StorageLevels | None

    @property
    def jobs_ratio(self) -> float:
        return round(self.total / self.settings.max_jobs, 4)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What makes the queue `degraded`, in words for a reader of `/health`; empty when nothing does."""
        levels = self.levels
        found = (
            ("jobs_pressure", self.jobs_ratio >= PRESSURE_THRESHOLD),
            ("storage_low", levels is not None and levels.low),
            ("storage_admission_low", levels is not None and levels.admission_low),
            ("storage_failing", self.activity.storage_failing),
            ("records_quarantined", self.activity.quarantined > 0),
        )
        return tuple(reason for reason, holds in found if holds)

    @property
    def degraded(self) -> bool:
        return bool(self.reasons)

    def figures(self) -> dict[str, float | bool]:
        """Every figure under its name in metrics, without the prefix."""
        settings = self.settings
        return {
            "enabled": True,
            "degraded": self.degraded,
            **self.counts,
            "active_inference_jobs": self.activity.running,
            "active_callback_deliveries": self.callbacks_active,
            "retry_scheduled": self.activity.armed + self.callbacks_armed,
            "job_retry_scheduled": self.activity.armed,
            "callback_retry_scheduled": self.callbacks_armed,
            "oldest_queued_age_ms": self.oldest_queued_ms,
            "total_jobs": self.total,
            "max_jobs": settings.max_jobs,
            "jobs_ratio": self.jobs_ratio,
            "jobs_pressure": self.jobs_ratio >= PRESSURE_THRESHOLD,
            "pressure_threshold": PRESSURE_THRESHOLD,
            "pending_admissions": self.activity.reservations,
            "pending_writes": self.activity.pending_writes,
            "storage_failing": self.activity.storage_failing,
            "quarantined": self.activity.quarantined,
            **self._storage(),
            "completed_ttl_ms": settings.completed_ttl_ms,
            "poll_interval_ms": settings.poll_interval_ms,
            "dispatch_concurrency": settings.dispatch_concurrency,
            "callback_concurrency": self.callback_workers,
            "max_attempts": settings.max_attempts,
            "callback_timeout_ms": settings.callback_timeout_ms,
            "max_callback_attempts": settings.max_callback_attempts,
        }

    def _storage(self) -> dict[str, float | bool]:
        settings, levels = self.settings, self.levels
        known: dict[str, float | bool] = {
            "reserved_admission_mib": self.activity.reservations * RECORD_MIB,
            "min_free_storage_mib": settings.min_free_storage_mib,
            "min_free_inodes": settings.min_free_inodes,
            "max_store_mib": settings.max_store_mib,
        }
        if levels is None:
            return known
        known |= {
            "available_storage_mib": levels.available_mib,
            "effective_available_storage_mib": levels.effective_mib,
            "storage_reserve_ratio": round(levels.available_mib / settings.min_free_storage_mib, 4),
            "storage_low": levels.low,
            "storage_admission_reserve_ratio": round(levels.effective_mib / settings.min_free_storage_mib, 4),
            "storage_admission_low": levels.admission_low,
            "store_mib": round(levels.store_mib, 2),
        }
        if levels.inodes is not None:
            known["available_inodes"] = levels.inodes
        return known

    def document(self) -> dict[str, object]:
        """The `asyncQueue` block of `/health`."""
        return {**{_camel(name): value for name, value in self.figures().items()}, "reasons": list(self.reasons)}


def snapshot_of(
    settings: AsyncQueueConfig,
    records: Iterable[JobRecord],
    now: float,
    *,
    activity: Activity,
    callbacks: CallbackService | None,
    room: StorageRoom | None,
) -> JobSnapshot:
    """Count. `now`: Unix seconds; `room`: the disk, None when it cannot be read."""
    counts = dict.fromkeys(COUNTED, 0)
    total = 0
    oldest: str | None = None
    for record in records:
        total += 1
        counts[record.status] += 1
        if record.callback is not None:
            counts[f"callback_{record.callback.status}"] += 1
        if record.status == "queued" and (oldest is None or record.created_at < oldest):
            oldest = record.created_at
    return JobSnapshot(
        settings=settings,
        counts=counts,
        total=total,
        oldest_queued_ms=0 if oldest is None else max(0, int((now - parse_iso(oldest)) * 1000)),
        activity=activity,
        callbacks_active=callbacks.active if callbacks is not None else 0,
        callback_workers=callbacks.workers if callbacks is not None else 0,
        callbacks_armed=callbacks.scheduled if callbacks is not None else 0,
        levels=None if room is None else storage_levels(room, activity.reservations, settings),
    )


# Absent from metrics, not stuck at their last value, while the disk cannot be read.
STORAGE_GAUGES = (
    "available_storage_mib",
    "effective_available_storage_mib",
    "storage_reserve_ratio",
    "storage_low",
    "storage_admission_reserve_ratio",
    "storage_admission_low",
    "store_mib",
    "available_inodes",
)


def set_gauges(snapshot: JobSnapshot, metrics: Metrics) -> None:
    """Bring the gauges `async_queue.*` up to date."""
    figures = snapshot.figures()
    for name in STORAGE_GAUGES:
        if name not in figures:
            metrics.set(f"async_queue.{name}", None)
    for name, value in figures.items():
        metrics.set(f"async_queue.{name}", float(value))


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join("MiB" if part == "mib" else part.capitalize() for part in rest)
