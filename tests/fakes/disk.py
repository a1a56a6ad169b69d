"""Disks that go wrong, for the job store: one that crashes, one that fails, and one that forgets what was not synced.

`CrashingDisk` and `FailingDisk` stand in front of another disk (the real one or a `MemoryDisk`) and number its
operations from 1. A crash ends everything: after it no operation of that disk works, as in a process that is gone, so
code that tidies up after an error cannot do so either. `MemoryDisk` is a file system in memory which keeps what was
synced apart from what was not; `after_power_cut` gives the disk that the next start may find.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from ray.host import StorageReading
from ray.jobs.disk import FileFacts, StoreDisk

Moment = Literal["before", "middle", "after"]
Result = TypeVar("Result")

OURS = 1_000  # the number of our user on a MemoryDisk
MIB = 1_048_576


class Crash(BaseException):
    """The process is gone. Not an Exception: nothing that handles errors may go on after it."""


class WatchedDisk:
    """Passes every operation on to `inner`, numbered from 1 and by name. The base of the two that go wrong.

    `operations`: the names of the operations so far, in order.
    """

    def __init__(self, inner: StoreDisk) -> None:
        self.inner = inner
        self.operations: list[str] = []
        self._handles: set[int] = set()

    @property
    def count(self) -> int:
        return len(self.operations)

    def release(self) -> None:
        """Close what is open, as the end of a process does: this frees the lock."""
        for handle in sorted(self._handles):
            self.inner.close(handle)
        self._handles.clear()

    def step(self, name: str, work: Callable[[], Result], half: Callable[[], object] | None = None) -> Result:
        """One operation. `half`: does a part of it, where an operation has parts."""
        self.operations.append(name)
        return work()

    def _opening(self, name: str, work: Callable[[], int]) -> int:
        def open_and_note() -> int:
            handle = work()
            self._handles.add(handle)
            return handle

        return self.step(name, open_and_note)

    def user(self) -> int:
        return self.inner.user()

    def make_directory(self, name: str, at: int | None = None) -> None:
        self.step("make_directory", lambda: self.inner.make_directory(name, at))

    def open_directory(self, name: str, at: int | None = None) -> int:
        return self._opening("open_directory", lambda: self.inner.open_directory(name, at))

    def sync_directory(self, handle: int) -> None:
        self.step("sync_directory", lambda: self.inner.sync_directory(handle))

    def create(self, at: int, name: str) -> int:
        return self._opening("create", lambda: self.inner.create(at, name))

    def open_file(self, at: int, name: str) -> int:
        return self._opening("open_file", lambda: self.inner.open_file(at, name))

    def write(self, handle: int, data: bytes) -> None:
        def half() -> None:
            self.inner.write(handle, data[: len(data) // 2])

        self.step("write", lambda: self.inner.write(handle, data), half)

    def read(self, handle: int, limit: int) -> bytes:
        return self.step("read", lambda: self.inner.read(handle, limit))

    def sync(self, handle: int) -> None:
        self.step("sync", lambda: self.inner.sync(handle))

    def close(self, handle: int) -> None:
        def close() -> None:
            self._handles.discard(handle)
            self.inner.close(handle)

        self.step("close", close)

    def rename(self, at: int, name: str, to: int, new_name: str) -> None:
        self.step("rename", lambda: self.inner.rename(at, name, to, new_name))

    def unlink(self, at: int, name: str) -> None:
        self.step("unlink", lambda: self.inner.unlink(at, name))

    def scan(self, at: int, limit: int) -> list[str]:
        return self.step("scan", lambda: self.inner.scan(at, limit))

    def facts(self, at: int, name: str) -> FileFacts:
        return self.step("facts", lambda: self.inner.facts(at, name))

    def handle_facts(self, handle: int) -> FileFacts:
        return self.step("handle_facts", lambda: self.inner.handle_facts(handle))

    def restrict(self, handle: int, mode: int) -> None:
        self.step("restrict", lambda: self.inner.restrict(handle, mode))

    def lock(self, at: int, name: str) -> int:
        return self._opening("lock", lambda: self.inner.lock(at, name))

    def space(self, at: int) -> StorageReading:
        return self.step("space", lambda: self.inner.space(at))


class CrashingDisk(WatchedDisk):
    """Crashes at operation `crash_at` (from 1; 0 never): before it is done, after it, or in the middle of it.

    Only a write has a middle, half of its bytes; any other operation is either done or not, so in its middle it is not
    done. `crashed` says whether it came to that; call `release` then, before the directory is opened again.
    """

    def __init__(self, inner: StoreDisk, crash_at: int = 0, moment: Moment = "before") -> None:
        super().__init__(inner)
        self.crash_at = crash_at
        self.moment: Moment = moment
        self.crashed = False

    def step(self, name: str, work: Callable[[], Result], half: Callable[[], object] | None = None) -> Result:
        if self.crashed:
            raise Crash(f"{name} after the crash")
        self.operations.append(name)
        if self.count != self.crash_at:
            return work()
        self.crashed = True
        if self.moment == "after":
            work()
        elif self.moment == "middle" and half is not None:
            half()
        raise Crash(f"{self.moment} operation {self.count} ({name})")


class FailingDisk(WatchedDisk):
    """Answers with OSError where `fails` says so: called with the operation's number and name, it returns an errno.

    Replace `fails` at any time: `disk.fails = full_disk`, and `disk.fails = works` when there is room again. `half`: a
    failing write has written half of its bytes.
    """

    def __init__(self, inner: StoreDisk, fails: Callable[[int, str], int | None] | None = None) -> None:
        super().__init__(inner)
        self.fails: Callable[[int, str], int | None] = fails or works

    def step(self, name: str, work: Callable[[], Result], half: Callable[[], object] | None = None) -> Result:
        self.operations.append(name)
        code = self.fails(self.count, name)
        if code is None:
            return work()
        if half is not None:
            half()
        if name == "close":
            work()  # on Linux a close that reports an error has closed all the same
        raise OSError(code, os.strerror(code))


def works(number: int, name: str) -> int | None:
    """No operation fails."""
    return None


def full_disk(number: int, name: str) -> int | None:
    """What a full disk refuses: new names and new bytes. Reading, renaming and deleting still work."""
    return errno.ENOSPC if name in ("make_directory", "create", "write", "sync") else None


def failing_at(number: int, code: int = errno.EIO) -> Callable[[int, str], int | None]:
    """Only operation `number` fails."""
    return lambda count, name: code if count == number else None


# The file system in memory


@dataclass(eq=False, slots=True)
class _Node:
    """A file or directory. `data`, `entries`: as the running system sees them; `durable_*`: as the disk has them."""

    kind: Literal["file", "directory"]
    mode: int
    data: bytes = b""
    durable_data: bytes = b""
    entries: dict[str, _Node] = field(default_factory=dict)
    durable_entries: dict[str, _Node] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Effect:
    """Something that was done and not synced yet: the disk may have it, or not. `kind`: `data` (of one file) or `names`
    (entries that appear and disappear together). `what`: for people."""

    kind: Literal["data", "names"]
    what: str
    node: _Node
    changes: tuple[tuple[_Node, str, _Node | None], ...] = ()


class MemoryDisk:
    """A file system that loses what was not synced, as a power cut may leave one.

    What it promises is what POSIX file systems with a journal do: a rename happens as a whole or not at all, also from
    one directory to another, and is durable once the directory of the new name was synced. Everything else that was not
    synced is there or not, each for itself: contents without a name, a name without contents, a later change without
    an earlier one in another directory. Contents written but not synced may also be there by half (`torn`).
    """

    def __init__(self) -> None:
        self._root = _Node("directory", 0o700)
        self._pending: list[Effect] = []
        self._open: dict[int, _Node] = {}
        self._locks: dict[int, _Node] = {}
        self._next_handle = 3
        self.available_bytes = 1_024 * MIB
        self.available_inodes: int | None = 100_000

    # The power cut

    @property
    def effects(self) -> tuple[Effect, ...]:
        """What is not durable yet, in the order in which it was done."""
        return tuple(self._pending)

    def after_power_cut(self, keep: Collection[int] = (), torn: Collection[int] = ()) -> MemoryDisk:
        """The disk that the next start finds: all that was synced, and of `effects` those whose index is in `keep`
        (`torn`: contents of which the first half is there). This disk stays as it is, so ask as often as you like."""
        disk = MemoryDisk()
        disk.available_bytes, disk.available_inodes = self.available_bytes, self.available_inodes
        copies: dict[int, _Node] = {}
        disk._root = _durable_copy(self._root, copies)
        for index, effect in enumerate(self._pending):
            if index not in keep and index not in torn:
                continue
            if effect.kind == "data":
                data = effect.node.data
                _durable_copy(effect.node, copies).data = data[: len(data) // 2] if index in torn else data
                continue
            for directory, name, node in effect.changes:
                entries = _durable_copy(directory, copies).entries
                if node is None:
                    entries.pop(name, None)
                else:
                    entries[name] = _durable_copy(node, copies)
        for copy in copies.values():
            copy.durable_data, copy.durable_entries = copy.data, dict(copy.entries)
        return disk

    def files(self, path: str) -> dict[str, bytes]:
        """The files in a directory and their contents; empty when there is no such directory."""
        try:
            node = self._find(path)
        except FileNotFoundError:
            return {}
        return {name: entry.data for name, entry in node.entries.items() if entry.kind == "file"}

    def add_file(self, path: str, data: bytes) -> None:
        """Put a file there, durably, as if it had always been there. Its directory must exist."""
        directory, name = os.path.split(path)
        parent, node = self._find(directory), _Node("file", 0o600, data, data)
        parent.entries[name] = parent.durable_entries[name] = node

    def release(self) -> None:
        """Close everything that is open, as the end of a process does."""
        self._open.clear()
        self._locks.clear()

    # StoreDisk

    def user(self) -> int:
        return OURS

    def make_directory(self, name: str, at: int | None = None) -> None:
        parent, last = self._place(name, at)
        if last in parent.entries or not last:
            raise FileExistsError(errno.EEXIST, "File exists")
        self._name(parent, last, _Node("directory", 0o700), f"make {name}")

    def open_directory(self, name: str, at: int | None = None) -> int:
        node = self._find(name, at)
        if node.kind != "directory":
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory")
        return self._handle(node)

    def sync_directory(self, handle: int) -> None:
        node = self._open[handle]
        rest: list[Effect] = []
        for effect in self._pending:
            if effect.kind == "names" and effect.changes[-1][0] is node:
                for directory, name, entry in effect.changes:
                    if entry is None:
                        directory.durable_entries.pop(name, None)
                    else:
                        directory.durable_entries[name] = entry
            else:
                rest.append(effect)
        self._pending = rest

    def create(self, at: int, name: str) -> int:
        parent = self._open[at]
        if name in parent.entries:
            raise FileExistsError(errno.EEXIST, "File exists")
        node = _Node("file", 0o600)
        self._name(parent, name, node, f"create {name}")
        return self._handle(node)

    def open_file(self, at: int, name: str) -> int:
        return self._handle(self._find(name, at))

    def write(self, handle: int, data: bytes) -> None:
        node = self._open[handle]
        node.data += data
        if not any(effect.kind == "data" and effect.node is node for effect in self._pending):
            self._pending.append(Effect("data", "contents", node))

    def read(self, handle: int, limit: int) -> bytes:
        return self._open[handle].data[:limit]

    def sync(self, handle: int) -> None:
        node = self._open[handle]
        node.durable_data = node.data
        self._pending = [effect for effect in self._pending if effect.kind != "data" or effect.node is not node]

    def close(self, handle: int) -> None:
        if handle not in self._open:
            raise OSError(errno.EBADF, "Bad file descriptor")
        del self._open[handle]
        self._locks.pop(handle, None)

    def rename(self, at: int, name: str, to: int, new_name: str) -> None:
        source, target = self._open[at], self._open[to]
        node = source.entries.get(name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        del source.entries[name]
        target.entries[new_name] = node
        changes = ((source, name, None), (target, new_name, node))
        self._pending.append(Effect("names", f"rename {name} to {new_name}", node, changes))

    def unlink(self, at: int, name: str) -> None:
        parent = self._open[at]
        node = parent.entries.get(name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        del parent.entries[name]
        self._pending.append(Effect("names", f"unlink {name}", node, ((parent, name, None),)))

    def scan(self, at: int, limit: int) -> list[str]:
        return list(self._open[at].entries)[:limit]

    def facts(self, at: int, name: str) -> FileFacts:
        return _facts(self._find(name, at))

    def handle_facts(self, handle: int) -> FileFacts:
        return _facts(self._open[handle])

    def restrict(self, handle: int, mode: int) -> None:
        self._open[handle].mode = mode

    def lock(self, at: int, name: str) -> int:
        parent = self._open[at]
        if name not in parent.entries:
            self._name(parent, name, _Node("file", 0o600), f"create {name}")
        node = parent.entries[name]
        if any(held is node for held in self._locks.values()):
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        handle = self._handle(node)
        self._locks[handle] = node
        return handle

    def space(self, at: int) -> StorageReading:
        return StorageReading(self.available_bytes, self.available_bytes * 2, self.available_inodes)

    def _name(self, parent: _Node, name: str, node: _Node, what: str) -> None:
        parent.entries[name] = node
        self._pending.append(Effect("names", what, node, ((parent, name, node),)))

    def _handle(self, node: _Node) -> int:
        self._next_handle += 1
        self._open[self._next_handle] = node
        return self._next_handle

    def _place(self, name: str, at: int | None) -> tuple[_Node, str]:
        parent, last = os.path.split(name)
        return self._find(parent, at), last

    def _find(self, name: str, at: int | None = None) -> _Node:
        node = self._root if at is None else self._open[at]
        for part in name.split("/"):
            if part not in ("", "."):
                if part not in node.entries:
                    raise FileNotFoundError(errno.ENOENT, "No such file or directory")
                node = node.entries[part]
        return node


def power_cuts(disk: MemoryDisk, *, exhaustive_up_to: int = 6) -> Iterable[tuple[str, MemoryDisk]]:
    """The disks that a power cut now may leave, each with a word on it: nothing and everything of what was not synced,
    each effect alone, all but each, every half-written file, and all subsets while there are few effects."""
    indices = range(len(disk.effects))
    subsets: set[frozenset[int]] = {frozenset(), frozenset(indices)}
    subsets.update(frozenset({index}) for index in indices)
    subsets.update(frozenset(indices) - {index} for index in indices)
    if len(indices) <= exhaustive_up_to:
        subsets.update(frozenset(i for i in indices if bits >> i & 1) for bits in range(2 ** len(indices)))
    for subset in sorted(subsets, key=sorted):
        yield f"kept {sorted(subset)}", disk.after_power_cut(subset)
    for index in indices:
        if disk.effects[index].kind == "data":
            yield f"torn {index}", disk.after_power_cut(indices, torn={index})


def _durable_copy(node: _Node, copies: dict[int, _Node]) -> _Node:
    """The node as the disk has it, and what hangs on it; every node is copied once."""
    if id(node) not in copies:
        copy = copies[id(node)] = _Node(node.kind, node.mode, node.durable_data)
        for name, entry in node.durable_entries.items():
            copy.entries[name] = _durable_copy(entry, copies)
    return copies[id(node)]


def _facts(node: _Node) -> FileFacts:
    return FileFacts(node.kind, OURS, node.mode, 1, len(node.data))
