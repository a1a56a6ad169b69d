"""The state of callbacks: counted before they are tried, kept after, and when the next one is due."""

from __future__ import annotations

import asyncio

import pytest

from ray.errors import RayError
from ray.jobs.callbacks import INTERRUPTED
from ray.jobs.record import JobCallback, JobRecord
from ray.jobs.sender import DeliveryOutcome
from ray.runtime import normalise_request
from tests.fakes.provider import until
from tests.jobs.house import NOON, JobHouse, MemoryStore, a_record, at, queue_config, stored
from tests.runtime.support import ALICE

URL = "https://hooks.example:8443/path?token=t0ken"


class Deliverer:
    """Takes down what it is asked to deliver."""

    workers = 3

    def __init__(self) -> None:
        self.active = 0
        self.scheduled = 0
        self.asked: list[tuple[str, str, float]] = []
        self.cancelled = False
        self.stopped = False

    async def admit(self, value: object) -> str:
        if value != URL:
            raise RayError("invalid_request", "not that one")
        return URL

    def schedule(self, job_id: str, host: str, due_at: float) -> None:
        self.asked.append((job_id, host, due_at))

    def cancel_all(self) -> None:
        self.cancelled = True

    async def stop(self, timeout_s: float) -> bool:
        self.stopped = True
        return True


def ended(job_id: str = "job_1", **callback: object) -> JobRecord:
    return a_record(
        job_id,
        status="cancelled",
        updated_at=at(-60),
        completed_at=at(-60),
        expires_at=at(100),
        callback=JobCallback(URL, **callback),  # type: ignore[arg-type]  # names of its fields
    )


async def house_of(*records: JobRecord, resume: bool = True, **settings: int) -> tuple[JobHouse, Deliverer]:
    config = queue_config(None, **settings)
    house, deliverer = JobHouse(store=stored(records), config=config), Deliverer()
    house.queue.callbacks = deliverer
    await house.queue.start()
    if resume:
        house.queue.resume()
    return house, deliverer


def callback(house: JobHouse, job_id: str = "job_1") -> JobCallback:
    found = house.store.record(job_id).callback
    assert found is not None
    return found


def test_a_job_that_ends_is_told_of_and_only_its_host_is_shown() -> None:
    async def main() -> None:
        house, deliverer = await house_of()
        request = normalise_request({"input": "hello", "cache": False}, house.config)
        record = (await house.queue.submit(request, ALICE, URL)).record
        assert record.callback == JobCallback(URL)
        await until(lambda: bool(deliverer.asked))
        assert house.status(record.id) == "succeeded"
        assert deliverer.asked == [(record.id, "hooks.example", NOON)]
        assert "t0ken" not in house.log.getvalue()
        assert "8443" not in house.log.getvalue()
        assert {line.get("callbackHost") for line in house.lines() if "jobId" in line} == {"hooks.example"}
        await house.close()
        assert deliverer.stopped

    asyncio.run(main())


def test_cancelled_jobs_are_told_of_too() -> None:
    async def main() -> None:
        house, deliverer = await house_of()
        house.queue._dispatcher.close()
        request = normalise_request({"input": "hello"}, house.config)
        job_id = (await house.queue.submit(request, ALICE, URL)).record.id
        await house.queue.cancel(job_id, ALICE)
        assert [asked[0] for asked in deliverer.asked] == [job_id]

    asyncio.run(main())


def test_a_refused_url_takes_no_place_and_a_full_store_is_said_before_it() -> None:
    async def main() -> None:
        house, _ = await house_of(max_jobs=1)
        request = normalise_request({"input": "hello"}, house.config)
        with pytest.raises(RayError, match="not that one"):
            await house.queue.submit(request, ALICE, "http://127.0.0.1/")
        assert house.queue.snapshot().activity.reservations == 0
        await house.queue.submit(request, ALICE)
        with pytest.raises(RayError) as refusal:
            await house.queue.submit(request, ALICE, "http://127.0.0.1/")
        assert refusal.value.code == "async_queue_full"
        await house.close()

    asyncio.run(main())


def test_what_was_due_before_a_restart_is_due_then_and_not_before_resume() -> None:
    async def main() -> None:
        records = (ended("job_1"), ended("job_2", attempts=1, next_attempt_at=at(500)), a_record("job_3"))
        house, deliverer = await house_of(*records, resume=False)
        assert deliverer.asked == []
        house.queue.resume()
        house.queue.resume()
        assert sorted(deliverer.asked) == [("job_1", "hooks.example", NOON), ("job_2", "hooks.example", NOON + 500)]
        await house.close()

    asyncio.run(main())


def test_an_attempt_is_counted_on_disk_before_it_is_made() -> None:
    async def main() -> None:
        house, _ = await house_of(ended())
        record = await house.queue.attempt_started("job_1")
        assert record is not None
        assert record.request  # the whole record: it becomes the body
        assert (callback(house).attempts, callback(house).last_attempt_at) == (1, at(0))
        assert record.updated_at == at(-60)  # every attempt carries the same body
        house.store.failing = True
        with pytest.raises(RayError, match="No space"):
            await house.queue.attempt_started("job_1")
        await house.close()

    asyncio.run(main())


def test_a_delivery_is_kept_and_never_repeated() -> None:
    async def main() -> None:
        house, _ = await house_of(ended())
        await house.queue.attempt_started("job_1")
        assert await house.queue.attempt_ended("job_1", DeliveryOutcome("delivered", "")) is None
        assert (callback(house).status, callback(house).delivered_at) == ("delivered", at(0))
        assert await house.queue.attempt_started("job_1") is None
        assert callback(house).attempts == 1
        # It can be read for its whole time from now on.
        assert house.store.record("job_1").expires_at == at(86_400)
        await house.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("attempts", "retry_after", "delay"),
    [(1, None, 1), (2, None, 2), (5, None, 16), (20, None, 3600), (1, 120.0, 120), (1, 99_999.0, 3600), (5, 2.0, 16)],
)
def test_a_failed_delivery_is_tried_again_later_and_later_and_as_the_receiver_asks(
    attempts: int, retry_after: float | None, delay: float
) -> None:
    async def main() -> None:
        house, _ = await house_of(ended(attempts=attempts - 1), max_callback_attempts=100)
        await house.queue.attempt_started("job_1")
        due = await house.queue.attempt_ended("job_1", DeliveryOutcome("retry", "http_503", retry_after))
        assert due == NOON + delay
        assert callback(house).next_attempt_at == at(delay)
        assert (callback(house).status, callback(house).last_error) == ("pending", "http_503")
        await house.close()

    asyncio.run(main())


@pytest.mark.parametrize(("kind", "attempts"), [("give_up", 0), ("retry", 4)])
def test_a_refusal_for_good_and_the_last_attempt_end_it(kind: str, attempts: int) -> None:
    async def main() -> None:
        house, _ = await house_of(ended(attempts=attempts), max_callback_attempts=5)
        await house.queue.attempt_started("job_1")
        outcome = DeliveryOutcome(kind, "http_410")  # type: ignore[arg-type]  # one of its words
        assert await house.queue.attempt_ended("job_1", outcome) is None
        assert (callback(house).status, callback(house).last_error) == ("failed", "http_410")
        assert house.store.record("job_1").status == "cancelled"
        await house.close()

    asyncio.run(main())


def test_a_planned_restart_costs_no_attempt() -> None:
    async def main() -> None:
        house, _ = await house_of(ended(attempts=4), max_callback_attempts=5)
        await house.queue.attempt_started("job_1")
        await house.queue.attempt_ended("job_1", DeliveryOutcome("retry", INTERRUPTED))
        assert (callback(house).status, callback(house).attempts) == ("pending", 4)
        await house.close()

    asyncio.run(main())


def test_a_job_that_is_gone_has_nothing_to_deliver() -> None:
    async def main() -> None:
        house, _ = await house_of()
        assert await house.queue.attempt_started("job_gone") is None
        assert await house.queue.attempt_ended("job_gone", DeliveryOutcome("delivered", "")) is None
        await house.close()

    asyncio.run(main())


def test_past_its_time_a_job_with_a_delivery_left_stays_and_keeps_its_place() -> None:
    async def main() -> None:
        house, _ = await house_of(ended(), max_jobs=1)
        house.now += 10_000
        assert (await house.queue.find("job_1", ALICE)).status == "cancelled"
        with pytest.raises(RayError, match="holds its 1 jobs"):
            await house.submit()
        await house.close()

    asyncio.run(main())


def test_without_a_deliverer_a_callback_is_refused() -> None:
    async def main() -> None:
        house = JobHouse(store=MemoryStore())
        await house.queue.start()
        request = normalise_request({"input": "hello"}, house.config)
        with pytest.raises(RayError) as refusal:
            await house.queue.submit(request, ALICE, URL)
        assert refusal.value.code == "invalid_request"

    asyncio.run(main())
