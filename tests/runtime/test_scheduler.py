"""Admission: budgets, refusals, the order of choice, the guard, and books that always balance."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from ray.clock import Deadline
from ray.config import Config, LaunchProfile, LlamaCppAdapter, config_from_mapping
from ray.errors import RayError
from ray.runtime.budget import TokenBudget, inflight_token_budget
from ray.runtime.figures import SchedulerSnapshot
from ray.runtime.line import guard_seconds
from ray.runtime.scheduler import Admission, Scheduler, Ticket
from ray.types import Lane
from tests.fakes.provider import until
from tests.runtime.support import tiny_config


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def scheduler_with(clock: Callable[[], float] | None = None, **limits: object) -> Scheduler:
    """One place, a line of 32, budgets of 2500 in flight and 12000 waiting, unless said otherwise."""
    return Scheduler(tiny_config(scheduler=limits), clock or Clock())


def ticket(cost: int = 1, lane: Lane = "draft", timeout_ms: float = 60_000) -> Ticket:
    return Ticket(cost, lane, Deadline.after_ms(timeout_ms))


class Job:
    """A task that asks for admission and, once in, stays until told to go."""

    def __init__(self, scheduler: Scheduler, name: str, asked: Ticket, log: list[str] | None = None) -> None:
        self.name = name
        self.cost = asked.cost
        self.running = False
        self.may_go = asyncio.Event()
        self._log = log
        self.admission: Admission = scheduler.admit(asked)
        self.task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        async with self.admission:
            self.running = True
            if self._log is not None:
                self._log.append(self.name)
            try:
                await self.may_go.wait()
            finally:
                self.running = False


def is_empty(snapshot: SchedulerSnapshot) -> bool:
    return (
        snapshot.queue_depth
        == snapshot.in_flight
        == snapshot.queued_tokens
        == snapshot.in_flight_tokens
        == snapshot.short_queue_depth
        == snapshot.draft_queue_depth
        == 0
    )


async def finish(*jobs: Job) -> None:
    for job in jobs:
        job.may_go.set()
    await asyncio.gather(*(job.task for job in jobs))


# -- budgets


def llama_config(**launch: object) -> Config:
    config = config_from_mapping({"profile": "sub1b"})
    adapter = config.model.adapter
    assert isinstance(adapter, LlamaCppAdapter)
    assert isinstance(adapter.launch_profile, LaunchProfile)
    profile = replace(adapter.launch_profile, **launch)  # type: ignore[arg-type]  # names of its fields
    return replace(config, model=replace(config.model, adapter=replace(adapter, launch_profile=profile)))


@pytest.mark.parametrize(
    ("ctx_size", "parallel", "unified", "expected"),
    [
        (3072, 2, True, TokenBudget(3072, 3072)),
        (3072, 2, False, TokenBudget(3072, 1536)),
        (3073, 2, False, TokenBudget(3073, 1536)),
        (8192, 1, False, TokenBudget(4096, 4096)),
        (16384, 2, True, TokenBudget(4096, 4096)),
        (16384, 2, False, TokenBudget(4096, 4096)),
    ],
)
def test_the_budget_is_what_operator_and_kv_cache_both_allow(
    ctx_size: int, parallel: int, unified: bool, expected: TokenBudget
) -> None:
    config = llama_config(ctx_size=ctx_size, parallel=parallel, enable_unified_kv=unified)
    assert config.scheduler.max_inflight_tokens == 4096
    assert inflight_token_budget(config) == expected


def test_without_a_launch_profile_the_operator_alone_decides() -> None:
    assert inflight_token_budget(tiny_config()) == TokenBudget(2500, 2500)


# -- refusals


def test_a_cost_equal_to_the_budget_is_admitted_and_one_more_is_refused_on_an_idle_scheduler() -> None:
    async def main() -> None:
        scheduler = scheduler_with(max_inflight_tokens=100, max_queued_tokens=100)
        job = Job(scheduler, "exact", ticket(100))
        await finish(job)
        with pytest.raises(RayError) as caught:
            scheduler.admit(ticket(101))
        assert caught.value.code == "request_token_budget_exceeded"
        assert caught.value.status == 413
        assert caught.value.details == {
            "requestedTokens": 101,
            "queueDepth": 0,
            "shortQueueDepth": 0,
            "draftQueueDepth": 0,
            "inFlight": 0,
            "maxQueue": 32,
            "concurrency": 1,
            "queuedTokens": 0,
            "inFlightTokens": 0,
            "maxQueuedTokens": 100,
            "maxInflightTokens": 100,
        }

    asyncio.run(main())


@pytest.mark.parametrize("limits", [{"max_inflight_tokens": 50}, {"max_queued_tokens": 50}])
def test_either_budget_refuses_what_could_never_run(limits: dict[str, object]) -> None:
    async def main() -> None:
        with pytest.raises(RayError, match="51 tokens"):
            scheduler_with(None, **limits).admit(ticket(51))

    asyncio.run(main())


def test_a_request_larger_than_one_slot_is_refused() -> None:
    async def main() -> None:
        scheduler = Scheduler(llama_config(ctx_size=3072, parallel=2, enable_unified_kv=False), Clock())
        with pytest.raises(RayError, match="at most 1536"):
            scheduler.admit(ticket(1537))

    asyncio.run(main())


def test_with_one_place_and_a_line_of_one_the_third_is_refused_at_once() -> None:
    async def main() -> None:
        scheduler = scheduler_with(max_queue=1)
        jobs = [Job(scheduler, "runs", ticket(3, "short")), Job(scheduler, "waits", ticket(4, "short"))]
        with pytest.raises(RayError) as caught:
            scheduler.admit(ticket())
        assert (caught.value.code, caught.value.status, caught.value.retry_after) == ("queue_full", 503, 1)
        details = caught.value.details
        assert isinstance(details, dict)
        assert (details["queueDepth"], details["shortQueueDepth"], details["inFlight"]) == (1, 1, 1)
        assert (details["queuedTokens"], details["inFlightTokens"]) == (4, 3)
        await finish(*jobs)
        assert is_empty(scheduler.snapshot())

    asyncio.run(main())


def test_the_line_is_full_when_its_tokens_are() -> None:
    async def main() -> None:
        scheduler = scheduler_with(max_queued_tokens=100)
        jobs = [Job(scheduler, "runs", ticket(100)), Job(scheduler, "waits", ticket(60))]
        with pytest.raises(RayError, match="queue is full"):
            scheduler.admit(ticket(41))
        jobs.append(Job(scheduler, "fits", ticket(40)))
        await finish(*jobs)

    asyncio.run(main())


# -- dispatch


def test_in_flight_tokens_hold_back_what_does_not_fit_until_something_ends() -> None:
    async def main() -> None:
        scheduler = scheduler_with(concurrency=4, max_inflight_tokens=100)
        runs = Job(scheduler, "60", ticket(60))
        large = Job(scheduler, "50", ticket(50))
        small = Job(scheduler, "20", ticket(20))
        await until(lambda: small.running)
        assert (runs.running, large.running) == (True, False)
        assert scheduler.snapshot().in_flight_tokens == 80
        await finish(runs)
        await until(lambda: large.running)
        await finish(large, small)
        assert is_empty(scheduler.snapshot())

    asyncio.run(main())


def test_past_the_guard_a_large_ticket_is_no_longer_overtaken() -> None:
    async def main() -> None:
        clock = Clock()
        scheduler = scheduler_with(clock, concurrency=4, max_inflight_tokens=100, request_timeout_ms=8_000)
        runs = Job(scheduler, "60", ticket(60))
        large = Job(scheduler, "50", ticket(50))
        clock.now = 2.0
        small = Job(scheduler, "20", ticket(20, "short"))
        await until(lambda: runs.running)
        assert not small.running
        await finish(runs)
        await until(lambda: large.running and small.running)
        await finish(large, small)

    asyncio.run(main())


def test_a_waiting_short_goes_before_an_earlier_draft() -> None:
    async def main() -> None:
        scheduler = scheduler_with()
        log: list[str] = []
        jobs = [
            Job(scheduler, "runs", ticket(1, "draft"), log),
            Job(scheduler, "draft", ticket(1, "draft"), log),
            Job(scheduler, "short", ticket(1, "short"), log),
        ]
        await finish(*jobs)
        assert log == ["runs", "short", "draft"]

    asyncio.run(main())


def test_without_a_batch_window_a_free_place_is_taken_inside_the_admission_call() -> None:
    async def main() -> None:
        scheduler = scheduler_with(batch_window_ms=0)
        job = Job(scheduler, "now", ticket())
        assert scheduler.snapshot().in_flight == 1
        await finish(job)
        assert job.admission.queue_time_ms == 0

    asyncio.run(main())


def test_the_batch_window_collects_arrivals_on_an_idle_backend_only() -> None:
    async def main() -> None:
        scheduler = scheduler_with(batch_window_ms=1_000, concurrency=2)
        draft, short = Job(scheduler, "draft", ticket()), Job(scheduler, "short", ticket(1, "short"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert scheduler.snapshot().queue_depth == 2
        timer = scheduler._batch_timer
        assert timer is not None
        scheduler._dispatch()  # the window ends
        assert timer.cancelled()
        await until(lambda: draft.running and short.running)
        waiting = Job(scheduler, "third", ticket())
        await finish(short)
        await until(lambda: waiting.running)  # drained at once, no second window
        assert scheduler._batch_timer is None
        await finish(draft, waiting)
        assert is_empty(scheduler.snapshot())

    asyncio.run(main())


def test_the_window_closes_by_itself() -> None:
    async def main() -> None:
        scheduler = scheduler_with(batch_window_ms=1)
        job = Job(scheduler, "one", ticket())
        assert not job.running
        await finish(job)
        assert is_empty(scheduler.snapshot())

    asyncio.run(main())


def test_a_burst_fills_the_line_even_though_the_window_has_not_started_anything() -> None:
    async def main() -> None:
        scheduler = scheduler_with(batch_window_ms=1_000, max_queue=2)
        jobs = [Job(scheduler, "a", ticket()), Job(scheduler, "b", ticket())]
        with pytest.raises(RayError, match="queue is full"):
            scheduler.admit(ticket())
        scheduler._dispatch()
        await finish(*jobs)

    asyncio.run(main())


def test_queue_time_runs_from_arrival_to_start() -> None:
    async def main() -> None:
        clock = Clock()
        scheduler = scheduler_with(clock)
        runs, waits = Job(scheduler, "runs", ticket()), Job(scheduler, "waits", ticket())
        clock.now = 0.25
        await finish(runs, waits)
        assert waits.admission.queue_time_ms == 250

    asyncio.run(main())


def test_a_ticket_whose_deadline_has_passed_is_never_started() -> None:
    async def main() -> None:
        scheduler = scheduler_with()
        runs = Job(scheduler, "runs", ticket())
        late = Job(scheduler, "late", ticket(timeout_ms=-1))
        late.may_go.set()
        await finish(runs)
        with pytest.raises(RayError, match="time ran out"):
            await late.task
        assert is_empty(scheduler.snapshot())

    asyncio.run(main())


# -- slots that Ray assigns


def slots_scheduler(config: Config, count: int | None = 2) -> Scheduler:
    return Scheduler(config, Clock(), slots=lambda: count)


async def used(scheduler: Scheduler, affinity: str, cost: int, tokens: int | None = None) -> Admission:
    """A generation from start to end."""
    async with scheduler.admit(Ticket(cost, "draft", Deadline.after_ms(60_000), affinity)) as admission:
        admission.prefix_ready()
        admission.learned(admission.slot, tokens)
    return admission


@pytest.mark.parametrize(
    ("unified", "cost", "tokens", "still_hot"),
    [
        (True, 400, None, True),
        (True, 800, None, False),
        (True, 800, 400, True),
        (False, 400, None, True),
        (False, 500, None, True),
    ],
    ids=["there is room", "there may be none", "there is, as the answer told", "own pools", "own pools, filled"],
)
def test_what_a_shared_pool_may_have_no_room_for_is_no_longer_called_hot(
    unified: bool, cost: int, tokens: int | None, still_hot: bool
) -> None:
    async def main() -> None:
        config = llama_config(ctx_size=1_024, parallel=2, enable_unified_kv=unified)
        scheduler = slots_scheduler(config)
        assert (await used(scheduler, "a", cost, tokens)).slot == 0
        assert (await used(scheduler, "b", 400)).slot == 1
        assert (await used(scheduler, "a", 100)).hot is still_hot

    asyncio.run(main())


def test_one_slot_has_its_pool_to_itself() -> None:
    async def main() -> None:
        scheduler = slots_scheduler(llama_config(ctx_size=1_024, parallel=1, enable_unified_kv=True), 1)
        await used(scheduler, "a", 1_000)
        assert (await used(scheduler, "a", 1_000)).hot

    asyncio.run(main())


def test_while_the_backend_still_runs_what_it_chose_itself_no_slot_is_assigned() -> None:
    async def main() -> None:
        count: list[int | None] = [None]
        scheduler = Scheduler(tiny_config(scheduler={"concurrency": 2}), Clock(), slots=lambda: count[0])
        chosen = Job(scheduler, "chosen by the backend", ticket())
        count[0] = 2
        assigned = Job(scheduler, "assigned", ticket())
        await until(lambda: chosen.running)
        assert not assigned.running
        await finish(chosen)
        await until(lambda: assigned.running)
        assert (chosen.admission.slot, assigned.admission.slot) == (None, 0)
        await finish(assigned)
        assert is_empty(scheduler.snapshot())

    asyncio.run(main())


def test_a_generation_from_before_a_restart_says_nothing_about_the_slots_after_it() -> None:
    async def main() -> None:
        epoch = [0]
        config = tiny_config(scheduler={"concurrency": 2})
        scheduler = Scheduler(config, Clock(), slots=lambda: 2, epoch=lambda: epoch[0])
        async with scheduler.admit(Ticket(1, "draft", Deadline.after_ms(60_000), "a")) as old:
            epoch[0] += 1
            old.prefix_ready()
            old.learned(old.slot)
        assert not (await used(scheduler, "a", 1)).hot
        assert (await used(scheduler, "a", 1)).hot

    asyncio.run(main())


def test_a_slot_that_was_emptied_for_a_prefix_is_given_away_again_once_the_prefix_is_there() -> None:
    async def main() -> None:
        scheduler = slots_scheduler(llama_config(ctx_size=1_024, parallel=2, enable_unified_kv=True))
        await used(scheduler, "a", 800)
        first = Job(scheduler, "b", Ticket(400, "draft", Deadline.after_ms(60_000), "b"))
        await until(lambda: first.running)
        assert (first.admission.slot, first.admission.crowding) == (1, (0,))
        second = Job(scheduler, "c", Ticket(400, "draft", Deadline.after_ms(60_000), "c"))
        await asyncio.sleep(0)
        assert not second.running
        first.admission.prefix_ready()
        await until(lambda: second.running)
        assert second.admission.slot == 0
        await finish(first, second)
        assert is_empty(scheduler.snapshot())

    asyncio.run(main())


def test_a_relative_that_is_held_goes_at_the_guard_although_nothing_else_happens() -> None:
    async def main() -> None:
        config = tiny_config(scheduler={"concurrency": 2, "request_timeout_ms": 40})  # the guard is 10 ms
        scheduler = Scheduler(config, slots=lambda: 2)
        asked = Ticket(1, "draft", Deadline.after_ms(60_000), "a")
        reads, relative = Job(scheduler, "reads", asked), Job(scheduler, "relative", asked)
        await asyncio.wait_for(asyncio.shield(relative.admission._granted), 10)
        await until(lambda: relative.running)
        assert reads.running
        assert relative.admission.queue_time_ms >= 10
        await finish(reads, relative)

    asyncio.run(main())


# -- every way out


def test_a_holder_that_fails_gives_everything_back() -> None:
    async def main() -> None:
        scheduler = scheduler_with()
        with pytest.raises(ValueError, match="broken"):
            async with scheduler.admit(ticket(10)):
                raise ValueError("broken")
        assert is_empty(scheduler.snapshot())

    asyncio.run(main())


def test_cancelling_a_waiter_makes_room_for_those_it_held_back() -> None:
    async def main() -> None:
        clock = Clock()
        scheduler = scheduler_with(clock, concurrency=4, max_inflight_tokens=100, request_timeout_ms=8_000)
        runs, large = Job(scheduler, "60", ticket(60)), Job(scheduler, "50", ticket(50))
        clock.now = 3.0
        small = Job(scheduler, "20", ticket(20))
        await until(lambda: runs.running)
        assert not small.running
        large.task.cancel()
        await until(lambda: small.running)
        await finish(runs, small)
        assert is_empty(scheduler.snapshot())

    asyncio.run(main())


def test_a_ticket_cancelled_in_the_turn_in_which_it_is_granted_passes_the_place_on() -> None:
    async def main() -> None:
        scheduler = scheduler_with()
        first, second, third = (Job(scheduler, name, ticket(5)) for name in ("1", "2", "3"))
        await until(lambda: first.running)
        first.may_go.set()
        await until(lambda: not first.running)
        second.task.cancel()
        await until(lambda: third.running)
        await finish(third)
        assert not second.running
        assert is_empty(scheduler.snapshot())

    asyncio.run(main())


def test_a_task_cancelled_before_it_ever_waited_leaves_nothing_behind() -> None:
    async def main() -> None:
        scheduler = scheduler_with()

        async def work() -> None:
            async with scheduler.admit(ticket(5)):
                raise AssertionError("it must not get in")

        task = asyncio.create_task(work())
        task.cancel()
        await asyncio.wait([task])
        assert is_empty(scheduler.snapshot())

    asyncio.run(main())


# -- a simulated day


@pytest.mark.parametrize("seed", range(8))
def test_over_a_random_day_budgets_hold_nobody_past_the_guard_is_overtaken_and_the_books_balance(seed: int) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        clock = Clock()
        limits = {"concurrency": 3, "max_inflight_tokens": 100, "max_queued_tokens": 400, "max_queue": 12}
        scheduler = scheduler_with(clock, **limits, request_timeout_ms=8_000, affinity_lookahead=4)
        guard_s = guard_seconds(8_000)
        jobs: list[Job] = []
        served = 0
        for number in range(400):
            clock.now += chance.expovariate(4)
            waited = [job for job in jobs if not job.running and not job.task.done()]
            guarded = [job for job in waited if clock.now - job.admission.place.since >= guard_s]
            before = {job for job in jobs if job.running}
            roll = chance.random()
            if roll < 0.55:
                asked = ticket(chance.choice([1, 5, 20, 60, 100]), chance.choice(["short", "draft"]))
                try:
                    jobs.append(Job(scheduler, str(number), asked))
                except RayError as error:
                    assert error.code == "queue_full"  # noqa: PT017
            elif roll < 0.9 and before:
                chance.choice(sorted(before, key=lambda job: job.name)).may_go.set()
            elif waited:
                chance.choice(waited).task.cancel()
            for _ in range(4):
                await asyncio.sleep(0)
            running = [job for job in jobs if job.running]
            assert len(running) <= 3
            assert sum(job.cost for job in running) == scheduler.snapshot().in_flight_tokens <= 100
            started = [job for job in running if job not in before]
            served += len(started)
            for old in (job for job in guarded if not job.running and not job.task.done()):
                younger = [job for job in started if job.admission.place.order > old.admission.place.order]
                assert younger == [], f"{old.name} was past the guard when {younger[0].name} started"
        for job in jobs:
            job.may_go.set()
        await asyncio.gather(*(job.task for job in jobs), return_exceptions=True)
        assert served > 50
        assert is_empty(scheduler.snapshot())

    asyncio.run(main())
