"""The store's directories and files: made, opened, judged, replaced.

    STORAGE_DIR/lock          held by the one gateway that works here
    STORAGE_DIR/jobs/         one file for each job, and `.tmp-` files while they are written
    STORAGE_DIR/quarantine/   what was found in jobs/ and is no record

Directories have mode 0700 and files 0600, all of them ours: what another user could have put there, or could still
change, is not read. Source: jobs, section 17 (B1, B7).
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NamedTuple

from ray.errors import RayError
from ray.jobs.disk import DIRECTORY_MODE, FILE_MODE, StoreDisk

JOBS = "jobs"
QUARANTINE = "quarantine"
LOCK = "lock"
TEMP_PREFIX = ".tmp-"


class UnsafeFile(Exception):
    """A file that may be another's work. `reason`: why, in a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StorageDirectory(NamedTuple):
    """Open handles. `path`: for messages to the operator."""

    path: str
    root: int
    lock: int
    jobs: int
    quarantine: int


def open_storage(disk: StoreDisk, path: str) -> StorageDirectory:
    """Make what is missing, durably; refuse what is not ours alone; take the lock.

    Raises `RayError async_queue_locked` when another process works here, `async_queue_storage_error` for the rest.
    """
    opened: list[int] = []
    try:
        _make_levels(disk, os.path.abspath(path))
        root = _opened(disk, opened, os.path.abspath(path), None, path)
        try:
            lock = disk.lock(root, LOCK)
        except BlockingIOError:
            raise RayError(
                "async_queue_locked",
                f"another process works with the jobs in {path}: stop it, or give each gateway its own "
                "asyncQueue.storageDir",
                details={"storageDir": path},
            ) from None
        opened.append(lock)
        _demand_ours(disk, lock, f"{path}/{LOCK}", "file")
        for name in (JOBS, QUARANTINE):
            with suppress(FileExistsError):
                disk.make_directory(name, root)
            _opened(disk, opened, name, root, f"{path}/{name}")
        disk.sync_directory(root)
        return StorageDirectory(path, root, lock, opened[2], opened[3])
    except BaseException as error:
        for handle in opened:
            with suppress(OSError):
                disk.close(handle)
        if isinstance(error, OSError):
            raise RayError(
                "async_queue_storage_error",
                f"cannot use {path} for durable jobs ({error.strerror or type(error).__name__}): asyncQueue.storageDir "
                "must be a directory that belongs to the user Ray runs as",
                details={"storageDir": path},
            ) from error
        raise


def close_storage(disk: StoreDisk, storage: StorageDirectory) -> None:
    """Close everything; the lock last."""
    for handle in (storage.quarantine, storage.jobs, storage.root, storage.lock):
        with suppress(OSError):
            disk.close(handle)


def _make_levels(disk: StoreDisk, path: str) -> None:
    """Make `path` and every missing parent, and sync the names of all of them.

    A level that exists may have been made by a start that crashed before it could be synced: hence all of them, each
    time. Where that is not allowed to us, we have not made it either.
    """
    parent = os.path.dirname(path)
    if parent == path:
        return
    made = True
    try:
        disk.make_directory(path)
        missing_parent = False
    except FileExistsError:
        made = missing_parent = False
    except FileNotFoundError:
        missing_parent = True
    _make_levels(disk, parent)
    if missing_parent:
        with suppress(FileExistsError):
            disk.make_directory(path)
    try:
        # A parent may well be a link (/var/lib/NAME under systemd's DynamicUser): the dot is behind it.
        handle = disk.open_directory(f"{parent.rstrip('/')}/.")
        try:
            disk.sync_directory(handle)
        finally:
            disk.close(handle)
    except OSError:
        if made:
            raise


def _opened(disk: StoreDisk, opened: list[int], name: str, at: int | None, path: str) -> int:
    handle = disk.open_directory(name, at)
    opened.append(handle)
    _demand_ours(disk, handle, path, "directory")
    return handle


def _demand_ours(disk: StoreDisk, handle: int, path: str, kind: str) -> None:
    """Our own, and closed to everyone else: tightened where it is ours, refused where it is not."""
    facts = disk.handle_facts(handle)
    if facts.kind != kind or facts.owner != disk.user() or (kind == "file" and facts.links != 1):
        raise RayError(
            "async_queue_storage_error",
            f"{path} must be a {kind} that belongs to the user Ray runs as, and to nobody else: check its owner",
            details={"path": path},
        )
    mode = DIRECTORY_MODE if kind == "directory" else FILE_MODE
    if facts.mode & 0o077 or facts.mode & 0o700 != mode:
        disk.restrict(handle, mode)


def replace_file(disk: StoreDisk, at: int, name: str, data: bytes) -> None:
    """Write `name` as a whole: durable on return, and never seen half written. Raises OSError.

    After an error the old contents or the new ones are there, and which of them survives a power cut is unknown.
    """
    temporary = f"{TEMP_PREFIX}{name}-{os.urandom(6).hex()}"
    handle = disk.create(at, temporary)
    try:
        try:
            disk.write(handle, data)
            disk.sync(handle)
        except OSError:
            with suppress(OSError):
                disk.close(handle)
            raise
        disk.close(handle)
        disk.rename(at, temporary, at, name)
    except OSError:
        with suppress(OSError):
            disk.unlink(at, temporary)
        raise
    disk.sync_directory(at)


def remove_file(disk: StoreDisk, at: int, name: str) -> None:
    """Durably gone on return; a file that is not there is gone. Raises OSError."""
    with suppress(FileNotFoundError):
        disk.unlink(at, name)
    disk.sync_directory(at)


def read_file(disk: StoreDisk, at: int, name: str, limit: int) -> bytes:
    """The contents of a regular file of ours with one name. Raises `UnsafeFile` for any other, OSError.

    Above `limit` bytes the answer has `limit` + 1, also when the file grows while it is read.
    """
    handle = disk.open_file(at, name)
    try:
        facts = disk.handle_facts(handle)
        if facts.kind != "file":
            raise UnsafeFile("it is not a regular file")
        if facts.owner != disk.user():
            raise UnsafeFile("it belongs to another user")
        if facts.links != 1:
            raise UnsafeFile("it has more than one name (hard links)")
        if facts.size > limit:
            raise UnsafeFile(f"it is larger than {limit} bytes")
        if facts.mode & 0o077:
            disk.restrict(handle, FILE_MODE)
        return disk.read(handle, limit + 1)
    finally:
        disk.close(handle)
