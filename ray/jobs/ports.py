"""What the queue asks of the store and of callbacks: the two things it is put together with."""

from __future__ import annotations

from typing import Protocol

from ray.jobs.record import JobRecord
from ray.jobs.store import Recovery, StorageRoom


class Store(Protocol):
    """Where records are durable (`JobStore`)."""

    @property
    def quarantined(self) -> int:
        """Files that were put aside because they are no records, since this process started."""

    async def open(self) -> Recovery:
        """Lock the directory and read what is there."""

    async def read(self, job_id: str) -> JobRecord | None:
        """The whole record; None when it is not there any more. Raises `RayError async_queue_storage_error`."""

    async def put(self, record: JobRecord) -> None:
        """Durable on return. Raises `RayError async_queue_storage_error`, `async_job_record_too_large`."""

    async def remove(self, job_id: str) -> None:
        """Durably gone on return, also if it was never there. Raises `RayError async_queue_storage_error`."""

    async def room(self) -> StorageRoom | None:
        """What the disk has left; None when it cannot be asked."""

    async def close(self) -> None:
        """Let go of the directory."""


class CallbackService(Protocol):
    """Who delivers callbacks (`Callbacks`), and judges their addresses."""

    workers: int

    @property
    def active(self) -> int:
        """Deliveries under way."""

    @property
    def scheduled(self) -> int:
        """Deliveries that wait for their time."""

    async def admit(self, value: object) -> str:
        """The normalised form of an acceptable callback URL. Raises `RayError invalid_request`."""

    def schedule(self, job_id: str, host: str, due_at: float) -> None:
        """Deliver at Unix time `due_at` or soon after."""

    def cancel_all(self) -> None:
        """Begin no further delivery."""

    async def stop(self, timeout_s: float) -> bool:
        """Wait for those under way."""
