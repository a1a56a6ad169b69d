"""Comparing two runs: what differs is told, what is noise is not, and what cannot be compared is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest

from ray.bench.processes.process import MeasurementError
from ray.bench.reading.compare_runs import RunComparison, compare_runs
from ray.bench.reading.comparison import Compared, comparison_document, comparison_text
from ray.bench.run.report import RunReport
from tests.bench.some_runs import some_run, some_settings


def _run(seed: int, factor: float = 1.0, count: int = 120) -> RunReport:
    random = Random(seed)
    return some_run([factor * random.lognormvariate(5, 0.1) for _ in range(count)], label=f"run {seed}")


def _row(comparison: RunComparison, id: str) -> Compared:
    return next(row for row in comparison.rows if row.id == id)


def test_runs_that_differ_by_noise_are_the_same_in_everything() -> None:
    comparison = compare_runs(_run(1), _run(2))
    assert {row.verdict for row in comparison.rows} <= {"same", None}
    assert comparison.worse == []
    assert "B is worse in nothing" in comparison_text(comparison)


def test_a_slower_run_is_worse_and_a_faster_one_better() -> None:
    slower = compare_runs(_run(1), _run(2, 1.5))
    assert [row.id for row in slower.worse] == [
        "latency_p50",
        "latency_p95",
        "ttft_p50",
        "ttft_p95",
        "tokens_per_second",
        "answer_rate",
    ]
    faster = compare_runs(_run(2, 1.5), _run(1))
    assert faster.worse == []
    assert _row(faster, "latency_p50").verdict == "better"
    assert _row(faster, "tokens_per_second").verdict == "better"


def test_a_sure_but_small_difference_is_the_same_within_the_margin() -> None:
    before = some_run([100.0 + number / 1000 for number in range(100)])
    after = some_run([103.0 + number / 1000 for number in range(100)])
    assert _row(compare_runs(before, after), "latency_p50").verdict == "same"
    assert _row(compare_runs(before, after, margin=1.0), "latency_p50").verdict == "worse"


def test_few_samples_are_compared_without_a_verdict() -> None:
    comparison = compare_runs(_run(1, count=4), _run(2, 3.0, count=4))
    assert _row(comparison, "latency_p50").verdict == "too few"
    assert comparison.worse == []


def test_only_cold_answers_enter_the_times() -> None:
    before = _run(1)
    fast = [replace(one, number=900, latency_ms=0.1, cached=True) for one in before.samples]
    comparison = compare_runs(before, replace(before, samples=(*before.samples, *fast)))
    change = _row(comparison, "latency_p50").change
    assert change is not None
    assert change.value == 1.0
    assert _row(comparison, "cached").verdict == "differs"


def test_errors_and_failed_quality_are_worse() -> None:
    before = _run(1)
    failing = [replace(one, code="queue_full") if one.number % 4 == 0 else one for one in before.samples]
    after = replace(before, samples=tuple(replace(one, quality_failures=("prompt_echo",)) for one in failing))
    comparison = compare_runs(before, after)
    assert {"errors", "quality_passed"} <= {row.id for row in comparison.worse}
    errors = _row(comparison, "errors")
    assert (errors.before, errors.after, errors.points) == (0.0, 25.0, True)


def test_other_workloads_are_refused_unless_forced() -> None:
    after = replace(_run(2), settings=some_settings(workload="other.jsonl", workload_digest="cd" * 32))
    with pytest.raises(MeasurementError, match=r"the workloads differ.*--force"):
        compare_runs(_run(1), after)
    assert compare_runs(_run(1), after, force=True).notes[0].startswith("the workloads differ")


def test_other_settings_and_a_run_that_broke_off_are_noted() -> None:
    after = replace(
        _run(2),
        settings=some_settings(clients=None, rate=2.0, requests=120),
        facts={"Ray": "0.2.0"},
        broken_off="the gateway went away",
    )
    notes = compare_runs(_run(1), after).notes
    assert notes == [
        "clients: A 2, B n/a",
        "rate: A n/a, B 2.0",
        "Ray: A 0.1.0, B 0.2.0",
        "B was broken off: the gateway went away",
    ]
    assert compare_runs(_run(1), _run(2)).notes == []


def test_a_run_without_any_answer_can_be_compared() -> None:
    nothing = some_run([], queue=())
    for pair in ((nothing, _run(1)), (_run(1), nothing), (nothing, nothing)):
        comparison = compare_runs(*pair)
        assert comparison.worse == []
        assert "what" in comparison_text(comparison)
        json.dumps(comparison_document(comparison), allow_nan=False)


def test_the_document_holds_both_values_the_ratio_and_its_bounds() -> None:
    document = comparison_document(compare_runs(_run(1), _run(2, 2.0)))
    assert (document["kind"], document["version"], document["marginPercent"]) == ("compare-report", 1, 5.0)
    rows = document["rows"]
    assert isinstance(rows, list)
    latency = rows[0]
    assert latency["id"] == "latency_p50"
    assert latency["ratio"] == latency["b"] / latency["a"]
    assert latency["low"] < latency["ratio"] < latency["high"]
    assert latency["verdict"] == "worse"


def test_the_table_shows_each_metric_that_a_run_has_on_one_line() -> None:
    text = comparison_text(compare_runs(_run(1), _run(2, 1.5)))
    line = next(line for line in text.splitlines() if line.startswith("latency, cold, p50"))
    assert line.split()[-1] == "worse"
    assert "valid JSON" not in text, "neither run asks for JSON"
    assert "B is worse in: latency, cold, p50" in text
