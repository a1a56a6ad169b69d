"""Warming: retries without end, and again when the backend came back."""

from __future__ import annotations

import asyncio
import io
import json

import pytest

from ray.errors import RayError
from ray.gateway.warm_up import WarmUp, retry_delay_ms
from ray.telemetry import Logger
from ray.types import ProviderStatus

BROKEN = RayError("provider_request_failed", "connection refused")
BUG = ZeroDivisionError("division by zero")


class FakeRuntime:
    """Each attempt to warm takes the next outcome; success when none is left. Needs warming when it is not warm."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.status: ProviderStatus = "ready"
        self.warm_state = False
        self.warmed = 0

    async def warm(self) -> None:
        self.warmed += 1
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome
        self.warm_state = True

    async def backend_answers(self) -> bool:
        if self.status == "unavailable":
            self.warm_state = False
        return self.status == "ready"

    async def needs_warming(self) -> bool:
        return await self.backend_answers() and not self.warm_state


class Sleeper:
    """Stands between attempts: notes every wait, and lets it end when the test says so."""

    def __init__(self) -> None:
        self.waits: asyncio.Queue[int] = asyncio.Queue()
        self._go = asyncio.Event()

    async def __call__(self, milliseconds: int) -> None:
        self._go.clear()
        self.waits.put_nowait(milliseconds)
        await self._go.wait()

    async def next_wait(self) -> int:
        async with asyncio.timeout(60):
            return await self.waits.get()

    def go_on(self) -> None:
        self._go.set()


class Bench:
    def __init__(self, *outcomes: Exception | None) -> None:
        self.log = io.StringIO()
        self.runtime = FakeRuntime(*outcomes)
        self.sleeper = Sleeper()
        logger = Logger("ray-test", "info", stdout=self.log, stderr=self.log)
        self.warm_up = WarmUp(self.runtime, logger, sleep_ms=self.sleeper)

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def messages(self) -> list[tuple[object, object]]:
        return [(line["level"], line["message"]) for line in self.lines()]


@pytest.mark.parametrize(
    ("failures", "delay_ms"), [(1, 2_000), (2, 4_000), (3, 8_000), (4, 15_000), (5, 15_000), (10_000, 15_000)]
)
def test_the_delay_doubles_up_to_15_seconds(failures: int, delay_ms: int) -> None:
    assert retry_delay_ms(failures) == delay_ms


def test_given_two_failures_when_the_third_attempt_succeeds_then_it_says_so_and_begins_to_watch() -> None:
    async def main() -> None:
        bench = Bench(BROKEN, BROKEN)
        warm_up = bench.warm_up
        warm_up.start()

        assert await bench.sleeper.next_wait() == 2_000
        assert (warm_up.attempts, warm_up.failures, warm_up.delay_ms, warm_up.succeeded) == (1, 1, 2_000, False)
        bench.sleeper.go_on()
        assert await bench.sleeper.next_wait() == 4_000
        bench.sleeper.go_on()
        assert await bench.sleeper.next_wait() == 1_000
        assert (warm_up.attempts, warm_up.failures, warm_up.delay_ms, warm_up.succeeded) == (3, 2, 0, True)
        assert bench.messages() == [
            ("error", "provider warmup failed after gateway start"),
            ("warn", "provider warmup retry failed"),
            ("info", "provider warmup recovered"),
        ]
        failed, retried, recovered = bench.lines()
        assert (failed["attempt"], failed["retryInMs"]) == (1, 2_000)
        assert (retried["attempt"], retried["retryInMs"]) == (2, 4_000)
        assert recovered["attempts"] == 3
        await warm_up.stop()

    asyncio.run(main())


@pytest.mark.parametrize(("failure", "has_stack"), [(BROKEN, False), (BUG, True)])
def test_only_an_unforeseen_failure_is_logged_with_its_stack(failure: Exception, has_stack: bool) -> None:
    async def main() -> None:
        bench = Bench(failure)
        bench.warm_up.start()
        await bench.sleeper.next_wait()
        error = bench.lines()[0]["error"]
        assert isinstance(error, dict)
        assert ("stack" in error) is has_stack
        await bench.warm_up.stop()

    asyncio.run(main())


def test_given_a_success_at_once_when_warmed_then_nothing_is_reported() -> None:
    async def main() -> None:
        bench = Bench()
        bench.warm_up.start()
        assert await bench.sleeper.next_wait() == 1_000
        assert bench.warm_up.succeeded
        assert bench.lines() == []
        await bench.warm_up.stop()

    asyncio.run(main())


def test_given_a_pending_retry_when_stopped_then_there_is_no_further_attempt() -> None:
    async def main() -> None:
        bench = Bench(BROKEN)
        bench.warm_up.start()
        await bench.sleeper.next_wait()
        await bench.warm_up.stop()
        bench.sleeper.go_on()
        await asyncio.sleep(0)
        assert bench.runtime.warmed == 1
        assert (bench.warm_up.stopped, bench.warm_up.delay_ms) == (True, 0)
        await bench.warm_up.stop()  # a second time changes nothing

    asyncio.run(main())


def test_given_a_backend_that_goes_away_and_comes_back_when_watched_then_it_is_warmed_again() -> None:
    async def main() -> None:
        bench = Bench()
        bench.warm_up.start()
        await bench.sleeper.next_wait()
        assert bench.runtime.warmed == 1

        bench.runtime.status = "unavailable"
        bench.sleeper.go_on()
        assert await bench.sleeper.next_wait() == 1_000
        assert bench.runtime.warmed == 1, "a backend that does not answer is not worth an attempt"

        bench.runtime.status = "ready"
        bench.sleeper.go_on()
        assert await bench.sleeper.next_wait() == 1_000
        assert bench.runtime.warmed == 2
        assert bench.warm_up.succeeded
        await bench.warm_up.stop()

    asyncio.run(main())


def test_given_a_restarted_backend_that_cannot_be_warmed_when_retried_then_the_delays_begin_anew() -> None:
    async def main() -> None:
        bench = Bench(None, BROKEN, BROKEN)
        bench.warm_up.start()
        await bench.sleeper.next_wait()
        bench.runtime.warm_state = False
        bench.sleeper.go_on()
        assert await bench.sleeper.next_wait() == 2_000
        assert not bench.warm_up.succeeded
        bench.sleeper.go_on()
        assert await bench.sleeper.next_wait() == 4_000
        bench.sleeper.go_on()
        assert await bench.sleeper.next_wait() == 1_000
        assert (bench.warm_up.attempts, bench.warm_up.failures) == (4, 2)
        await bench.warm_up.stop()

    asyncio.run(main())


def test_given_a_backend_that_is_not_there_when_it_arrives_then_it_is_warmed_without_waiting_out_the_delay() -> None:
    async def main() -> None:
        bench = Bench(BROKEN, BROKEN)
        bench.runtime.status = "unavailable"
        bench.warm_up.start()
        assert [await bench.sleeper.next_wait(), bench.warm_up.delay_ms] == [1_000, 2_000]
        bench.sleeper.go_on()
        assert await bench.sleeper.next_wait() == 1_000
        bench.sleeper.go_on()  # two seconds are over: the second attempt fails too
        assert [await bench.sleeper.next_wait(), bench.warm_up.delay_ms] == [1_000, 4_000]
        assert bench.runtime.warmed == 2

        bench.runtime.status = "ready"
        bench.sleeper.go_on()
        assert await bench.sleeper.next_wait() == 1_000
        assert (bench.runtime.warmed, bench.warm_up.succeeded, bench.warm_up.delay_ms) == (3, True, 0)
        await bench.warm_up.stop()

    asyncio.run(main())
