"""Whether one more job may come in: a place is reserved first and becomes a job once the record is durable.

A reservation counts like a job and like one record of the greatest size, so that submissions that are being written at
the same moment cannot together exceed what there is. Source: jobs, sections 3, 12, 16 (rows 1 to 6) and 17 (B7).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ray.config import AsyncQueueConfig
from ray.errors import RayError
from ray.jobs.store import StorageRoom
from ray.types import MIB

# The greatest record; what a reservation holds of the disk and of the store's budget.
RECORD_MIB = 2
# A record and the temporary file it is written through.
RECORD_INODES = 2


@dataclass(frozen=True, slots=True)
class StorageLevels:
    """The disk against its floors, MiB rounded down. `effective_mib`: what is left once all reservations are written;
    may be negative. `low` looks at the disk as it is, `admission_low` at what would be left."""

    available_mib: int
    reserved_mib: int
    effective_mib: int
    floor_mib: int
    inodes: int | None
    inode_floor: int
    store_mib: float
    store_limit_mib: int

    @property
    def low(self) -> bool:
        return self.available_mib < self.floor_mib or self._short_of_inodes(0)

    @property
    def admission_low(self) -> bool:
        reserved_inodes = self.reserved_mib // RECORD_MIB * RECORD_INODES
        return (
            self.effective_mib < self.floor_mib
            or self._short_of_inodes(reserved_inodes)
            or self.store_mib + self.reserved_mib > self.store_limit_mib
        )

    def _short_of_inodes(self, reserved: int) -> bool:
        return (
            self.inodes is not None and self.inode_floor > 0 and self.inodes - reserved < self.inode_floor
        )  # a floor of 0 is off


def storage_levels(room: StorageRoom, reservations: int, settings: AsyncQueueConfig) -> StorageLevels:
    """`room` against the floors of `settings`, with so many reservations still to be written."""
    available = room.available_bytes // MIB
    reserved = reservations * RECORD_MIB
    return StorageLevels(
        available_mib=available,
        reserved_mib=reserved,
        effective_mib=available - reserved,
        floor_mib=settings.min_free_storage_mib,
        inodes=room.available_inodes,
        inode_floor=settings.min_free_inodes,
        store_mib=room.store_bytes / MIB,
        store_limit_mib=settings.max_store_mib,
    )


def check_storage(levels: StorageLevels) -> None:
    """Raises `RayError async_queue_storage_low` when one more record would go below a floor or over the budget."""
    if not levels.admission_low:
        return
    details: dict[str, object] = {
        "availableMiB": levels.available_mib,
        "reservedAdmissionMiB": levels.reserved_mib,
        "effectiveAvailableMiB": levels.effective_mib,
        "minFreeStorageMiB": levels.floor_mib,
        "storeMiB": round(levels.store_mib, 2),
        "maxStoreMiB": levels.store_limit_mib,
    }
    if levels.inodes is not None:
        details |= {"availableInodes": levels.inodes, "minFreeInodes": levels.inode_floor}
    raise RayError(
        "async_queue_storage_low",
        "the disk of the job store is too full for another job; free some space, delete finished jobs, or lower "
        "asyncQueue.minFreeStorageMiB",
        details=details,
    )


class Places:
    """The places of the store: those taken are counted elsewhere, those promised here."""

    def __init__(self, max_jobs: int) -> None:
        self._max_jobs = max_jobs
        self.reserved = 0

    def check(self, stored: int) -> None:
        """Raises `RayError async_queue_full` when all places are taken or promised."""
        if stored + self.reserved >= self._max_jobs:
            raise RayError(
                "async_queue_full",
                f"the job store holds its {self._max_jobs} jobs; fetch and delete finished ones, wait until some "
                "expire, or raise asyncQueue.maxJobs",
                details={"totalJobs": stored, "pendingAdmissions": self.reserved, "maxJobs": self._max_jobs},
            )

    @contextmanager
    def reservation(self, stored: int) -> Iterator[Reservation]:
        """A place until the end of the block. Raises as `check`."""
        self.check(stored)
        self.reserved += 1
        reservation = Reservation(self, self.reserved)
        try:
            yield reservation
        finally:
            reservation.end()


class Reservation:
    """One promised place. `ahead`: how many were promised when it was made, itself included; the disk must have room
    for all of them."""

    __slots__ = ("_places", "ahead")

    def __init__(self, places: Places, ahead: int) -> None:
        self._places: Places | None = places
        self.ahead = ahead

    def end(self) -> None:
        """It has become a job, or nothing. May be called again."""
        if self._places is not None:
            self._places.reserved -= 1
            self._places = None
