"""A run's figures as rows: times with the spread of their samples, shares with what they were counted over."""

from __future__ import annotations

from dataclasses import replace

from ray.bench.report.figures import Figure
from ray.bench.report.report import Row
from ray.bench.run.report import RunReport
from ray.bench.run.rows import run_rows
from ray.bench.run.sample import QueuePoint, Sample
from tests.bench.some_runs import some_run


def _rows(run: RunReport) -> dict[str, Row]:
    return {row.id: row for row in run_rows(run.samples, run.wall_ms, run.queue)}


def test_times_are_those_of_cold_answers_with_the_spread_of_all_of_them() -> None:
    run = some_run([100.0, 200.0, 300.0])
    cached = replace(run.samples[0], cached=True, latency_ms=1.0)
    rows = _rows(replace(run, samples=(*run.samples, cached)))
    assert rows["latency_p50"].figure == Figure(200.0, 100.0, 300.0, 3)
    assert rows["ttft_p50"].figure == Figure(100.0, 50.0, 150.0, 3)
    assert rows["cached"].figure == Figure(25.0, 25.0, 25.0, 4)


def test_rates_count_the_tokens_of_cold_answers_over_the_whole_run() -> None:
    rows = _rows(some_run([100.0, 400.0]))
    tokens, answers, queue = (rows[id].figure for id in ("tokens_per_second", "requests_per_second", "queue_depth"))
    assert tokens is not None
    assert answers is not None
    assert queue is not None
    assert (tokens.value, answers.value, queue.value) == (40.0, 4.0, 3.0)


def test_errors_are_counted_over_everything_that_was_sent_and_fewer_are_better() -> None:
    run = some_run([100.0] * 3)
    rows = _rows(replace(run, samples=(*run.samples, Sample(3, 0, 0.0, 5.0, code="queue_full"))))
    assert rows["errors"].figure == Figure(25.0, 25.0, 25.0, 4)
    assert rows["errors"].direction is False
    assert rows["cached"].direction is None


def test_what_was_not_measured_has_no_row() -> None:
    assert _rows(some_run([], queue=())) == {}
    assert set(_rows(some_run([], queue=(QueuePoint(0.0, 2, 1),)))) == {"queue_depth"}
    assert "valid_json" not in _rows(some_run([100.0]))
