"""Where files go that were found among the records and are none: kept to be looked at, within bounds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from ray.jobs.directory import StorageDirectory
from ray.jobs.disk import StoreDisk

MAX_FILES = 64
MAX_BYTES = 16 * 1024 * 1024
# Of what was put there by hand nothing is counted or removed; more names than this are not looked at.
MAX_SCANNED = 4_096
# Milliseconds since 1970, so that names sort by age; good until the year 2286.
STAMP_DIGITS = 13
# A file name may have 255 bytes, stamp included.
MAX_KEPT_NAME_BYTES = 200


class HeldFile(NamedTuple):
    """A file in quarantine. `size`: bytes."""

    name: str
    size: int


def evicted(held: Sequence[HeldFile], incoming: int) -> list[HeldFile]:
    """The files that make room for one of `incoming` bytes: the oldest, until 64 files and 16 MiB hold it as well."""
    kept = sorted(held)
    gone: list[HeldFile] = []
    while kept and (len(kept) + 1 > MAX_FILES or sum(file.size for file in kept) + incoming > MAX_BYTES):
        gone.append(kept.pop(0))
    return gone


def held_name(name: str, now: float) -> str:
    """What `name` is called in quarantine: the time first, then the name it had (its end, if it is long)."""
    kept = os.fsdecode(os.fsencode(name)[-MAX_KEPT_NAME_BYTES:])
    return f"{int(now * 1000):0{STAMP_DIGITS}d}-{kept}"


def is_held_name(name: str) -> bool:
    """Whether `held_name` may have made it."""
    stamp = name[:STAMP_DIGITS]
    return stamp.isascii() and stamp.isdigit() and name[STAMP_DIGITS : STAMP_DIGITS + 1] == "-"


class Quarantine:
    """The directory `quarantine/`. To be used on the disk thread only."""

    def __init__(self, disk: StoreDisk, storage: StorageDirectory) -> None:
        self._disk = disk
        self._storage = storage
        self._held: list[HeldFile] = []

    def look(self) -> None:
        """Find what earlier starts put there."""
        for name in self._disk.scan(self._storage.quarantine, MAX_SCANNED):
            if is_held_name(name):
                with suppress(OSError):
                    facts = self._disk.facts(self._storage.quarantine, name)
                    if facts.kind == "file":
                        self._held.append(HeldFile(name, facts.size))

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.size for file in self._held)

    @property
    def files(self) -> int:
        return len(self._held)

    def take(self, name: str, now: float) -> bool:
        """Move `name` out of the jobs, durably. False when the file is too large to be kept here, and stays where it
        is. Raises OSError."""
        size = self._disk.facts(self._storage.jobs, name).size
        if size > MAX_BYTES:
            return False
        for file in evicted(self._held, size):
            with suppress(FileNotFoundError):
                self._disk.unlink(self._storage.quarantine, file.name)
            self._held.remove(file)
        held = HeldFile(held_name(name, now), size)
        self._disk.rename(self._storage.jobs, name, self._storage.quarantine, held.name)
        self._held.append(held)
        # The new name before the loss of the old one: the file must never be in neither place.
        self._disk.sync_directory(self._storage.quarantine)
        self._disk.sync_directory(self._storage.jobs)
        return True
