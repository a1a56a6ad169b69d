"""When a job runs, what its failures cost, and what becomes of it while the disk does not take what is written."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from ray.clock import Deadline, iso_timestamp
from ray.errors import RayError
from ray.jobs.record import JobRecord
from ray.runtime import Reader, normalise_request
from ray.types import Health
from tests.fakes.provider import STOP, FakeProvider, Step, until
from tests.fakes.virtual_time import run_in_virtual_time
from tests.jobs.house import NOON, JobHouse, MemoryStore, a_record, at, queue_config, stored
from tests.runtime.support import ALICE, BOB

Main = Coroutine[Any, Any, None]


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


async def ended(house: JobHouse, job_id: str) -> JobRecord:
    """The job once it has its outcome; time passes as it must."""
    for _ in range(10_000):
        if house.is_over(job_id):
            return house.store.record(job_id)
        await asyncio.sleep(0.1)
    raise AssertionError(f"the job did not end, it is {house.status(job_id)}")


async def interactive(house: JobHouse, text: str) -> Reader:
    request = normalise_request({"input": text, "cache": False}, house.config)
    return await house.runtime.generate(request, BOB, Deadline.after_ms(60_000), f"req_{text}")


def failing(*errors: BaseException, then: Sequence[Step] = ("fine", STOP)) -> FakeProvider:
    return FakeProvider(*([error] for error in errors), then)


def unwrapped(house: JobHouse) -> list[str]:
    return [request.messages[-1].content for request in house.provider.streamed]


# -- order


def test_jobs_run_in_the_order_they_came_one_at_a_time(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        house = JobHouse()
        await house.queue.start()
        jobs = [await house.job(text) for text in ("a", "b", "c")]
        assert house.provider.streamed == []  # nothing runs before `resume`
        house.queue.resume()
        for job_id in jobs:
            assert (await ended(house, job_id)).status == "succeeded"
        assert unwrapped(house) == ["a", "b", "c"]
        assert house.provider.most_active == 1

    run_in_virtual_time(main(), patch)


def test_as_many_jobs_run_at_once_as_are_allowed(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        config = queue_config({"concurrency": 4}, dispatch_concurrency=2)
        house = await JobHouse(FakeProvider([gate, "x", STOP]), config).open()
        jobs = [await house.job(str(number)) for number in range(4)]
        await until(lambda: house.provider.active == 2)
        assert house.queue.snapshot().activity.running == 2
        gate.set()
        for job_id in jobs:
            await ended(house, job_id)
        assert house.provider.most_active == 2

    run_in_virtual_time(main(), patch)


def test_interactive_requests_go_first(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        gates = [asyncio.Event(), asyncio.Event()]
        provider = FakeProvider([gates[0], "one", STOP], [gates[1], "two", STOP], ["three", STOP])
        house = await JobHouse(provider, queue_config({"concurrency": 1})).open()
        first = await interactive(house, "first")
        second = await interactive(house, "second")
        await until(lambda: provider.active == 1)
        job_id = await house.job("job")
        await asyncio.sleep(5)
        gates[0].set()
        await first.result()
        await asyncio.sleep(5)
        assert house.status(job_id) == "queued"
        assert unwrapped(house) == ["first", "second"]
        gates[1].set()
        await second.result()
        assert (await ended(house, job_id)).attempts == 1

    run_in_virtual_time(main(), patch)


def test_a_job_waits_for_a_free_place_instead_of_standing_before_the_next_interactive_request(
    patch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        house = await JobHouse(FakeProvider([gate, "x", STOP]), queue_config({"concurrency": 1})).open()
        reader = await interactive(house, "busy")
        await until(lambda: house.provider.active == 1)
        job_id = await house.job()
        await asyncio.sleep(5)
        assert house.runtime.queue_snapshot().queue_depth == 0
        assert house.store.record(job_id).attempts == 0
        gate.set()
        await reader.result()
        await ended(house, job_id)

    run_in_virtual_time(main(), patch)


def test_a_job_joins_the_submitters_own_work_under_the_same_dedupe_key(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        house = await JobHouse(FakeProvider([gate, "x", STOP]), queue_config({"concurrency": 2})).open()
        request = normalise_request({"input": "same", "dedupeKey": "d", "cache": False}, house.config)
        reader = await house.runtime.generate(request, ALICE, Deadline.after_ms(60_000), "req_1")
        mine = (await house.queue.submit(request, ALICE)).record.id
        await until(lambda: house.status(mine) == "running")
        gate.set()
        await reader.result()
        result = (await ended(house, mine)).result
        assert result is not None
        assert result["deduplicated"] is True
        assert len(house.provider.streamed) == 1

    run_in_virtual_time(main(), patch)


# -- failures


def test_a_failure_of_the_backend_is_tried_again_after_a_growing_delay_until_attempts_are_used_up(
    patch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        house = await JobHouse(failing(*[RayError("provider_timeout", "slow")] * 9)).open()
        job_id = await house.job()
        await until(lambda: house.queue.snapshot().activity.armed == 1)
        waiting = house.store.record(job_id)
        assert (waiting.status, waiting.attempts, waiting.next_attempt_at) == ("queued", 1, at(1))
        assert waiting.error is not None
        assert waiting.error.code == "provider_timeout"
        assert house.queue.snapshot().counts["queued"] == 1  # waiting for a retry is waiting
        began = asyncio.get_running_loop().time()
        record = await ended(house, job_id)
        assert 3 <= asyncio.get_running_loop().time() - began < 3.2  # one second, then two
        assert (record.status, record.attempts) == ("failed", 3)
        assert record.error is not None
        assert record.error.code == "provider_timeout"
        assert house.counter("jobs_retried") == 2
        assert house.counter("jobs_failed", code="provider_timeout") == 1

    run_in_virtual_time(main(), patch)


def test_a_retried_job_goes_to_the_end_of_the_line(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        house = await JobHouse(failing(RayError("provider_timeout", "slow"))).open()
        first = await house.job("first")
        second = await house.job("second")
        await ended(house, first)
        await ended(house, second)
        assert unwrapped(house) == ["first", "second", "first"]

    run_in_virtual_time(main(), patch)


@pytest.mark.parametrize(
    "error",
    [
        RayError("request_context_window_exceeded", "too long"),
        RayError("provider_upstream_error", "refused", details={"upstreamStatus": 400}),
        RayError("provider_upstream_error", "refused", details={"upstreamStatus": 404}),
    ],
    ids=["too-long", "400", "404"],
)
def test_what_would_fail_again_fails_once(error: RayError, patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        house = await JobHouse(failing(error)).open()
        record = await ended(house, await house.job())
        assert (record.status, record.attempts) == ("failed", 1)
        assert record.error is not None
        assert (record.error.code, record.error.message) == (error.code, error.message)

    run_in_virtual_time(main(), patch)


def test_a_backend_that_refuses_connections_or_is_loading_costs_no_attempt(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        refused = RayError("provider_request_failed", "no", details={"error": "ConnectionRefusedError: refused"})
        loading = RayError("provider_upstream_error", "loading", status=503)
        full = RayError("queue_full", "full")
        house = await JobHouse(failing(*[refused, loading, full] * 4)).open()
        record = await ended(house, await house.job())
        assert (record.status, record.attempts) == ("succeeded", 1)
        assert len(house.provider.streamed) == 13
        assert max(written.attempts for written in house.store.writes) == 1

    run_in_virtual_time(main(), patch)


def test_nothing_is_begun_while_the_backend_is_away(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        away, ready = (Health(status, iso_timestamp(NOON)) for status in ("unavailable", "ready"))
        house = await JobHouse(FakeProvider(healths=[away])).open()
        job_id = await house.job()
        await asyncio.sleep(600)
        assert [record.status for record in house.store.writes] == ["queued"]
        house.provider.healths = [ready]
        house.runtime._watch.forget()  # its second has passed
        assert (await ended(house, job_id)).attempts == 1

    run_in_virtual_time(main(), patch)


def test_a_job_that_could_not_be_run_by_its_deadline_fails_with_what_held_it_up(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        house = await JobHouse(failing(*[RayError("queue_full", "full")] * 99)).open()
        job_id = await house.job()
        await until(lambda: house.queue.snapshot().activity.armed == 1)
        house.now += 86_401
        record = await ended(house, job_id)
        assert (record.status, record.attempts) == ("failed", 0 if len(house.provider.streamed) == 1 else 1)
        assert record.error is not None
        assert record.error.code == "job_deadline_exceeded"
        assert record.error.details is not None
        assert record.error.details["lastCode"] == "queue_full"

    run_in_virtual_time(main(), patch)


def test_an_unforeseen_exception_is_retried_and_tells_the_client_nothing_of_the_inside(
    patch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        house = await JobHouse(
            failing(ValueError("secret detail"), ValueError("x"), ValueError("secret detail"))
        ).open()
        record = await ended(house, await house.job())
        assert (record.status, record.attempts) == ("failed", 3)
        assert record.error is not None
        assert "secret" not in record.error.message

    run_in_virtual_time(main(), patch)


def test_an_answer_that_does_not_fit_the_record_fails_after_one_attempt(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        house = JobHouse(FakeProvider(["é" * 200_000, STOP]))
        house.provider.scripts = [["\N{GRINNING FACE}" * 10_000, STOP]]
        store = house.store
        original = store.put

        async def small(record: JobRecord) -> None:
            if record.result is not None:
                raise RayError("async_job_record_too_large", "too large")
            await original(record)

        store.put = small  # type: ignore[method-assign]
        await house.open()
        record = await ended(house, await house.job())
        assert (record.status, record.attempts, record.result) == ("failed", 1, None)
        assert record.error is not None
        assert record.error.code == "async_job_record_too_large"
        assert len(house.provider.streamed) == 1

    run_in_virtual_time(main(), patch)


# -- a disk that does not take what is written


def test_a_result_that_cannot_be_written_is_kept_until_it_can_and_never_computed_again(
    patch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        house = JobHouse()
        house.store.fails_for = lambda record: record.is_terminal
        await house.open()
        job_id = await house.job()
        await until(lambda: house.queue.snapshot().activity.pending_writes == 1)
        await asyncio.sleep(300)
        assert house.status(job_id) == "running"  # nothing is published that is not durable
        shown = house.queue.health_document()
        assert (shown["degraded"], shown["reasons"], shown["pendingWrites"]) == (True, ["storage_failing"], 1)
        house.store.fails_for = lambda record: False
        record = await ended(house, job_id)
        assert (record.status, record.attempts) == ("succeeded", 1)
        assert len(house.provider.streamed) == 1
        assert house.queue.health_document()["degraded"] is False
        assert house.counter("write_failures") > 1
        events = house.events()
        assert events.count("job_store_failing") == events.count("job_store_recovered") == 1

    run_in_virtual_time(main(), patch)


def test_an_attempt_that_cannot_be_counted_is_not_begun_and_nothing_is_stranded(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        house = JobHouse()
        house.store.fails_for = lambda record: record.status == "running"
        await house.open()
        jobs = [await house.job(str(number)) for number in range(20)]
        await asyncio.sleep(120)
        assert house.provider.streamed == []
        assert {house.status(job_id) for job_id in jobs} == {"queued"}
        assert house.events().count("job_not_started") < 40  # a full disk fills no log
        house.store.fails_for = lambda record: False
        for job_id in jobs:
            assert (await ended(house, job_id)).attempts == 1

    run_in_virtual_time(main(), patch)


def test_a_retry_that_cannot_be_written_is_written_later(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        house = JobHouse(failing(RayError("provider_timeout", "slow")))
        house.store.fails_for = lambda record: record.status == "queued" and record.attempts == 1
        await house.open()
        job_id = await house.job()
        await asyncio.sleep(60)
        assert house.status(job_id) == "running"
        house.store.fails_for = lambda record: False
        record = await ended(house, job_id)
        assert (record.status, record.attempts) == ("succeeded", 2)

    run_in_virtual_time(main(), patch)


# -- restarts


def test_a_retry_time_on_disk_is_honoured_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        house = JobHouse(store=stored([a_record(attempts=1, next_attempt_at=at(30))]))
        began = asyncio.get_running_loop().time()
        await house.open()
        assert house.queue.snapshot().activity.armed == 1
        await ended(house, "job_1")
        assert 30 <= asyncio.get_running_loop().time() - began < 31

    run_in_virtual_time(main(), patch)


def test_a_clock_that_was_set_back_delays_a_retry_by_a_minute_at_most(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        house = JobHouse(store=stored([a_record(attempts=1, next_attempt_at=at(80_000))]))
        began = asyncio.get_running_loop().time()
        await house.open()
        await ended(house, "job_1")
        assert asyncio.get_running_loop().time() - began < 61

    run_in_virtual_time(main(), patch)


def test_a_job_that_never_ran_runs_under_the_next_queue(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        disk: dict[str, bytes] = {}
        before = JobHouse(store=MemoryStore(disk))
        await before.queue.start()
        job_id = await before.job("later")
        await before.close()
        after = await JobHouse(store=MemoryStore(disk)).open()
        assert (await ended(after, job_id)).status == "succeeded"
        assert unwrapped(after) == ["later"]

    run_in_virtual_time(main(), patch)


# -- stopping


def test_a_stop_lets_what_runs_finish_and_starts_nothing_more(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        house = await JobHouse(FakeProvider([gate, "x", STOP])).open()
        running, waiting = await house.job("running"), await house.job("waiting")
        await until(lambda: house.provider.active == 1)
        house.queue.begin_stop()
        accepted = await house.job("still accepted")
        stopping = asyncio.ensure_future(house.queue.stop(10))
        await asyncio.sleep(1)
        gate.set()
        assert await stopping is True
        assert house.store.record(running).status == "succeeded"
        assert {house.store.record(job_id).status for job_id in (waiting, accepted)} == {"queued"}
        assert house.store.closed
        with pytest.raises(RayError, match="shutting down"):
            await house.submit()

    run_in_virtual_time(main(), patch)


def test_what_takes_longer_than_the_stop_is_aborted_and_put_back_with_its_attempt(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        config = queue_config({"request_timeout_ms": 600_000})
        house = await JobHouse(FakeProvider([asyncio.Event(), STOP]), config).open()
        job_id = await house.job()
        await until(lambda: house.provider.active == 1)
        assert house.store.record(job_id).attempts == 1
        began = asyncio.get_running_loop().time()
        assert await house.queue.stop(10) is False
        assert asyncio.get_running_loop().time() - began < 14
        record = house.store.record(job_id)
        assert (record.status, record.attempts, record.error) == ("queued", 0, None)
        assert house.provider.cancelled == 1

        again = await JobHouse(store=MemoryStore(house.store.files)).open()
        assert (await ended(again, job_id)).attempts == 1

    run_in_virtual_time(main(), patch)


def test_a_stop_during_a_disk_failure_ends_in_time_and_the_next_start_recovers(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        house = JobHouse()
        house.store.fails_for = lambda record: record.is_terminal
        await house.open()
        job_id = await house.job()
        await until(lambda: house.queue.snapshot().activity.pending_writes == 1)
        began = asyncio.get_running_loop().time()
        await house.queue.stop(10)
        assert asyncio.get_running_loop().time() - began < 15
        assert house.store.record(job_id).status == "running"
        again = await JobHouse(store=MemoryStore(house.store.files)).open()
        assert (await ended(again, job_id)).attempts == 2

    run_in_virtual_time(main(), patch)


def test_a_stop_cancels_the_timers_of_waiting_retries(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        house = await JobHouse(failing(RayError("provider_timeout", "slow"))).open()
        job_id = await house.job()
        await until(lambda: house.queue.snapshot().activity.armed == 1)
        await house.queue.stop(1)
        assert house.queue.snapshot().activity.armed == 0
        record = house.store.record(job_id)
        assert (record.status, record.attempts) == ("queued", 1)

    run_in_virtual_time(main(), patch)


def test_a_stop_that_meets_the_write_of_a_start_puts_the_job_back(patch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        house = JobHouse(FakeProvider([asyncio.Event(), STOP]), queue_config({"request_timeout_ms": 600_000}))
        await house.open()
        job_id = await house.job()
        house.store.gate = asyncio.Event()
        await until(lambda: house.store.waiting == 1)
        stopping = asyncio.ensure_future(house.queue.stop(0))
        await asyncio.sleep(1)
        house.store.gate.set()
        assert await stopping is False
        record = house.store.record(job_id)
        assert (record.status, record.attempts) == ("queued", 0)

    run_in_virtual_time(main(), patch)
