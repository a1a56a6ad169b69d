"""A disk that refuses at any single operation, or from any operation on for a while: nothing that was acknowledged is
lost, and everything ends once the disk works again, without a restart (I9).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

from tests.fakes.disk import FailingDisk, MemoryDisk, failing_at, full_disk, works
from tests.fakes.provider import Step
from tests.fakes.virtual_time import run_in_virtual_time
from tests.faults.jobs.ledger import Entry, settled
from tests.faults.jobs.life import Life, StorageErrorsSuppressed, World, config_of
from tests.faults.jobs.scenarios import TIMEOUT

Fails = Callable[[int, str], int | None]

# Full for longer than any pause between two attempts to write.
FULL_SECONDS = 20.0
POLL_SECONDS = 0.5
KEYS = ("one", "two")
BACKEND: Mapping[str, Sequence[Sequence[Step]]] = {"text one": [[TIMEOUT]]}


async def submit_until_accepted(life: Life, key: str) -> Entry:
    """What a client does with a 503: send it again later, under the same key."""
    while True:
        with StorageErrorsSuppressed():
            return await life.submit(key, callback=True)
        await asyncio.sleep(POLL_SECONDS)


async def operations_of_the_story() -> range:
    """The numbers of the operations that a gateway does once it has started, without trouble."""
    disk = FailingDisk(MemoryDisk())
    life = Life(disk, World(), config_of(), backend=BACKEND, receiver={"two": ["refuse"]})
    await life.start()
    first = disk.count + 1
    await story(life)
    return range(first, disk.count + 1)


async def story(life: Life) -> None:
    """Two jobs, one of them tried twice, both delivered; one of them is deleted in the end."""
    entries = [await submit_until_accepted(life, key) for key in KEYS]
    for entry in entries:
        await life.until(entry, settled, POLL_SECONDS)
    while not entries[0].deleted:
        with StorageErrorsSuppressed():
            await life.delete(entries[0])
        await asyncio.sleep(POLL_SECONDS)


async def faults_when(fails: Fails) -> list[str]:
    """The broken promises of the story on a disk that fails so at first, looked at by a new gateway afterwards."""
    memory, world = MemoryDisk(), World()
    disk = FailingDisk(memory)
    life = Life(disk, world, config_of(), backend=BACKEND, receiver={"two": ["refuse"]})
    await life.start()
    disk.fails = fails
    asyncio.get_running_loop().call_later(FULL_SECONDS, setattr, disk, "fails", works)
    await story(life)
    disk.fails = works
    await life.stop()
    again = Life(memory, world, config_of())
    await again.start(resume=False)
    final = again.visible()
    for entry in world.ledger.acknowledged():
        await again.record(entry)
    if sorted(final) != sorted(str(entry.job_id) for entry in world.ledger.acknowledged()):
        world.ledger.faults.append(f"there are {sorted(final)}")
    world.ledger.judge_deliveries(world.deliveries, final)
    for entry in world.ledger.acknowledged():
        attempts = final[str(entry.job_id)]["attempts"]
        if world.starts[entry.text] != attempts:
            world.ledger.faults.append(f"{entry.key}: {world.starts[entry.text]} starts, {attempts} counted")
    await again.die()
    return world.ledger.faults


def full_from(first: int) -> Fails:
    """Full from this operation on."""
    return lambda number, name: full_disk(number, name) if number >= first else None


def test_given_an_operation_when_the_disk_refuses_it_once_then_every_job_still_ends_and_nothing_is_done_twice() -> None:
    async def main() -> None:
        numbers = await operations_of_the_story()
        found = {number: await faults_when(failing_at(number)) for number in numbers}
        print(f"{len(found)} operations failed, each once")
        assert len(found) > 60
        assert {number: faults for number, faults in found.items() if faults} == {}

    run_in_virtual_time(main(), pytest.MonkeyPatch())


def test_given_an_operation_when_the_disk_is_full_from_there_on_for_a_while_then_every_job_ends_afterwards() -> None:
    async def main() -> None:
        numbers = await operations_of_the_story()
        found = {number: await faults_when(full_from(number)) for number in numbers}
        print(f"the disk was full from each of {len(found)} operations on")
        assert {number: faults for number, faults in found.items() if faults} == {}

    run_in_virtual_time(main(), pytest.MonkeyPatch())
