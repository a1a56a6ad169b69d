"""One minute of mixed load at twice what the backend can do, in virtual time: nobody starves, nobody is answered late,
and whoever is refused hears it at once."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from ray.errors import RayError
from ray.providers import CallContext, Preparation, PromptPrefix
from ray.runtime.line import guard_seconds
from ray.runtime.scheduler import Admission, Scheduler
from ray.types import Chunk, Finish, InferenceRequest
from tests.fakes.provider import FakeProvider
from tests.fakes.virtual_time import run_in_virtual_time
from tests.runtime.support import House, tiny_config

TIMEOUT_MS = 8_000
GUARD_S = guard_seconds(TIMEOUT_MS)
SLOTS = 2
MINUTE_S = 60.0
# Tokens per second of one slot: reading and writing.
READING, WRITING = 400.0, 40.0
PREFIX_TOKENS = 200
LONG, SHORT = 96, 16
# The instant of a deadline is shared by several timers.
SAME_INSTANT_S = 0.001


class Box(FakeProvider):
    """A small machine with two slots: a prefix that is not hot is read first, an answer takes its tokens' time."""

    def __init__(self) -> None:
        super().__init__()
        self.assignable_slots = SLOTS
        self.working_s = 0.0

    async def prepare(self, request: InferenceRequest, context: CallContext) -> Preparation:
        await asyncio.sleep(0.002)
        prefix = PromptPrefix((request.system or "").ljust(64, "0"), request.system or "", PREFIX_TOKENS)
        return Preparation(request, prompt_tokens=PREFIX_TOKENS + 20, context_window=2_048, prefix=prefix)

    async def stream(self, preparation: Preparation, context: CallContext) -> AsyncIterator[Chunk]:
        started = time.monotonic()
        try:
            await asyncio.sleep(0.005 if context.hot else PREFIX_TOKENS / READING)
            yield Chunk()
            for _ in range(preparation.request.max_tokens // 8):
                await asyncio.sleep(8 / WRITING)
                yield Chunk("12345678")
            yield Chunk(finish=Finish("length"))
        finally:
            self.working_s += time.monotonic() - started


class Watched(Scheduler):
    """Notes each start at which somebody older had passed the guard already."""

    def __init__(self, house: House, box: Box) -> None:
        super().__init__(
            house.config, lambda: time.monotonic(), slots=lambda: box.assignable_slots, epoch=lambda: box.slots_epoch
        )
        self.overtaken: list[float] = []
        self.waits: list[float] = []

    def _start(self, admission: Admission, now: float) -> None:
        oldest = next(iter(self._waiting.values()))
        if admission is not oldest and now - oldest.place.since >= GUARD_S:
            self.overtaken.append(now - oldest.place.since)
        super()._start(admission, now)
        self.waits.append(now - admission.place.since)


class Minute:
    """The load and what became of it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.box = Box()
        limits: dict[str, object] = {"concurrency": SLOTS, "max_queue": 5, "request_timeout_ms": TIMEOUT_MS}
        off: dict[str, object] = {"enabled": False}
        self.house = House(self.box, tiny_config(scheduler=limits, degradation=off, tuning=off, cache=off))
        self.scheduler = Watched(self.house, self.box)
        self.house.runtime._scheduler = self.scheduler
        self.outcomes: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.late: list[float] = []
        self.slow_refusals: list[float] = []

    async def run(self) -> None:
        begin = time.monotonic()
        tasks: list[asyncio.Task[None]] = []
        while time.monotonic() - begin < MINUTE_S:
            # A short answer takes 0.4 s, a long one 2.4 s, and cold ones 0.5 s more: 1.25 a second would keep two
            # slots busy with nothing to spare.
            await asyncio.sleep(self.chance.expovariate(2.5))
            tasks.append(asyncio.create_task(self._client(len(tasks))))
        await asyncio.gather(*tasks)
        self.house.runtime.refresh_gauges()

    async def _client(self, number: int) -> None:
        size = "short" if self.chance.random() < 0.5 else "long"
        body = {
            "input": f"customer {number}",
            "system": f"family {self.chance.randrange(6)}",
            "maxTokens": SHORT if size == "short" else LONG,
            "metadata": {"promptLane": "short" if size == "short" else "draft"},
        }
        asked = time.monotonic()
        async with await self.house.ask(body, timeout_ms=TIMEOUT_MS) as reader:
            try:
                await reader.result()
            except RayError as error:
                self.outcomes[error.code] += 1
                took = time.monotonic() - asked
                if error.code == "queue_full" and took > 0.1:  # preparing takes 2 ms, at the gate it waits its turn
                    self.slow_refusals.append(took)
                if took > TIMEOUT_MS / 1000 + SAME_INSTANT_S:
                    self.late.append(took)
                return
        took = time.monotonic() - asked
        self.outcomes["answered"] += 1
        self.answered[size] += 1
        if took > TIMEOUT_MS / 1000 + SAME_INSTANT_S:
            self.late.append(took)


@pytest.mark.parametrize("seed", range(3))
def test_at_twice_capacity_nobody_starves_nobody_is_late_and_refusals_are_immediate(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> Minute:
        minute = Minute(seed)
        await minute.run()
        return minute

    minute = run_in_virtual_time(main(), monkeypatch)
    assert minute.scheduler.overtaken == []
    assert minute.late == []
    assert minute.slow_refusals == []
    # Too much was asked for, the machine was busy all the time, and both sizes were served.
    refused = minute.outcomes["queue_full"] + minute.outcomes["request_timeout"]
    assert refused > minute.outcomes["answered"] / 2
    assert minute.box.working_s > 0.9 * SLOTS * MINUTE_S
    assert min(minute.answered["short"], minute.answered["long"]) > 10
    assert set(minute.outcomes) <= {"answered", "queue_full", "request_timeout"}
    assert minute.house.is_idle()
