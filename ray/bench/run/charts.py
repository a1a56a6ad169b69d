"""What the charts of a run show, drawn from its samples: pure arithmetic, no markup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ray.bench.report.chart import Chart, Layer
from ray.bench.report.figures import quantile
from ray.bench.report.plot import tick_step
from ray.bench.run.report import RunReport
from ray.bench.run.rows import reuse_percent
from ray.bench.run.sample import Sample

_SECONDS_FROM_MS = 10_000
_BINS = 40

Points = list[tuple[float, float]]


def charts_of(report: RunReport) -> list[Chart]:
    """The charts that this run has values for, in the order of the page."""
    over_time = [
        latency_chart(report.samples),
        rate_chart(report.samples, report.wall_ms),
        queue_chart(report),
        reuse_chart(report.samples),
    ]
    # One clock for all of them, so that they can be read below each other.
    first, *others = [replace(chart, x_end=report.wall_ms / 1000) for chart in over_time]
    charts = [first, distribution_chart(report.samples), *others]
    return [chart for chart in charts if chart.shown]


def latency_chart(samples: Sequence[Sample]) -> Chart:
    """Each request at the moment at which it was sent."""
    unit, factor = _unit([one.latency_ms for one in samples])
    cold = [one.latency_ms / factor for one in samples if one.cold]

    def points(belongs: Callable[[Sample], bool]) -> Points:
        return [(one.started_ms / 1000, one.latency_ms / factor) for one in _in_time(samples) if belongs(one)]

    layers = [
        Layer("from the model (cold)", 0, points(lambda one: one.cold)),
        Layer("from cache or twin", 1, points(lambda one: one.answered and not one.cold)),
        Layer("error", 2, points(lambda one: not one.answered)),
    ]
    level = ("p50 of cold answers", quantile(cold, 0.5)) if cold else None
    return Chart("Latency over time", "seconds since the start", unit, layers, level)


def distribution_chart(samples: Sequence[Sample]) -> Chart:
    """Which share of the cold answers was there by then: the first token and the whole answer."""
    cold = [one for one in samples if one.cold]
    latencies = [one.latency_ms for one in cold]
    first = [one.ttft_ms for one in cold if one.ttft_ms is not None]
    unit, factor = _unit(latencies)
    layers = [
        Layer("whole answer", 0, _cumulative(latencies, factor), "steps"),
        Layer("first token", 1, _cumulative(first, factor), "steps"),
    ]
    level = ("95 %", 95.0) if latencies else None
    return Chart("Distribution of latency", f"{unit} from sending", "% of cold answers", layers, level, 100.0)


def rate_chart(samples: Sequence[Sample], wall_ms: float) -> Chart:
    """Tokens per second of all clients together, in equal stretches of time."""
    end = max([wall_ms, *(one.started_ms + one.latency_ms for one in samples)], default=0.0)
    made = [one for one in samples if one.cold and one.completion_tokens]
    if not made or end <= 0:
        return Chart("Tokens per second", "", "", [])
    step = tick_step(end) * 5 / _BINS
    rates = token_rates(made, step, int(end / step) + 1)
    bars = [(place * step / 1000, rate) for place, rate in enumerate(rates)]
    bars.append((len(rates) * step / 1000, 0.0))
    name = f"mean of {step / 1000:g} s each"
    return Chart("Tokens per second", "seconds since the start", "tokens/s", [Layer(name, 0, bars, "bars")])


def token_rates(samples: Sequence[Sample], step_ms: float, stretches: int) -> list[float]:
    """Generated tokens per second in each of so many stretches of time. The tokens of an answer are spread evenly from
    its first to its last, or from its sending on when the first is not known; those behind the end count to the last
    stretch."""
    tokens = [0.0] * stretches
    for one in samples:
        if not one.cold or not one.completion_tokens:
            continue
        begin = one.started_ms + (one.ttft_ms or 0.0)
        until = max(begin, one.started_ms + one.latency_ms)
        first = min(int(begin / step_ms), stretches - 1)
        for place in range(first, min(int(until / step_ms), stretches - 1) + 1):
            right = until if place == stretches - 1 else min(until, (place + 1) * step_ms)
            left = begin if place == first else place * step_ms
            share = (right - left) / (until - begin) if until > begin else 1.0
            tokens[place] += share * one.completion_tokens
    return [count * 1000 / step_ms for count in tokens]


def queue_chart(report: RunReport) -> Chart:
    """How many requests waited in the gateway and how many were at the model."""
    layers = [
        Layer("at the model", 1, [(one.at_ms / 1000, one.in_flight) for one in report.queue], "steps", below=True),
        Layer("waiting", 0, [(one.at_ms / 1000, one.depth) for one in report.queue], "steps"),
    ]
    largest = max((max(one.depth, one.in_flight) for one in report.queue), default=0)
    # From 5 on the steps of the axis are whole requests.
    return Chart("Queue", "seconds since the start", "requests", layers, y_top=max(5.0, largest))


def reuse_chart(samples: Sequence[Sample]) -> Chart:
    """The share of each prompt that lay in the KV cache, and how Ray brought it there. `others`: Ray read it there just
    before, did nothing for it, or the answer does not say."""

    def points(states: tuple[str | None, ...]) -> Points:
        shares = [(one.started_ms / 1000, reuse_percent(one)) for one in _in_time(samples) if one.prefix in states]
        return [(at, share) for at, share in shares if share is not None]

    layers = [
        Layer("in a slot already", 0, points(("hot",))),
        Layer("restored from the store", 1, points(("restored",))),
        Layer("others", 2, points(("evaluated", "none", None))),
    ]
    return Chart("Prefix reuse", "seconds since the start", "% of the prompt", layers, y_top=100.0)


def _in_time(samples: Sequence[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda one: one.started_ms)


def _unit(values: Sequence[float]) -> tuple[str, float]:
    """Milliseconds or seconds for an axis, and what to divide by."""
    return ("seconds", 1000.0) if values and quantile(values, 1) >= _SECONDS_FROM_MS else ("milliseconds", 1.0)


def _cumulative(values: Sequence[float], factor: float) -> Points:
    ordered = sorted(values)
    if not ordered:
        return []
    return [(0.0, 0.0), *((value / factor, 100 * (place + 1) / len(ordered)) for place, value in enumerate(ordered))]
