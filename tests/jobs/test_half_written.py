"""Writes that go wrong in unusual ways.

A disk that refuses a record although it has it already, as when the directory cannot be synced: what was refused has
not happened, and the job goes on from what was published. And a state that no record can hold: the job ends all the
same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ray.clock import parse_iso
from ray.errors import RayError
from ray.jobs.record import JobRecord
from ray.jobs.sender import DeliveryOutcome
from tests.fakes.provider import FakeProvider, until
from tests.jobs.ended_job import ended_job
from tests.jobs.house import JobHouse, queue_config, stored
from tests.runtime.support import ALICE


def once(matches: Callable[[JobRecord], bool]) -> Callable[[JobRecord], bool]:
    """True for the first record that matches."""
    seen: list[JobRecord] = []

    def fails(record: JobRecord) -> bool:
        if seen or not matches(record):
            return False
        seen.append(record)
        return True

    return fails


def test_a_start_that_was_refused_is_made_again_and_counted_once() -> None:
    async def main() -> None:
        house = JobHouse(config=queue_config(poll_interval_ms=1))
        house.store.half_fails_for = once(lambda record: record.status == "running")
        await house.open()
        job_id = await house.job()
        await until(lambda: house.is_over(job_id))
        record = await house.queue.find(job_id, ALICE)
        assert (record.status, record.attempts, len(house.provider.streamed)) == ("succeeded", 1, 1)
        await house.close()

    asyncio.run(main())


def test_a_cancellation_that_was_refused_shows_nowhere_and_can_be_asked_for_again() -> None:
    async def main() -> None:
        house = JobHouse()
        house.store.half_fails_for = once(lambda record: record.status == "cancelled")
        await house.queue.start()
        job_id = await house.job()
        with pytest.raises(RayError) as refused:
            await house.queue.cancel(job_id, ALICE)
        assert refused.value.code == "async_queue_storage_error"
        assert (await house.queue.find(job_id, ALICE)).status == "queued"
        record, _ = await house.queue.cancel(job_id, ALICE)
        assert (record.status, house.status(job_id)) == ("cancelled", "cancelled")
        assert (await house.queue.find(job_id, ALICE)).status == "cancelled"
        await house.queue.delete(job_id, ALICE)
        await house.close()

    asyncio.run(main())


def test_a_delivery_that_could_not_be_noted_is_noted_at_the_next_try_and_the_job_settles() -> None:
    async def main() -> None:
        pending = ended_job()
        house = JobHouse(store=stored([pending]))
        house.now = parse_iso("2026-11-21T17:20:06.000Z")
        await house.queue.start()
        assert (await house.queue.attempt_started(pending.id)) is not None
        house.store.half_fails_for = once(lambda record: True)
        delivered = DeliveryOutcome("delivered", "http_200")
        with pytest.raises(RayError):
            await house.queue.attempt_ended(pending.id, delivered)
        await house.queue.attempt_ended(pending.id, delivered)
        entry = house.queue._book.get(pending.id)
        assert entry is not None
        assert entry.record.is_settled
        assert entry.full is None
        await house.close()

    asyncio.run(main())


def test_a_running_job_whose_next_state_fits_no_record_ends_as_failed() -> None:
    def unwritable(record: JobRecord) -> bool:
        if record.status == "queued" and record.started_at is not None:
            raise ValueError("no form for this")
        return False

    async def main() -> None:
        house = JobHouse(FakeProvider([RayError("provider_timeout", "slow")]))
        house.store.fails_for = unwritable
        await house.open()
        job_id = await house.job()
        await until(lambda: house.is_over(job_id))
        record = house.store.record(job_id)
        assert (record.status, record.attempts) == ("failed", 1)
        assert record.error is not None
        assert "no form" not in record.error.message
        await house.close()

    asyncio.run(main())
