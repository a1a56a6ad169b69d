"""What happens by the clock alone."""

from __future__ import annotations

import asyncio

import pytest

from ray.jobs.record import JobRecord
from ray.jobs.sweep import sweep_pause
from tests.fakes.provider import until
from tests.fakes.virtual_time import run_in_virtual_time
from tests.jobs.house import JobHouse, a_record, at, queue_config, stored
from tests.runtime.support import ALICE


def settled(job_id: str, expires: float) -> JobRecord:
    return a_record(job_id, status="cancelled", updated_at=at(-60), completed_at=at(-60), expires_at=at(expires))


@pytest.mark.parametrize(("ttl_ms", "pause"), [(86_400_000, 60), (240_000, 60), (120_000, 30), (4_000, 1), (1, 1)])
def test_the_pause_is_a_quarter_of_the_retention_within_a_second_and_a_minute(ttl_ms: int, pause: float) -> None:
    assert sweep_pause(ttl_ms) == pause


def test_an_idle_gateway_removes_expired_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        house = await JobHouse(store=stored([settled("job_1", 30)])).open()
        await asyncio.sleep(59)
        assert "job_1" in house.store.files
        house.now += 31
        await asyncio.sleep(2)
        assert house.store.files == {}
        assert house.queue.snapshot().total == 0
        await house.close()

    run_in_virtual_time(main(), monkeypatch)


def test_an_overdue_job_ends_without_being_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        house = JobHouse(store=stored([a_record(deadline_at=at(-1))]))
        await house.open()
        await until(lambda: house.is_over("job_1"))
        record = house.store.record("job_1")
        assert record.error is not None
        assert (record.status, record.error.code) == ("failed", "job_deadline_exceeded")
        assert house.provider.streamed == []
        await house.close()

    run_in_virtual_time(main(), monkeypatch)


def test_an_overdue_job_whose_record_cannot_be_read_keeps_no_other_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        store = stored([a_record("job_1", deadline_at=at(-2)), a_record("job_2", deadline_at=at(-1))])
        house = JobHouse(store=store)
        await house.queue.start()
        del store.files["job_1"]
        house.queue._dispatcher.close()  # the backend is away: only the sweep looks
        house.queue.resume()
        await until(lambda: house.is_over("job_2"))
        assert house.status("job_1") == "queued"
        await house.close()

    run_in_virtual_time(main(), monkeypatch)


def test_a_submission_lets_all_expired_jobs_go_and_takes_one_of_their_places() -> None:
    async def main() -> None:
        house = JobHouse(
            store=stored([settled(f"job_{number}", 30) for number in range(24)]), config=queue_config(max_jobs=24)
        )
        await house.queue.start()
        house.now += 31
        job_id = await house.job()
        await until(lambda: list(house.store.files) == [job_id])
        assert len(house.store.removed) == 24
        assert house.counter("jobs_pruned") == 24
        await house.close()

    asyncio.run(main())


def test_a_file_that_cannot_be_removed_is_tried_again_and_its_job_is_gone_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        house = await JobHouse(store=stored([settled("job_1", 30)])).open()
        house.now += 31
        house.store.failing = True
        assert house.queue.page(ALICE).records == ()
        await asyncio.sleep(100)
        assert "job_1" in house.store.files
        house.store.failing = False
        await asyncio.sleep(100)
        assert house.store.files == {}
        await house.close()

    run_in_virtual_time(main(), monkeypatch)


def test_only_the_latest_thousand_or_so_of_expired_jobs_are_remembered() -> None:
    async def main() -> None:
        house = JobHouse(store=stored([settled(f"job_{number:04}", 30) for number in range(1_030)]))
        house = JobHouse(store=house.store, config=queue_config(max_jobs=2_000))
        await house.queue.start()
        house.now += 31
        house.queue.page(ALICE)
        assert house.queue._book.expired_owner("job_0005") is None
        assert house.queue._book.expired_owner("job_0006") == (None,)
        await house.close()

    asyncio.run(main())
