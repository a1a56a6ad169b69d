"""The directory of the snapshots: names, manifests, trust. Blocking calls, for the disk thread only.

A snapshot is `<key>.kv`, written by llama-server, with the manifest `<key>.kv.json`, written here: its size, its
SHA-256, its number of tokens. llama-server believes what it reads: a file cut short makes it crash and a changed one
gives wrong answers, so a file is restored only after its digest has been compared, once per process and again whenever
its inode, size or times have changed. A power cut may leave anything behind; the digest finds that too, so nothing is
synced. The manifest's modification time is when the snapshot was last used.

Every name is opened relative to the directory's descriptor and never through a symbolic link.

One process uses a directory at a time: two would delete each other's unfinished files, and whoever shares a directory
shares a backend, whose slots have one owner. The directory itself is locked (flock), until the process ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

KEY_CHARS = 64
SNAPSHOT = re.compile(r"[0-9a-f]{64}\.kv")
MANIFEST = re.compile(r"[0-9a-f]{64}\.kv\.json")
# Written by llama-server but not yet adopted, or a manifest not yet renamed: worthless after a crash.
UNFINISHED = re.compile(r"[0-9a-f]{64}\.kv(\.json)?\.part")
MAX_MANIFEST_BYTES = 4_096
HASH_BLOCK_BYTES = 1_048_576
DIRECTORY_MODE = 0o700

# Inode, size, modification and change time: the same marks, the same file.
Marks = tuple[int, int, int, int]


class DirectoryRefused(OSError):
    """The directory cannot be used as it is; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot on disk. `size` in bytes; `tokens` in the slot when it was saved; `read_ms`: what reading them took,
    0 when unknown; `marks`: of the file whose digest was compared, None before that."""

    key: str
    size: int
    tokens: int
    sha256: str
    read_ms: int = 0
    marks: Marks | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the directory holds. `snapshots`: least recently used first. `removed`: unusable files of the store's own
    that were deleted, unfinished ones not counted; `unknown_files`: left alone."""

    snapshots: tuple[Snapshot, ...]
    removed: int
    unknown_files: int


def snapshot_name(key: str) -> str:
    return f"{key}.kv"


def unfinished_name(key: str) -> str:
    """What llama-server is told to write to; `adopt` gives it its final name."""
    return f"{key}.kv.part"


def _manifest_name(key: str) -> str:
    return f"{key}.kv.json"


class SnapshotFiles:
    """One directory. Every method may raise OSError."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._lock: int | None = None

    def open(self) -> Inventory:
        """Make the directory if need be, take it for this process alone, check that it is private, delete what a crash
        has left, and list the rest.

        Raises `DirectoryRefused`.
        """
        self.make()
        self._take()
        with self._opened() as directory:
            names = os.listdir(directory)
            unknown = [name for name in names if not _is_ours(name)]
            self._make_private(directory, bool(unknown))
            for name in names:
                if UNFINISHED.fullmatch(name):
                    _unlink(directory, name)
            found: list[tuple[int, Snapshot]] = []
            removed = 0
            kept = {name for name in names if SNAPSHOT.fullmatch(name)}
            for name in sorted(kept):
                key = name[:KEY_CHARS]
                entry = self._listed(directory, key)
                if entry is None:
                    removed += 1
                    self._delete(directory, key)
                else:
                    found.append(entry)
            for name in names:
                if MANIFEST.fullmatch(name) and name.removesuffix(".json") not in kept:
                    _unlink(directory, name)
        found.sort(key=lambda entry: entry[0])
        return Inventory(tuple(snapshot for _, snapshot in found), removed, len(unknown))

    def make(self) -> None:
        """Make the directory if it is not there."""
        os.makedirs(self.directory, mode=DIRECTORY_MODE, exist_ok=True)

    def adopt(self, key: str, tokens: int, read_ms: int = 0) -> Snapshot:
        """Take over what llama-server has just written: compute its digest, write the manifest, give it its name.

        Raises FileNotFoundError when it wrote nothing, or somewhere else.
        """
        with self._opened() as directory:
            digest, marks = _digest(directory, unfinished_name(key))
            snapshot = Snapshot(key, marks[1], tokens, digest, read_ms)
            manifest = {"bytes": snapshot.size, "tokens": tokens, "sha256": digest, "readMs": read_ms}
            draft = _manifest_name(key) + ".part"
            _unlink(directory, draft)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(draft, flags, 0o600, dir_fd=directory), "w", encoding="utf-8") as file:
                json.dump(manifest, file)
            os.rename(draft, _manifest_name(key), src_dir_fd=directory, dst_dir_fd=directory)
            os.rename(unfinished_name(key), snapshot_name(key), src_dir_fd=directory, dst_dir_fd=directory)
            # Renaming changes the change time.
            return replace(snapshot, marks=_marks(os.stat(snapshot_name(key), dir_fd=directory, follow_symlinks=False)))

    def verified(self, snapshot: Snapshot) -> Snapshot | None:
        """The snapshot with the marks of a file that is what was saved, None if it is not; marks it as used."""
        name = snapshot_name(snapshot.key)
        with self._opened() as directory:
            try:
                seen = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if not stat.S_ISREG(seen.st_mode) or seen.st_size != snapshot.size:
                    return None
                marks = _marks(seen)
                if marks != snapshot.marks:
                    digest, marks = _digest(directory, name)
                    if digest != snapshot.sha256:
                        return None
            except FileNotFoundError:
                return None
            with suppress(OSError):
                # A directory that has become read-only may still be read from.
                os.utime(_manifest_name(snapshot.key), dir_fd=directory, follow_symlinks=False)
            return replace(snapshot, marks=marks)

    def delete(self, key: str) -> None:
        """Remove a snapshot with its manifest; what is not there is fine."""
        with self._opened() as directory:
            self._delete(directory, key)

    def discard_unfinished(self, key: str) -> None:
        """Remove what a failed save has left."""
        with self._opened() as directory:
            _unlink(directory, unfinished_name(key))

    def close(self) -> None:
        """Leave the directory to others."""
        if self._lock is not None:
            lock, self._lock = self._lock, None
            os.close(lock)

    def _take(self) -> None:
        self.close()
        lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise DirectoryRefused(
                f"{self.directory} is used by another gateway: stop that one, or give this one a llama-server and a "
                "prefixStore.storageDir of its own"
            ) from None
        except OSError:
            # A file system without locks is used as if nobody else did.
            os.close(lock)
            return
        self._lock = lock

    @contextmanager
    def _opened(self) -> Iterator[int]:
        # Opened for each use: a directory that was deleted and made anew is found again.
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _make_private(self, directory: int, has_unknown_files: bool) -> None:
        seen = os.fstat(directory)
        if seen.st_uid != os.geteuid():
            raise DirectoryRefused(f"{self.directory} belongs to another user: make it Ray's own, or name another one")
        if not stat.S_IMODE(seen.st_mode) & 0o077:
            return
        if has_unknown_files:
            raise DirectoryRefused(
                f"{self.directory} is open to other users and holds other files: name a directory of its own, or "
                "chmod 700 this one"
            )
        os.fchmod(directory, DIRECTORY_MODE)

    def _listed(self, directory: int, key: str) -> tuple[int, Snapshot] | None:
        """Time of last use and snapshot, None when the manifest or the file cannot be right."""
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with open(os.open(_manifest_name(key), flags, dir_fd=directory), "rb") as file:
                used = os.fstat(file.fileno()).st_mtime_ns
                given = json.loads(file.read(MAX_MANIFEST_BYTES))
            seen = os.stat(snapshot_name(key), dir_fd=directory, follow_symlinks=False)
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(given, dict) or not stat.S_ISREG(seen.st_mode):
            return None
        size, tokens, digest = given.get("bytes"), given.get("tokens"), given.get("sha256")
        if type(size) is not int or type(tokens) is not int or not isinstance(digest, str):
            return None
        if size != seen.st_size or tokens < 1:
            return None
        read_ms = given.get("readMs")
        return used, Snapshot(key, size, tokens, digest, read_ms if type(read_ms) is int and read_ms > 0 else 0)

    def _delete(self, directory: int, key: str) -> None:
        _unlink(directory, snapshot_name(key))
        _unlink(directory, _manifest_name(key))


def _is_ours(name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in (SNAPSHOT, MANIFEST, UNFINISHED))


def _unlink(directory: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _marks(seen: os.stat_result) -> Marks:
    return (seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def _digest(directory: int, name: str) -> tuple[str, Marks]:
    """SHA-256 of a file, and its marks from before it was read: a change during the reading is noticed next time."""
    # Not blocking: somebody may have put a pipe in its place.
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with open(descriptor, "rb", buffering=0) as file:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode):
            raise OSError(f"{name} is not a regular file")
        digest = hashlib.sha256()
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
        return digest.hexdigest(), _marks(seen)
