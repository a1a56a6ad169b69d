"""The stories that are cut off: each way that a job can go, and the recovery itself."""

from __future__ import annotations

import asyncio

from ray.errors import RayError
from tests.fakes.disk import MemoryDisk
from tests.fakes.provider import Step
from tests.faults.jobs.crash_points import JOBS, Scenario
from tests.faults.jobs.ledger import Document
from tests.faults.jobs.life import Life, World, config_of

TIMEOUT = RayError("provider_timeout", "the backend did not answer in time")
REFUSED = RayError("provider_upstream_error", "the backend refused the request", details={"upstreamStatus": 400})
NO_RECORD = b'{"id": "job_broken", "status": '
SHORT_TTL_MS = 2_000


def running(record: Document) -> bool:
    return record["status"] == "running"


async def one_job(life: Life) -> None:
    await life.start()
    await life.settle(await life.submit("one"))


async def one_job_with_callback(life: Life) -> None:
    await life.start()
    await life.settle(await life.submit("one", callback=True))


async def several_jobs(life: Life) -> None:
    """Two at a time, one of them submitted twice at once."""
    await life.start()
    entries = [await life.submit(key, callback=key == "two") for key in ("one", "two", "three")]
    await life.submit("two", callback=True)
    await life.settle(*entries)
    await life.stop()


async def cancel_a_queued_job(life: Life) -> None:
    await life.start(resume=False)
    entry = await life.submit("one", callback=True)
    await life.cancel(entry)
    life.queue.resume()
    await life.settle(entry)


async def cancel_a_running_job(life: Life) -> None:
    await life.start()
    entry = await life.submit("one", callback=True)
    await life.until(entry, running)
    await life.cancel(entry)
    await life.settle(entry)


async def delete_a_job(life: Life) -> None:
    await life.start()
    entry = await life.submit("one", callback=True)
    await life.submit("two")
    await life.settle()
    await life.delete(entry)


async def let_a_job_expire(life: Life) -> None:
    await life.start()
    entry = await life.submit("one", ttl_ms=SHORT_TTL_MS)
    await life.submit("two", callback=True)
    await life.settle()
    entry.delete_asked = True  # from here on it may go
    await asyncio.sleep(5 * SHORT_TTL_MS / 1_000)
    await life.stop()


async def stop_while_a_job_runs(life: Life) -> None:
    await life.start()
    entry = await life.submit("one", callback=True)
    await life.until(entry, running)
    await life.submit("two")
    await life.stop(timeout_s=0.1)


async def recover(life: Life) -> None:
    await life.start()
    await life.settle()
    await life.stop()


async def leave_a_mixture(world: World, disk: MemoryDisk) -> None:
    """Left behind by a killed gateway: a job to be run again, one with no attempt left, one to be cancelled, one to be
    delivered, one done, one expired, and files that are no records."""
    hang = asyncio.Event()
    backend: dict[str, list[list[Step]]] = {
        "text again": [[hang]],
        "text cancelled": [[hang]],
        "text exhausted": [[TIMEOUT], [TIMEOUT], [hang]],
    }
    config = config_of(dispatchConcurrency=4)
    life = Life(disk, world, config, backend=backend, receiver={"told": ["refuse", "refuse"]})
    await life.start()
    done, expiring = await life.submit("done", callback=True), await life.submit("expiring", ttl_ms=SHORT_TTL_MS)
    await life.settle(done, expiring)
    again, exhausted = await life.submit("again"), await life.submit("exhausted", callback=True)
    cancelled = await life.submit("cancelled", callback=True)
    await life.until(again, running)
    await life.until(exhausted, lambda record: running(record) and record["attempts"] == 3)
    await life.until(await life.submit("told", callback=True), tried)
    await life.until(cancelled, running)
    await life.cancel(cancelled)
    await life.die()
    disk.release()
    expiring.delete_asked = True
    await asyncio.sleep(2 * SHORT_TTL_MS / 1_000)
    disk.add_file(f"{JOBS}/.tmp-job_left.json-1", b"half a rec")
    disk.add_file(f"{JOBS}/job_broken.json", NO_RECORD)


def tried(record: Document) -> bool:
    callback = record.get("callback")
    return isinstance(callback, dict) and callback["attempts"] > 0


SCENARIOS = (
    Scenario("success", one_job),
    Scenario("success with a callback", one_job_with_callback),
    Scenario("retry", one_job, backend=lambda: {"text one": [[TIMEOUT]]}),
    Scenario(
        "failure",
        one_job_with_callback,
        backend=lambda: {"text one": [[REFUSED]]},
        failures=frozenset({"provider_upstream_error"}),
    ),
    Scenario("a callback that is tried again", one_job_with_callback, receiver={"one": ["refuse", "hang_up"]}),
    Scenario(
        "a callback that is given up",
        one_job_with_callback,
        receiver={"one": ["refuse", "refuse"]},
        settings={"maxCallbackAttempts": 2},
    ),
    Scenario("several jobs", several_jobs),
    Scenario("a queued job is cancelled", cancel_a_queued_job),
    Scenario("a running job is cancelled", cancel_a_running_job, backend=lambda: {"text one": [[asyncio.Event()]]}),
    Scenario("a job is deleted", delete_a_job),
    Scenario("a job expires", let_a_job_expire),
    Scenario("an orderly stop", stop_while_a_job_runs, backend=lambda: {"text one": [[asyncio.Event()]]}, refunds=1),
    Scenario(
        "recovery",
        recover,
        before=leave_a_mixture,
        failures=frozenset({"job_recovery_attempts_exhausted"}),
        put_aside=(NO_RECORD,),
    ),
)
