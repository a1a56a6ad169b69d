"""How late the event loop is: a callback every 200 ms that measures by how much it overslept.

An idle loop shows a lag near zero (the kernel's timer rounds to a millisecond); a blocking call of 300 ms anywhere in
the process shows up as one sample of up to 300 ms. The histogram is cumulative and never reset by readers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from ray.telemetry.metrics import Metrics

PERIOD_SECONDS = 0.2
# Five minutes of samples.
WINDOW_SAMPLES = 1_500


class Timer(Protocol):
    def cancel(self) -> None: ...


class Loop(Protocol):
    """The two methods of an asyncio event loop that sampling needs."""

    def time(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer: ...


class EventLoopLag:
    """Samples one loop from `start` to `stop`, and adds the rolling figures to both views of `metrics`."""

    __slots__ = ("_due", "_handle", "_histogram", "_loop", "_recent")

    def __init__(self, metrics: Metrics) -> None:
        self._histogram = metrics.histogram("event_loop.lag")
        self._recent: deque[float] = deque(maxlen=WINDOW_SAMPLES)
        self._loop: Loop | None = None
        self._handle: Timer | None = None
        self._due = 0.0
        metrics.add_collector(self._collect)

    def start(self, loop: Loop | None = None) -> None:
        """Begin sampling `loop`, the running one when not given. Starting twice is starting once."""
        if self._handle is not None:
            return
        if loop is None:
            from asyncio import get_running_loop  # not at module level: tools that only log do not need asyncio

            loop = get_running_loop()
        self._loop = loop
        self._schedule(loop)

    def stop(self) -> None:
        """Sample no more. The figures stay."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _schedule(self, loop: Loop) -> None:
        self._due = loop.time() + PERIOD_SECONDS
        self._handle = loop.call_at(self._due, self._sample)

    def _sample(self) -> None:
        if self._loop is None:
            return
        # A loop may run a timer one clock tick early.
        lag = max(0.0, self._loop.time() - self._due)
        self._histogram.observe(lag)
        self._recent.append(lag)
        self._schedule(self._loop)

    def _collect(self, metrics: Metrics) -> None:
        """The last five minutes in milliseconds: 95th percentile (nearest rank), mean and maximum."""
        if not self._recent:
            return
        ordered = sorted(self._recent)
        p95 = ordered[-(-95 * len(ordered) // 100) - 1] * 1000
        metrics.set("runtime.event_loop_lag_p95_ms", p95)
        metrics.set("runtime.event_loop_lag_mean_ms", sum(ordered) / len(ordered) * 1000)
        metrics.set("runtime.event_loop_lag_max_ms", ordered[-1] * 1000)
        metrics.note("lastEventLoopLagP95Ms", round(p95, 3))
