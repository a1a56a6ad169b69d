"""The registry: what is counted, what is refused, and that a refusal changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest

from ray.telemetry import Metrics, metrics_json
from ray.telemetry.metric import Metric
from ray.telemetry.metrics import Counter, Gauge, Histogram, State


def counters(metrics: Metrics) -> dict[str, float]:
    found = metrics_json(metrics, include_recent=False)["counters"]
    assert isinstance(found, dict)
    return found


def gauges(metrics: Metrics) -> dict[str, float]:
    found = metrics_json(metrics, include_recent=False)["gauges"]
    assert isinstance(found, dict)
    return found


def cells(metrics: Metrics) -> Iterator[tuple[Metric, Counter | Gauge | Histogram]]:
    for family in metrics.families:
        if not isinstance(family, State):
            for _, cell in family.samples():
                yield family.row, cell


# Recording


def test_a_fresh_process_has_no_counters_and_no_gauges() -> None:
    assert metrics_json(Metrics(), include_recent=False) == {"counters": {}, "gauges": {}}


def test_a_counter_appears_with_its_first_event() -> None:
    metrics = Metrics()
    metrics.increment("cache.hits")
    metrics.increment("cache.hits", 2)
    assert counters(metrics) == {"cache.hits": 3}


def test_json_shows_the_sum_over_labels() -> None:
    metrics = Metrics()
    for source in ("provider", "cache", "cache", "dedupe"):
        metrics.increment("requests.total", source=source)
    metrics.increment("requests.errors", code="queue_full")
    metrics.increment("requests.errors", code="no_such_code")
    assert counters(metrics) == {"requests.total": 4, "requests.errors": 2}


def test_counters_without_a_json_name_stay_out_of_json() -> None:
    metrics = Metrics()
    metrics.increment("scheduler.deduplicated")
    metrics.increment("requests.rejected", code="invalid_json")
    metrics.increment("http.requests", route="/livez", method="GET", status="200")
    metrics.observe("queue.wait", 0.5, lane="short")
    assert metrics_json(metrics, include_recent=False) == {"counters": {}, "gauges": {}}


def test_a_gauge_shows_the_last_figure_and_none_takes_it_away() -> None:
    metrics = Metrics()
    metrics.set("queue.depth", 3)
    metrics.set("queue.depth", 1)
    assert gauges(metrics) == {"queue.depth": 1}
    metrics.set("queue.depth", None)
    assert gauges(metrics) == {}


def test_zero_is_a_figure() -> None:
    metrics = Metrics()
    metrics.set("queue.depth", 0)
    assert gauges(metrics) == {"queue.depth": 0}


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("process.memory.rss_mib", 25.129, 25.13),
        ("queue.depth_ratio", 1 / 3, 1 / 3),
        ("preparation.active_ratio", 1 / 3, 0.3333),
        ("process.cpu.cgroup_quota_cores", 1.00004, 1),
        ("queue.last_delay_ms", 12.0, 12),
    ],
)
def test_json_figures_have_the_declared_decimals(name: str, value: float, shown: float) -> None:
    metrics = Metrics()
    metrics.set(name, value)
    assert gauges(metrics)[name] == shown
    assert repr(gauges(metrics)[name]) == repr(shown)


def test_a_bound_cell_counts_into_the_same_series() -> None:
    metrics = Metrics()
    metrics.counter("requests.total", source="cache").increment()
    metrics.increment("requests.total", source="cache")
    assert counters(metrics) == {"requests.total": 2}
    metrics.histogram("inference.duration", source="cache").observe(1)
    assert sum(metrics.histogram("inference.duration", source="cache").counts) == 1


@pytest.mark.parametrize(
    ("value", "bucket"),
    [(0, 0), (0.05, 0), (0.0500001, 1), (0.1, 1), (120, 11), (120.1, 12), (1e15, 12)],
)
def test_a_value_on_a_bound_belongs_to_that_bucket(value: float, bucket: int) -> None:
    histogram = Metrics().histogram("inference.ttft")
    histogram.observe(value)
    assert histogram.counts.index(1) == bucket
    assert histogram.sum == value


# Refusals


@pytest.mark.parametrize("by", [-1, -0.001, math.nan, math.inf, -math.inf, 1e15])
def test_a_step_a_counter_cannot_take_changes_nothing(by: float) -> None:
    metrics = Metrics()
    metrics.increment("cache.hits")
    with pytest.raises(ValueError, match="cannot grow"):
        metrics.increment("cache.hits", by)
    assert counters(metrics) == {"cache.hits": 1}


def test_a_counter_ends_at_1e15() -> None:
    metrics = Metrics()
    metrics.increment("cache.hits", 1e15)
    with pytest.raises(ValueError, match="cannot grow"):
        metrics.increment("cache.hits")
    assert counters(metrics) == {"cache.hits": 10**15}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.1e15, -1.1e15])
def test_a_figure_a_gauge_cannot_show_changes_nothing(value: float) -> None:
    metrics = Metrics()
    metrics.set("queue.depth", 1)
    with pytest.raises(ValueError, match="gauge"):
        metrics.set("queue.depth", value)
    assert gauges(metrics) == {"queue.depth": 1}


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.001, 1.1e15])
def test_a_value_a_histogram_cannot_take_changes_nothing(value: float) -> None:
    metrics = Metrics()
    with pytest.raises(ValueError, match="histogram"):
        metrics.observe("inference.ttft", value)
    histogram = metrics.histogram("inference.ttft")
    assert (sum(histogram.counts), histogram.sum) == (0, 0)


@pytest.mark.parametrize(
    "record",
    [
        lambda metrics: metrics.increment("requests.totl", source="cache"),
        lambda metrics: metrics.set("queue.deep", 1),
        lambda metrics: metrics.observe("queue.waited", 1),
        lambda metrics: metrics.note("lastWish", 1),
        # The right name for another kind of recording
        lambda metrics: metrics.set("cache.hits", 1),
        lambda metrics: metrics.increment("queue.depth"),
        lambda metrics: metrics.observe("queue.last_delay_ms", 1),
        # The wrong labels
        lambda metrics: metrics.increment("requests.total"),
        lambda metrics: metrics.increment("requests.total", sauce="cache"),
        lambda metrics: metrics.increment("requests.total", source="cache", lane="short"),
        lambda metrics: metrics.increment("cache.hits", source="cache"),
        lambda metrics: metrics.set("queue.short_depth", 1, lane="short"),
        lambda metrics: metrics.set("provider.health.status", 1),
        lambda metrics: metrics.set("provider.health.status", 1, state="ready"),
        lambda metrics: metrics.counter("requests.total"),
        lambda metrics: metrics.histogram("inference.duration"),
    ],
)
def test_a_name_or_label_that_is_not_declared_is_a_key_error_and_changes_nothing(
    record: Callable[[Metrics], None],
) -> None:
    metrics = Metrics()
    before = metrics_json(metrics, include_recent=True)
    with pytest.raises(KeyError):
        record(metrics)
    assert metrics_json(metrics, include_recent=True) == before


def test_a_flood_of_label_values_makes_one_series() -> None:
    metrics = Metrics()
    for number in range(1_000):
        metrics.increment("http.requests", route=f"/{number}", method=f"M{number}", status=f"{number}x")
    counted = [cell.value for row, cell in cells(metrics) if row.name == "http.requests" and isinstance(cell, Counter)]
    assert counted == [1_000]


# The provider's state


def test_the_providers_state_is_a_figure_in_json() -> None:
    metrics = Metrics()
    metrics.set("provider.health.status", 0.5, status="warming")
    assert gauges(metrics) == {"provider.health.status": 0.5}


# `recent`


def test_recent_is_null_until_something_happened_and_absent_when_not_asked_for() -> None:
    metrics = Metrics()
    metrics.note("lastLatencyMs", 12)
    metrics.note("lastErrorAt", "2026-11-21T17:20:01.482Z")
    recent = metrics_json(metrics, include_recent=True)["recent"]
    assert isinstance(recent, dict)
    assert recent["lastLatencyMs"] == 12
    assert recent["lastErrorAt"] == "2026-11-21T17:20:01.482Z"
    assert recent["lastSlotId"] is None
    assert len(recent) == 14
    assert "recent" not in metrics_json(metrics, include_recent=False)


def test_the_view_is_a_copy() -> None:
    metrics = Metrics()
    recent = metrics_json(metrics, include_recent=True)["recent"]
    assert isinstance(recent, dict)
    recent["lastSlotId"] = 7
    assert metrics.recent["lastSlotId"] is None


# Collectors and gauges of one answer


def test_collectors_run_before_the_view_is_rendered() -> None:
    metrics = Metrics()
    depths = iter((4, 5))
    metrics.add_collector(lambda registry: registry.set("queue.depth", next(depths)))
    assert gauges(metrics) == {"queue.depth": 4}
    assert gauges(metrics) == {"queue.depth": 5}


def test_extra_gauges_are_in_this_answer_only() -> None:
    metrics = Metrics()
    view = metrics_json(metrics, include_recent=False, extra_gauges={"gateway.http.sockets": 3})
    assert view["gauges"] == {"gateway.http.sockets": 3}
    assert gauges(metrics) == {}


def test_a_registry_is_small() -> None:
    # A series costs tens of bytes; what would cost megabytes is creating every combination of several labels.
    assert sum(1 for _ in cells(Metrics())) < 400
