"""Token-aware admission: who may generate now and in which slot, who waits, who is refused.

One scheduler per runtime. It keeps three promises: what runs never exceeds the concurrency or the in-flight tokens, no
slot of the backend is given to two generations, and nothing starves. Choosing is pure functions of the waiting line
(`line.choose`) and of what the slots hold (`slots.assign`); the class only keeps the books.

Time is not kept here: a request whose deadline passes is cancelled by its readers, and a cancelled ticket, waiting or
running, gives everything back at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from ray.clock import Deadline
from ray.config import Config
from ray.errors import RayError
from ray.runtime.budget import inflight_token_budget, shared_pool
from ray.runtime.figures import SchedulerSnapshot
from ray.runtime.line import NOBODY, Waiting, choose, guard_seconds
from ray.runtime.slots import SlotTable, assign, crowded_out
from ray.types import Lane


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a request asks of the scheduler. `cost`: prompt tokens plus the whole completion allowance; `affinity`: the
    key of its prefix, or of its family, or None; `continues`: the key of the earlier turns of its conversation, or
    None; `is_pinnable`: the backend can be told which slot to use."""

    cost: int
    lane: Lane
    deadline: Deadline
    affinity: str | None = None
    continues: str | None = None
    is_pinnable: bool = True


class Admission:
    """One ticket's way through the scheduler; holding it (`async with`) is the right to generate.

    Entering waits for the turn; then `slot` is the backend's slot to use, None while the backend chooses, and `hot`
    tells that this slot begins with the ticket's affinity already, `continues` that it holds the earlier turns of the
    ticket's conversation; `crowding` names other, idle slots for which the
    shared pool may have no room any more, and which nobody is given until the prefix is ready. Leaving, by whatever
    way, gives back the place, its tokens and its slots.
    """

    __slots__ = (
        "_granted",
        "_granted_at",
        "_scheduler",
        "continues",
        "crowding",
        "epoch",
        "held_tokens",
        "hot",
        "is_ready",
        "place",
        "slot",
        "ticket",
        "turns",
    )

    def __init__(self, scheduler: Scheduler, ticket: Ticket, place: Waiting) -> None:
        self._scheduler = scheduler
        self._granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._granted_at: float | None = None
        self.ticket = ticket
        self.place = place
        self.slot: int | None = None
        self.hot = False
        self.continues = False
        self.crowding: tuple[int, ...] = ()
        self.is_ready = False  # its prefix is in the KV cache
        self.epoch = 0
        self.held_tokens = ticket.cost  # what it leaves in its slot, at most
        self.turns: str | None = None  # the conversation it leaves there, once it is answered

    @property
    def queue_time_ms(self) -> float:
        """From the admission call to the start, the batch window included; 0 while it still waits."""
        return 0.0 if self._granted_at is None else (self._granted_at - self.place.since) * 1000

    def prefix_ready(self) -> None:
        """The first sign of the answer is here, so the prefix is in the KV cache: relatives may go. May be called
        again."""
        if not self.is_ready:
            self.is_ready = True
            self._scheduler._prefix_ready(self)

    def learned(self, slot_id: int | None, tokens: int | None = None, turns: str | None = None) -> None:
        """What the whole answer told: the slot that the backend says it used, the tokens it left there, and the key of
        the conversation that the slot ends with now."""
        self.turns = turns
        if tokens is not None:
            self.held_tokens = min(self.held_tokens, tokens)
        if slot_id is not None:
            self._scheduler._learned(self, slot_id)

    async def __aenter__(self) -> Admission:
        try:
            await self._granted
        except BaseException:
            self._scheduler._give_back(self)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._scheduler._give_back(self)

    def _grant(self, now: float) -> None:
        self._granted_at = now
        if not self._granted.done():
            self._granted.set_result(None)

    def _fail(self, error: RayError) -> None:
        if not self._granted.done():
            self._granted.set_exception(error)


def _turns_left_by(admission: Admission) -> tuple[str, ...]:
    """What a generation leaves of a conversation in its slot. One that was broken off leaves the turns it found there:
    a client that wants another answer to the same question goes on with them."""
    if admission.turns is not None:
        earlier = admission.place.continues
        return (admission.turns,) if earlier is None else (earlier, admission.turns)
    return (admission.place.continues,) if admission.continues and admission.place.continues is not None else ()


def _backend_chooses() -> int | None:
    return None


def _never_restarted() -> int:
    return 0


class Scheduler:
    """The waiting line and the books of what runs.

    `slots`: how many slots may be assigned now, None while the backend chooses. `epoch`: rises when the backend lost
    its caches. Both are asked before every choice. `clock`: seconds, monotonic.
    """

    def __init__(
        self,
        config: Config,
        clock: Callable[[], float] = time.monotonic,
        *,
        slots: Callable[[], int | None] = _backend_chooses,
        epoch: Callable[[], int] = _never_restarted,
    ) -> None:
        self._config = config.scheduler
        self._budget = inflight_token_budget(config)
        self._pool = shared_pool(config)
        self._guard_s = guard_seconds(config.scheduler.request_timeout_ms)
        self._clock = clock
        self._slots = slots
        self._epoch = epoch
        self._table = SlotTable()
        self._waiting: dict[int, Admission] = {}  # by arrival number, so in order of arrival
        self._running: dict[int, Admission] = {}
        self._arrivals = 0
        self._queued_tokens = 0
        self._inflight_tokens = 0
        self._batch_timer: asyncio.TimerHandle | None = None
        self._guard_timer: asyncio.TimerHandle | None = None

    def admit(self, ticket: Ticket) -> Admission:
        """Take a place in line; use the answer with `async with` at once.

        Raises `RayError request_token_budget_exceeded` for a cost that could never run, `queue_full` when the line or
        its tokens are full. With free capacity and no batch window the ticket is granted inside this call.
        """
        self._check_cost(ticket.cost)
        if (
            len(self._waiting) >= self._config.max_queue
            or self._queued_tokens + ticket.cost > self._config.max_queued_tokens
        ):
            raise RayError(
                "queue_full",
                "the queue is full; retry shortly, or raise scheduler.maxQueue or scheduler.maxQueuedTokens",
                details=self.snapshot().details(),
            )
        self._arrivals += 1
        place = Waiting(ticket.cost, ticket.lane, self._clock(), self._arrivals, ticket.affinity, ticket.continues)
        admission = Admission(self, ticket, place)
        self._waiting[place.order] = admission
        self._queued_tokens += ticket.cost
        self._arrived()
        return admission

    @property
    def queue_depth(self) -> int:
        """How many tickets wait."""
        return len(self._waiting)

    def snapshot(self) -> SchedulerSnapshot:
        short = sum(1 for admission in self._waiting.values() if admission.place.lane == "short")
        return SchedulerSnapshot(
            queue_depth=len(self._waiting),
            short_queue_depth=short,
            draft_queue_depth=len(self._waiting) - short,
            in_flight=len(self._running),
            max_queue=self._config.max_queue,
            concurrency=self._concurrency(),
            queued_tokens=self._queued_tokens,
            in_flight_tokens=self._inflight_tokens,
            max_queued_tokens=self._config.max_queued_tokens,
            max_inflight_tokens=self._budget.together,
        )

    @property
    def largest_cost(self) -> int:
        """The tokens that one ticket may ask for at most."""
        return min(self._budget.together, self._budget.each, self._config.max_queued_tokens)

    def _check_cost(self, cost: int) -> None:
        """A request that could never run is refused at once instead of waiting for its deadline."""
        limit = self.largest_cost
        if cost > limit:
            raise RayError(
                "request_token_budget_exceeded",
                f"prompt and maxTokens together need {cost} tokens and at most {limit} are available to one request; "
                "shorten the prompt or lower maxTokens",
                details={"requestedTokens": cost, **self.snapshot().details()},
            )

    def _arrived(self) -> None:
        """The batch window opens only on an idle backend: there is nothing to gain by making a busy one wait."""
        if self._config.batch_window_ms == 0 or self._running:
            self._dispatch()
        elif self._batch_timer is None:
            loop = asyncio.get_running_loop()
            self._batch_timer = loop.call_later(self._config.batch_window_ms / 1000, self._dispatch)

    def _concurrency(self) -> int:
        """How many may run: no more than there are slots to put them in."""
        count = self._slots()
        return self._config.concurrency if count is None else min(self._config.concurrency, count)

    def _dispatch(self) -> None:
        """Start whoever may start. Runs on arrival, at the end of a batch window, when a prefix is ready, when a held
        ticket comes of age, and whenever something ends."""
        for timer in (self._batch_timer, self._guard_timer):
            if timer is not None:
                timer.cancel()
        self._batch_timer = self._guard_timer = None
        if not self._waiting:
            return
        self._table.follow(self._slots(), self._epoch())
        if not self._may_start():
            return
        self._drop_expired()
        now = self._clock()
        while self._waiting and self._may_start():
            chosen = self._choose(now)
            if chosen is None:
                self._wake_at_guard(now)
                return
            self._start(self._waiting[chosen.order], now)

    def _may_start(self) -> bool:
        """Is there room for one more? While a generation runs whose slot the backend chose, none can be assigned: it
        may be in any of them. A pinned request would wait for it behind the backend's door."""
        if len(self._running) >= self._concurrency():
            return False
        if self._table.count is None:
            return True
        if any(running.slot is None for running in self._running.values()):
            return False
        return any(not slot.busy for slot in self._table.slots)

    def _choose(self, now: float) -> Waiting | None:
        hot = held = NOBODY
        if self._table.is_telling:
            hot = self._table.hot([running.place.affinity for running in self._running.values()])
            held = self._prefilling() - hot
        return choose(
            [admission.place for admission in self._waiting.values()],
            now=now,
            free_tokens=self._budget.together - self._inflight_tokens,
            lookahead=self._config.affinity_lookahead,
            guard_s=self._guard_s,
            hot=hot,
            held=held,
        )

    def _prefilling(self) -> frozenset[str]:
        """The cold affinities that are being read at this moment."""
        return frozenset(
            running.place.affinity
            for running in self._running.values()
            if running.place.affinity is not None and not running.hot and not running.is_ready
        )

    def _start(self, admission: Admission, now: float) -> None:
        place = admission.place
        del self._waiting[place.order]
        self._queued_tokens -= place.cost
        self._inflight_tokens += place.cost
        self._take_slot(admission)
        self._running[place.order] = admission
        admission._grant(now)

    def _take_slot(self, admission: Admission) -> None:
        table, affinity = self._table, admission.place.affinity
        admission.epoch = table.epoch
        if not admission.ticket.is_pinnable:
            return
        if table.count is None:
            hot = table.hot([running.place.affinity for running in self._running.values()])
            admission.hot = affinity in hot
            return
        wanted = {
            key for waiting in self._waiting.values() for key in (waiting.place.affinity, waiting.place.continues)
        }
        slot = assign(table.slots, affinity, wanted, admission.place.continues)
        assert slot is not None, "`_may_start` has seen a free slot"
        admission.slot = slot.id
        admission.hot = affinity is not None and slot.holds == affinity
        admission.continues = admission.place.continues in slot.turns
        table.take(slot.id, admission.ticket.cost)
        if self._pool is not None:
            lost = crowded_out(table.slots, self._pool)
            table.clear_away(lost)
            admission.crowding = tuple(slot.id for slot in lost)

    def _wake_at_guard(self, now: float) -> None:
        """Nothing need happen before the oldest ticket passes the guard, and then it may go although it is held."""
        oldest = next(iter(self._waiting.values())).place
        remaining = self._guard_s - (now - oldest.since)
        if remaining > 0 and oldest.affinity in self._prefilling():
            # A timer may come a rounding error too early, and then once more.
            self._guard_timer = asyncio.get_running_loop().call_later(max(remaining, 0.001), self._dispatch)

    def _drop_expired(self) -> None:
        """Nobody is waiting any more for the answer of a ticket whose deadline has passed: do not start it."""
        expired = [admission for admission in self._waiting.values() if admission.ticket.deadline.expired()]
        for admission in expired:
            del self._waiting[admission.place.order]
            self._queued_tokens -= admission.place.cost
            admission._fail(RayError("request_timeout", "the request's time ran out while it waited in the queue"))

    def _is_current(self, admission: Admission) -> bool:
        """It runs, in the slots and caches that the table speaks of."""
        self._table.follow(self._slots(), self._epoch())
        return admission.place.order in self._running and admission.epoch == self._table.epoch

    def _prefix_ready(self, admission: Admission) -> None:
        if admission.slot is not None and self._is_current(admission):
            self._table.holds(admission.slot, admission.place.affinity)
        self._release_crowding(admission)
        if self._waiting and admission.place.order in self._running:
            self._dispatch()

    def _release_crowding(self, admission: Admission) -> None:
        """What had to be emptied for this one is empty now, or nobody knows because it ended before."""
        for number in admission.crowding:
            self._table.give_back(number, 0 if admission.is_ready else None)
        admission.crowding = ()

    def _learned(self, admission: Admission, slot_id: int) -> None:
        """A backend that says it used another slot than the assigned one has left both in an unknown state."""
        if not self._is_current(admission):
            return
        if admission.slot is None:
            self._table.learn(slot_id, admission.place.affinity)
        elif slot_id != admission.slot:
            admission.is_ready = False
            self._table.forget(slot_id)

    def _give_back(self, admission: Admission) -> None:
        """The one way out, waiting or running; calling it again does nothing."""
        order, cost = admission.place.order, admission.place.cost
        if order in self._running:
            if admission.slot is not None:
                is_known = admission.is_ready and self._is_current(admission)
                if is_known:
                    self._table.ends_with(admission.slot, _turns_left_by(admission))
                else:
                    self._table.forget(admission.slot)
                self._table.give_back(admission.slot, admission.held_tokens if is_known else None)
            elif not admission.ticket.is_pinnable:
                self._table.forget_idle(cost)
            self._release_crowding(admission)
            del self._running[order]
            self._inflight_tokens -= cost
        elif self._waiting.pop(order, None) is not None:
            self._queued_tokens -= cost
        else:
            return
        if self._batch_timer is None or self._running:
            self._dispatch()
