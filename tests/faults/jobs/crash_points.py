"""Every moment at which a scenario can be cut off, and what must hold when a gateway starts on what is left.

A scenario runs once. Before, in the middle of and after each operation of its disk, a copy is taken of the disk, of
what clients could see at that moment, and of what had reached the receiver: this is the world in which the process died
there. Then every copy gets a new gateway, and the promises I1 to I8 are looked at. Copies that are alike in all of this
are looked at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ray.config import Config
from tests.fakes.disk import MemoryDisk, WatchedDisk
from tests.fakes.provider import Step
from tests.faults.jobs.ledger import Document
from tests.faults.jobs.life import STORAGE, Life, World, config_of
from tests.faults.jobs.receiver import Answer

Result = TypeVar("Result")
# The disks that dying now may leave, each with a word on it.
Cuts = Callable[[MemoryDisk], Iterable[tuple[str, MemoryDisk]]]

JOBS, QUARANTINE = f"{STORAGE}/jobs", f"{STORAGE}/quarantine"
TEMPORARY = ".tmp-"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One story: `play` is cut off, `before` prepares the directory and is not. The gateway of `play` is not started.

    `backend` and `receiver` are the scripts of the gateway that is cut off; the one after it meets no trouble.
    `put_aside`: contents of the files that a start finds and that are no records. `refunds`: starts that need not have
    been counted in the end, because they were broken off by an orderly stop.
    """

    name: str
    play: Callable[[Life], Awaitable[None]]
    before: Callable[[World, MemoryDisk], Awaitable[None]] | None = None
    backend: Callable[[], Mapping[str, Sequence[Sequence[Step]]]] = dict
    receiver: Mapping[str, Sequence[Answer]] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    failures: frozenset[str] = frozenset()
    put_aside: tuple[bytes, ...] = ()
    refunds: int = 0

    @property
    def config(self) -> Config:
        return config_of(**self.settings)


@dataclass(frozen=True, slots=True)
class Remains:
    """What is left after dying at one moment. `wall`: when that was, Unix seconds."""

    where: str
    disk: MemoryDisk
    world: World
    wall: float


@dataclass(slots=True)
class Findings:
    """`points`: moments of death; `starts`: the different remains of them, each of which was started on."""

    points: int = 0
    starts: int = 0
    faults: list[str] = field(default_factory=list)


def killed_half_written(disk: MemoryDisk) -> Iterable[tuple[str, MemoryDisk]]:
    """A process that dies in the middle of the write that was the last effect."""
    last = len(disk.effects) - 1
    yield "killed in the middle", disk.after_power_cut(range(len(disk.effects)), torn={last})


class Recorder(WatchedDisk):
    """Takes a copy of everything around each operation, from the moment that `life` is set."""

    def __init__(self, inner: MemoryDisk, cuts: Cuts) -> None:
        super().__init__(inner)
        self._memory = inner
        self._cuts = cuts
        self._seen: set[str] = set()
        self.life: Life | None = None
        self.points = 0
        self.remains: list[Remains] = []

    def step(self, name: str, work: Callable[[], Result], half: Callable[[], object] | None = None) -> Result:
        self.operations.append(name)
        where = f"operation {self.count} ({name})"
        self.take(f"before {where}", self._cuts)
        result = work()
        if half is not None:
            self.take(f"within {where}", killed_half_written)
        self.take(f"after {where}", self._cuts)
        return result

    def take(self, where: str, cuts: Cuts) -> None:
        """Copy what dying now would leave."""
        if self.life is None:
            return
        world = self.life.world.fork()
        for document in self.life.visible().values():
            world.ledger.observe(document)
        for how, disk in cuts(self._memory):
            self.points += 1
            mark = fingerprint(disk, world)
            if mark not in self._seen:
                self._seen.add(mark)
                self.remains.append(Remains(f"{where}, {how}", disk, world.fork(), world.wall()))


def fingerprint(disk: MemoryDisk, world: World) -> str:
    """The same for remains that no promise can tell apart."""
    entries = [
        replace(entry, delivered_seen_at=None if entry.delivered_seen_at is None else 0.0)
        for entry in world.ledger.entries.values()
    ]
    seen = (entries, len(world.deliveries), sorted(world.starts.items()), world.ledger.faults)
    files = [sorted(disk.files(path).items()) for path in (STORAGE, JOBS, QUARANTINE)]
    return hashlib.sha256(repr((files, seen)).encode()).hexdigest()


async def cut_off_everywhere(scenario: Scenario, cuts: Cuts) -> Findings:
    """Play the scenario, then start on everything that it could have left."""
    disk, world = MemoryDisk(), World()
    world.ledger.expected_failures |= scenario.failures
    if scenario.before is not None:
        await scenario.before(world, disk)
    recorder = Recorder(disk, cuts)
    life = Life(recorder, world, scenario.config, backend=scenario.backend(), receiver=scenario.receiver)
    recorder.life = life
    await scenario.play(life)
    recorder.take("at the end", cuts)  # the last answer is acknowledged after the last operation
    await life.die()
    findings = Findings(recorder.points, len(recorder.remains), list(world.ledger.faults))
    for remains in recorder.remains:
        try:
            faults = await broken_promises(scenario, remains)
        except Exception as error:  # noqa: BLE001 - whatever it was, it belongs to this moment
            faults = [f"it did not go on: {type(error).__name__}: {error}"]
        findings.faults += [f"{scenario.name}, {remains.where}: {fault}" for fault in faults]
    return findings


async def broken_promises(scenario: Scenario, remains: Remains) -> list[str]:
    """Start a gateway on the remains, twice, let everything end, start it once more: what did not hold."""
    disk, world = remains.disk, remains.world.at(remains.wall)
    ledger = world.ledger
    before = len(ledger.faults)
    _note_what_is_durable(disk, world)
    first = Life(disk, world, scenario.config)
    await first.start(resume=False)
    found = await _documents(first)
    await _kill(first, disk)
    second = Life(disk, world, scenario.config)
    await second.start(resume=False)
    if await _documents(second) != found:
        ledger.faults.append("I5: a second recovery changed what the first had made")
    if left := [name for name in disk.files(JOBS) if name.startswith(TEMPORARY)]:
        ledger.faults.append(f"I6: temporary files survived two starts: {left}")
    second.queue.resume()
    await second.submit_again()
    await second.settle()
    final = await _documents(second)
    await second.stop()
    third = Life(disk, world, scenario.config)
    await third.start(resume=False)
    if await _documents(third) != final:
        ledger.faults.append("I5: an orderly restart without work in between changed a record")
    await _kill(third, disk)
    _judge(scenario, disk, world, final)
    return ledger.faults[before:]


async def _kill(life: Life, disk: MemoryDisk) -> None:
    await life.die()
    disk.release()


async def _documents(life: Life) -> dict[str, Document]:
    """Everything that is shown of every job, by id; what belongs to a client is noted in the ledger."""
    shown = {}
    for entry in life.world.ledger.acknowledged():
        document = await life.record(entry)
        if document is not None:
            shown[str(document["id"])] = document
    return {**life.visible(), **shown}


def _note_what_is_durable(disk: MemoryDisk, world: World) -> None:
    """A terminal state on the disk, and a delivery noted there, must stay as they are, whether or not anyone saw it."""
    for name, data in disk.files(JOBS).items():
        if name.endswith(".json") and not name.startswith(TEMPORARY):
            try:
                document = json.loads(data)
            except ValueError:
                continue
            if isinstance(document, dict):
                world.ledger.observe(document)


def _judge(scenario: Scenario, disk: MemoryDisk, world: World, final: Mapping[str, Document]) -> None:
    """What can only be said once everything has ended."""
    ledger = world.ledger
    ledger.judge_deliveries(world.deliveries, final)
    by_id = {entry.job_id: entry for entry in ledger.entries.values()}
    ledger.faults += [f"I2 {job_id}: it exists, and nobody was told of it" for job_id in final if job_id not in by_id]
    for job_id, record in final.items():
        entry = by_id.get(job_id)
        if entry is None:
            continue
        if entry.deleted:
            ledger.faults.append(f"{entry.key}: it was deleted and is there again")
        attempts = record["attempts"]
        if isinstance(attempts, int) and world.starts[entry.text] > attempts + scenario.refunds:
            ledger.faults.append(f"I3 {entry.key}: started {world.starts[entry.text]} times, {attempts} were counted")
        if entry.cancel_acknowledged and record["status"] != "cancelled":
            ledger.faults.append(f"{entry.key}: cancelling was acknowledged, and it is {record['status']}")
    aside = disk.files(QUARANTINE).values()
    if sorted(aside) != sorted(scenario.put_aside):
        ledger.faults.append(f"I8: put aside were {sorted(disk.files(QUARANTINE))}")
