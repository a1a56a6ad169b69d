"""The job store against every crash, power cut and error: what was acknowledged is there, what was not is whole or not
there, and the next start is always possible."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ray.errors import RayError
from ray.host import DiskThread
from ray.jobs.disk import RealDisk, StoreDisk
from ray.jobs.record import JobRecord, light
from ray.jobs.store import JobStore, Recovery
from tests.fakes.disk import (
    Crash,
    CrashingDisk,
    FailingDisk,
    MemoryDisk,
    Moment,
    failing_at,
    full_disk,
    power_cuts,
    works,
)
from tests.jobs.records import queued, running, succeeded

MOMENTS: tuple[Moment, ...] = ("before", "middle", "after")
BAD = b"this is no record"
ONE, TWO, THREE = "job_1", "job_2", "job_3"


@dataclass
class Ledger:
    """What may be found after an end at this moment: for each job the acknowledged state, and the one being written.
    None: no record."""

    may_be: dict[str, list[JobRecord | None]] = field(default_factory=dict)

    async def put(self, store: JobStore, record: JobRecord) -> None:
        self._begin(record.id, record)
        await store.put(record)
        self.may_be[record.id] = [record]

    async def remove(self, store: JobStore, job_id: str) -> None:
        self._begin(job_id, None)
        await store.remove(job_id)
        self.may_be[job_id] = [None]

    def _begin(self, job_id: str, state: JobRecord | None) -> None:
        self.may_be[job_id] = [*self.may_be.get(job_id, [None]), state]

    def check(self, recovery: Recovery, where: str) -> None:
        found = {record.id: record for record in recovery.records}
        assert found.keys() <= self.may_be.keys(), where
        for job_id, states in self.may_be.items():
            accepted = [light(state) if state is not None and state.is_settled else state for state in states]
            assert found.get(job_id) in accepted, f"{where}: {job_id}"
        assert recovery.unreadable == (), where


async def scenario(disk: StoreDisk, directory: str, ledger: Ledger) -> None:
    """A life of three jobs, in every kind of operation."""
    thread = DiskThread("test-disk")
    store = JobStore(directory, disk, thread)
    try:
        ledger.check(await store.open(), "first start")
        await ledger.put(store, queued(ONE))
        await ledger.put(store, running(ONE))
        await ledger.put(store, queued(TWO))
        await ledger.put(store, succeeded(ONE))
        await ledger.remove(store, TWO)
        await ledger.put(store, queued(THREE))
        await store.close()
    finally:
        await thread.close()


def start(disk: StoreDisk, directory: str) -> Recovery:
    """One start, and its orderly end."""

    async def main() -> Recovery:
        thread = DiskThread("test-disk")
        store = JobStore(directory, disk, thread)
        try:
            recovery = await store.open()
            await store.close()
            return recovery
        finally:
            await thread.close()

    return asyncio.run(main())


def run_into_crash(disk: CrashingDisk, directory: str, ledger: Ledger) -> None:
    with pytest.raises(Crash):
        asyncio.run(scenario(disk, directory, ledger))
    disk.release()


def crash_points(disk: CrashingDisk, directory: str) -> Iterator[tuple[int, Moment, str]]:
    """Every operation of the scenario, before it, after it, and for a write in the middle: number, moment, words."""
    asyncio.run(scenario(disk, directory, Ledger()))
    for number, name in enumerate(disk.operations, start=1):
        moments: tuple[Moment, ...] = ("before", "middle", "after") if name == "write" else ("before", "after")
        for moment in moments:
            yield number, moment, f"{moment} operation {number} ({name})"


def test_given_one_durable_write_then_it_is_six_operations_in_the_order_that_a_power_cut_demands() -> None:
    disk = CrashingDisk(MemoryDisk())

    async def main() -> None:
        store = JobStore("/queue", disk, DiskThread("test-disk"))
        await store.open()
        before = disk.count
        await store.put(queued())
        assert disk.operations[before:] == ["create", "write", "sync", "close", "rename", "sync_directory"]
        before = disk.count
        await store.remove(ONE)
        assert disk.operations[before:] == ["unlink", "sync_directory"]

    asyncio.run(main())


def test_given_a_crash_at_any_operation_then_the_next_start_finds_what_was_acknowledged(tmp_path: Path) -> None:
    points = list(crash_points(CrashingDisk(RealDisk()), str(tmp_path / "counted")))
    assert len(points) > 100
    for number, moment, where in points:
        directory, ledger = str(tmp_path / f"{number}-{moment}"), Ledger()
        run_into_crash(CrashingDisk(RealDisk(), number, moment), directory, ledger)
        ledger.check(start(RealDisk(), directory), where)
        again = start(RealDisk(), directory)
        ledger.check(again, where)
        assert again.removed_temp_files == 0, f"{where}: no temporary file outlives a start"


def test_given_a_power_cut_at_any_operation_then_no_subset_of_what_was_not_synced_loses_a_job() -> None:
    points = 0
    for number, moment, where in crash_points(CrashingDisk(MemoryDisk()), "/var/queue"):
        memory, ledger = MemoryDisk(), Ledger()
        run_into_crash(CrashingDisk(memory, number, moment), "/var/queue", ledger)
        for what, left in power_cuts(memory):
            ledger.check(start(left, "/var/queue"), f"{where}, {what}")
            points += 1
    assert points > 300


class _NoDirectorySync(MemoryDisk):
    """A store that forgets to sync directories, for a test of the model itself."""

    def sync_directory(self, handle: int) -> None:
        pass


class _NoFileSync(MemoryDisk):
    def sync(self, handle: int) -> None:
        pass


@pytest.mark.parametrize("forgetful", [_NoDirectorySync, _NoFileSync])
def test_given_a_forgotten_sync_then_the_model_shows_the_lost_job(forgetful: type[MemoryDisk]) -> None:
    memory, ledger = forgetful(), Ledger()
    asyncio.run(scenario(memory, "/queue", ledger))
    lost = 0
    for what, left in power_cuts(memory):
        try:
            ledger.check(start(left, "/queue"), what)
        except AssertionError:
            lost += 1
    assert lost > 0


# Recovery


def prepared(disk: StoreDisk) -> Ledger:
    """A directory with work for a recovery: two jobs, a left-over temporary file, two files that are no records."""
    ledger = Ledger()
    asyncio.run(scenario(disk, "/queue", ledger))
    memory = disk.inner if isinstance(disk, CrashingDisk) else disk
    assert isinstance(memory, MemoryDisk)
    memory.add_file("/queue/jobs/.tmp-job_9.json-1", b"{")
    memory.add_file("/queue/jobs/bad.json", BAD)
    memory.add_file("/queue/jobs/worse.json", BAD)
    return ledger


def bad_files(disk: MemoryDisk) -> list[bytes]:
    found = [*disk.files("/queue/jobs").items(), *disk.files("/queue/quarantine").items()]
    return [data for name, data in found if name.endswith(("bad.json", "worse.json"))]


def test_given_a_crash_or_power_cut_inside_recovery_then_it_costs_no_more_than_another_start() -> None:
    counted = CrashingDisk(MemoryDisk())
    prepared(counted.inner)
    start(counted, "/queue")
    for number in range(1, counted.count + 1):
        for moment in MOMENTS:
            memory = MemoryDisk()
            ledger = prepared(memory)
            disk = CrashingDisk(memory, number, moment)
            with pytest.raises(Crash):
                start(disk, "/queue")
            for what, left in power_cuts(memory):
                where = f"{moment} operation {number} ({disk.operations[-1]}), {what}"
                ledger.check(start(left, "/queue"), where)
                assert bad_files(left) == [BAD, BAD], f"{where}: nothing that cannot be read is ever lost"
                again = start(left, "/queue")
                ledger.check(again, where)
                assert (again.quarantined, again.removed_temp_files) == ((), 0), where


# Errors


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_given_an_error_at_any_operation_then_the_store_says_so_and_the_same_work_succeeds_later(code: int) -> None:
    counted = FailingDisk(MemoryDisk())
    asyncio.run(scenario(counted, "/queue", Ledger()))
    codes = set()
    for number, name in enumerate(counted.operations, start=1):
        disk, ledger = FailingDisk(MemoryDisk(), failing_at(number, code)), Ledger()
        try:
            asyncio.run(scenario(disk, "/queue", ledger))
        except RayError as error:
            codes.add((error.code, error.status))
        disk.release()
        where = f"{errno.errorcode[code]} at operation {number} ({name})"
        ledger.check(start(disk, "/queue"), where)
        asyncio.run(_again(disk, where))
    assert codes == {("async_queue_storage_error", 503)}


async def _again(disk: StoreDisk, where: str) -> None:
    store = JobStore("/queue", disk, DiskThread("test-disk"))
    await store.open()
    for job_id in (ONE, TWO, THREE):
        await store.put(running(job_id))
    assert await store.read(TWO) == running(TWO), where
    await store.close()


@pytest.mark.parametrize("number", range(1, 7))
def test_given_an_error_while_a_new_job_is_written_then_it_is_not_there_and_no_temporary_file_is(number: int) -> None:
    memory = MemoryDisk()
    disk = FailingDisk(memory)

    async def main() -> None:
        store = JobStore("/queue", disk, DiskThread("test-disk"))
        await store.open()
        await store.put(queued(ONE))
        disk.fails = failing_at(disk.count + number)
        with pytest.raises(RayError) as caught:
            await store.put(queued(TWO))
        assert caught.value.code == "async_queue_storage_error"
        assert "/queue" not in str(caught.value.envelope()), "clients see this one: no paths"
        assert list(memory.files("/queue/jobs")) == ["job_1.json"]
        await store.put(queued(TWO))
        await store.close()

    asyncio.run(main())
    assert len(start(memory, "/queue").records) == 2


@pytest.mark.parametrize("number", range(1, 6))
def test_given_an_error_before_a_change_has_its_name_then_the_old_state_stays(number: int) -> None:
    disk = FailingDisk(MemoryDisk())

    async def main() -> None:
        store = JobStore("/queue", disk, DiskThread("test-disk"))
        await store.open()
        await store.put(queued(ONE))
        disk.fails = failing_at(disk.count + number)
        with pytest.raises(RayError):
            await store.put(running(ONE))
        assert await store.read(ONE) == queued(ONE)

    asyncio.run(main())


def test_given_a_full_disk_then_writing_fails_reading_and_removing_work_and_space_brings_everything_back() -> None:
    disk = FailingDisk(MemoryDisk())

    async def main() -> None:
        store = JobStore("/queue", disk, DiskThread("test-disk"))
        await store.open()
        await store.put(queued(ONE))
        await store.put(queued(TWO))
        disk.fails = full_disk
        with pytest.raises(RayError) as caught:
            await store.put(running(ONE))
        assert caught.value.retry_after == 30
        await store.remove(TWO)
        assert await store.read(ONE) == queued(ONE)
        disk.fails = works
        await store.put(running(ONE))
        await store.close()

    asyncio.run(main())
    assert start(disk, "/queue").records == (running(ONE),)


def test_given_a_record_that_cannot_be_read_at_start_then_it_stays_and_the_next_start_has_it() -> None:
    memory = MemoryDisk()
    asyncio.run(scenario(memory, "/queue", Ledger()))
    disk = FailingDisk(memory, lambda count, name: errno.EIO if name == "read" else None)
    recovery = start(disk, "/queue")
    assert recovery.records == ()
    assert sorted(recovery.unreadable) == ["job_1.json", "job_3.json"]
    assert len(start(memory, "/queue").records) == 2


def test_given_a_disk_that_cannot_be_asked_then_there_is_no_reading_of_its_room() -> None:
    disk = FailingDisk(MemoryDisk(), lambda count, name: errno.EIO if name == "space" else None)

    async def main() -> None:
        store = JobStore("/queue", disk, DiskThread("test-disk"))
        await store.open()
        assert await store.room() is None

    asyncio.run(main())
