"""A simulated backend under thousands of random arrivals, in virtual time: what must hold at every single start.

The simulation keeps its own record of what each slot holds and of who is reading what, and compares the scheduler's
decisions with it: with families and lanes of all kinds, cancellations, failures before and after the prefix was read,
restarts of the backend, and a store that is switched on and off.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import replace

import pytest

from ray.clock import Deadline
from ray.errors import RayError
from ray.runtime.line import guard_seconds
from ray.runtime.scheduler import Admission, Scheduler, Ticket
from ray.types import Lane
from tests.fakes.virtual_time import run_in_virtual_time
from tests.runtime.support import tiny_config

CONCURRENCY = 3
INFLIGHT_TOKENS = 100
TIMEOUT_MS = 8_000
GUARD_S = guard_seconds(TIMEOUT_MS)
COSTS = (1, 5, 20, 40, 60, 100)
MAX_SLOTS = 4
LANES: tuple[Lane, ...] = ("short", "draft")
QUIET, BUSY = 0.5, 5.0  # arrivals per second


class Broken(Exception):
    """A generation that fails."""


class Backend:
    """What is true, whatever the scheduler believes. `slots`: how many may be assigned, None while it chooses."""

    def __init__(self, chance: random.Random, *, is_pool_shared: bool) -> None:
        self.chance = chance
        self.is_pool_shared = is_pool_shared
        self.slots: int | None = None
        self.epoch = 0
        self.content: dict[int, str | None] = {}
        self.cells: dict[int, int] = {}
        self.reserved: Counter[int] = Counter()
        self.busy: set[int] = set()
        self.reading: Counter[str] = Counter()  # cold prefixes being read now
        self.turns: dict[int, set[str]] = {}
        self.talks: list[tuple[str, str | None]] = []  # conversations that were answered, each with its affinity

    def flip(self) -> None:
        self.slots = MAX_SLOTS if self.is_pool_shared else self.chance.choice([None, 1, 2, MAX_SLOTS])

    def restart(self) -> None:
        self.epoch += 1
        self.content.clear()
        self.turns.clear()
        self.cells.clear()

    def fill(self, slot: int, cells: int) -> None:
        """A slot holds so many cells. When a shared pool is full, idle slots are emptied, lowest id first."""
        if not self.is_pool_shared:
            return
        self.cells[slot] = cells
        for idle in sorted(self.cells.keys() - self.busy):
            if sum(self.cells.values()) <= INFLIGHT_TOKENS:
                return
            self.empty((idle,))

    def empty(self, slots: tuple[int, ...]) -> None:
        for slot in slots:
            self.cells.pop(slot, None)
            self.turns.pop(slot, None)
            self.content[slot] = None

    def answered(self, slot: int, ticket: Ticket) -> str:
        """The slot ends with another turn of a conversation; the conversation's new key."""
        key = f"turns:{len(self.talks)}"
        self.talks.append((key, ticket.affinity))
        self.turns[slot] = {key, *([ticket.continues] if ticket.continues is not None else [])}
        return key

    def pick(self) -> int:
        """The slot that the backend itself takes."""
        return next(number for number in range(MAX_SLOTS * 4) if number not in self.busy)


class Watched(Scheduler):
    """A scheduler that is checked at each start."""

    def __init__(self, backend: Backend, *, is_pool_shared: bool) -> None:
        config = tiny_config(
            scheduler={
                "concurrency": CONCURRENCY,
                "max_inflight_tokens": INFLIGHT_TOKENS,
                "max_queued_tokens": 1_000,
                "max_queue": 48,
                "request_timeout_ms": TIMEOUT_MS,
                "affinity_lookahead": 8,
            }
        )
        super().__init__(config, lambda: time.monotonic(), slots=lambda: backend.slots, epoch=lambda: backend.epoch)
        self._pool = INFLIGHT_TOKENS if is_pool_shared else None
        self.backend = backend
        self.starts = 0
        self.hot_starts = 0
        self.continued = 0
        self.past_guard = 0
        self.held_back = 0
        self.crowded = 0

    def _start(self, admission: Admission, now: float) -> None:
        oldest = next(iter(self._waiting.values()))
        past_guard = now - oldest.place.since >= GUARD_S
        if past_guard:
            assert admission is oldest, "somebody younger was served in place of one past the guard"
        unpinned = [running for running in self._running.values() if running.slot is None]
        super()._start(admission, now)
        self._check_limits(admission, unpinned)
        self._check_prefix(admission, past_guard=past_guard)
        self.starts += 1
        self.hot_starts += admission.hot
        self.continued += admission.continues
        self.past_guard += past_guard
        self.crowded += bool(admission.crowding)
        for slot in admission.crowding:
            self.backend.reserved[slot] += 1

    def _release_crowding(self, admission: Admission) -> None:
        for slot in admission.crowding:
            self.backend.reserved[slot] -= 1
        super()._release_crowding(admission)

    def _check_limits(self, admission: Admission, unpinned: list[Admission]) -> None:
        running, slots = list(self._running.values()), self.backend.slots
        limit = CONCURRENCY if slots is None else min(CONCURRENCY, slots)
        assert len(running) <= limit
        assert sum(each.ticket.cost for each in running) == self.snapshot().in_flight_tokens <= INFLIGHT_TOKENS
        if slots is None or not admission.ticket.is_pinnable:
            assert admission.slot is None
            return
        assert admission.slot is not None
        assert 0 <= admission.slot < slots
        assert admission.slot not in self.backend.busy, "a slot was given to two generations"
        assert self.backend.reserved[admission.slot] == 0, "a slot was given away while it is being emptied"
        assert self.backend.busy.isdisjoint(admission.crowding), "a slot in use is to be emptied"
        assert unpinned == [], "a slot was assigned while nobody knew which ones were taken"

    def _check_prefix(self, admission: Admission, *, past_guard: bool) -> None:
        affinity = admission.ticket.affinity
        if admission.continues:
            assert admission.slot is not None
            assert admission.ticket.continues in self.backend.turns[admission.slot], "the conversation is not there"
        if admission.slot is None or affinity is None:
            return
        if admission.hot:
            assert self.backend.content.get(admission.slot) == affinity, "what was called hot is not there"
        elif not past_guard:
            assert self.backend.reading[affinity] == 0, "a second relative began to read the same prefix"

    def check_nobody_is_forgotten(self) -> None:
        """Between two events: whoever may go has gone."""
        if not self._waiting or not self._may_start():
            return
        oldest = next(iter(self._waiting.values()))
        free = INFLIGHT_TOKENS - self.snapshot().in_flight_tokens
        if time.monotonic() - oldest.place.since > GUARD_S + 0.001:
            assert oldest.place.cost > free, "past the guard, and there was room"
        elif oldest.place.affinity not in self._prefilling():
            assert oldest.place.cost > free, "there was room, and nothing to wait for"
        else:
            self.held_back += 1


async def generation(scheduler: Watched, ticket: Ticket, outcomes: Counter[str]) -> None:
    """One request from its arrival to its end, well or badly."""
    try:
        async with scheduler.admit(ticket) as admission:
            await _generate(scheduler, ticket, admission)
            outcomes["answered"] += 1
    except Broken:
        outcomes["failed"] += 1
    except RayError as error:
        outcomes[error.code] += 1
    except asyncio.CancelledError:
        outcomes["cancelled"] += 1


async def _generate(scheduler: Watched, ticket: Ticket, admission: Admission) -> None:
    assert not ticket.deadline.expired()
    backend, chance = scheduler.backend, scheduler.backend.chance
    slot = backend.pick() if admission.slot is None else admission.slot
    affinity, epoch = ticket.affinity, backend.epoch
    cold = affinity is not None and admission.slot is not None and not admission.hot
    backend.busy.add(slot)
    backend.empty(admission.crowding)
    backend.fill(slot, min(backend.cells.get(slot, 0), ticket.cost))  # what does not match the prompt is dropped
    if not admission.hot:
        backend.content[slot] = None
    backend.turns[slot] = {ticket.continues} if admission.continues and ticket.continues is not None else set()
    if cold and affinity is not None:
        backend.reading[affinity] += 1
    try:
        await asyncio.sleep(chance.uniform(0.01, 0.05) if admission.hot else chance.uniform(0.2, 3.0))
        if chance.random() < 0.05:
            backend.content[slot] = None
            backend.turns.pop(slot, None)
            raise Broken
        backend.fill(slot, ticket.cost)
        if backend.epoch == epoch:
            backend.content[slot] = affinity
        if cold and affinity is not None:
            backend.reading[affinity] -= 1
            cold = False
        admission.prefix_ready()
        await asyncio.sleep(chance.uniform(0.05, 0.5))
        if chance.random() < 0.05:
            raise Broken
        tokens = chance.randint(1, ticket.cost)
        backend.fill(slot, tokens)
        admission.learned(slot, tokens, backend.answered(slot, ticket) if backend.epoch == epoch else None)
    finally:
        backend.busy.discard(slot)
        if cold and affinity is not None:
            backend.reading[affinity] -= 1


async def _disturb(backend: Backend, tasks: list[asyncio.Task[None]]) -> None:
    """Now and then a client leaves; rarely the backend restarts, or the store is switched on or off."""
    while True:
        await asyncio.sleep(backend.chance.expovariate(0.3))
        roll = backend.chance.random()
        alive = [task for task in tasks if not task.done()]
        if roll < 0.8 and alive:
            backend.chance.choice(alive).cancel()
        elif roll < 0.9:
            backend.restart()
        else:
            backend.flip()


async def _simulate(seed: int, arrivals: int, *, is_pool_shared: bool) -> tuple[Watched, Counter[str]]:
    chance = random.Random(seed)
    backend = Backend(chance, is_pool_shared=is_pool_shared)
    backend.flip()
    scheduler = Watched(backend, is_pool_shared=is_pool_shared)
    outcomes: Counter[str] = Counter()
    tasks: list[asyncio.Task[None]] = []
    disturbance = asyncio.create_task(_disturb(backend, tasks))
    for number in range(arrivals):
        # From idle to far more than can be served.
        await asyncio.sleep(chance.expovariate(BUSY if (number // 250) % 2 else QUIET))
        scheduler.check_nobody_is_forgotten()
        family = chance.choice(["a", "a", "b", "c", "d", "e", None])
        timeout_ms = chance.choice([TIMEOUT_MS, TIMEOUT_MS, 60_000])
        ticket = Ticket(chance.choice(COSTS), chance.choice(LANES), Deadline.after_ms(timeout_ms), family)
        roll = chance.random()
        if roll < 0.3 and backend.talks:
            continues, affinity = chance.choice(backend.talks[-6:])
            ticket = replace(ticket, affinity=affinity, continues=continues)
        elif roll < 0.35:
            ticket = replace(ticket, affinity=None, is_pinnable=False)
        tasks.append(asyncio.create_task(generation(scheduler, ticket, outcomes)))
        for task in [task for task in tasks if task.done()]:
            tasks.remove(task)
            assert task.cancelled() or task.exception() is None, task.exception()
    disturbance.cancel()
    backend.slots = 2
    await asyncio.gather(*tasks)
    return scheduler, outcomes


@pytest.mark.parametrize("is_pool_shared", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_limits_hold_nobody_is_overtaken_past_the_guard_and_the_books_balance(
    seed: int, is_pool_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrivals = 2_000
    scheduler, outcomes = run_in_virtual_time(_simulate(seed, arrivals, is_pool_shared=is_pool_shared), monkeypatch)
    snapshot = scheduler.snapshot()
    counts = (snapshot.queue_depth, snapshot.in_flight, snapshot.queued_tokens, snapshot.in_flight_tokens)
    assert counts == (0, 0, 0, 0)
    assert not any(slot.busy for slot in scheduler._table.slots)
    # The day was one on which something could have gone wrong.
    assert outcomes["answered"] > arrivals / 4
    assert min(outcomes["cancelled"], outcomes["failed"], outcomes["queue_full"]) > 20
    assert min(scheduler.hot_starts, scheduler.past_guard, scheduler.held_back, scheduler.continued) > 5
    assert (scheduler.crowded > 20) is is_pool_shared
