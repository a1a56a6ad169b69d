"""Baselines: reading them, holding a run against them, and writing one that noise does not trip."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ray.bench.baseline import baseline_document, compare, load_baseline, read_baseline
from ray.bench.process import MeasurementError
from ray.bench.provider_tally import ProviderTally
from ray.bench.run_report import RunSettings, Sample
from ray.bench.run_summary import summary_of

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


def run_of(chance: random.Random, slower: float = 1.0) -> tuple[tuple[Sample, ...], dict[str, object]]:
    """A run whose times scatter by a tenth, as those of a quiet machine do."""
    samples = []
    for number in range(16):
        latency = 1_000 * slower * chance.lognormvariate(0, 0.1)
        samples.append(
            Sample(
                number, 0, 0.0, latency + 2, latency / 5, gateway_ms=latency, tokens_per_second=20_000 / latency,
                completion_tokens=20, quality_score=100, valid_json=True,
            )
        )  # fmt: skip
    return tuple(samples), summary_of(samples, 16_000 * slower, ProviderTally())


def test_a_written_baseline_is_held_by_equal_runs_and_missed_by_slower_ones() -> None:
    chance = random.Random(7)
    samples, summary = run_of(chance)
    written = baseline_document("box", "2 cores", SETTINGS, samples, summary, 0.3)
    assert json.loads(json.dumps(written)) == written
    assert failed(written, summary) == []
    for _ in range(20):
        assert failed(written, run_of(chance)[1]) == []
        assert "clientLatencyP50Ms" in failed(written, run_of(chance, slower=1.8)[1])


def test_with_few_scattered_samples_chance_gives_more_room_than_the_tolerance() -> None:
    times = (100.0, 100.0, 100.0, 900.0, 1_000.0)
    samples = tuple(Sample(n, 0, 0.0, time, gateway_ms=time) for n, time in enumerate(times))
    written = baseline_document("box", "any", SETTINGS, samples, summary_of(samples, 2_200, ProviderTally()), 0.0)
    assertions = written["assertions"]
    assert isinstance(assertions, dict)
    assert assertions["maxLatencyP50Ms"] > 800
