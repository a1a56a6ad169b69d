"""What a start makes of the jobs it finds."""

from __future__ import annotations

import asyncio

import pytest

from ray.jobs.record import JobCallback, JobError, JobRecord, encode
from ray.jobs.recovery import plan
from ray.jobs.transitions import Retention
from tests.fakes.provider import until
from tests.jobs.house import NOON, JobHouse, MemoryStore, a_record, at, queue_config, stored

KEPT = Retention(86_400_000, retain_request=True)


def decided(*records: JobRecord, max_jobs: int = 10, max_callback_attempts: int = 5) -> dict[str, JobRecord]:
    settings = queue_config(max_jobs=max_jobs, max_callback_attempts=max_callback_attempts).async_queue
    return {record.id: record for record in plan(records, NOON, settings, KEPT).kept}


def settled(job_id: str, seconds: float = -60.0, **changes: object) -> JobRecord:
    values: dict[str, object] = {
        "status": "cancelled",
        "updated_at": at(seconds),
        "completed_at": at(seconds),
        "expires_at": at(seconds + 3600),
        **changes,
    }
    return a_record(job_id, **values)


def test_a_job_that_died_with_attempts_left_is_queued_again_and_the_attempt_counts() -> None:
    record = decided(a_record(status="running", attempts=1, max_attempts=2))["job_1"]
    assert (record.status, record.attempts) == ("queued", 1)
    assert record.error is not None
    assert record.error.code == "job_recovered"


def test_a_job_that_died_in_its_last_attempt_has_failed() -> None:
    record = decided(a_record(status="running", attempts=2, max_attempts=2))["job_1"]
    assert (record.status, record.attempts, record.completed_at) == ("failed", 2, at(0))
    assert record.error is not None
    assert record.error.code == "job_recovery_attempts_exhausted"


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_callback_without_attempts_left_has_failed_and_its_job_has_not(attempts: int) -> None:
    callback = JobCallback("https://h.example/", attempts=attempts, last_error="timeout")
    record = decided(settled("job_1", callback=callback), max_callback_attempts=attempts)["job_1"]
    assert record.status == "cancelled"
    assert record.callback is not None
    assert (record.callback.status, record.callback.last_error) == ("failed", "timeout")


def test_a_callback_with_attempts_left_is_as_it_was() -> None:
    record = settled("job_1", callback=JobCallback("https://h.example/", attempts=1))
    assert decided(record, max_callback_attempts=2) == {"job_1": record}


def test_deciding_again_changes_nothing() -> None:
    settings = queue_config(max_jobs=2).async_queue
    records = [
        a_record("job_a", status="running", attempts=1),
        a_record("job_b", status="running", attempts=3),
        a_record("job_c"),
        settled("job_d"),
        settled("job_e", callback=JobCallback("https://h.example/", attempts=5)),
    ]
    once = plan(records, NOON, settings, KEPT)
    twice = plan(once.kept, NOON + 1, settings, KEPT)
    assert twice.kept == once.kept
    assert not twice.changed


def test_expired_jobs_go_and_those_with_a_delivery_left_stay() -> None:
    old = settled("job_old", -7200)
    told = settled("job_told", -7200, callback=JobCallback("https://h.example/"))
    result = plan([old, told], NOON, queue_config().async_queue, KEPT)
    assert [record.id for record in result.expired] == ["job_old"]
    assert [record.id for record in result.kept] == ["job_told"]


def test_the_longest_settled_go_first_when_there_are_too_many_and_work_never_does() -> None:
    records = [settled("job_old", -90), settled("job_new", -30), a_record("job_q"), settled("job_middle", -60)]
    result = plan(records, NOON, queue_config(max_jobs=2).async_queue, KEPT)
    assert [record.id for record in result.overflowed] == ["job_old", "job_middle"]
    assert [record.id for record in result.kept] == ["job_q", "job_new"]


def test_one_place_one_settled_and_one_queued_keeps_the_queued() -> None:
    assert list(decided(settled("job_s"), a_record("job_q"), max_jobs=1)) == ["job_q"]


def test_more_work_than_places_all_stays_oldest_first() -> None:
    records = [a_record(f"job_{number}", created_at=at(-number)) for number in range(4)]
    assert list(decided(*records, max_jobs=2)) == ["job_3", "job_2", "job_1", "job_0"]


def test_a_clock_that_was_set_back_makes_no_job_stay_longer() -> None:
    record = decided(settled("job_1", +10_000))["job_1"]
    assert record.expires_at == at(3600)


def test_decisions_are_on_disk_before_anything_runs_and_the_error_is_gone_once_it_does() -> None:
    async def main() -> None:
        house = JobHouse(
            store=stored([a_record(status="running", attempts=1), a_record("job_2", status="running", attempts=3)])
        )
        await house.queue.start()
        assert house.store.record("job_1").error is not None
        assert house.store.record("job_2").status == "failed"
        assert house.counter("jobs_recovered") == 1
        assert house.counter("jobs_failed", code="job_recovery_attempts_exhausted") == 1
        house.queue.resume()
        await until(lambda: house.is_over("job_1"))
        assert [(record.status, record.error) for record in house.store.writes[2:]] == [
            ("running", None),
            ("succeeded", None),
        ]
        await house.close()

    asyncio.run(main())


def test_a_disk_that_does_not_take_the_decisions_delays_them_and_loses_nothing() -> None:
    async def main() -> None:
        store = stored([a_record(status="running", attempts=1), a_record("job_2", status="running", attempts=3)])
        store.fails_for = lambda record: True
        house = JobHouse(store=store, config=queue_config(poll_interval_ms=1))
        await house.queue.start()
        assert house.status("job_2") == "failed"
        store.fails_for = lambda record: False
        house.queue.resume()
        for _ in range(1000):
            if house.is_over("job_1") and store.record("job_2").status == "failed":
                break
            await asyncio.sleep(0.01)
        assert store.record("job_1").status == "succeeded"
        assert store.record("job_2").status == "failed"
        await house.close()

    asyncio.run(main())


def test_starting_twice_reads_once() -> None:
    async def main() -> None:
        house = JobHouse(store=stored([a_record()]))
        await house.queue.start()
        await house.queue.start()
        assert house.queue.snapshot().total == 1

    asyncio.run(main())


def test_files_of_expired_jobs_are_removed_in_the_background() -> None:
    async def main() -> None:
        store = MemoryStore({record.id: encode(record) for record in (settled("job_1", -7200), a_record("job_2"))})
        house = JobHouse(store=store)
        await house.queue.start()
        await until(lambda: "job_1" not in store.files)
        assert list(store.files) == ["job_2"]

    asyncio.run(main())


def test_an_error_of_the_last_attempt_is_kept_while_the_job_waits() -> None:
    error = JobError("slow", "provider_timeout")
    assert decided(a_record(attempts=1, error=error))["job_1"].error == error
