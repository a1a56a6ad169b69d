"""Every operation that the job store asks of a disk, in one small object.

Names are relative to a directory handle, never followed when they are links, and never inherited by another program.
Nothing here decides anything: tests put a disk in this place that fails, crashes or forgets what was not synced.
"""

from __future__ import annotations

import os
import stat
from typing import Literal, NamedTuple, Protocol

from ray.host import StorageReading

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600


class FileFacts(NamedTuple):
    """`mode`: the permission bits; `owner`: the user's number; `size`: bytes."""

    kind: Literal["file", "directory", "other"]
    owner: int
    mode: int
    links: int
    size: int


class StoreDisk(Protocol):
    """Handles are small integers; every method raises OSError as the system call of its name does."""

    def user(self) -> int:
        """The number of the user whose files these are to be. No operation: it cannot fail."""

    def make_directory(self, name: str, at: int | None = None) -> None:
        """Mode 0700. `at`: the directory that `name` lies in; None when `name` is an absolute path."""

    def open_directory(self, name: str, at: int | None = None) -> int:
        """A handle of a directory. The last part of `name` must not be a link."""

    def sync_directory(self, handle: int) -> None:
        """Make names in it durable: what was created, renamed, unlinked."""

    def create(self, at: int, name: str) -> int:
        """A new file of mode 0600, for writing; FileExistsError when anything has that name."""

    def open_file(self, at: int, name: str) -> int:
        """An existing file, for reading. Never waits, also when it is a FIFO."""

    def write(self, handle: int, data: bytes) -> None:
        """All of `data`."""

    def read(self, handle: int, limit: int) -> bytes:
        """From the beginning, at most `limit` bytes."""

    def sync(self, handle: int) -> None:
        """Make the file's contents durable."""

    def close(self, handle: int) -> None:
        """Of a file, a directory or a lock."""

    def rename(self, at: int, name: str, to: int, new_name: str) -> None:
        """Atomically, replacing what has the new name."""

    def unlink(self, at: int, name: str) -> None:
        """Take the name away."""

    def scan(self, at: int, limit: int) -> list[str]:
        """At most `limit` names, in no order."""

    def facts(self, at: int, name: str) -> FileFacts:
        """Of the name itself: a link is `other`."""

    def handle_facts(self, handle: int) -> FileFacts:
        """Of what was opened."""

    def restrict(self, handle: int, mode: int) -> None:
        """Set the permission bits."""

    def lock(self, at: int, name: str) -> int:
        """Hold the file `name` (made when missing) alone until `close` or the end of the process.

        BlockingIOError when another process holds it.
        """

    def space(self, at: int) -> StorageReading:
        """Of the file system."""


class RealDisk:
    """The operating system's."""

    def user(self) -> int:
        return os.geteuid()

    def make_directory(self, name: str, at: int | None = None) -> None:
        os.mkdir(name, DIRECTORY_MODE, dir_fd=at)

    def open_directory(self, name: str, at: int | None = None) -> int:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)

    def sync_directory(self, handle: int) -> None:
        os.fsync(handle)

    def create(self, at: int, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, FILE_MODE, dir_fd=at)

    def open_file(self, at: int, name: str) -> int:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=at)

    def write(self, handle: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]

    def read(self, handle: int, limit: int) -> bytes:
        parts: list[bytes] = []
        while limit > 0 and (part := os.read(handle, limit)):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts)

    def sync(self, handle: int) -> None:
        # Not fdatasync: the rename makes a name for a file whose size and mode must be there, too.
        os.fsync(handle)

    def close(self, handle: int) -> None:
        os.close(handle)

    def rename(self, at: int, name: str, to: int, new_name: str) -> None:
        os.rename(name, new_name, src_dir_fd=at, dst_dir_fd=to)

    def unlink(self, at: int, name: str) -> None:
        os.unlink(name, dir_fd=at)

    def scan(self, at: int, limit: int) -> list[str]:
        names: list[str] = []
        with os.scandir(at) as entries:
            for entry in entries:
                if len(names) >= limit:
                    break
                names.append(entry.name)
        return names

    def facts(self, at: int, name: str) -> FileFacts:
        return _facts(os.stat(name, dir_fd=at, follow_symlinks=False))

    def handle_facts(self, handle: int) -> FileFacts:
        return _facts(os.fstat(handle))

    def restrict(self, handle: int, mode: int) -> None:
        os.fchmod(handle, mode)

    def lock(self, at: int, name: str) -> int:
        import fcntl  # only a gateway with durable jobs needs it

        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE, dir_fd=at)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(handle)
            raise
        return handle

    def space(self, at: int) -> StorageReading:
        found = os.statvfs(at)
        return StorageReading(
            available_bytes=found.f_bavail * found.f_frsize,
            total_bytes=found.f_blocks * found.f_frsize,
            # btrfs and others report no inodes at all.
            available_inodes=found.f_favail if found.f_files else None,
        )


def _facts(found: os.stat_result) -> FileFacts:
    kind: Literal["file", "directory", "other"] = "other"
    if stat.S_ISREG(found.st_mode):
        kind = "file"
    elif stat.S_ISDIR(found.st_mode):
        kind = "directory"
    return FileFacts(kind, found.st_uid, stat.S_IMODE(found.st_mode), found.st_nlink, found.st_size)
