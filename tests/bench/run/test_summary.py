"""Figures out of samples: which answers count for which, and what is absent."""

from __future__ import annotations

import json

import pytest

from ray.bench.run.answer_sample import Times, answered_sample, error_code, failed_sample, provider_of
from ray.bench.run.baseline import compare, read_baseline
from ray.bench.run.provider_tally import ProviderTally
from ray.bench.run.report import RunReport, RunSettings
from ray.bench.run.sample import QueuePoint, Sample
from ray.bench.run.summary import score_of, summary_of
from ray.bench.run.text import run_text
from ray.bench.run.workload_file import parse_items
from ray.client import RayAnswerError, RayConnectionError, RayRefused, RayRequestError, RayTimeout, RayUnreachable

ITEM = parse_items('{"input": "x", "responseFormat": {"type": "json_object"}, "benchmark": {"maxOutputChars": 9}}')[0]
TIMES = Times(5.0, 20.0, 40.0)
ANSWER: dict[str, object] = {
    "id": "r-1",
    "output": '{"a": 1}',
    "cached": False,
    "deduplicated": False,
    "degraded": True,
    "queueTimeMs": 3,
    "latencyMs": 30,
    "usage": {"tokens": {"prompt": 10, "completion": 4, "total": 14}},
    "diagnostics": {
        "provider": {
            "tokensCached": 5,
            "prefix": {"state": "slot"},
            "timings": {"ttftMs": 12.5, "completionTokensPerSecond": 50},
            "promptFormat": "llama.cpp-template",
            "slotId": 1,
            "preferredSlot": 1,
            "contextWindow": 2048,
            "totalSlots": 2,
        }
    },
}


def sample(number: int, latency: float, **changes: object) -> Sample:
    values: dict[str, object] = {"gateway_ms": latency, "quality_score": 100.0, **changes}
    return Sample(number, 0, 0.0, latency, **values)  # type: ignore[arg-type]  # keywords of the dataclass


def tally(*providers: dict[str, object]) -> ProviderTally:
    filled = ProviderTally()
    for provider in providers:
        filled.add(provider)
    return filled


def test_an_answer_becomes_a_sample_with_the_gateways_own_words() -> None:
    made = answered_sample(7, 2, TIMES, ANSWER, ITEM)
    assert (made.number, made.item, made.ttft_ms, made.latency_ms, made.code) == (7, 2, 20.0, 40.0, None)
    assert (made.degraded, made.cold, made.queue_ms, made.gateway_ms) == (True, True, 3, 30)
    assert (made.prompt_tokens, made.completion_tokens, made.cached_tokens, made.prefix) == (10, 4, 5, "slot")
    assert (made.provider_ttft_ms, made.tokens_per_second) == (12.5, 50)
    assert (made.quality_score, made.quality_failures, made.valid_json) == (100, (), True)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ""},
        {"id": None},
        {"output": None},
        {"cached": 1},
        {"latencyMs": 600_001},
        {"queueTimeMs": "3"},
        {"usage": None},
        {"usage": {"tokens": {"prompt": 1_000_001, "completion": 1, "total": 2}}},
        {"usage": {"tokens": {"prompt": 1.5, "completion": 1, "total": 2}}},
    ],
)
def test_an_answer_without_what_every_answer_has_is_an_error(changes: dict[str, object]) -> None:
    assert answered_sample(0, 0, TIMES, {**ANSWER, **changes}, ITEM).code == "invalid_answer"


def test_an_answer_without_tokens_and_diagnostics_is_still_one() -> None:
    made = answered_sample(0, 0, TIMES, {**ANSWER, "usage": {}, "diagnostics": {}}, ITEM)
    assert (made.code, made.completion_tokens, made.prefix, made.tokens_per_second) == (None, None, None, None)


def test_numbers_that_are_none_leave_no_mark_in_a_report() -> None:
    endless = {"tokensCached": 1e999, "timings": {"ttftMs": 1e999, "completionTokensPerSecond": -1}}
    made = answered_sample(0, 0, TIMES, {**ANSWER, "diagnostics": {"provider": endless}}, ITEM)
    assert (made.cached_tokens, made.provider_ttft_ms, made.tokens_per_second) == (None, None, None)
    assert tally(endless).document() == {}


def test_errors_are_counted_by_the_gateways_code_or_by_what_happened() -> None:
    given = (
        RayRefused("", status=429, code="rate_limited"),
        RayRefused("", status=307),
        RayUnreachable(""),
        RayConnectionError(""),
        RayTimeout(""),
        RayAnswerError(""),
    )
    codes = [error_code(error) for error in given]
    assert codes == ["rate_limited", "http_307", "unreachable", "connection_lost", "timeout", "invalid_answer"]
    with pytest.raises(RayRequestError):
        error_code(RayRequestError("cannot be sent"))


def test_cold_and_cached_answers_are_told_apart_and_errors_belong_to_neither() -> None:
    samples = [
        sample(0, 100.0, ttft_ms=40.0, queue_ms=5.0),
        sample(1, 200.0),
        sample(2, 1.0, cached=True),
        sample(3, 150.0, deduplicated=True),
        failed_sample(4, 0, TIMES, "queue_full"),
        failed_sample(5, 0, TIMES, "queue_full"),
    ]
    summary = summary_of(samples, 1_000.0, tally(), [QueuePoint(1.0, 3, 1), QueuePoint(2.0, 1, 1)])
    assert (summary["sent"], summary["requests"], summary["errors"]) == (6, 4, {"queue_full": 2})
    assert summary["errorRate"] == pytest.approx(100 / 3)
    assert (summary["responseCacheHitRate"], summary["dedupeHitRate"], summary["degradedRate"]) == (25, 25, 0)
    cold, cached = summary["cold"], summary["cached"]
    assert isinstance(cold, dict)
    assert isinstance(cached, dict)
    assert cold["latencyMs"] == {"n": 2, "p50": 100, "p95": 100, "p99": 100, "max": 200}
    assert (cold["ttftMs"]["n"], cold["queueMs"]["n"]) == (1, 1)
    assert cached["latencyMs"]["max"] == 1
    assert summary["queueDepthMax"] == 3
    assert json.loads(json.dumps(summary)) == summary


def test_baseline_figures_keep_their_old_meaning() -> None:
    samples = [
        sample(0, 10.0, cached_tokens=5, prompt_tokens=10, valid_json=True),
        sample(1, 30.0, cached_tokens=0, prompt_tokens=10, quality_failures=("prompt_echo",), quality_score=65.0),
    ]
    summary = summary_of(samples, 2_000.0, tally({"tokensCached": 5}, {"tokensCached": 0}))
    assert (summary["latencyP50Ms"], summary["latencyP95Ms"]) == (10, 10)
    assert (summary["promptCacheHitRate"], summary["promptCacheReuseRatio"]) == (50, 0.5)
    assert (summary["qualityFailures"], summary["promptEchoRejects"], summary["validJsonRate"]) == (1, 1, 100)
    assert (summary["qualityPassRate"], summary["qualityScoreAvg"]) == (50, 82.5)
    assert summary["emailsPerHour"] == 3_600
    provider = summary["providerDiagnostics"]
    assert isinstance(provider, dict)
    assert provider["cachedTokensAvg"] == 2.5
    assert "ttftP95Ms" not in summary
    assert "prefixStates" not in summary


def test_generated_tokens_are_those_of_cold_answers() -> None:
    samples = [sample(0, 10.0, completion_tokens=40), sample(1, 1.0, completion_tokens=40, cached=True)]
    assert summary_of(samples, 2_000.0, tally())["generatedTokensPerSecond"] == 20


def test_a_run_without_any_answer_has_no_figures_but_its_errors() -> None:
    summary = summary_of([failed_sample(0, 0, TIMES, "timeout")], 100.0, tally())
    assert (summary["requests"], summary["errorRate"]) == (0, 100)
    assert not {"latencyP50Ms", "cold", "cached", "qualityPassRate", "providerDiagnostics"} & set(summary)
    assert summary_of([], 0.0, tally())["sent"] == 0


def test_the_score_is_of_pace_latency_speed_and_quality() -> None:
    summary = {"emailsPerHour": 3_000, "latencyP95Ms": 1_000, "queueDelayP95Ms": 1_000}
    assert score_of(summary) == 1_000
    assert score_of({**summary, "completionTokensPerSecondAvg": 100, "qualityPassRate": 50}) == 500.5
    assert score_of({**summary, "qualityPassRate": 0}) == 0


def test_the_tally_counts_what_is_there() -> None:
    one = provider_of(ANSWER)
    document = tally(dict(one), {**one, "slotId": 0, "contextWindow": 1024, "promptFormat": ""}, {}).document()
    assert document is not None
    assert document["promptFormats"] == {"llama.cpp-template": 1}
    assert (document["contextWindowP50"], document["slotReuseRate"], document["totalSlots"]) == (1024, 50, 2)
    assert "jsonRepairAttempts" not in document
    assert tally({}).document() is None
    repaired = tally({"jsonRepairAttempted": True, "jsonRepairSucceeded": False}).document()
    assert repaired is not None
    assert (repaired["jsonRepairAttempts"], repaired["jsonRepairSuccesses"]) == (1, 0)


SETTINGS = RunSettings("http://127.0.0.1:1", "w", "0", items=1, requests=3, rate=2.5, warmup=2, no_cache=True)


def report(samples: tuple[Sample, ...], **changes: object) -> RunReport:
    summary = summary_of(samples, 1_000.0, tally(provider_of(ANSWER)))  # type: ignore[arg-type]  # a dict
    return RunReport("label", "now", SETTINGS, 1_000.0, samples, summary=summary, **changes)  # type: ignore[arg-type]


def test_the_table_shows_load_spread_figures_and_what_was_not_measured() -> None:
    text = run_text(
        report((sample(0, 100.0), sample(1, 2.0, cached=True), failed_sample(2, 0, TIMES, "timeout"))), None
    )
    assert "open loop, 2.50 arrivals per second, 3 requests of w (1 items), 2 more to warm up" in text
    assert "response cache left out" in text
    assert "cold: latency, ms" in text
    assert "from the response cache: latency, ms" in text
    assert "answered: 2 of 3 sent" in text
    assert "errors: 33.3 % (timeout 1)" in text
    assert "valid JSON n/a" in text
    assert "prompt formats: (llama.cpp-template 1)" in text


def test_the_table_says_when_a_run_was_broken_off_and_how_the_baseline_was_held() -> None:
    given = {"version": 1, "label": "box", "machineClass": "m", "rate": 2.5, "requests": 3, "assertions": {}}
    made = report((), broken_off="the gateway is gone")
    limits = {"maxLatencyP95Ms": 1}
    comparison = compare("b", read_baseline({**given, "assertions": limits}), SETTINGS, made.summary)
    text = run_text(made, comparison)
    assert "No request was answered." in text
    assert "BROKEN OFF: the gateway is gone." in text
    assert "baseline box (m): FAIL" in text
    assert "fail latencyP95Ms <= 1.00 (actual missing)" in text
    assert "ok   requests === 3 (actual 3)" in text
