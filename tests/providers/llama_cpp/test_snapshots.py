"""The index of the snapshots: bounds, least recently used, free space, pauses."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ray.host import DiskThread, StorageReading
from ray.providers.llama_cpp.snapshot_files import unfinished_name
from ray.providers.llama_cpp.snapshots import FREE_FLOOR_BYTES, Backoff, Snapshots

A, B, C = "a" * 64, "b" * 64, "c" * 64
ROOMY = StorageReading(FREE_FLOOR_BYTES * 10, FREE_FLOOR_BYTES * 20, None)


class Recorder:
    def __init__(self) -> None:
        self.failures: list[str] = []
        self.sizes: list[int] = []
        self.gone = 0

    def failed(self, operation: str) -> None:
        self.failures.append(operation)

    def saved(self, size: int) -> None:
        self.sizes.append(size)

    def evicted(self, count: int) -> None:
        self.gone += count

    def changed(self) -> None:
        pass


class Desk:
    """An index with everything that a test turns."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.now = 0.0
        self.storage: StorageReading | None = ROOMY
        self.told = Recorder()
        self.disk = DiskThread("test-disk")
        self.directory = directory
        self.index = Snapshots(
            str(directory), max_bytes, self.disk, self.told, lambda _: self.storage, lambda: self.now
        )

    async def save(self, key: str, size: int) -> None:
        (self.directory / unfinished_name(key)).write_bytes(b"k" * size)
        self.index.adopt(key, 5)
        await self.index.settle()

    def names(self) -> set[str]:
        return {path.name[0] for path in self.directory.iterdir()}


@asynccontextmanager
async def desk(tmp_path: Path, max_bytes: int = 100) -> AsyncIterator[Desk]:
    made = Desk(tmp_path / "store", max_bytes)
    assert await made.index.open() is None
    try:
        yield made
    finally:
        await made.index.close()
        await made.disk.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_given_more_than_fits_when_saved_then_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as at:
            await at.save(A, 40)
            await at.save(B, 40)
            assert await at.index.find(A) is not None
            await at.save(C, 40)
            assert (await at.index.find(B), at.told.gone) == (None, 1)
            assert (at.index.bytes, at.index.entries, at.names()) == (80, 2, {"a", "c"})

    run(main())


def test_given_one_that_exceeds_all_room_when_saved_then_it_goes_and_is_not_written_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as at:
            await at.save(A, 40)
            await at.save(B, 101)
            assert at.told.failures == ["too_large"]
            assert not await at.index.may_write(B)
            assert (at.index.entries, at.names()) == (1, {"a"})

    run(main())


def test_given_a_smaller_limit_when_opened_then_what_is_too_much_goes(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as at:
            await at.save(A, 40)
            await at.save(B, 40)
        async with desk(tmp_path, max_bytes=50) as at:
            assert (at.index.entries, at.index.bytes, at.told.gone) == (1, 40, 1)

    run(main())


def test_given_a_disk_below_the_floor_when_asked_then_nothing_is_written_until_there_is_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as at:
            at.storage = ROOMY._replace(available_bytes=FREE_FLOOR_BYTES - 1)
            assert not await at.index.may_write(A)
            assert at.told.failures == ["disk_full"]
            at.storage = ROOMY
            assert not await at.index.may_write(A)
            assert at.told.failures == ["disk_full"]
            at.now = 5.0
            assert await at.index.may_write(A)

    run(main())


def test_given_nothing_was_written_when_adopted_then_it_is_counted_and_the_disk_is_left_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as at:
            at.index.adopt(A, 5)
            assert at.index.known(A)
            await at.index.settle()
            assert (at.told.failures, at.index.known(A)) == (["save"], False)
            assert not await at.index.may_write(A)

    run(main())


def test_given_a_snapshot_being_adopted_when_looked_for_then_it_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as at:
            (at.directory / unfinished_name(A)).write_bytes(b"k" * 9)
            at.index.adopt(A, 5)
            assert not await at.index.may_write(A)
            found = await at.index.find(A)
            assert found is not None
            assert found.size == 9

    run(main())


def test_given_a_damaged_file_when_looked_for_then_it_is_deleted_and_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as at:
            await at.save(A, 40)
            (at.directory / f"{A}.kv").write_bytes(b"k" * 20)
            assert await at.index.find(A) is None
            assert at.told.failures == ["corrupt"]
            await at.index.settle()
            assert (at.index.bytes, at.names()) == (0, set())

    run(main())


def test_given_a_directory_that_somebody_removed_when_a_snapshot_may_be_written_then_it_is_made_again(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with desk(tmp_path) as at:
            await at.save(A, 40)
            shutil.rmtree(at.directory)
            assert await at.index.may_write(B)
            await at.save(B, 40)
            assert (await at.index.find(A), at.told.failures, at.names()) == (None, ["corrupt"], {"b"})

    run(main())


def test_given_a_directory_that_cannot_be_made_when_opened_then_the_reason_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "file").write_text("")
        at = Desk(tmp_path / "file" / "store", 100)
        assert "file" in (await at.index.open() or "")
        await at.disk.close()

    run(main())


def test_given_failures_in_a_row_when_pausing_then_each_pause_is_twice_as_long_up_to_ten_minutes() -> None:
    times = [0.0]
    backoff = Backoff(lambda: times[-1])

    def seconds_paused() -> float:
        began = times[-1]
        while backoff.pausing:
            times.append(times[-1] + 1)
        return times[-1] - began

    pauses = []
    for _ in range(9):
        backoff.failed()
        pauses.append(seconds_paused())
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 600, 600]
    backoff.worked()
    backoff.failed()
    assert seconds_paused() == 5
