"""Token-aware admission: who may generate now, who waits, who is refused.

One scheduler per runtime. It keeps two promises: what runs never exceeds the concurrency or the in-flight tokens, and
nothing starves. Choosing is a pure function (`choose`) of the waiting line; the class only keeps the books.

Time is not kept here: a request whose deadline passes is cancelled by its readers, and a cancelled ticket, waiting or
running, gives everything back at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from ray.clock import Deadline
from ray.config import Config, LaunchProfile, LlamaCppAdapter
from ray.errors import RayError
from ray.types import Lane

# What moves a ticket forward, in points; waiting 25 ms is worth one point.
SHORT_LANE_POINTS = 120.0
WAITED_MS_PER_POINT = 25.0

# The starvation guard: past this share of the request timeout, and at most this long, a ticket goes before all others.
GUARD_SHARE_OF_TIMEOUT = 0.25
MAX_GUARD_MS = 5_000.0


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """How many tokens may be in flight: all requests `together`, and `each` one alone."""

    together: int
    each: int


def inflight_token_budget(config: Config) -> TokenBudget:
    """The in-flight tokens that both the operator and the backend's KV cache allow.

    llama-server with a unified KV cache shares one pool of `ctxSize` tokens between all slots and fails every
    generation in it when the pool overflows; without, each of the `parallel` slots owns an equal part of it.
    """
    limit = config.scheduler.max_inflight_tokens
    launch = launch_profile(config)
    if launch is None:
        return TokenBudget(limit, limit)
    return TokenBudget(min(limit, launch.ctx_size), min(limit, slot_context(launch)))


def launch_profile(config: Config) -> LaunchProfile | None:
    """How the backend was launched, where the config says so."""
    adapter = config.model.adapter
    return adapter.launch_profile if isinstance(adapter, LlamaCppAdapter) else None


def slot_context(launch: LaunchProfile) -> int:
    """Tokens that one request may fill in the KV cache: the whole pool if it is shared, else one slot's part."""
    if launch.enable_unified_kv:
        return launch.ctx_size
    return max(1, launch.ctx_size // max(1, launch.parallel))


def guard_seconds(request_timeout_ms: float) -> float:
    """How long a ticket may wait before it goes first."""
    return min(MAX_GUARD_MS, request_timeout_ms * GUARD_SHARE_OF_TIMEOUT) / 1000


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a request asks of the scheduler. `cost`: prompt tokens plus the whole completion allowance."""

    cost: int
    lane: Lane
    deadline: Deadline


@dataclass(frozen=True, slots=True)
class SchedulerSnapshot:
    """The queue at one moment; counts of requests and of tokens."""

    queue_depth: int
    short_queue_depth: int
    draft_queue_depth: int
    in_flight: int
    max_queue: int
    concurrency: int
    queued_tokens: int
    in_flight_tokens: int
    max_queued_tokens: int
    max_inflight_tokens: int

    def details(self) -> dict[str, object]:
        """The ten figures under their wire names, as refusals carry them."""
        return {
            "queueDepth": self.queue_depth,
            "shortQueueDepth": self.short_queue_depth,
            "draftQueueDepth": self.draft_queue_depth,
            "inFlight": self.in_flight,
            "maxQueue": self.max_queue,
            "concurrency": self.concurrency,
            "queuedTokens": self.queued_tokens,
            "inFlightTokens": self.in_flight_tokens,
            "maxQueuedTokens": self.max_queued_tokens,
            "maxInflightTokens": self.max_inflight_tokens,
        }


@dataclass(frozen=True, slots=True)
class Waiting:
    """One place in the waiting line. `since`: seconds on the scheduler's clock; `order`: arrival number."""

    cost: int
    lane: Lane
    since: float
    order: int


def score(place: Waiting, now: float) -> float:
    """How strongly a waiting ticket asks to go next, in points. All age at the same rate."""
    points = (now - place.since) * 1000 / WAITED_MS_PER_POINT
    if place.lane == "short":
        points += SHORT_LANE_POINTS
    return points


def choose(line: Sequence[Waiting], *, now: float, free_tokens: int, lookahead: int, guard_s: float) -> Waiting | None:
    """Who goes next of `line` (in order of arrival), or None if nobody may go now.

    The oldest ticket past the guard goes first; while it does not fit, its tokens are being saved up and nobody
    overtakes it. Otherwise each lane offers its best of the first `lookahead` places that fit (if none of these fits,
    of all that fit), and the higher score wins; a tie goes to the earlier place, between lanes to `short`.
    """
    if line and now - line[0].since >= guard_s:
        return line[0] if line[0].cost <= free_tokens else None
    best: Waiting | None = None
    best_score = 0.0
    for lane in ("short", "draft"):
        in_lane = [place for place in line if place.lane == lane]
        fitting = [place for place in in_lane[:lookahead] if place.cost <= free_tokens]
        fitting = fitting or [place for place in in_lane[lookahead:] if place.cost <= free_tokens]
        for place in fitting:
            points = score(place, now)
            if best is None or points > best_score:
                best, best_score = place, points
    return best


class Admission:
    """One ticket's way through the scheduler; holding it (`async with`) is the right to generate.

    Entering waits for the turn. Leaving, by whatever way, gives back the place and its tokens.
    """

    __slots__ = ("_granted", "_granted_at", "_scheduler", "place", "ticket")

    def __init__(self, scheduler: Scheduler, ticket: Ticket, place: Waiting) -> None:
        self._scheduler = scheduler
        self._granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._granted_at: float | None = None
        self.ticket = ticket
        self.place = place

    @property
    def queue_time_ms(self) -> float:
        """From the admission call to the start, the batch window included; 0 while it still waits."""
        return 0.0 if self._granted_at is None else (self._granted_at - self.place.since) * 1000

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


class Scheduler:
    """The waiting line and the books of what runs. `clock`: seconds, monotonic."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config.scheduler
        self._budget = inflight_token_budget(config)
        self._guard_s = guard_seconds(config.scheduler.request_timeout_ms)
        self._clock = clock
        self._waiting: dict[int, Admission] = {}  # by arrival number, so in order of arrival
        self._running: set[int] = set()
        self._arrivals = 0
        self._queued_tokens = 0
        self._inflight_tokens = 0
        self._batch_timer: asyncio.TimerHandle | None = None

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
        place = Waiting(ticket.cost, ticket.lane, self._clock(), self._arrivals)
        admission = Admission(self, ticket, place)
        self._waiting[place.order] = admission
        self._queued_tokens += ticket.cost
        self._arrived()
        return admission

    def snapshot(self) -> SchedulerSnapshot:
        short = sum(1 for admission in self._waiting.values() if admission.place.lane == "short")
        return SchedulerSnapshot(
            queue_depth=len(self._waiting),
            short_queue_depth=short,
            draft_queue_depth=len(self._waiting) - short,
            in_flight=len(self._running),
            max_queue=self._config.max_queue,
            concurrency=self._config.concurrency,
            queued_tokens=self._queued_tokens,
            in_flight_tokens=self._inflight_tokens,
            max_queued_tokens=self._config.max_queued_tokens,
            max_inflight_tokens=self._budget.together,
        )

    def _check_cost(self, cost: int) -> None:
        """A request that could never run is refused at once instead of waiting for its deadline."""
        limit = min(self._budget.together, self._budget.each, self._config.max_queued_tokens)
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

    def _dispatch(self) -> None:
        """Start whoever may start. Runs on arrival, at the end of a batch window, and whenever something ends."""
        if self._batch_timer is not None:
            self._batch_timer.cancel()
            self._batch_timer = None
        now = self._clock()
        self._drop_expired()
        while self._waiting and len(self._running) < self._config.concurrency:
            chosen = choose(
                [admission.place for admission in self._waiting.values()],
                now=now,
                free_tokens=self._budget.together - self._inflight_tokens,
                lookahead=self._config.affinity_lookahead,
                guard_s=self._guard_s,
            )
            if chosen is None:
                return
            admission = self._waiting.pop(chosen.order)
            self._queued_tokens -= chosen.cost
            self._running.add(chosen.order)
            self._inflight_tokens += chosen.cost
            admission._grant(now)

    def _drop_expired(self) -> None:
        """Nobody is waiting any more for the answer of a ticket whose deadline has passed: do not start it."""
        expired = [admission for admission in self._waiting.values() if admission.ticket.deadline.expired()]
        for admission in expired:
            del self._waiting[admission.place.order]
            self._queued_tokens -= admission.place.cost
            admission._fail(RayError("request_timeout", "the request's time ran out while it waited in the queue"))

    def _give_back(self, admission: Admission) -> None:
        """The one way out, waiting or running; calling it again does nothing."""
        order, cost = admission.place.order, admission.place.cost
        if order in self._running:
            self._running.remove(order)
            self._inflight_tokens -= cost
        elif self._waiting.pop(order, None) is not None:
            self._queued_tokens -= cost
        else:
            return
        if self._batch_timer is None or self._running:
            self._dispatch()
