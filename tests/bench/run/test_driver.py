"""Both loops against the real gateway with a scripted model: nothing is waited for that should not be, errors count,
and only a gateway that is gone ends a run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from itertools import pairwise

import pytest

from ray.bench.processes.process import MeasurementError
from ray.bench.run import driver
from ray.bench.run.answer_sample import SATURATED, Times, answered_sample, failed_sample
from ray.bench.run.command import report_of, settings_of
from ray.bench.run.driver import Measured, RunPlan, arrivals, drive
from ray.bench.run.gateway_under_test import started_gateway, wait_until_ready
from ray.bench.run.sample import QueuePoint, Sample
from ray.bench.run.workload_file import Item, parse_items, workload_of
from ray.config import config_from_mapping
from ray.errors import RayError
from tests.client.scripted import Says, answer, events, server_that
from tests.fakes.provider import STOP, FakeProvider
from tests.gateway.harness import running

WORKLOAD = workload_of("test", parse_items('{"input": "one", "seed": 1}\n{"input": "two", "seed": 2}'))
WIDE = {"scheduler": {"concurrency": 8, "maxQueue": 64, "maxInflightTokens": 32_000, "maxQueuedTokens": 64_000}}
WAIT_SECONDS = 30.0


async def happens(what: Callable[[], bool]) -> None:
    """Return as soon as `what` is the case. Threads and processes are in between, so there is no event to wait for."""
    give_up = time.monotonic() + WAIT_SECONDS
    while not what():
        assert time.monotonic() < give_up, "it did not happen in time"
        await asyncio.sleep(0.005)


def drive_with(
    provider: FakeProvider | None, plan: RunPlan, document: Mapping[str, object] = WIDE, told: list[str] | None = None
) -> Measured:
    async def main() -> Measured:
        async with running(document, provider=provider) as gateway:
            url = f"http://127.0.0.1:{gateway.gateway.port}"
            return await drive(plan, url, None, (told if told is not None else []).append)

    return asyncio.run(main())


def test_clients_share_the_requests_and_go_through_the_workload_in_turn() -> None:
    measured = drive_with(FakeProvider(), RunPlan(WORKLOAD, 7, clients=3, no_cache=True))
    assert [sample.number for sample in measured.samples] == list(range(7))
    assert [sample.item for sample in measured.samples] == [0, 1, 0, 1, 0, 1, 0]
    assert all(sample.answered and not sample.cached for sample in measured.samples)
    assert measured.broken_off is None
    assert 0 < max(sample.latency_ms for sample in measured.samples) <= measured.wall_ms
    assert measured.cpu_ms is not None
    assert measured.cpu_ms > 0


def test_the_first_text_is_timed_at_the_client_and_before_the_end() -> None:
    measured = drive_with(None, RunPlan(WORKLOAD, 4, clients=1, no_cache=True), {"model": {"adapter": {
        "kind": "mock", "latencyMs": 40}}})  # fmt: skip
    for sample in measured.samples:
        assert sample.ttft_ms is not None
        assert 0 < sample.ttft_ms <= sample.latency_ms


def test_answers_from_the_cache_are_samples_of_their_own_kind() -> None:
    measured = drive_with(FakeProvider(), RunPlan(WORKLOAD, 6, clients=1))
    assert [sample.cached for sample in measured.samples] == [False, False, True, True, True, True]


def test_warming_up_leaves_no_samples_and_no_cached_answers() -> None:
    provider = FakeProvider()
    told: list[str] = []
    measured = drive_with(provider, RunPlan(WORKLOAD, 2, clients=2, warmup=3), told=told)
    assert [sample.cached for sample in measured.samples] == [False, False]
    assert len(provider.streamed) == 5
    assert told[0] == "warming up with 3 requests"


def test_arrivals_of_an_open_loop_do_not_wait_for_answers() -> None:
    gate = asyncio.Event()
    provider = FakeProvider([gate, "Hello", STOP])

    async def main() -> Measured:
        async with running(WIDE, provider=provider) as gateway:
            url = f"http://127.0.0.1:{gateway.gateway.port}"
            plan = RunPlan(WORKLOAD, 6, rate=500.0, no_cache=True)
            run = asyncio.create_task(drive(plan, url, None, lambda text: None))
            await happens(lambda: provider.active == 6)
            gate.set()
            return await run

    measured = asyncio.run(main())
    assert all(sample.answered for sample in measured.samples)
    planned = [sample.started_ms for sample in measured.samples]
    assert planned == [moment * 1_000 for moment in arrivals(500.0, 6, 1)]


def test_an_arrival_that_finds_every_connection_busy_is_counted_and_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed: list[str] = []

    def note(number: int, place: int, times: Times, code: str) -> Sample:
        failed.append(code)
        return failed_sample(number, place, times, code)

    monkeypatch.setattr(driver, "MAX_UNDER_WAY", 2)
    monkeypatch.setattr(driver, "failed_sample", note)
    gate = asyncio.Event()
    provider = FakeProvider([gate, "Hello", STOP])

    async def main() -> Measured:
        async with running(WIDE, provider=provider) as gateway:
            url = f"http://127.0.0.1:{gateway.gateway.port}"
            plan = RunPlan(WORKLOAD, 5, rate=1_000.0, no_cache=True)
            run = asyncio.create_task(drive(plan, url, None, lambda text: None))
            await happens(lambda: provider.active == 2 and len(failed) == 3)
            gate.set()
            return await run

    codes = [sample.code for sample in asyncio.run(main()).samples]
    assert codes == [None, None, SATURATED, SATURATED, SATURATED]


def test_arrivals_are_random_repeatable_and_of_the_mean_rate() -> None:
    moments = arrivals(10.0, 4_000, 3)
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert moments == arrivals(10.0, 4_000, 3) != arrivals(10.0, 4_000, 4)
    assert sum(gaps) / len(gaps) == pytest.approx(0.1, rel=0.05)
    # Of an exponential distribution 63 % lie below the mean.
    assert sum(gap < 0.1 for gap in gaps) / len(gaps) == pytest.approx(0.632, abs=0.03)


def test_errors_are_counted_by_code_and_do_not_end_the_run() -> None:
    provider = FakeProvider(
        [RayError("provider_upstream_error", "away")],
        ["Hello", RayError("provider_timeout", "away")],
        ["Hello", STOP],
    )
    measured = drive_with(provider, RunPlan(WORKLOAD, 5, clients=1, no_cache=True))
    assert [sample.code for sample in measured.samples] == [
        "provider_upstream_error",
        "provider_timeout",
        None,
        None,
        None,
    ]
    assert measured.broken_off is None


def test_a_report_holds_no_key_no_question_and_no_answer() -> None:
    secret = "the-right-key-of-this-test"
    items = (
        '{"input": "QUESTION-1", "system": "SYSTEM-1", "metadata": {"m": "META-1"}, "dedupeKey": "DEDUPE-1"}\n'
        '{"templateId": "email.reply_rewrite.v1", "templateVariables": '
        '{"rewriteGoal": "GOAL-1", "replyText": "REPLY-1"}}'
        '\n{"templateId": "no.such.template"}'
    )
    plan = RunPlan(workload_of("w.jsonl", parse_items(items)), 6, clients=2, warmup=1)

    async def main() -> Measured:
        document = {"auth": {"enabled": True, "apiKeyEnv": "KEYS"}}
        provider = FakeProvider(["ANSWER-1", STOP])
        async with running(document, environ={"KEYS": secret}, provider=provider) as gateway:
            return await drive(plan, f"http://127.0.0.1:{gateway.gateway.port}", secret, lambda text: None)

    measured = asyncio.run(main())
    assert {sample.code for sample in measured.samples} == {None, "invalid_request"}
    written = json.dumps(report_of("x", settings_of(plan, "http://h"), measured, {}).to_document())
    for text in (secret, "QUESTION", "SYSTEM", "META", "DEDUPE", "GOAL", "REPLY", "ANSWER", "no.such.template"):
        assert text not in written


@pytest.mark.parametrize(
    ("key", "warmup", "says"),
    [
        ("the-wrong-key", 0, "refuses the API key"),
        ("the-wrong-key", 3, "refuses the API key"),
        (None, 0, "wants an API key"),
        (None, 3, "wants an API key"),
    ],
)
def test_a_gateway_that_refuses_the_key_ends_the_run_at_once_and_says_where_a_key_comes_from(
    key: str | None, warmup: int, says: str
) -> None:
    asked: list[str] = []

    async def main() -> None:
        document = {"auth": {"enabled": True, "apiKeyEnv": "RAY_API_KEYS"}}
        async with running(document, environ={"RAY_API_KEYS": "the-right-key-of-this-test"}) as gateway:
            url = f"http://127.0.0.1:{gateway.gateway.port}"
            await drive(RunPlan(WORKLOAD, 1_000, clients=1, warmup=warmup), url, key, asked.append)

    with pytest.raises(MeasurementError, match=f"{says}.*RAY_BENCHMARK_API_KEY") as refused:
        asyncio.run(main())
    assert "the-wrong-key" not in str(refused.value)
    assert "the-right-key" not in f"{refused.value} {asked}"


def test_the_first_error_of_each_code_is_told_with_its_item_and_its_words() -> None:
    items = '{"input": "one"}\n{"templateId": "no.such.template"}\n{"templateId": "no.such.template", "seed": 3}'
    told: list[str] = []
    plan = RunPlan(workload_of("t", parse_items(items)), 6, clients=1, no_cache=True)
    measured = drive_with(FakeProvider(), plan, told=told)
    assert [sample.code for sample in measured.samples] == [None, "invalid_request", "invalid_request"] * 2
    assert len(told) == 1
    assert told[0].startswith("item 2 of the workload: ")
    assert "no.such.template" in told[0]


def test_what_a_rate_limit_refuses_is_counted_under_its_code() -> None:
    document = {"rateLimit": {"enabled": True, "maxRequests": 3, "windowMs": 600_000}}
    measured = drive_with(FakeProvider(), RunPlan(WORKLOAD, 8, clients=1, no_cache=True), document)
    assert [sample.code for sample in measured.samples] == [None] * 3 + ["rate_limited"] * 5
    assert measured.broken_off is None


def test_an_arrival_that_finds_the_queue_full_is_counted_as_refused() -> None:
    gate = asyncio.Event()
    refused: list[str] = []

    def tell(text: str) -> None:
        refused.append(text)
        gate.set()

    async def main() -> Measured:
        document = {
            "scheduler": {"concurrency": 1, "maxQueue": 2, "affinityLookahead": 2},
            "gracefulDegradation": {"queueDepthThreshold": 1},
        }
        async with running(document, provider=FakeProvider([gate, "Hello", STOP])) as gateway:
            url = f"http://127.0.0.1:{gateway.gateway.port}"
            async with asyncio.timeout(WAIT_SECONDS):
                return await drive(RunPlan(WORKLOAD, 5, rate=500.0, no_cache=True), url, None, tell)

    codes = [sample.code for sample in asyncio.run(main()).samples]
    assert "queue_full" in codes
    assert set(codes) <= {None, "queue_full"}
    assert codes[0] is None
    assert "queue_full" in refused[0]


def test_a_redirect_is_counted_and_never_followed() -> None:
    with server_that(answer(200, b"{}")) as elsewhere, server_that(
        answer(404), *[answer(307, b"", ("location", f"{elsewhere.url}/v1/infer"))] * 8
    ) as server:  # fmt: skip
        measured = asyncio.run(drive(RunPlan(WORKLOAD, 2, clients=1), server.url, None, lambda text: None))
    assert {sample.code for sample in measured.samples} <= {"http_307", "http_404"}
    assert "http_307" in {sample.code for sample in measured.samples}
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    ("says", "code"),
    [
        # Longer than what is read of an error: its beginning counts, and the rest is not waited for.
        (answer(500, b"x" * 65_537), "http_500"),
        (Says(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99999999\r\n\r\n", "keep"),
         "invalid_answer"),
        (events(b'event: result\ndata: {"output": "no id"}\n\n'), "invalid_answer"),
        (events(b"data: no json\n\n"), "invalid_answer"),
        (answer(200, b"{}"), "invalid_answer"),
    ],
)  # fmt: skip
def test_answers_that_cannot_be_used_are_counted(says: Says, code: str) -> None:
    with server_that(*[says] * 9) as server:
        measured = asyncio.run(drive(RunPlan(WORKLOAD, 1, clients=1), server.url, None, lambda text: None))
    assert [sample.code for sample in measured.samples] == [code]


def test_the_queue_is_watched_while_requests_wait_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def note(at_ms: float, depth: int, in_flight: int) -> QueuePoint:
        seen.append((depth, in_flight))
        return QueuePoint(at_ms, depth, in_flight)

    monkeypatch.setattr(driver, "QUEUE_POLL_SECONDS", 0.02)
    monkeypatch.setattr(driver, "QueuePoint", note)
    gate = asyncio.Event()
    provider = FakeProvider([gate, "Hello", STOP])

    async def main() -> Measured:
        async with running({"scheduler": {"concurrency": 1}}, provider=provider) as gateway:
            url = f"http://127.0.0.1:{gateway.gateway.port}"
            plan = RunPlan(WORKLOAD, 3, clients=3, no_cache=True)
            run = asyncio.create_task(drive(plan, url, None, lambda text: None))
            await happens(lambda: (2, 1) in seen)
            gate.set()
            return await run

    measured = asyncio.run(main())
    assert (2, 1) in {(point.depth, point.in_flight) for point in measured.queue}


def test_a_long_run_keeps_its_series_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "QUEUE_POLL_SECONDS", 0.001)
    monkeypatch.setattr(driver, "MAX_QUEUE_POINTS", 4)
    document = {"model": {"adapter": {"kind": "mock", "latencyMs": 50}}}
    measured = drive_with(None, RunPlan(WORKLOAD, 6, clients=1, no_cache=True), document)
    assert len(measured.queue) <= 4


@pytest.mark.integration
@pytest.mark.parametrize("loop", [{"clients": 2}, {"rate": 200.0}], ids=["closed", "open"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, "connection_lost"), (signal.SIGSTOP, "unfinished")])
def test_a_gateway_that_dies_or_hangs_half_way_ends_the_run_with_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, loop: dict[str, float], number: signal.Signals, code: str
) -> None:
    answered: list[int] = []

    def note(number: int, place: int, times: Times, answer: Mapping[str, object], item: Item) -> Sample:
        answered.append(number)
        return answered_sample(number, place, times, answer, item)

    monkeypatch.setattr(driver, "answered_sample", note)
    # A gateway that hangs is not waited for as long as one of a user's.
    monkeypatch.setattr(driver, "LIVEZ_MS", 500)
    monkeypatch.setattr(driver, "LAST_ANSWERS_SECONDS", 0.1)
    config = config_from_mapping(
        {"profile": "tiny", "scheduler": {"concurrency": 4}, "model": {"adapter": {"kind": "mock", "latencyMs": 20}}}
    )

    async def main() -> Measured:
        with started_gateway(config, os.environ, sys.executable) as target:
            assert target.server is not None
            await wait_until_ready(target, lambda text: None)
            plan = RunPlan(WORKLOAD, 9_000, clients=loop.get("clients"), rate=loop.get("rate"), no_cache=True)  # type: ignore[arg-type]  # whole where it is one
            run = asyncio.create_task(drive(plan, target.url, None, lambda text: None))
            await happens(lambda: len(answered) > 10)
            os.kill(target.server.pid, number)
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    return await run
            finally:
                os.kill(target.server.pid, signal.SIGCONT)

    measured = asyncio.run(main())
    assert measured.broken_off is not None
    assert "the gateway is gone" in measured.broken_off
    assert sum(sample.answered for sample in measured.samples) == len(answered)
    assert code in {sample.code for sample in measured.samples}, "streams were under way"
    assert len(measured.samples) < 9_000
    # Throughput is of the time in which there was a gateway.
    last = max(sample.started_ms + sample.latency_ms for sample in measured.samples if sample.answered)
    assert measured.wall_ms == last


def test_a_request_that_cannot_be_sent_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    too_large = workload_of("large", parse_items(json.dumps({"input": "x", "system": "y" * 60_000})))
    monkeypatch.setattr("ray.client.calls.json.dumps", _no_json)
    for warmup in (0, 1):
        with pytest.raises(MeasurementError, match="cannot be written as JSON"):
            drive_with(FakeProvider(), RunPlan(too_large, 3, clients=1, warmup=warmup))


def _no_json(*_: object, **__: object) -> str:
    raise ValueError("not today")
