"""Baselines: reading them, holding a run against them, and writing one that noise does not trip."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ray.bench.processes.process import MeasurementError
from ray.bench.run.baseline import (
    DEFAULT_PASSES,
    DEFAULT_TOLERANCE,
    baseline_document,
    compare,
    load_baseline,
    read_baseline,
    slowest_to_best,
)
from ray.bench.run.command import repeated, report_of, run_is_enough
from ray.bench.run.driver import Measured
from ray.bench.run.provider_tally import ProviderTally
from ray.bench.run.report import RunReport, RunSettings
from ray.bench.run.sample import Sample

SETTINGS = RunSettings("http://127.0.0.1:1", "w.jsonl", "0", items=5, requests=16, clients=2)


def document(**changes: object) -> dict[str, object]:
    return {
        "version": 1,
        "label": "box",
        "machineClass": "2 cores",
        "concurrency": 2,
        "requests": 16,
        "assertions": {},
        **changes,
    }


def failed(given: Mapping[str, object], summary: Mapping[str, object], settings: RunSettings = SETTINGS) -> list[str]:
    comparison = compare("b.json", read_baseline(given), settings, summary)
    return [check.metric for check in comparison.checks if not check.passed]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 2}, "schema version is 2, and this Ray reads version 1"),
        ({"version": None}, "schema version is null"),
        ({"version": True}, "schema version is true"),
        ({"assertions": {"minPromptCacheReuseRatio": "0.35"}}, "minPromptCacheReuseRatio must be a number"),
        ({"assertions": {"maxLatencyP95Ms": -1}}, "must be at least 0"),
        ({"assertions": {"maxEverything": 1}}, "maxEverything is not known"),
        ({"assertions": []}, "assertions must be an object"),
        ({"label": ""}, "label must not be blank"),
        ({"machineClass": None}, "machineClass must be a string"),
        ({"concurrency": 65}, "concurrency must be from 1 to 64"),
        ({"requests": 10_001}, "requests must be from 1 to 10000"),
        ({"rate": 2.0}, "either concurrency"),
        ({"notes": [1]}, r"notes\[0\]"),
        ({"noCache": 1}, "noCache must be true or false"),
        ({"workloadDigest": "x" * 65}, "workloadDigest has 65 characters"),
    ],
)
def test_a_file_that_is_no_baseline_of_this_version_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(MeasurementError, match=says):
        read_baseline(document(**changes))


def test_a_file_without_assertions_is_refused_and_one_with_none_checks_the_kind_of_run() -> None:
    without = document()
    del without["assertions"]
    with pytest.raises(MeasurementError, match="assertions are missing"):
        read_baseline(without)
    assert failed(document(), {}) == []
    assert failed(document(), {}, replace(SETTINGS, clients=1, requests=8)) == ["concurrency", "requests"]


def test_paths_are_compared_as_text() -> None:
    given = document(workloadPath="./w.jsonl")
    assert failed(given, {}) == []
    assert failed(given, {}, replace(SETTINGS, workload="/somewhere/w.jsonl")) == ["workloadPath"]


def test_thresholds_are_inclusive_and_exact_and_a_missing_figure_fails() -> None:
    given = document(assertions={"maxLatencyP95Ms": 100, "minValidJsonRate": 100})
    assert failed(given, {"latencyP95Ms": 100, "validJsonRate": 100}) == []
    assert failed(given, {"latencyP95Ms": 100.1, "validJsonRate": 99.9}) == ["latencyP95Ms", "validJsonRate"]
    comparison = compare("b.json", read_baseline(given), SETTINGS, {"latencyP95Ms": 1})
    checks = comparison.document()["checks"]
    assert isinstance(checks, list)
    assert checks[-1]["actual"] == "missing"
    assert not comparison.passed


def test_an_open_loop_is_held_against_its_rate() -> None:
    given = document(rate=2.5)
    del given["concurrency"]
    assert failed(given, {}, replace(SETTINGS, clients=None, rate=2.5)) == []
    assert failed(given, {}) == ["rate"]


def test_files_that_are_missing_too_large_or_no_json_are_named(tmp_path: Path) -> None:
    large, broken = tmp_path / "large", tmp_path / "broken"
    large.write_bytes(b" " * 262_145)
    broken.write_text("{")
    for path, says in ((tmp_path / "none", "cannot read"), (large, "262144 bytes"), (broken, "not JSON")):
        with pytest.raises(MeasurementError, match=says):
            load_baseline(str(path))


# What five items cost beside each other; sixteen requests ask each of them three times or four.
ITEMS = (1.0, 0.8, 2.2, 0.3, 1.4)


def run_of(chance: random.Random, slower: float = 1.0, *, pace: float = 1.0, outliers: float = 0.0) -> RunReport:
    """A run at some pace of the machine, whose times scatter by a tenth; some answers take three times as long."""
    samples = []
    for number in range(16):
        wait = 3.0 if chance.random() < outliers else 1.0
        latency = 1_000 * ITEMS[number % 5] * slower * pace * wait * chance.lognormvariate(0, 0.1)
        samples.append(
            Sample(
                number, number % 5, 0.0, latency, latency / 5, gateway_ms=latency, tokens_per_second=20_000 / latency,
                completion_tokens=20, quality_score=100, valid_json=True,
            )
        )  # fmt: skip
    return report_of("x", SETTINGS, Measured(tuple(samples), (), 16_000.0, ProviderTally(), None), {})


def noisy_pass(chance: random.Random, slower: float) -> RunReport:
    """On a rented machine of two cores: it is not equally fast at all times, and in one of five passes a neighbour
    takes part of it."""
    drift = min(1.3, max(0.75, chance.lognormvariate(0, 0.1)))
    neighbour = chance.uniform(1.5, 5.0) if chance.random() < 0.2 else 1.0
    return run_of(chance, slower, pace=drift * neighbour, outliers=0.05)


def asserted(written: Mapping[str, object], chance: random.Random, slower: float) -> tuple[bool, int]:
    """Whether `--assert-baseline` holds, and after how many passes."""
    baseline = read_baseline(written)
    options = argparse.Namespace(baseline="b.json", write_baseline=None)
    passes = repeated(
        lambda: noisy_pass(chance, slower),
        DEFAULT_PASSES,
        lambda report: run_is_enough(options, baseline, report),
        lambda text: None,
    )
    held = compare("b.json", baseline, SETTINGS, passes[-1].summary)
    return held.passed, len(passes)


@pytest.mark.parametrize("seed", range(5))
def test_in_noise_an_equal_backend_holds_its_baseline_ten_times_and_one_half_as_fast_never_does(seed: int) -> None:
    chance = random.Random(seed)
    written = baseline_document(
        "box", "2 cores", [noisy_pass(chance, 1.0) for _ in range(DEFAULT_PASSES)], DEFAULT_TOLERANCE
    )
    equal = [asserted(written, chance, 1.0) for _ in range(10)]
    assert [held for held, _ in equal] == [True] * 10
    assert sum(passes for _, passes in equal) < 30, "a baseline that holds is mostly seen in the first pass"
    assert [asserted(written, chance, 2.0) for _ in range(10)] == [(False, DEFAULT_PASSES)] * 10


def test_in_noise_a_backend_that_is_slower_by_half_is_caught_more_often_than_not() -> None:
    chance = random.Random(3)
    missed = 0
    for _ in range(20):
        passes = [noisy_pass(chance, 1.0) for _ in range(DEFAULT_PASSES)]
        missed += not asserted(baseline_document("b", "m", passes, DEFAULT_TOLERANCE), chance, 1.5)[0]
    assert missed > 14


def test_on_a_quiet_machine_slower_by_half_is_always_caught_and_equal_never() -> None:
    chance = random.Random(7)
    written = baseline_document("box", "2 cores", [run_of(chance)], DEFAULT_TOLERANCE)
    assert json.loads(json.dumps(written)) == written
    for _ in range(20):
        assert failed(written, run_of(chance).summary) == []
        assert "typicalLatencyMs" in failed(written, run_of(chance, slower=1.6).summary)


def test_one_slow_answer_and_items_of_different_length_do_not_widen_a_baseline() -> None:
    # A median over all of these would lie on either side of a gap, and one slow answer would decide on which.
    times = [100.0, 1_000.0, 100.0, 1_000.0, 100.0, 1_000.0, 9_000.0, 1_000.0]
    samples = tuple(Sample(n, n % 2, 0.0, time, time) for n, time in enumerate(times))
    report = report_of("x", SETTINGS, Measured(samples, (), 12_000.0, ProviderTally(), None), {})
    assert report.summary["typicalLatencyMs"] == 550
    assertions = baseline_document("box", "any", [report], 0.3)["assertions"]
    assert isinstance(assertions, dict)
    assert assertions["maxTypicalLatencyMs"] == 550 * 1.3 + 5


def test_a_baseline_is_about_the_model_and_not_about_the_response_cache() -> None:
    cold = [Sample(n, n, 0.0, 1_000.0, 100.0) for n in range(4)]
    cached = [Sample(n, n % 4, 0.0, 1.0, 1.0, cached=True) for n in range(4, 16)]
    slow = [replace(sample, latency_ms=2_000.0) for sample in cold]
    fast, slowed, only_cached = (
        report_of("x", SETTINGS, Measured(tuple(samples), (), 5_000.0, ProviderTally(), None), {})
        for samples in ([*cold, *cached], [*slow, *cached], cached)
    )
    written = baseline_document("box", "any", [fast], DEFAULT_TOLERANCE)
    assert failed(written, fast.summary) == []
    assert "typicalLatencyMs" in failed(written, slowed.summary)
    assert "typicalLatencyMs" in failed(written, only_cached.summary), "nothing was measured, so nothing holds"


def test_passes_that_lie_far_apart_are_told_and_their_best_counts() -> None:
    passes = [run_of(random.Random(1), pace=pace) for pace in (1.0, 3.0, 1.0)]
    assert slowest_to_best(passes) == pytest.approx(3.0)
    one, three = (baseline_document("box", "any", some, 0.3) for some in (passes[:1], passes))
    assert one["assertions"] == three["assertions"]
    assert three["notes"] == [
        "Written from 3 passes, the slowest of which took 3.00 times as long as the best, with a tolerance of 30%."
    ]


def test_a_run_of_another_kind_is_not_repeated_because_it_is_another_one_each_time() -> None:
    given = document(
        noCache=True, workloadDigest="a", assertions={"maxTypicalLatencyMs": 10, "minValidJsonRate": 1}
    )  # fmt: skip
    alike = replace(SETTINGS, no_cache=True, workload_digest="a")
    good = {"typicalLatencyMs": 11, "validJsonRate": 1}
    assert failed(given, good) == ["workloadDigest", "noCache", "typicalLatencyMs"]
    assert compare("b", read_baseline(given), alike, good).could_be_noise
    assert not compare("b", read_baseline(given), SETTINGS, good).could_be_noise
    assert not compare("b", read_baseline(given), alike, {"typicalLatencyMs": 11}).could_be_noise
