"""Sending a submission twice makes one job."""

from __future__ import annotations

import asyncio

import pytest

from ray.errors import RayError
from ray.jobs.idempotency import idempotency_key
from tests.fakes.provider import until
from tests.jobs.house import JobHouse, MemoryStore, queue_config
from tests.runtime.support import ALICE, BOB


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("abc", "abc"),
        ('"abc"', "abc"),
        (' "a\\"b\\\\c" ', 'a"b\\c'),
        ("!~", "!~"),
        ("x" * 255, "x" * 255),
        ('"', '"'),
    ],
)
def test_a_key_is_visible_ascii_bare_or_quoted(header: str, key: str) -> None:
    assert idempotency_key(header) == key


@pytest.mark.parametrize(
    "header", ["", "  ", '""', "a b", '"a b"', "é", "x" * 256, "a\x7f", '"a\\n"', '"a"b"', '"a\\"']
)
def test_anything_else_is_refused(header: str) -> None:
    with pytest.raises(RayError) as refusal:
        idempotency_key(header)
    assert refusal.value.code == "invalid_request"


def test_the_same_key_and_payload_give_the_same_job_even_when_the_store_is_full() -> None:
    async def main() -> None:
        house = JobHouse(config=queue_config(max_jobs=1))
        await house.open()
        first = await house.submit(key="k1")
        await until(lambda: house.is_over(first.record.id))
        house.store.available = house.store.available._replace(available_bytes=0)
        again = await house.submit(key='"k1"')
        assert again.replayed
        assert (again.record.id, again.record.status) == (first.record.id, "queued")
        assert again.record.created_at == first.record.created_at
        assert len(house.provider.streamed) == 1
        assert house.counter("jobs_replayed") == 1

    asyncio.run(main())


def test_the_same_key_for_another_payload_is_refused() -> None:
    async def main() -> None:
        house = JobHouse()
        await house.open()
        await house.submit("one", key="k")
        with pytest.raises(RayError) as refusal:
            await house.submit("two", key="k")
        assert (refusal.value.code, refusal.value.status) == ("idempotency_key_reused", 422)

    asyncio.run(main())


def test_while_the_first_is_being_written_the_second_is_told_to_wait() -> None:
    async def main() -> None:
        house = JobHouse()
        await house.queue.start()
        house.store.gate = asyncio.Event()
        first = asyncio.ensure_future(house.submit(key="k"))
        await until(lambda: house.store.waiting == 1)
        with pytest.raises(RayError) as refusal:
            await house.submit(key="k")
        assert (refusal.value.code, refusal.value.status, refusal.value.retry_after) == (
            "idempotency_in_progress",
            409,
            1,
        )
        house.store.gate.set()
        await first
        assert (await house.submit(key="k")).replayed

    asyncio.run(main())


def test_a_key_whose_submission_was_refused_is_free_again() -> None:
    async def main() -> None:
        house = JobHouse()
        await house.queue.start()
        house.store.failing = True
        with pytest.raises(RayError, match="No space left"):
            await house.submit(key="k")
        house.store.failing = False
        assert not (await house.submit(key="k")).replayed

    asyncio.run(main())


def test_keys_of_different_callers_never_meet() -> None:
    async def main() -> None:
        house = JobHouse()
        await house.queue.start()
        mine = await house.submit("one", key="k", caller=ALICE)
        theirs = await house.submit("two", key="k", caller=BOB)
        assert not theirs.replayed
        assert theirs.record.id != mine.record.id

    asyncio.run(main())


def test_a_key_outlives_a_restart_and_ends_with_its_job() -> None:
    async def main() -> None:
        disk: dict[str, bytes] = {}
        house = JobHouse(store=MemoryStore(disk))
        await house.queue.start()
        first = await house.submit(key="k")
        await house.close()
        assert b'"k"' not in disk[first.record.id]

        house = await JobHouse(store=MemoryStore(disk)).open()
        again = await house.submit(key="k")
        assert (again.replayed, again.record.id) == (True, first.record.id)
        await until(lambda: house.is_over(first.record.id))
        await house.queue.delete(first.record.id, ALICE)
        assert not (await house.submit(key="k")).replayed

    asyncio.run(main())
