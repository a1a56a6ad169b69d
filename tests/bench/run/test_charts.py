"""What the charts of a run show: each sample in the layer it belongs to, and no token lost."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from ray.bench.report.chart import Chart, Layer
from ray.bench.run.charts import (
    charts_of,
    distribution_chart,
    latency_chart,
    queue_chart,
    rate_chart,
    reuse_chart,
)
from ray.bench.run.rows import reuse_percent
from ray.bench.run.sample import Sample
from tests.bench.some_runs import some_run

COLD = Sample(0, 0, 0.0, 100.0, ttft_ms=50.0, prompt_tokens=40, completion_tokens=10, cached_tokens=30, prefix="hot")


def _layer(chart: Chart, name: str) -> Layer:
    return next(layer for layer in chart.layers if layer.name == name)


def test_cold_cached_shared_and_failed_requests_are_kept_apart() -> None:
    samples = [
        COLD,
        replace(COLD, started_ms=1000.0, cached=True),
        replace(COLD, started_ms=2000.0, deduplicated=True),
        replace(COLD, started_ms=3000.0, code="queue_full"),
    ]
    chart = latency_chart(samples)
    assert _layer(chart, "from the model (cold)").values == [(0.0, 100.0)]
    assert _layer(chart, "from cache or twin").values == [(1.0, 100.0), (2.0, 100.0)]
    assert _layer(chart, "error").values == [(3.0, 100.0)]
    assert chart.level == ("p50 of cold answers", 100.0)


def test_long_latencies_are_shown_in_seconds() -> None:
    assert latency_chart([COLD]).y_label == "milliseconds"
    slow = latency_chart([replace(COLD, latency_ms=12_000.0)])
    assert (slow.y_label, _layer(slow, "from the model (cold)").values) == ("seconds", [(0.0, 12.0)])


def test_the_distribution_ends_at_all_answers() -> None:
    chart = distribution_chart([COLD, replace(COLD, latency_ms=300.0), replace(COLD, latency_ms=200.0, ttft_ms=None)])
    assert _layer(chart, "whole answer").values == [(0.0, 0.0), (100.0, 100 / 3), (200.0, 200 / 3), (300.0, 100.0)]
    assert _layer(chart, "first token").values == [(0.0, 0.0), (50.0, 50.0), (50.0, 100.0)]


@pytest.mark.parametrize("latency", [0.0, 3.0, 100.0, 12_345.0])
def test_the_bars_of_tokens_per_second_hold_exactly_the_tokens_of_the_answers(latency: float) -> None:
    samples = [replace(COLD, started_ms=at, latency_ms=latency, ttft_ms=latency / 3) for at in (0.0, 10.0, 900.0)]
    bars = rate_chart(samples, 1000.0).layers[0].values
    tokens = sum((after[0] - at) * rate for (at, rate), after in pairwise(bars))
    assert tokens == pytest.approx(30)


def test_tokens_from_the_cache_or_of_a_failed_request_were_not_generated() -> None:
    samples = [replace(COLD, cached=True), replace(COLD, deduplicated=True), replace(COLD, code="request_timeout")]
    assert rate_chart(samples, 1000.0).shown == []


def test_the_queue_is_drawn_in_seconds() -> None:
    chart = queue_chart(some_run([1000.0]))
    assert _layer(chart, "waiting").values == [(0.0, 0), (1.0, 3)]
    assert _layer(chart, "at the model").values == [(0.0, 1), (1.0, 1)]
    assert [layer.below for layer in chart.layers] == [True, False], "as many waiting as at the model: both are seen"


@pytest.mark.parametrize(
    ("changes", "percent"),
    [
        ({}, 75.0),
        ({"cached_tokens": 0}, 0.0),
        ({"cached_tokens": 90}, 100.0),
        ({"cached_tokens": None}, None),
        ({"prompt_tokens": None}, None),
        ({"prompt_tokens": 0}, None),
        ({"cached": True}, None),
        ({"code": "queue_full"}, None),
    ],
)
def test_reuse_is_the_share_of_the_prompt_that_was_not_read_again(
    changes: dict[str, object], percent: float | None
) -> None:
    assert reuse_percent(replace(COLD, **changes)) == percent  # type: ignore[arg-type]  # fields by name


def test_reuse_is_shown_by_how_the_prefix_came_there() -> None:
    states = ["hot", "restored", "evaluated", "none", None]
    chart = reuse_chart([replace(COLD, prefix=state) for state in states])
    assert [(layer.name, len(layer.values)) for layer in chart.layers] == [
        ("in a slot already", 1),
        ("restored from the store", 1),
        ("others", 3),
    ]


def test_a_run_without_answers_has_only_the_charts_it_has_values_for() -> None:
    failed = some_run([5.0], samples=(replace(COLD, code="unreachable"),), queue=())
    assert [chart.title for chart in charts_of(failed)] == ["Latency over time"]
    assert charts_of(some_run([], queue=())) == []
    assert len(charts_of(some_run([5.0, 6.0]))) == 5


def test_all_charts_over_time_reach_to_the_end_of_the_run() -> None:
    charts = charts_of(some_run([5.0, 6.0], wall_ms=90_000.0))
    assert [chart.x_end for chart in charts if "start" in chart.x_label] == [90.0] * 4
