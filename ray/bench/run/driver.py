"""The requests of a run, sent and timed, with one of two loops.

Closed: N clients, and each sends its next request when its last answer is complete. That finds what the gateway can do,
but a slow gateway is also asked less. Open: requests arrive at random moments of a given mean rate (a Poisson process)
and never wait for answers, as those of people who do not know of each other. Their time counts from the planned
arrival.

Errors are counted, not fatal, and the first of each code is told. Only a gateway that is gone or hangs, or that refuses
the API key, ends a run early; what was measured until then stays.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ray.bench.processes.process import MeasurementError
from ray.bench.report.progress import about_left, time_left
from ray.bench.run.answer_sample import (
    CONNECTION_LOST,
    SATURATED,
    TIMEOUT,
    UNFINISHED,
    UNREACHABLE,
    Times,
    answered_sample,
    error_code,
    failed_sample,
    provider_of,
)
from ray.bench.run.provider_tally import ProviderTally, figure
from ray.bench.run.sample import QueuePoint, Sample
from ray.bench.run.workload_file import Workload
from ray.client import AsyncRayClient, RayClientError, RayRefused, RayRequestError

MAX_UNDER_WAY = 256
QUEUE_POLL_SECONDS = 0.5
MAX_QUEUE_POINTS = 2_000
PROGRESS_SECONDS = 5.0
LIVEZ_MS = 2_000
LIVEZ_TRIES = 3
LIVEZ_PAUSE_SECONDS = 0.3
LAST_ANSWERS_SECONDS = 5.0
HTTP_UNAUTHORIZED = 401

_SUSPICIOUS = frozenset({UNREACHABLE, CONNECTION_LOST, TIMEOUT})

Progress = Callable[[str], None]
Seen = Callable[[Sample, str], None]


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What is to be sent. Exactly one of `clients` (closed loop) and `rate` (open loop, arrivals per second) is given.
    `seed`: of the arrivals. `timeout_ms`: of one request. `warmup`: requests before the measured ones. `seen`
    gets every answer's text, which is kept nowhere else."""

    workload: Workload
    requests: int
    clients: int | None = None
    rate: float | None = None
    warmup: int = 0
    no_cache: bool = False
    timeout_ms: int = 180_000
    seed: int = 1
    seen: Seen | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What came out. `samples` in the order of sending; `broken_off`: why not all were sent, None when they were;
    `cpu_ms`: CPU time that this process took for sending and reading."""

    samples: tuple[Sample, ...]
    queue: tuple[QueuePoint, ...]
    wall_ms: float
    tally: ProviderTally
    broken_off: str | None
    cpu_ms: float | None = None


def arrivals(rate: float, count: int, seed: int) -> list[float]:
    """Seconds from the start at which requests arrive: gaps are exponentially distributed with mean 1 / rate."""
    chance, now, moments = random.Random(seed), 0.0, []  # load, not secrets
    for _ in range(count):
        now += chance.expovariate(rate)
        moments.append(now)
    return moments


async def drive(plan: RunPlan, base_url: str, api_key: str | None, progress: Progress) -> Measured:
    """Send everything and wait for the answers. Raises `MeasurementError` for a request that cannot be sent at all."""
    async with (
        AsyncRayClient(base_url, api_key=api_key, max_connections=MAX_UNDER_WAY) as client,
        AsyncRayClient(base_url, api_key=api_key, max_connections=2, timeout_ms=LIVEZ_MS) as control,
    ):
        if plan.warmup:
            progress(f"warming up with {plan.warmup} requests")
            await _warm_up(plan, client, api_key is not None)
        return await _Run(plan, client, control, progress, api_key is not None).measure()


async def _warm_up(plan: RunPlan, client: AsyncRayClient, client_has_key: bool) -> None:
    """Answers nobody looks at. The response cache is left out of it: it would answer the measured requests."""
    numbers = iter(range(plan.warmup))

    async def ask() -> str | None:
        """What is wrong with a request that cannot be sent; None when all were sent."""
        for number in numbers:
            item = plan.workload.items[number % len(plan.workload.items)]
            try:
                await client.infer({**item.fields, "cache": False}, timeout_ms=plan.timeout_ms)
            except RayRequestError as error:
                return str(error)
            except RayClientError as error:
                if _is_locked_out(error):
                    return _key_problem(client_has_key)
        return None

    for problem in await asyncio.gather(*(ask() for _ in range(min(plan.clients or 1, plan.warmup)))):
        if problem is not None:
            raise MeasurementError(problem)


def _is_locked_out(error: RayClientError) -> bool:
    return isinstance(error, RayRefused) and error.status == HTTP_UNAUTHORIZED


def _key_problem(has_key: bool) -> str:
    """What a refused key, or none, needs. All requests of a run would meet the same."""
    return (
        "the gateway refuses the API key (401): RAY_BENCHMARK_API_KEY, or the variable that --config names, must hold "
        "one that the gateway knows"
        if has_key
        else "the gateway wants an API key (401): set RAY_BENCHMARK_API_KEY, or give --config with auth enabled"
    )


@dataclass(slots=True)
class _Run:
    """The measured part of a run. `fatal`: why there is nothing to report."""

    plan: RunPlan
    client: AsyncRayClient
    control: AsyncRayClient
    progress: Progress
    has_key: bool
    began: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    queue: list[QueuePoint] = field(default_factory=list)
    tally: ProviderTally = field(default_factory=ProviderTally)
    broken_off: str | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    under_way: int = 0
    fatal: str | None = None
    told: set[str] = field(default_factory=set)

    async def measure(self) -> Measured:
        self.began, cpu_before = time.perf_counter(), time.process_time()
        watchers = [asyncio.create_task(self._watch_queue()), asyncio.create_task(self._tell())]
        load = asyncio.create_task(self._closed() if self.plan.rate is None else self._open(self.plan.rate))
        over = asyncio.create_task(self.gone.wait())
        try:
            await asyncio.wait({load, over}, return_when=asyncio.FIRST_COMPLETED)
            if not load.done():
                # What is under way mostly fails by itself now; what hangs is cancelled.
                await asyncio.wait({load}, timeout=LAST_ANSWERS_SECONDS)
            wall, cpu_ms = self._wall(), (time.process_time() - cpu_before) * 1_000
        finally:
            tasks = [load, over, *watchers]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self.fatal is not None:
            raise MeasurementError(self.fatal)
        if load.done() and not load.cancelled() and load.exception() is not None:
            load.result()
        samples = tuple(sorted(self.samples, key=lambda sample: sample.number))
        return Measured(samples, tuple(self.queue), wall, self.tally, self.broken_off, cpu_ms)

    def _wall(self) -> float:
        """Until now; of a run that broke off until its last answer: the time it took to see that the gateway is gone
        says nothing about what it did before."""
        ends = [sample.started_ms + sample.latency_ms for sample in self.samples if sample.answered]
        return max(ends) if ends and self.broken_off is not None else self._now()

    def _now(self) -> float:
        return (time.perf_counter() - self.began) * 1_000

    async def _closed(self) -> None:
        numbers = iter(range(self.plan.requests))
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.plan.clients or 1, self.plan.requests)):
                group.create_task(self._client(numbers))

    async def _client(self, numbers: Iterator[int]) -> None:
        while not self.gone.is_set():
            number = next(numbers, None)
            if number is None:
                return
            await self._ask(number, self._now())

    async def _open(self, rate: float) -> None:
        moments = arrivals(rate, self.plan.requests, self.plan.seed)
        async with asyncio.TaskGroup() as group:
            for number, moment in enumerate(moments):
                await asyncio.sleep(max(0.0, self.began + moment - time.perf_counter()))
                if self.gone.is_set():
                    return
                if self.under_way >= MAX_UNDER_WAY:
                    times = Times(moment * 1_000, None, 0.0)
                    self.samples.append(failed_sample(number, self._place(number), times, SATURATED))
                    continue
                self.under_way += 1
                group.create_task(self._arrived(number, moment * 1_000))

    async def _arrived(self, number: int, planned: float) -> None:
        try:
            await self._ask(number, planned)
        finally:
            self.under_way -= 1

    def _place(self, number: int) -> int:
        return number % len(self.plan.workload.items)

    async def _ask(self, number: int, started: float) -> None:
        """One request, from `started` (ms) to its last text; its sample is kept whatever comes."""
        place = self._place(number)
        item = self.plan.workload.items[place]
        body = {**item.fields, "cache": False} if self.plan.no_cache else item.fields
        first: float | None = None
        code = UNFINISHED
        answer: Mapping[str, object] | None = None
        try:
            async with self.client.stream(body, timeout_ms=self.plan.timeout_ms) as tokens:
                async for text in tokens:
                    if first is None and text:
                        first = self._now() - started
                answer = tokens.result
        except RayRequestError as error:
            self.fatal = self.fatal or str(error)
            self.gone.set()
        except RayClientError as error:
            code = error_code(error)
            self._note(code, error, place)
        finally:
            times = Times(started, first, self._now() - started)
            if answer is None:
                self.samples.append(failed_sample(number, place, times, code))
        if answer is None:
            if code in _SUSPICIOUS:
                await self._look_after(f"a request ended with {code}")
            return
        sample = answered_sample(number, place, times, answer, item)
        self.samples.append(sample)
        if self.plan.seen is not None and sample.answered:
            self.plan.seen(sample, str(answer.get("output")))
        if sample.answered and not sample.cached:
            self.tally.add(provider_of(answer))

    def _note(self, code: str, error: RayClientError, place: int) -> None:
        """Tell the first error of each code: the report has only the code, and the remedy is in the words."""
        if code not in self.told:
            self.told.add(code)
            self.progress(f"item {place + 1} of the workload: {error}")
        if not _is_locked_out(error) or self.gone.is_set():
            return
        if any(sample.answered for sample in self.samples):
            self.broken_off = _key_problem(self.has_key)
        else:
            self.fatal = _key_problem(self.has_key)
        self.gone.set()

    async def _look_after(self, sign: str) -> None:
        """After something that a gateway which is gone would cause: is it? One look at a time; the others wait."""
        async with self.looking:
            for turn in range(LIVEZ_TRIES):
                if self.gone.is_set():
                    return
                if turn:
                    await asyncio.sleep(LIVEZ_PAUSE_SECONDS)
                if await self._is_alive():
                    return
            self.broken_off = f"the gateway is gone: {sign}, and /livez does not answer"
            self.gone.set()

    async def _is_alive(self) -> bool:
        try:
            await self.control.livez()
        except RayRefused as error:
            # A proxy answers 502 to 504 in the place of a gateway that is not there.
            return error.status is not None and error.status < 500
        except RayClientError:
            return False
        return True

    async def _watch_queue(self) -> None:
        """The queue over time. It is asked for over HTTP, so a gateway that does not tell has no series; one that hangs
        is found out here, because requests that are under way may wait for minutes."""
        every = QUEUE_POLL_SECONDS
        while True:
            try:
                gauges = (await self.control.metrics()).get("gauges")
            except RayRefused:
                return
            except RayClientError as error:
                gauges = None
                if error_code(error) in _SUSPICIOUS:
                    await self._look_after(f"/metrics ended with {error_code(error)}")
            if isinstance(gauges, Mapping):
                depth, running = figure(gauges, "queue.depth"), figure(gauges, "inference.in_flight")
                self.queue.append(QueuePoint(self._now(), int(depth or 0), int(running or 0)))
            if len(self.queue) >= MAX_QUEUE_POINTS:
                # Half of the points for twice the time: a long run does not need more to be drawn.
                del self.queue[1::2]
                every *= 2
            await asyncio.sleep(every)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            done, whole = len(self.samples), self.plan.requests
            left = time_left(done, whole, self._now() / 1_000)
            failed = sum(not sample.answered for sample in self.samples)
            errors = f", {failed} errors" if failed else ""
            self.progress(f"{done} of {whole} requests{errors}{about_left(left)}")
