"""The job store: one file for each record, durable before it is true.

Plain files in a plain directory, so that an operator can read a job with `cat`. All work on the disk happens on one
thread, in the order in which it was asked for; the event loop never waits for a disk. What becomes of the records is
decided elsewhere; here they are read once, at `open`, and written as a whole at each change. Source: jobs, sections 4,
5 and 17 (B1, B2, B7).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from ray.errors import RayError
from ray.host import DiskThread
from ray.jobs.directory import (
    TEMP_PREFIX,
    StorageDirectory,
    UnsafeFile,
    close_storage,
    open_storage,
    read_file,
    remove_file,
    replace_file,
)
from ray.jobs.disk import StoreDisk
from ray.jobs.quarantine import Quarantine
from ray.jobs.record import MAX_RECORD_BYTES, JobRecord, MalformedRecord, NewerRecord, decode, encode, is_job_id, light

MAX_ENTRIES = 4_096
MAX_TEMP_REMOVALS = 2_048
RECORD_SUFFIX = ".json"
ROOM_CACHE_S = 1.0

Result = TypeVar("Result")


class QuarantinedFile(NamedTuple):
    """A file that is no record. `reason`: why, without its contents."""

    name: str
    reason: str


class StorageRoom(NamedTuple):
    """`available_*`: of the file system, for us (inodes None where they have no fixed number); `store_*`: what the
    records and the quarantine hold."""

    available_bytes: int
    available_inodes: int | None
    store_bytes: int
    store_files: int


class Recovery(NamedTuple):
    """What a start found.

    `records`: every job, as it was left, in no order; the settled ones light, for nothing will be written about them
    again. `quarantined`: put aside. `removed_temp_files`: left by writes
    that were cut off. `unreadable`: names of files that could not be read, or put aside, now; they stay, and their jobs
    are absent until the next start.
    """

    records: tuple[JobRecord, ...]
    quarantined: tuple[QuarantinedFile, ...] = ()
    removed_temp_files: int = 0
    unreadable: tuple[str, ...] = ()


@dataclass(slots=True)
class _Opened:
    """What the store holds while it is open. Belongs to the disk thread."""

    storage: StorageDirectory
    quarantine: Quarantine
    sizes: dict[str, int]  # bytes of each record's file, by job id


class JobStore:
    """The records under `storage_dir`. Used from one event loop; `thread` is the caller's to close, after `close`.

    `wall`: Unix seconds; `monotonic`: seconds of a clock that only goes forward.
    """

    def __init__(
        self,
        storage_dir: str,
        disk: StoreDisk,
        thread: DiskThread,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage_dir = storage_dir
        self._disk = disk
        self._thread = thread
        self._wall = wall
        self._monotonic = monotonic
        self._opened: _Opened | None = None
        self._quarantined = 0
        self._room: tuple[float, StorageRoom | None] | None = None

    @property
    def quarantined(self) -> int:
        """Files put aside since this store was made."""
        return self._quarantined

    async def open(self) -> Recovery:
        """Take the directory for this process, and bring what is there into order; see `Recovery`.

        Raises `RayError`: `async_queue_locked` when another process has it, `async_queue_storage_error` when it cannot
        be used or holds records of a newer Ray (then nothing was changed but left-over temporary files),
        `async_queue_recovery_limit_exceeded` when there is far more in it than Ray ever puts there.
        """
        return await self._thread.run(self._open)

    async def put(self, record: JobRecord) -> None:
        """Write `record`; it is durable on return.

        Raises `RayError async_queue_storage_error` when the disk does not take it, `async_job_record_too_large` (see
        `encode`). After an error a record that was new is gone, one that was there is as before or as asked for.
        """
        await self._work(lambda opened: self._put(opened, record), "write")

    async def remove(self, job_id: str) -> None:
        """Delete a record; it is durably gone on return, also if there was none.

        Raises `RayError async_queue_storage_error`.
        """
        await self._work(lambda opened: self._remove(opened, job_id), "remove")

    async def read(self, job_id: str) -> JobRecord | None:
        """The record as it is on disk, with prompt and answer, or None when there is none.

        Raises `RayError async_queue_storage_error`, also when someone changed the file.
        """
        return await self._work(lambda opened: self._read(opened, job_id), "read")

    async def room(self) -> StorageRoom | None:
        """What the disk has left, at most a second old; None when it cannot be asked."""
        now = self._monotonic()
        if self._room is None or not 0 <= now - self._room[0] < ROOM_CACHE_S:
            with_room: StorageRoom | None = None
            with suppress(RayError):
                with_room = await self._work(self._measure, "measure")
            self._room = (now, with_room)
        return self._room[1]

    async def close(self) -> None:
        """Finish what was asked for, and let go of the directory."""
        await self._thread.run(self._close)

    # On the disk thread

    async def _work(self, work: Callable[[_Opened], Result], what: str) -> Result:
        def run() -> Result:
            if self._opened is None:
                raise _storage_error(what, "the store is closed")
            try:
                return work(self._opened)
            except OSError as error:
                raise _storage_error(what, error.strerror or type(error).__name__) from error

        return await self._thread.run(run)

    def _put(self, opened: _Opened, record: JobRecord) -> None:
        data = encode(record)
        try:
            replace_file(self._disk, opened.storage.jobs, _file_name(record.id), data)
        except OSError:
            if record.id not in opened.sizes:
                # It may have its name already. Nobody will be told of this job, so it must not run after a restart.
                with suppress(OSError):
                    remove_file(self._disk, opened.storage.jobs, _file_name(record.id))
            raise
        opened.sizes[record.id] = len(data)

    def _remove(self, opened: _Opened, job_id: str) -> None:
        remove_file(self._disk, opened.storage.jobs, _file_name(job_id))
        opened.sizes.pop(job_id, None)

    def _read(self, opened: _Opened, job_id: str) -> JobRecord | None:
        try:
            data = read_file(self._disk, opened.storage.jobs, _file_name(job_id), MAX_RECORD_BYTES)
            return decode(data, job_id)
        except FileNotFoundError:
            return None
        except (UnsafeFile, MalformedRecord, NewerRecord) as error:
            raise _storage_error("read", f"someone changed the record: {error}") from error

    def _measure(self, opened: _Opened) -> StorageRoom:
        space = self._disk.space(opened.storage.root)
        return StorageRoom(
            available_bytes=space.available_bytes,
            available_inodes=space.available_inodes,
            store_bytes=sum(opened.sizes.values()) + opened.quarantine.size,
            store_files=len(opened.sizes) + opened.quarantine.files,
        )

    def _close(self) -> None:
        if self._opened is not None:
            opened, self._opened = self._opened, None
            close_storage(self._disk, opened.storage)

    def _open(self) -> Recovery:
        if self._opened is not None:
            raise RuntimeError("the store is open already")
        storage = open_storage(self._disk, self._storage_dir)
        self._opened = opened = _Opened(storage, Quarantine(self._disk, storage), {})
        try:
            return self._recover(opened)
        except BaseException as error:
            self._close()
            if isinstance(error, OSError):
                raise _storage_error("recover", error.strerror or type(error).__name__) from error
            raise

    # Recovery: all is read before anything is moved, so that a start that is refused has changed nothing.

    def _recover(self, opened: _Opened) -> Recovery:
        removed, names = self._without_temps(opened)
        found = self._read_all(opened, names)
        opened.quarantine.look()
        moved, stuck = self._put_aside(opened, found.bad)
        return Recovery(tuple(found.records), moved, removed, (*found.unreadable, *stuck))

    def _without_temps(self, opened: _Opened) -> tuple[int, list[str]]:
        """How many left-over temporary files were removed, and the other names."""
        names = self._disk.scan(opened.storage.jobs, MAX_ENTRIES + 1)
        removed = 0
        for name in names:
            if not name.startswith(TEMP_PREFIX):
                continue
            with suppress(OSError):  # it is looked at again by the next start
                if self._disk.facts(opened.storage.jobs, name).kind != "file":
                    continue
                if removed == MAX_TEMP_REMOVALS:
                    raise self._too_much(f"more than {MAX_TEMP_REMOVALS} temporary files", removedTempFiles=removed)
                self._disk.unlink(opened.storage.jobs, name)
                removed += 1
        if removed:
            self._disk.sync_directory(opened.storage.jobs)
        if len(names) > MAX_ENTRIES:
            raise self._too_much(f"more than {MAX_ENTRIES} entries", visitedEntries=len(names), maxEntries=MAX_ENTRIES)
        return removed, [name for name in names if not name.startswith(TEMP_PREFIX)]

    def _too_much(self, what: str, **details: int) -> RayError:
        return RayError(
            "async_queue_recovery_limit_exceeded",
            f"{self._storage_dir}/jobs holds {what}: move away what is not Ray's and start again",
            details={"storageDir": self._storage_dir, **details},
        )

    def _read_all(self, opened: _Opened, names: list[str]) -> _Found:
        found = _Found([], [], [])
        for name in names:
            if not name.endswith(RECORD_SUFFIX):
                continue
            try:
                # Links, directories and sockets are somebody else's: Ray never makes one.
                if self._disk.facts(opened.storage.jobs, name).kind == "file":
                    self._read_one(opened, name, found)
            except OSError:
                found.unreadable.append(name)
        return found

    def _read_one(self, opened: _Opened, name: str, found: _Found) -> None:
        job_id = name.removesuffix(RECORD_SUFFIX)
        try:
            if not is_job_id(job_id):
                raise MalformedRecord("the name is not that of a job")
            data = read_file(self._disk, opened.storage.jobs, name, MAX_RECORD_BYTES)
            record = decode(data, job_id)
            # Thousands of old answers need not be in memory at once.
            found.records.append(light(record) if record.is_settled else record)
            opened.sizes[job_id] = len(data)
        except (MalformedRecord, UnsafeFile) as error:
            found.bad.append(QuarantinedFile(name, error.reason))
        except NewerRecord as error:
            raise RayError(
                "async_queue_storage_error",
                f"{self._storage_dir}/jobs/{name} was written by a newer Ray: {error}. Start that Ray again, or move "
                "the file away",
                details={"storageDir": self._storage_dir, "version": error.version},
            ) from None

    def _put_aside(self, opened: _Opened, bad: list[QuarantinedFile]) -> tuple[tuple[QuarantinedFile, ...], list[str]]:
        moved: list[QuarantinedFile] = []
        stuck: list[str] = []
        for file in bad:
            try:
                if opened.quarantine.take(file.name, self._wall()):
                    moved.append(file)
                    continue
            except OSError:
                pass  # the file is where it was, or where it belongs; the next start looks again
            stuck.append(file.name)
        self._quarantined += len(moved)
        return tuple(moved), stuck


class _Found(NamedTuple):
    """What the files say, before anything is decided."""

    records: list[JobRecord]
    bad: list[QuarantinedFile]
    unreadable: list[str]


def _file_name(job_id: str) -> str:
    if not is_job_id(job_id):
        raise ValueError("not a job id")
    return job_id + RECORD_SUFFIX


def _storage_error(what: str, reason: str) -> RayError:
    # The path stays out: this one reaches clients.
    return RayError(
        "async_queue_storage_error",
        f"the job store could not {what} ({reason}): nothing was accepted, try again later",
        details={"operation": what},
    )
