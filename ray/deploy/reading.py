"""Reading a whole small file, whatever stands at its path: nothing waits for a writer, or reads without end."""

from __future__ import annotations

import os
import stat
from io import FileIO


def open_regular(path: str) -> FileIO:
    """A regular file open for reading, symbolic links followed. Raises OSError, and ValueError for anything else
    ("is no regular file"). It is judged after it is open, so that nothing can be put in its place in between."""
    # Opening a FIFO would wait for a writer, and reading some files in /proc for news.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("is no regular file")
    return FileIO(descriptor)


def read_regular(path: str, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises OSError, and ValueError with a problem that
    follows the file's name ("is larger than …")."""
    with open_regular(path) as file:
        content = bytearray()
        # One read may give less than is there; the file may also have grown since it was opened.
        while len(content) <= limit and (chunk := file.read(limit + 1 - len(content))):
            content += chunk
    if len(content) > limit:
        raise ValueError(f"is larger than {limit} bytes")
    return bytes(content)


def read_text(path: str, limit: int) -> str:
    """The same as text, line ends as on Unix. ValueError also for what is not UTF-8."""
    try:
        return read_regular(path, limit).decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
