"""Reading the kernel's small text files. Whatever goes wrong, the answer is "absent", never an exception."""

from __future__ import annotations

import os

MAX_FILE_BYTES = 64 * 1024
MAX_PATH_BYTES = 4_096
# The largest integer every JSON reader keeps exact.
MAX_EXACT_INTEGER = 2**53 - 1


def read_text(path: str) -> str | None:
    """The whole file, or None when it cannot be read or holds more than 64 KiB.

    Paths beyond 4096 bytes and paths with NUL, CR or LF are never opened. Bytes that are not UTF-8 become lone
    surrogates, so that a path found inside can be opened again.
    """
    if not _may_open(path):
        return None
    try:
        # Without O_NONBLOCK a FIFO in the place of the file would hold up the event loop for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        parts: list[bytes] = []
        room = MAX_FILE_BYTES + 1
        # procfs and cgroupfs may give less than asked for; only an empty read is the end.
        while room > 0 and (part := os.read(descriptor, room)):
            parts.append(part)
            room -= len(part)
    except OSError:
        # For example EOPNOTSUPP: the kernel was started with psi=0.
        return None
    finally:
        os.close(descriptor)
    return b"".join(parts).decode("utf-8", "surrogateescape") if room > 0 else None


def _may_open(path: str) -> bool:
    if any(character in path for character in "\0\r\n"):
        return False
    try:
        return len(os.fsencode(path)) <= MAX_PATH_BYTES
    except UnicodeError:
        return False


def parse_count(text: str | None) -> int | None:
    """A non-negative integer in plain ASCII digits, at most 2**53 - 1; None for anything else."""
    if text is None:
        return None
    text = text.strip()
    # int() would also take signs, underscores, other scripts' digits, and refuses more than 4300 of them.
    if not (text.isascii() and text.isdigit()) or len(text) > 16:
        return None
    value = int(text)
    return value if value <= MAX_EXACT_INTEGER else None


def parse_counts(text: str | None) -> dict[str, int]:
    """The `name value` lines of a flat keyed file such as `cpu.stat`; lines of another form are skipped."""
    counts: dict[str, int] = {}
    for line in (text or "").split("\n"):
        name, _, value = line.partition(" ")
        count = parse_count(value)
        if name and count is not None:
            counts[name] = count
    return counts
