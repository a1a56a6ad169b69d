"""Who is let in: places, floors of the disk, the store's budget."""

from __future__ import annotations

import asyncio

import pytest

from ray.config import Config
from ray.errors import RayError
from ray.jobs.admission import check_storage, storage_levels
from ray.jobs.queue import JobSubmission
from ray.jobs.snapshot import JobSnapshot
from ray.jobs.store import StorageRoom
from ray.types import MIB
from tests.fakes.provider import until
from tests.jobs.house import JobHouse, MemoryStore, queue_config


def room(mib: float, inodes: int | None = None, store_mib: float = 0.0) -> StorageRoom:
    return StorageRoom(int(mib * MIB), inodes, int(store_mib * MIB), 0)


async def idle(config: Config | None = None, store: MemoryStore | None = None) -> JobHouse:
    """A queue that accepts and runs nothing."""
    house = JobHouse(config=config, store=store)
    await house.queue.start()
    return house


async def outcomes(house: JobHouse, count: int) -> list[JobSubmission | BaseException]:
    return await asyncio.gather(*(house.submit(str(number)) for number in range(count)), return_exceptions=True)


def codes(results: list[JobSubmission | BaseException]) -> list[str]:
    return sorted(result.code if isinstance(result, RayError) else "accepted" for result in results)


def snapshot(house: JobHouse) -> JobSnapshot:
    return house.queue.snapshot()


def test_nine_of_ten_places_are_pressure_the_tenth_is_given_the_eleventh_is_not() -> None:
    async def main() -> None:
        house = await idle(queue_config(max_jobs=10))
        for number in range(9):
            await house.submit(str(number))
        assert snapshot(house).jobs_ratio == 0.9
        assert snapshot(house).reasons == ("jobs_pressure",)
        await house.submit("10")
        with pytest.raises(RayError) as refusal:
            await house.submit("11")
        assert refusal.value.code == "async_queue_full"
        assert refusal.value.details == {"totalJobs": 10, "pendingAdmissions": 0, "maxJobs": 10}
        assert house.counter("jobs_rejected", code="async_queue_full") == 1

    asyncio.run(main())


def test_of_two_simultaneous_submissions_for_one_place_exactly_one_is_accepted() -> None:
    async def main() -> None:
        house = await idle(queue_config(max_jobs=1))
        assert codes(await outcomes(house, 2)) == ["accepted", "async_queue_full"]
        assert snapshot(house).activity.reservations == 0

    asyncio.run(main())


def test_a_job_that_is_being_written_counts_once() -> None:
    async def main() -> None:
        store = MemoryStore()
        house = await idle(queue_config(max_jobs=3), store)
        store.gate = asyncio.Event()
        under_way = asyncio.ensure_future(outcomes(house, 2))
        await until(lambda: store.waiting == 2)
        assert (snapshot(house).total, snapshot(house).activity.reservations) == (0, 2)
        third = asyncio.ensure_future(house.submit("third"))
        await until(lambda: store.waiting == 3)
        with pytest.raises(RayError, match="holds its 3 jobs"):
            await house.submit("fourth")
        store.gate.set()
        assert codes(await under_way) == ["accepted", "accepted"]
        await third
        assert (snapshot(house).total, snapshot(house).activity.reservations) == (3, 0)

    asyncio.run(main())


def test_below_the_floor_everything_is_refused_and_said_to_be_low() -> None:
    async def main() -> None:
        store = MemoryStore()
        store.available = room(127.9)
        house = await idle(queue_config(min_free_storage_mib=128), store)
        with pytest.raises(RayError) as refusal:
            await house.submit()
        assert refusal.value.code == "async_queue_storage_low"
        assert "storageDir" not in str(refusal.value.details)
        seen = snapshot(house).document()
        assert seen["storageReserveRatio"] == 0.9922
        assert (seen["storageLow"], seen["storageAdmissionLow"], seen["pendingAdmissions"]) == (True, True, 0)
        assert seen["degraded"] is True

    asyncio.run(main())


def test_two_submissions_at_once_cannot_share_the_space_for_one() -> None:
    async def main() -> None:
        store = MemoryStore()
        store.available = room(5)
        house = await idle(queue_config(min_free_storage_mib=2), store)
        results = await outcomes(house, 2)
        assert codes(results) == ["accepted", "async_queue_storage_low"]
        refused = next(result for result in results if isinstance(result, RayError))
        assert isinstance(refused.details, dict)
        assert refused.details["reservedAdmissionMiB"] == 4
        assert refused.details["effectiveAvailableMiB"] == 1

    asyncio.run(main())


def test_reservations_alone_can_make_admission_low() -> None:
    levels = storage_levels(room(5), 2, queue_config(min_free_storage_mib=2).async_queue)
    assert (levels.low, levels.admission_low, levels.effective_mib) == (False, True, 1)


def test_a_disk_that_cannot_be_read_refuses_nobody_and_shows_nothing() -> None:
    async def main() -> None:
        store = MemoryStore()
        store.room_unknown = True
        house = await idle(store=store)
        await house.submit()
        shown = snapshot(house).document()
        assert not {"storageLow", "availableStorageMiB", "storageAdmissionReserveRatio", "storeMiB"} & set(shown)
        assert shown["degraded"] is False

    asyncio.run(main())


@pytest.mark.parametrize(
    ("inodes", "floor", "reservations", "refused"),
    [(1000, 1000, 1, True), (1002, 1000, 1, False), (1003, 1000, 2, True), (None, 1000, 1, False), (0, 0, 1, False)],
)
def test_a_record_and_its_temporary_file_need_free_inodes_above_the_floor(
    inodes: int | None, floor: int, reservations: int, refused: bool
) -> None:
    settings = queue_config(min_free_inodes=floor).async_queue
    levels = storage_levels(room(10_000, inodes), reservations, settings)
    if refused:
        with pytest.raises(RayError, match="too full"):
            check_storage(levels)
    else:
        check_storage(levels)


@pytest.mark.parametrize(("store_mib", "refused"), [(8, False), (8.1, True)])
def test_the_store_as_a_whole_has_a_budget(store_mib: float, refused: bool) -> None:
    levels = storage_levels(room(10_000, store_mib=store_mib), 1, queue_config(max_store_mib=10).async_queue)
    assert levels.admission_low is refused


def test_a_submission_that_cannot_be_written_is_refused_and_leaves_nothing() -> None:
    async def main() -> None:
        store = MemoryStore()
        house = await idle(store=store)
        store.failing = True
        with pytest.raises(RayError) as refusal:
            await house.submit()
        assert (refusal.value.code, refusal.value.status) == ("async_queue_storage_error", 503)
        assert snapshot(house).total == 0
        assert snapshot(house).activity.reservations == 0
        assert "storage_failing" in snapshot(house).reasons
        store.failing = False
        await house.submit()
        assert "storage_failing" not in snapshot(house).reasons

    asyncio.run(main())


def test_a_client_that_goes_away_while_its_job_is_written_leaves_a_whole_job() -> None:
    async def main() -> None:
        store = MemoryStore()
        house = await idle(store=store)
        store.gate = asyncio.Event()
        submission = asyncio.ensure_future(house.submit(key="k"))
        await until(lambda: store.waiting == 1)
        submission.cancel()
        await asyncio.wait([submission])
        store.gate.set()
        await until(lambda: snapshot(house).total == 1)
        assert list(store.files) == [entry.record.id for entry in house.queue._book]
        assert (await house.submit(key="k")).replayed

    asyncio.run(main())
