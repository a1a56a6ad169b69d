"""Event-loop lag, on a loop whose clock a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ray.telemetry import EventLoopLag, Metrics, metrics_json


class FakeTimer:
    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when, self.callback, self.cancelled = when, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """Keeps its timers and runs the first when told to, as late as told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[FakeTimer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object], /) -> FakeTimer:
        timer = FakeTimer(when, callback)
        self.timers.append(timer)
        return timer

    def run_timer(self, late: float) -> None:
        timer = self.timers.pop(0)
        self.now = timer.when + late
        if not timer.cancelled:
            timer.callback()


class Sampled:
    def __init__(self) -> None:
        self.metrics, self.loop = Metrics(), FakeLoop()
        self.lag = EventLoopLag(self.metrics)
        self.lag.start(self.loop)

    def figures(self) -> tuple[float, float, float]:
        """p95, mean and maximum in milliseconds."""
        gauges = metrics_json(self.metrics, include_recent=False)["gauges"]
        assert isinstance(gauges, dict)
        p95, mean, most = (gauges[f"runtime.event_loop_lag_{name}_ms"] for name in ("p95", "mean", "max"))
        return p95, mean, most


def test_before_the_first_sample_there_are_no_figures() -> None:
    sampled = Sampled()
    assert metrics_json(sampled.metrics, include_recent=False)["gauges"] == {}


def test_a_sample_is_how_late_the_callback_ran_and_not_its_period() -> None:
    sampled = Sampled()
    sampled.loop.run_timer(late=0.0)
    assert sampled.figures() == (0, 0, 0)
    sampled.loop.run_timer(late=0.3)
    assert sampled.figures() == (300, 150, 300)


def test_a_timer_that_runs_a_tick_early_is_not_late() -> None:
    sampled = Sampled()
    sampled.loop.run_timer(late=-0.001)
    assert sampled.figures() == (0, 0, 0)


def test_the_next_sample_is_due_one_period_after_the_late_one() -> None:
    sampled = Sampled()
    sampled.loop.run_timer(late=5.0)
    assert len(sampled.loop.timers) == 1
    assert sampled.loop.timers[0].when == pytest.approx(sampled.loop.now + 0.2)


def test_the_percentile_is_of_nearest_rank() -> None:
    sampled = Sampled()
    for milliseconds in range(1, 101):
        sampled.loop.run_timer(late=milliseconds / 1000)
    assert sampled.figures() == (95, 50.5, 100)


def test_the_histogram_is_never_reset_by_readers() -> None:
    sampled = Sampled()
    for late in (0.0, 0.02, 2.0):
        sampled.loop.run_timer(late)
        sampled.figures()
    histogram = sampled.metrics.histogram("event_loop.lag")
    assert sum(histogram.counts) == 3
    assert histogram.counts[-1] == 1
    assert histogram.sum == pytest.approx(2.02)


def test_the_window_forgets_what_is_older_than_five_minutes() -> None:
    sampled = Sampled()
    sampled.loop.run_timer(late=9.0)
    for _ in range(1_500):
        sampled.loop.run_timer(late=0.0)
    assert sampled.figures() == (0, 0, 0)
    assert sum(sampled.metrics.histogram("event_loop.lag").counts) == 1_501


def test_the_95th_percentile_is_noted_for_recent() -> None:
    sampled = Sampled()
    sampled.loop.run_timer(late=0.0123456)
    recent = metrics_json(sampled.metrics, include_recent=True)["recent"]
    assert isinstance(recent, dict)
    assert recent["lastEventLoopLagP95Ms"] == 12.346


def test_after_stop_nothing_is_scheduled_and_the_figures_stay() -> None:
    sampled = Sampled()
    sampled.loop.run_timer(late=0.1)
    sampled.lag.stop()
    sampled.lag.stop()
    sampled.loop.run_timer(late=0.5)
    assert sampled.loop.timers == []
    assert sampled.figures() == (100, 100, 100)


def test_starting_twice_samples_once_and_a_stopped_sampler_can_start_again() -> None:
    sampled = Sampled()
    sampled.lag.start(sampled.loop)
    assert len(sampled.loop.timers) == 1
    sampled.lag.stop()
    sampled.loop.timers.clear()
    sampled.lag.start(sampled.loop)
    assert len(sampled.loop.timers) == 1


def test_it_starts_on_the_running_loop() -> None:
    async def main() -> None:
        metrics = Metrics()
        lag = EventLoopLag(metrics)
        lag.start()
        deadline = asyncio.get_running_loop().time() + 10
        while not sum(metrics.histogram("event_loop.lag").counts):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)
        lag.stop()

    asyncio.run(main())
