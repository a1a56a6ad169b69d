"""Which prompt format is recommended, and which are not, however good their figures are."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ray.bench.formats.report import (
    FALLBACK,
    NATIVE_TEMPLATE,
    SCAFFOLD,
    FormatResult,
    Sweep,
    own_format,
    recommend,
    score_difference,
    sweep_document,
)
from ray.bench.formats.text import sweep_text
from ray.bench.run.provider_tally import ProviderTally
from ray.bench.run.sample import Sample
from ray.bench.run.summary import summary_of
from tests.bench.some_runs import some_run

LOW = [50.0, 60.0, 40.0, 55.0, 45.0]
HIGH = [90.0, 95.0, 85.0, 90.0, 100.0]


def result(name: str, scores: list[float], *, own: bool = True, **more: object) -> FormatResult:
    """One answer per item with this score, each written in the format that was asked for."""
    values: dict[str, object] = {"prompt_format": name, **more}
    samples = tuple(
        Sample(place, place, 0.0, 100.0, quality_score=score, **values)  # type: ignore[arg-type]  # fields by name
        for place, score in enumerate(scores)
    )
    summary = summary_of(samples, 1_000.0, ProviderTally())
    return FormatResult(name, some_run([], label=f"x:{name}", samples=samples, summary=summary), own)


def failing(one: FormatResult) -> FormatResult:
    samples = (*one.report.samples, Sample(9, 0, 0.0, 1.0, code="queue_full"))
    return replace(one, report=replace(one.report, samples=samples))


def test_the_gateways_own_is_recommended_when_no_other_is_better_beyond_noise() -> None:
    mixed = [60.0, 50.0, 60.0, 50.0, 60.0]
    found = recommend([result(NATIVE_TEMPLATE, mixed), result(SCAFFOLD, LOW), result(FALLBACK, mixed)], SCAFFOLD)
    assert found.prompt_format == SCAFFOLD
    assert "no format is better than the others here" in found.why


def test_a_format_that_is_better_beyond_noise_is_recommended_with_its_bounds() -> None:
    found = recommend([result(SCAFFOLD, LOW), result(FALLBACK, HIGH)], SCAFFOLD)
    assert (found.prompt_format, found.own) == (FALLBACK, SCAFFOLD)
    assert "+42.0 (+31.6..+52.4) over 5 items against prompt-scaffold" in found.why


def test_of_several_better_ones_the_best_is_recommended_and_of_equals_the_first() -> None:
    better = [score - 5 for score in HIGH]
    own = result(SCAFFOLD, LOW)
    assert recommend([result(NATIVE_TEMPLATE, better), own, result(FALLBACK, HIGH)], SCAFFOLD).prompt_format == FALLBACK
    equals = [result(NATIVE_TEMPLATE, HIGH), own, result(FALLBACK, HIGH)]
    assert recommend(equals, SCAFFOLD).prompt_format == NATIVE_TEMPLATE


def test_of_formats_that_are_equally_good_and_better_the_one_with_the_best_score_is_recommended() -> None:
    slow, fast = result(NATIVE_TEMPLATE, HIGH), result(FALLBACK, HIGH)
    fast = replace(fast, report=replace(fast.report, summary={**fast.report.summary, "score": 1e9}))
    assert recommend([slow, result(SCAFFOLD, LOW), fast], SCAFFOLD).prompt_format == FALLBACK


def test_nothing_is_recommended_when_the_gateways_own_was_not_measured_without_errors() -> None:
    failed = failing(result(SCAFFOLD, LOW))
    for others in ([result(FALLBACK, HIGH)], [result(NATIVE_TEMPLATE, LOW), result(FALLBACK, HIGH)]):
        found = recommend([failed, *others], None)
        assert found.prompt_format is None
        assert "measure again" in found.why


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        (failing(result(FALLBACK, HIGH)), "requests failed: queue_full 1"),
        (result(FALLBACK, HIGH, prompt_format=SCAFFOLD), "not used: 0 of 5 answers had it; the gateway wrote"),
        (result(FALLBACK, HIGH, prompt_format=None), "not used: the answers name no prompt format"),
        (result(FALLBACK, []), "not used: there are no answers"),
    ],
)
def test_a_format_that_failed_or_was_not_used_is_never_recommended(one: FormatResult, problem: str) -> None:
    assert one.problem is not None
    assert one.problem.startswith(problem)
    found = recommend([result(SCAFFOLD, LOW), one], SCAFFOLD)
    assert found.prompt_format == SCAFFOLD
    assert "nothing to compare" in found.why
    assert recommend([one], SCAFFOLD).prompt_format is None


def test_a_format_that_half_of_the_answers_have_was_used() -> None:
    """A scaffold is only made for requests with a prompt template; the others are rendered by the server."""
    samples = tuple(
        replace(sample, prompt_format=SCAFFOLD if sample.item < 2 else NATIVE_TEMPLATE)
        for sample in result(SCAFFOLD, LOW[:4]).report.samples
    )
    one = FormatResult(SCAFFOLD, some_run([], samples=samples), own=True)
    assert (one.used, one.answers, one.problem) == (2, 4, None)


def test_the_own_format_is_what_is_written_without_asking_if_it_was_used_later_on() -> None:
    scaffold, fallback = result(SCAFFOLD, LOW), result(FALLBACK, HIGH, own=False)
    native = result(NATIVE_TEMPLATE, LOW, prompt_format=SCAFFOLD)
    results = [native, scaffold, fallback]
    assert own_format(results, {SCAFFOLD: 1, NATIVE_TEMPLATE: 4}) == SCAFFOLD, "first prompts are the server's own"
    assert own_format(results, {}) == SCAFFOLD
    assert own_format([fallback], {FALLBACK: 4}) is None, "that was another gateway"
    asked = [result(NATIVE_TEMPLATE, LOW), scaffold, result(FALLBACK, HIGH)]
    assert own_format(asked, {FALLBACK: 4}) == FALLBACK


def test_fewer_than_five_items_are_no_ground_to_change_the_format() -> None:
    """Four that differ by the same penalty have no spread, and yet may do so by chance."""
    own, other = result(SCAFFOLD, [60.0] * 4), result(FALLBACK, [80.0] * 4)
    assert score_difference(own, other) is None
    found = recommend([own, other], SCAFFOLD)
    assert found.prompt_format == SCAFFOLD
    assert "fewer than 5 items" in found.why
    assert recommend([result(SCAFFOLD, [60.0] * 5), result(FALLBACK, [80.0] * 5)], SCAFFOLD).prompt_format == FALLBACK


def sweep(results: list[FormatResult], own: str | None, *, settable: bool = True) -> Sweep:
    return Sweep(
        label="mail", target="http://h", workload="w.jsonl", workload_digest="ab", items=5, requests=5, clients=1,
        settable=settable, results=tuple(results), recommendation=recommend(results, own), facts={"Ray": "x"},
    )  # fmt: skip


def test_the_document_has_arguments_results_and_the_recommendation() -> None:
    unused = result(NATIVE_TEMPLATE, HIGH, prompt_format=SCAFFOLD)
    results = [unused, result(SCAFFOLD, LOW), result(FALLBACK, HIGH, own=False)]
    document = json.loads(json.dumps(sweep_document(sweep(results, SCAFFOLD)), allow_nan=False))
    assert (document["kind"], document["version"], document["label"]) == ("prompt-format-sweep", 1, "mail")
    assert document["args"] == {
        "baseUrl": "http://h", "workloadPath": "w.jsonl", "concurrency": 1, "requests": 5, "label": "mail"
    }  # fmt: skip
    assert [one["promptFormat"] for one in document["results"]] == [NATIVE_TEMPLATE, SCAFFOLD, FALLBACK]
    assert document["results"][1]["summary"]["qualityScoreAvg"] == 50
    assert "not used" in document["results"][0]["notRecommendedBecause"]
    assert (document["recommendedPromptFormat"], document["ownPromptFormat"]) == (FALLBACK, SCAFFOLD)
    rows = {row["id"]: row.get("value") for row in document["rows"]}
    assert rows[f"qualityScoreAvg:{FALLBACK}"] == 92
    assert rows[f"qualityScoreAvg:{NATIVE_TEMPLATE}"] is None, "figures of another format are not this one's"
    none = sweep_document(sweep([unused], None))
    assert "recommendedPromptFormat" not in none


def test_the_text_says_what_was_used_what_is_recommended_and_how_it_is_set() -> None:
    unused = result(NATIVE_TEMPLATE, HIGH, prompt_format=SCAFFOLD)
    results = [unused, result(SCAFFOLD, LOW), result(FALLBACK, HIGH, own=False)]
    text = sweep_text(sweep(results, SCAFFOLD))
    assert "llama.cpp-template: not used: 0 of 5 answers had it" in text
    row = next(line for line in text.splitlines() if line.startswith("llama.cpp-template  "))
    assert row.split()[1:6] == ["5", "0", "0", "of", "5"]
    assert set(row.split()[6:]) == {"n/a"}, "figures of another format are not this one's"
    assert "Recommended: ray-chat-fallback; its score is +42.0" in text
    assert 'model.operational.recommendedPromptFormat "plain-completion"' in text
    text = sweep_text(sweep(results, SCAFFOLD, settable=False))
    assert "Give --config FILE" in text
    assert "In the config" not in text
    assert "No format is recommended" in sweep_text(sweep([unused], None))
    broken = replace(sweep(results, SCAFFOLD), broken_off="the gateway is gone")
    assert "BROKEN OFF: the gateway is gone" in sweep_text(broken)
