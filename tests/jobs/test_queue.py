"""The whole way of a job: accepted, run, ended, fetched."""

from __future__ import annotations

import asyncio

from tests.fakes.provider import until
from tests.jobs.house import JobHouse
from tests.runtime.support import ALICE


def test_a_job_is_accepted_as_queued_run_once_and_ends_with_its_result() -> None:
    async def main() -> None:
        house = await JobHouse().open()
        accepted = await house.submit()
        assert (accepted.record.status, accepted.replayed) == ("queued", False)
        job_id = accepted.record.id
        await until(lambda: house.is_over(job_id))
        record = await house.queue.find(job_id, ALICE)
        assert record.status == "succeeded"
        assert record.result is not None
        assert record.result["output"] == "Hello world"
        assert record.result["id"] == job_id
        assert [written.status for written in house.store.writes] == ["queued", "running", "succeeded"]
        assert [written.attempts for written in house.store.writes] == [0, 1, 1]
        await house.close()
        assert house.store.closed

    asyncio.run(main())
