"""The queue at one moment: as a value, as the `asyncQueue` block of `/health`, and as gauges.

What concerns the file system is absent while it cannot be read. Source: jobs, sections 12 and 17 (B9).
"""

from __future__ import annotations

from dataclasses import dataclass

from ray.config import AsyncQueueConfig
from ray.jobs.admission import RECORD_MIB, StorageLevels
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
class JobSnapshot:
    """Counts of jobs unless said otherwise.

    `counts`: by status, and of callbacks by status (`COUNTED`); `queued` includes those that wait for their next
    attempt. `armed`: these; `callbacks_armed`: deliveries that wait. `oldest_queued_ms`: age of the oldest queued job.
    `pending_writes`: states that are decided and cannot be written yet. `levels`: None when the disk cannot be read.
    """

    settings: AsyncQueueConfig
    counts: dict[str, int]
    total: int
    active: int
    callbacks_active: int
    callback_workers: int
    armed: int
    callbacks_armed: int
    oldest_queued_ms: int
    reservations: int
    pending_writes: int
    storage_failing: bool
    quarantined: int
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
            ("storage_failing", self.storage_failing),
            ("records_quarantined", self.quarantined > 0),
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
            **{name: self.counts.get(name, 0) for name in COUNTED},
            "active_inference_jobs": self.active,
            "active_callback_deliveries": self.callbacks_active,
            "retry_scheduled": self.armed + self.callbacks_armed,
            "job_retry_scheduled": self.armed,
            "callback_retry_scheduled": self.callbacks_armed,
            "oldest_queued_age_ms": self.oldest_queued_ms,
            "total_jobs": self.total,
            "max_jobs": settings.max_jobs,
            "jobs_ratio": self.jobs_ratio,
            "jobs_pressure": self.jobs_ratio >= PRESSURE_THRESHOLD,
            "pressure_threshold": PRESSURE_THRESHOLD,
            "pending_admissions": self.reservations,
            "pending_writes": self.pending_writes,
            "storage_failing": self.storage_failing,
            "quarantined": self.quarantined,
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
            "reserved_admission_mib": self.reservations * RECORD_MIB,
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
