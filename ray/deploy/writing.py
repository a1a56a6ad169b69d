"""Writing a file so that a reader sees the old one or the new one, and never a part."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress

# The umask takes bits away from it; nobody but the owner may ever write a unit file.
FILE_MODE = 0o644


def write_file(directory: str, name: str, text: str) -> str:
    """Put `text` into `directory`/`name`, whatever stands there; the path. Raises OSError, leaving the old file.

    A symbolic link in the place of the file is replaced, not followed.
    """
    target = os.path.join(directory, name)
    temporary = os.path.join(
        directory, f".ray-deploy-write-{name}-{os.getpid()}-{time.time_ns()}-{secrets.token_hex(4)}"
    )
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        with open(descriptor, "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(directory)
    return target


def sync_directory(directory: str) -> None:
    """Make renames in it last through a power cut, where the file system can (best effort)."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
