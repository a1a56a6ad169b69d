"""Looking at paths: what is there, whether a hardened service sees it, how much room there is. Never raises."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ray.deploy.paths import under
from ray.deploy.probes import LOOK_SECONDS, within
from ray.host import read_storage
from ray.types import MIB

Status = Literal["found", "missing", "unreadable"]
_ABSENT = (errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class Place:
    """One path. `real_path`: where it leads when that is somewhere else. `mode`: the permission bits."""

    path: str
    status: Status
    kind: Literal["file", "directory", "other"] = "other"
    real_path: str | None = None
    mode: int = 0
    size: int = 0
    error: str | None = None

    @property
    def is_file(self) -> bool:
        return self.status == "found" and self.kind == "file"

    @property
    def is_directory(self) -> bool:
        return self.status == "found" and self.kind == "directory"

    @property
    def is_program(self) -> bool:
        return self.is_file and bool(self.mode & 0o111)

    @property
    def shown(self) -> str:
        return self.path if self.real_path is None else f"{self.path} (resolves to {self.real_path})"

    def hidden_under(self, roots: tuple[str, ...]) -> str | None:
        """The one of `roots` that it is, leads to, or lies under."""
        return under(self.path, roots) or (under(self.real_path, roots) if self.real_path else None)


@dataclass(frozen=True, slots=True)
class Room:
    """A directory and the room on its file system. `place` is the nearest existing path, which is the directory itself
    when that exists. `available_mib` and `available_inodes`: None when it cannot be asked or is not counted."""

    path: str
    place: Place
    available_mib: int | None = None
    available_inodes: int | None = None
    error: str | None = None

    @property
    def exists(self) -> bool:
        return self.place.path == self.path

    @property
    def is_managed(self) -> bool:
        """Will systemd make it (`StateDirectory=` of the unit)?"""
        return not self.exists and under(self.path, ("/var/lib/ray",)) is not None


def look_at(path: str) -> Place:
    """What is at `path`, symbolic links followed."""
    return within(LOOK_SECONDS, lambda: _look(path), lambda error: Place(path, "unreadable", error=error))


def _look(path: str) -> Place:
    try:
        status = os.stat(path)
        real = os.path.realpath(path)
    except OSError as error:
        if error.errno in _ABSENT:
            return Place(path, "missing")
        return Place(path, "unreadable", error=error.strerror or str(error))
    kind: Literal["file", "directory", "other"] = "other"
    if stat.S_ISREG(status.st_mode):
        kind = "file"
    elif stat.S_ISDIR(status.st_mode):
        kind = "directory"
    mode = stat.S_IMODE(status.st_mode)
    return Place(path, "found", kind, None if real == path else real, mode, status.st_size)


def room_at(path: str) -> Room:
    """The room at `path`, or at the nearest directory above it that exists."""
    place = next((place for place in map(look_at, _upwards(path)) if place.status != "missing"), look_at("/"))
    if not place.is_directory:
        return Room(path, place, error=place.error)
    reading = within(LOOK_SECONDS, lambda: read_storage(place.path), lambda _: None)
    if reading is None:
        return Room(path, place, error="the file system does not say how much room it has")
    return Room(path, place, reading.available_bytes // MIB, reading.available_inodes)


def _upwards(path: str) -> Iterator[str]:
    """`path` and everything above it, the root last."""
    while True:
        yield path
        if os.path.dirname(path) == path:
            return
        path = os.path.dirname(path)


def above(path: str) -> list[str]:
    """The directories above `path`, the root first."""
    return list(_upwards(path))[:0:-1]


def read_small(path: str, limit: int) -> str:
    """The text of a small file such as one in /proc. Raises OSError, also when it is larger than `limit` bytes."""
    with open(path, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"is larger than {limit} bytes")
    return content.decode("utf-8", "replace")
