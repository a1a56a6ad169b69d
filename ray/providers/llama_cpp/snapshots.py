"""The snapshots that there are: an index in memory over the directory, its bounds, and when to leave the disk alone.

The event loop owns the index; the files are touched by the disk thread only. Nothing here raises for what the disk
does: a snapshot that cannot be had is read from the prompt again.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Protocol

from ray.host import DiskThread, StorageReading, read_storage
from ray.providers.llama_cpp.snapshot_files import Snapshot, SnapshotFiles
from ray.types import MIB

# Below this nothing is written: the rest of the machine needs its disk more than Ray needs a shortcut.
FREE_FLOOR_BYTES = 256 * MIB
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 600.0


class Backoff:
    """Pauses after failures: 5 s, doubled with each further one up to 10 min, over with the first success."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._until = 0.0

    @property
    def pausing(self) -> bool:
        return self._failures > 0 and self._clock() < self._until

    def failed(self) -> None:
        self._until = self._clock() + min(FIRST_PAUSE_SECONDS * 2.0**self._failures, LONGEST_PAUSE_SECONDS)
        self._failures += 1

    def worked(self) -> None:
        self._failures = 0


class SnapshotObserver(Protocol):
    """Whom the index tells what happened."""

    def failed(self, operation: str) -> None: ...
    def saved(self, size: int) -> None: ...
    def evicted(self, count: int) -> None: ...
    def changed(self) -> None: ...


class Snapshots:
    """One directory's snapshots, of any backend, at most `max_bytes` of them."""

    def __init__(
        self,
        directory: str,
        max_bytes: int,
        disk: DiskThread,
        observer: SnapshotObserver,
        storage: Callable[[str], StorageReading | None] = read_storage,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`storage`: reads the free space; called on the disk thread."""
        self.directory = directory
        self.max_bytes = max_bytes
        self.bytes = 0
        self.unknown_files = 0
        self._files = SnapshotFiles(directory)
        self._disk = disk
        self._observer = observer
        self._storage = storage
        self._index: OrderedDict[str, Snapshot] = OrderedDict()
        self._adopting: dict[str, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._oversize: OrderedDict[str, None] = OrderedDict()
        self._writing = Backoff(clock)

    @property
    def entries(self) -> int:
        return len(self._index)

    async def open(self) -> str | None:
        """Make the directory ready and read what it holds. Returns why that is impossible, None when it worked."""
        try:
            inventory = await self._disk.run(self._files.open)
        except OSError as error:
            return str(error)
        self._index = OrderedDict((snapshot.key, snapshot) for snapshot in inventory.snapshots)
        self.bytes = sum(snapshot.size for snapshot in inventory.snapshots)
        self.unknown_files = inventory.unknown_files
        for _ in range(inventory.removed):
            self._observer.failed("corrupt")
        self._make_room(0)
        self._observer.changed()
        return None

    def known(self, key: str) -> bool:
        """Whether there is a snapshot, or will be in a moment."""
        return key in self._index or key in self._adopting

    async def find(self, key: str) -> Snapshot | None:
        """The snapshot, compared with what was saved. One that is not the same any more is deleted and counted."""
        adopting = self._adopting.get(key)
        if adopting is not None:
            await asyncio.wait([adopting])
        snapshot = self._index.get(key)
        if snapshot is None:
            return None
        try:
            verified = await self._disk.run(lambda: self._files.verified(snapshot))
        except OSError:
            self._observer.failed("read")
            return None
        if self._index.get(key) != snapshot:
            # Evicted, or replaced, while its digest was computed.
            return None
        if verified is None:
            self._observer.failed("corrupt")
            self.discard(key)
            return None
        self._index[key] = verified
        self._index.move_to_end(key)
        return verified

    async def may_write(self, key: str) -> bool:
        """Whether a snapshot may be written now: nobody is writing it, the disk works, and it has room."""
        if key in self._adopting or key in self._oversize or self._writing.pausing:
            return False
        try:
            reading = await self._disk.run(self._room)
        except OSError:
            reading = None
        if reading is None or reading.available_bytes < FREE_FLOOR_BYTES:
            self.write_failed("disk_full" if reading is not None else "save")
            return False
        return key not in self._adopting

    def _room(self) -> StorageReading | None:
        """Blocking. Somebody may have removed the directory with everything in it."""
        self._files.make()
        return self._storage(self.directory)

    def write_failed(self, operation: str = "save") -> None:
        """A save did not work: count it and leave the disk alone for a while."""
        self._observer.failed(operation)
        self._writing.failed()

    def adopt(self, key: str, tokens: int, read_ms: int = 0) -> None:
        """llama-server has written a snapshot under its unfinished name: take it over, in the background."""
        task = asyncio.create_task(self._adopt(key, tokens, read_ms))
        self._adopting[key] = task
        task.add_done_callback(lambda _: self._adopting.pop(key, None))

    def discard_unfinished(self, key: str) -> None:
        """A save failed half-way."""
        self._in_background(lambda: self._files.discard_unfinished(key))

    def discard(self, key: str) -> None:
        """Delete a snapshot."""
        snapshot = self._index.pop(key, None)
        if snapshot is not None:
            self.bytes -= snapshot.size
            self._in_background(lambda: self._files.delete(key))
            self._observer.changed()

    async def settle(self) -> None:
        """Wait until everything handed to the disk thread is done."""
        while self._adopting or self._background:
            await asyncio.wait([*self._adopting.values(), *self._background])

    async def close(self) -> None:
        """The same, and the directory is left to others."""
        await self.settle()
        self._files.close()

    async def _adopt(self, key: str, tokens: int, read_ms: int) -> None:
        try:
            snapshot = await self._disk.run(lambda: self._files.adopt(key, tokens, read_ms))
        except OSError:
            # Nothing there: llama-server was given another directory, or has not written what it says.
            self.write_failed()
            return
        self._writing.worked()
        if snapshot.size > self.max_bytes:
            self._oversize[key] = None
            if len(self._oversize) > 1_024:
                self._oversize.popitem(last=False)
            self._observer.failed("too_large")
            self._in_background(lambda: self._files.delete(key))
            return
        replaced = self._index.pop(key, None)
        self.bytes -= replaced.size if replaced is not None else 0
        self._make_room(snapshot.size)
        self._index[key] = snapshot
        self.bytes += snapshot.size
        self._observer.saved(snapshot.size)
        self._observer.changed()

    def _make_room(self, size: int) -> None:
        """Delete the least recently used until `size` more bytes fit."""
        evicted = 0
        while self._index and self.bytes + size > self.max_bytes:
            key, snapshot = self._index.popitem(last=False)
            self.bytes -= snapshot.size
            evicted += 1
            self._in_background(partial(self._files.delete, key))
        if evicted:
            self._observer.evicted(evicted)

    def _in_background(self, work: Callable[[], None]) -> None:
        task = asyncio.create_task(self._quietly(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _quietly(self, work: Callable[[], None]) -> None:
        try:
            await self._disk.run(work)
        except OSError:
            self._observer.failed("delete")
