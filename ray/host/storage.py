"""Free space on the file system under a directory."""

from __future__ import annotations

import os
from typing import NamedTuple


class StorageReading(NamedTuple):
    """Bytes and inodes. `available_bytes`: what an unprivileged process may still write, which is less than what is
    free by the share reserved for root. `available_inodes`: None on file systems that have no fixed number."""

    available_bytes: int
    total_bytes: int
    available_inodes: int | None


def read_storage(directory: str) -> StorageReading | None:
    """The file system that `directory` lies on, or None when it cannot be asked (missing, no permission)."""
    try:
        stat = os.statvfs(directory)
    except (OSError, ValueError):
        # ValueError: the path holds a NUL.
        return None
    return StorageReading(
        available_bytes=stat.f_bavail * stat.f_frsize,
        total_bytes=stat.f_blocks * stat.f_frsize,
        # btrfs and others report no inodes at all.
        available_inodes=stat.f_favail if stat.f_files else None,
    )
