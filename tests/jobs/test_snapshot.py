"""What the queue shows of itself: every key of the health block, every gauge, every line."""

from __future__ import annotations

import asyncio

from ray.errors import RayError
from ray.telemetry import metrics_json
from tests.fakes.provider import STOP, FakeProvider, until
from tests.jobs.house import JobHouse, a_record, at, queue_config, stored

KEYS = {
    "enabled", "degraded", "reasons", "queued", "running", "succeeded", "failed", "cancelled", "activeInferenceJobs",
    "activeCallbackDeliveries", "callbackPending", "callbackDelivered", "callbackFailed", "retryScheduled",
    "jobRetryScheduled", "callbackRetryScheduled", "totalJobs", "maxJobs", "jobsRatio", "jobsPressure",
    "pressureThreshold", "pendingAdmissions", "reservedAdmissionMiB", "availableStorageMiB", "minFreeStorageMiB",
    "effectiveAvailableStorageMiB", "storageReserveRatio", "storageLow", "storageAdmissionReserveRatio",
    "storageAdmissionLow", "completedTtlMs", "pollIntervalMs", "dispatchConcurrency", "callbackConcurrency",
    "maxAttempts", "callbackTimeoutMs", "maxCallbackAttempts", "oldestQueuedAgeMs", "pendingWrites", "storageFailing",
    "quarantined", "storeMiB", "maxStoreMiB", "availableInodes", "minFreeInodes",
}  # fmt: skip


def gauges(house: JobHouse) -> dict[str, float]:
    house.queue.set_gauges(house.metrics)
    found = metrics_json(house.metrics, include_recent=False)["gauges"]
    assert isinstance(found, dict)
    return {
        name.removeprefix("async_queue."): value for name, value in found.items() if name.startswith("async_queue.")
    }


def test_every_figure_of_the_block_is_a_gauge_too() -> None:
    async def main() -> None:
        house = JobHouse(store=stored([a_record(), a_record("job_2", created_at=at(-7200))]))
        await house.queue.start()
        shown = house.queue.health_document()
        assert set(shown) == KEYS
        assert (shown["queued"], shown["oldestQueuedAgeMs"], shown["degraded"]) == (2, 7_200_000, False)
        figures = gauges(house)
        assert len(figures) == len(KEYS) - 1  # `reasons` is no figure
        assert figures["queued"] == 2

    asyncio.run(main())


def test_what_the_disk_does_not_say_any_more_is_absent_not_stuck() -> None:
    async def main() -> None:
        house = JobHouse()
        await house.queue.start()
        assert "available_storage_mib" in gauges(house)
        house.store.room_unknown = True
        await house.queue.refresh()
        assert "available_storage_mib" not in gauges(house)
        assert "storage_low" not in gauges(house)
        assert house.queue.health_document()["degraded"] is False

    asyncio.run(main())


def test_files_that_were_put_aside_degrade_the_queue() -> None:
    async def main() -> None:
        house = JobHouse()
        house.store.quarantined = 2
        await house.queue.start()
        shown = house.queue.health_document()
        assert (shown["quarantined"], shown["reasons"]) == (2, ["records_quarantined"])

    asyncio.run(main())


def test_a_job_leaves_one_line_for_each_transition_and_none_of_its_words() -> None:
    async def main() -> None:
        provider = FakeProvider([RayError("provider_timeout", "slow")], ["the answer", STOP])
        house = await JobHouse(provider, queue_config(poll_interval_ms=1)).open()
        job_id = await house.job("the question")
        await until(lambda: house.is_over(job_id))
        # The job is over when its record is on the disk; the line about it is written a turn of the loop later.
        await house.close()
        lines = [line for line in house.lines() if line.get("jobId") == job_id]
        assert [(line["event"], line["status"], line["attempt"]) for line in lines] == [
            ("job_accepted", "queued", 0),
            ("job_started", "running", 1),
            ("job_retried", "queued", 1),
            ("job_started", "running", 2),
            ("job_succeeded", "succeeded", 2),
        ]
        assert lines[2]["code"] == "provider_timeout"
        assert {"totalMs", "runMs"} <= set(lines[4])
        assert "the question" not in house.log.getvalue()
        assert "the answer" not in house.log.getvalue()
        for name, count in {"jobs_submitted": 1, "jobs_started": 2, "jobs_retried": 1, "jobs_succeeded": 1}.items():
            assert house.counter(name) == count
        for name, count in {"wait": 1, "run": 2, "end_to_end": 1, "write": 5}.items():
            assert sum(house.metrics.histogram(f"async_queue.{name}").counts) == count

    asyncio.run(main())


def test_counters_never_fall_when_jobs_go() -> None:
    async def main() -> None:
        house = await JobHouse().open()
        job_id = await house.job()
        await until(lambda: house.is_over(job_id))
        house.now += 86_400
        await house.job()
        assert house.counter("jobs_succeeded") == 1
        assert house.queue.snapshot().counts["succeeded"] == 0
        await house.close()

    asyncio.run(main())
