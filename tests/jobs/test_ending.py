"""How a job ends before its time, is fetched, waited for, deleted; and who may do so."""

from __future__ import annotations

import asyncio

import pytest

from ray.errors import RayError
from ray.jobs.record import JobCallback
from tests.fakes.provider import STOP, FakeProvider, Step, until
from tests.jobs.house import JobHouse, MemoryStore, a_record, at, queue_config, stored
from tests.runtime.support import ALICE, BOB

WHATEVER_IS_ASKED = ("find", "wait", "cancel", "delete")


async def use(house: JobHouse, what: str, job_id: str, caller: object = ALICE) -> object:
    """One of the four things that can be asked about a job."""
    arguments = (job_id, caller, 0) if what == "wait" else (job_id, caller)
    return await getattr(house.queue, what)(*arguments)


async def refusal(house: JobHouse, what: str, job_id: str, caller: object = ALICE) -> str:
    with pytest.raises(RayError) as refused:
        await use(house, what, job_id, caller)
    return refused.value.code


def hanging() -> FakeProvider:
    return FakeProvider([asyncio.Event(), STOP])


# -- cancelling


def test_a_queued_job_is_cancelled_at_once_and_never_runs() -> None:
    async def main() -> None:
        house = JobHouse()
        await house.queue.start()
        job_id = await house.job()
        record, accepted = await house.queue.cancel(job_id, ALICE)
        assert (record.status, accepted, record.attempts) == ("cancelled", False, 0)
        assert house.store.record(job_id).status == "cancelled"
        house.queue.resume()
        other = await house.job()
        await until(lambda: house.is_over(other))
        assert len(house.provider.streamed) == 1
        assert house.counter("jobs_cancelled") == 1
        await house.close()

    asyncio.run(main())


def test_cancelling_a_running_job_is_written_down_and_frees_the_backend() -> None:
    async def main() -> None:
        house = await JobHouse(hanging()).open()
        job_id = await house.job()
        await until(lambda: house.provider.active == 1)
        record, accepted = await house.queue.cancel(job_id, ALICE)
        assert (record.status, accepted, record.cancel_requested) == ("running", True, True)
        await until(lambda: house.is_over(job_id))
        ended = await house.queue.find(job_id, ALICE)
        assert (ended.status, ended.cancel_requested, ended.error) == ("cancelled", False, None)
        assert (house.provider.active, house.provider.cancelled) == (0, 1)
        assert [written.status for written in house.store.writes] == ["queued", "running", "running", "cancelled"]
        await house.close()

    asyncio.run(main())


def test_a_cancellation_that_meets_the_result_lets_one_of_them_win() -> None:
    async def main() -> None:
        store = MemoryStore()
        house = JobHouse(store=store)
        store.fails_for = lambda record: record.status == "succeeded"
        await house.open()
        job_id = await house.job()
        await until(lambda: house.queue.snapshot().activity.pending_writes == 1)
        record, accepted = await house.queue.cancel(job_id, ALICE)
        assert (record.status, accepted) == ("running", True)
        store.fails_for = lambda record: False
        for _ in range(500):
            if house.is_over(job_id):
                break
            await asyncio.sleep(0.01)
        terminal = [written.status for written in store.writes if written.is_terminal]
        assert terminal == ["succeeded"]  # the result was there first
        await house.close()

    asyncio.run(main())


def test_a_cancellation_during_the_write_of_the_start_still_cancels() -> None:
    async def main() -> None:
        house = JobHouse(hanging())
        await house.open()
        job_id = await house.job()
        house.store.gate = asyncio.Event()
        await until(lambda: house.store.waiting == 1)
        cancelling = asyncio.ensure_future(house.queue.cancel(job_id, ALICE))
        await asyncio.sleep(0)
        house.store.gate.set()
        await cancelling
        await until(lambda: house.is_over(job_id))
        assert house.store.record(job_id).status == "cancelled"
        assert house.provider.active == 0
        await house.close()

    asyncio.run(main())


def test_cancelling_what_has_ended_changes_nothing() -> None:
    async def main() -> None:
        house = await JobHouse().open()
        job_id = await house.job()
        await until(lambda: house.is_over(job_id))
        before = await house.queue.find(job_id, ALICE)
        assert await house.queue.cancel(job_id, ALICE) == (before, False)
        await house.close()

    asyncio.run(main())


def test_a_cancellation_that_cannot_be_written_is_refused_and_changes_nothing() -> None:
    async def main() -> None:
        house = JobHouse()
        await house.queue.start()
        job_id = await house.job()
        house.store.failing = True
        assert await refusal(house, "cancel", job_id) == "async_queue_storage_error"
        assert house.status(job_id) == "queued"

    asyncio.run(main())


def test_a_cancellation_survives_a_crash() -> None:
    async def main() -> None:
        house = JobHouse(store=stored([a_record(status="running", attempts=1, cancel_requested=True)]))
        await house.queue.start()
        assert house.status("job_1") == "cancelled"

    asyncio.run(main())


# -- deleting


def test_a_job_that_has_ended_is_deleted_for_good() -> None:
    async def main() -> None:
        house = await JobHouse().open()
        job_id = await house.job()
        await until(lambda: house.is_over(job_id))
        await house.queue.delete(job_id, ALICE)
        assert job_id not in house.store.files
        assert await refusal(house, "find", job_id) == "job_not_found"
        assert house.counter("jobs_deleted") == 1
        await house.close()

    asyncio.run(main())


def test_a_job_with_work_or_a_delivery_left_is_not_deleted() -> None:
    async def main() -> None:
        told = a_record("job_told", status="cancelled", completed_at=at(0), callback=JobCallback("https://h.example/"))
        house = JobHouse(store=stored([a_record(), told]))
        await house.queue.start()
        assert await refusal(house, "delete", "job_1") == "job_not_settled"
        assert await refusal(house, "delete", "job_told") == "job_not_settled"

    asyncio.run(main())


def test_a_job_that_cannot_be_unlinked_is_still_there() -> None:
    async def main() -> None:
        house = await JobHouse().open()
        job_id = await house.job()
        await until(lambda: house.is_over(job_id))
        house.store.failing = True
        assert await refusal(house, "delete", job_id) == "async_queue_storage_error"
        house.store.failing = False
        assert (await house.queue.find(job_id, ALICE)).status == "succeeded"
        await house.close()

    asyncio.run(main())


# -- whose it is


@pytest.mark.parametrize("what", WHATEVER_IS_ASKED)
def test_to_others_a_job_does_not_exist(what: str) -> None:
    async def main() -> None:
        house = JobHouse()
        await house.queue.start()
        job_id = await house.job(caller=ALICE)
        assert await refusal(house, what, job_id, BOB) == "job_not_found"
        assert house.status(job_id) == "queued"
        assert [record.id for record in house.queue.page(ALICE).records] == [job_id]
        assert house.queue.page(BOB).records == ()

    asyncio.run(main())


@pytest.mark.parametrize("what", WHATEVER_IS_ASKED)
def test_a_job_is_its_owners_after_a_restart_too(what: str) -> None:
    async def main() -> None:
        disk: dict[str, bytes] = {}
        before = JobHouse(store=MemoryStore(disk))
        await before.queue.start()
        job_id = await before.job(caller=ALICE)
        await before.queue.cancel(job_id, ALICE)
        await before.close()
        assert ALICE.key_hash is not None
        assert ALICE.key_hash.encode() not in disk[job_id]
        after = JobHouse(store=MemoryStore(disk))
        await after.queue.start()
        assert await refusal(after, what, job_id, BOB) == "job_not_found"
        await use(after, what, job_id, ALICE)

    asyncio.run(main())


@pytest.mark.parametrize("what", WHATEVER_IS_ASKED)
@pytest.mark.parametrize("job_id", ["../job", "x" * 129, "", "job%2f", "job_1.json", "job_1\n"])
def test_what_is_no_id_is_refused_before_anything_is_looked_up(what: str, job_id: str) -> None:
    async def main() -> None:
        house = JobHouse()
        await house.queue.start()
        assert await refusal(house, what, job_id) == "invalid_request"

    asyncio.run(main())


# -- waiting


def test_waiting_ends_with_the_job() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        house = await JobHouse(FakeProvider([gate, "x", STOP])).open()
        job_id = await house.job()
        waiting = [asyncio.ensure_future(house.queue.wait(job_id, ALICE, 20)) for _ in range(3)]
        await until(lambda: house.provider.active == 1)
        assert not any(task.done() for task in waiting)
        gate.set()
        assert [(await task).status for task in waiting] == ["succeeded"] * 3
        assert (await house.queue.wait(job_id, ALICE, 20)).status == "succeeded"
        await house.close()

    asyncio.run(main())


def test_waiting_ends_when_the_time_is_up_or_the_queue_stops() -> None:
    async def main() -> None:
        house = JobHouse()
        await house.queue.start()
        job_id = await house.job()
        assert (await house.queue.wait(job_id, ALICE, 0.001)).status == "queued"
        waiting = asyncio.ensure_future(house.queue.wait(job_id, ALICE, 20))
        await asyncio.sleep(0)
        house.queue.begin_stop()
        assert (await waiting).status == "queued"
        assert (await house.queue.wait(job_id, ALICE, 20)).status == "queued"

    asyncio.run(main())


def test_who_stops_waiting_disturbs_nobody() -> None:
    async def main() -> None:
        house = JobHouse()
        await house.queue.start()
        job_id = await house.job()
        impatient, patient = (asyncio.ensure_future(house.queue.wait(job_id, ALICE, 20)) for _ in range(2))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.wait([impatient])
        entry = house.queue._book.get(job_id)
        assert entry is not None
        assert len(entry.waiters) == 1, "who has gone is remembered"
        await house.queue.cancel(job_id, ALICE)
        assert (await patient).status == "cancelled"

    asyncio.run(main())


# -- retention


def test_an_expired_job_is_gone_said_to_be_expired_and_unlinked() -> None:
    async def main() -> None:
        house = await JobHouse(config=queue_config(completed_ttl_ms=60_000)).open()
        job_id = await house.job()
        await until(lambda: house.is_over(job_id))
        record = await house.queue.find(job_id, ALICE)
        assert record.expires_at == at(60)
        house.now += 59.999
        await house.queue.find(job_id, ALICE)
        house.now += 0.001
        assert await refusal(house, "find", job_id) == "job_expired"
        assert await refusal(house, "find", job_id, BOB) == "job_not_found"
        await until(lambda: job_id not in house.store.files)
        assert house.counter("jobs_pruned") == 1
        await house.close()

    asyncio.run(main())


def test_a_job_may_ask_for_a_shorter_time_but_not_for_a_longer_one() -> None:
    async def main() -> None:
        house = await JobHouse(config=queue_config(completed_ttl_ms=60_000)).open()
        submission = await house.submit(ttl_ms=1_000)
        await until(lambda: house.is_over(submission.record.id))
        assert (await house.queue.find(submission.record.id, ALICE)).expires_at == at(1)
        for ttl_ms in (0, 60_001):
            with pytest.raises(RayError, match="resultTtlMs"):
                await house.submit(ttl_ms=ttl_ms)
        await house.close()

    asyncio.run(main())


@pytest.mark.parametrize("ending", ["succeeded", "failed", "cancelled"])
def test_prompts_are_blanked_at_the_end_when_they_are_not_to_be_kept(ending: str) -> None:
    async def main() -> None:
        secret = "my secret question"
        script: list[Step] = [RayError("invalid_request", "no")] if ending == "failed" else ["fine", STOP]
        house = JobHouse(FakeProvider(script), queue_config(retain_request=False))
        await house.queue.start()
        job_id = await house.job(secret)
        assert secret.encode() in house.store.files[job_id]
        if ending == "cancelled":
            await house.queue.cancel(job_id, ALICE)
        house.queue.resume()
        await until(lambda: house.is_over(job_id))
        assert house.status(job_id) == ending
        assert secret.encode() not in house.store.files[job_id]
        assert secret not in house.log.getvalue()
        await house.close()

    asyncio.run(main())
