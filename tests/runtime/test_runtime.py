"""The pipeline from a request to its answer, around a scripted provider."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ray.clock import Deadline
from ray.errors import RayError
from ray.runtime import Reader, normalise_request, result_document
from ray.types import Counts, Finish, ProviderDiagnostics, Timings
from tests.fakes.provider import STOP, FakeProvider, Step, until
from tests.runtime.support import ALICE, BOB, House, tiny_config


async def error_of(reader: Reader) -> RayError:
    with pytest.raises(RayError) as caught:
        await reader.result()
    return caught.value


# -- one answer


def test_an_answer_is_streamed_gathered_and_documented() -> None:
    async def main() -> None:
        house = House(FakeProvider(["Hel", "lo", Finish("length", Counts.of(9, 2))]))
        async with await house.ask({"system": "s" * 7}) as reader:
            assert [chunk.text async for chunk in reader] == ["Hel", "lo", ""]
            result = await reader.result()
        document = result_document(result)
        created_at = document.pop("createdAt")
        assert isinstance(created_at, str)
        assert created_at.endswith("Z")
        diagnostics = document.pop("diagnostics")
        assert isinstance(diagnostics, dict)
        assert list(diagnostics) == [
            "degradation",
            "promptCompiler",
            "learnedOutputCap",
            "adaptiveTuning",
            "taskRouting",
        ]
        assert document == {
            "id": "req_1",
            "model": "fake-model",
            "output": "Hello",
            "usage": {
                "chars": {"prompt": 12, "completion": 5, "total": 17},
                "tokens": {"prompt": 9, "completion": 2, "total": 11},
            },
            "cached": False,
            "deduplicated": False,
            "queueTimeMs": 0,
            "latencyMs": result.latency_ms,
            "degraded": False,
            "finishReason": "length",
        }
        assert house.is_idle()

    asyncio.run(main())


def test_the_provider_is_told_request_id_lane_and_the_one_deadline() -> None:
    async def main() -> None:
        house = House()
        deadline = Deadline.after_ms(5_000)
        request = normalise_request({"input": "hi", "maxTokens": 5}, house.config)
        async with await house.runtime.generate(request, ALICE, deadline, "req_x") as reader:
            await reader.result()
        (context,) = house.provider.contexts
        assert (context.request_id, context.lane, context.deadline.at) == ("req_x", "short", deadline.at)

    asyncio.run(main())


def test_the_model_id_is_bounded_everywhere_it_shows() -> None:
    async def main() -> None:
        house = House(FakeProvider(model_id="m" * 706))
        assert len((await house.answer()).model) == 512
        assert len((await house.answer()).model) == 512
        assert len(str((await house.runtime.health_document())["modelId"])) == 512

    asyncio.run(main())


def test_unpaired_surrogates_of_a_backend_are_replaced() -> None:
    async def main() -> None:
        house = House(FakeProvider(["a\ud800b", STOP]))
        (await house.answer()).output.encode("utf-8")

    asyncio.run(main())


# -- the cache


def test_the_second_of_two_equal_requests_is_answered_from_the_cache_without_the_provider() -> None:
    async def main() -> None:
        diagnostics = ProviderDiagnostics(request_shape="openai-chat")
        house = House(FakeProvider(["x", Finish("stop", diagnostics=diagnostics)]))
        first, second = await house.answer(), await house.answer()
        assert (first.cached, second.cached) == (False, True)
        assert (second.id, second.output, second.queue_time_ms) == ("req_2", "x", 0)
        assert second.diagnostics.provider == diagnostics
        assert len(house.provider.prepared) == 1
        assert (house.counter("cache.hits"), house.counter("cache.misses")) == (1, 1)

    asyncio.run(main())


def test_a_cached_answer_streams_like_a_fresh_one() -> None:
    async def main() -> None:
        house = House(FakeProvider(["a", "b", STOP]))
        await house.answer()
        async with await house.ask() as reader:
            await reader.started()
            chunks = [chunk async for chunk in reader]
        assert [chunk.text for chunk in chunks] == ["ab", ""]
        assert chunks[-1].finish == Finish("stop")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("cache", "body"),
    [({}, {"cache": False}), ({"enabled": False}, {}), ({"max_bytes": 60}, {})],
    ids=["the request does not want it", "it is off", "the answer is larger than the cache"],
)
def test_without_caching_every_call_reaches_the_provider(cache: dict[str, object], body: dict[str, object]) -> None:
    async def main() -> None:
        house = House(config=tiny_config(cache=cache))
        answers = [await house.answer(body), await house.answer(body)]
        assert not any(answer.cached for answer in answers)
        assert len(house.provider.streamed) == 2

    asyncio.run(main())


def test_lookups_are_counted_only_when_the_cache_is_asked() -> None:
    async def main() -> None:
        house = House()
        await house.answer({"cache": False})
        assert (house.counter("cache.hits"), house.counter("cache.misses")) == (0, 0)

    asyncio.run(main())


def test_an_empty_answer_is_cached() -> None:
    async def main() -> None:
        house = House(FakeProvider([STOP]))
        await house.answer()
        assert (await house.answer()).cached

    asyncio.run(main())


def test_errors_are_never_cached() -> None:
    async def main() -> None:
        house = House(FakeProvider([RayError("provider_upstream_error", "no")], ["fine", STOP]))
        async with await house.ask() as reader:
            await error_of(reader)
        assert (await house.answer()).output == "fine"

    asyncio.run(main())


# -- twins


def test_two_equal_requests_at_once_are_one_generation() -> None:
    async def main() -> None:
        go = asyncio.Event()
        house = House(FakeProvider(["a", go, "b", STOP]))
        leader = await house.ask()
        await leader.started()
        follower = await house.ask(caller=BOB)
        go.set()
        results = [await leader.result(), await follower.result()]
        assert [(result.id, result.deduplicated, result.output) for result in results] == [
            ("req_1", False, "ab"),
            ("req_2", True, "ab"),
        ]
        assert len(house.provider.streamed) == 1
        assert house.counter("scheduler.deduplicated") == 1
        assert (await house.answer()).cached

    asyncio.run(main())


def test_twins_also_meet_while_the_first_is_being_prepared() -> None:
    async def main() -> None:
        go = asyncio.Event()
        house = House(FakeProvider(prepare_steps=[go]))
        first = await house.ask()
        await until(lambda: house.provider.preparing == 1)
        second = await house.ask()
        go.set()
        assert (await first.result()).output == (await second.result()).output
        assert len(house.provider.prepared) == 1

    asyncio.run(main())


def test_a_twin_joins_even_when_the_queue_is_full() -> None:
    async def main() -> None:
        go = asyncio.Event()
        house = House(FakeProvider([go, "x", STOP]), tiny_config(scheduler={"max_queue": 1, "concurrency": 1}))
        running = await house.ask({"input": "one"})
        await until(lambda: house.provider.active == 1)
        waiting = await house.ask({"input": "two"})
        await until(lambda: house.runtime.queue_snapshot().queue_depth == 1)
        refused, joins = await house.ask({"input": "three"}), await house.ask({"input": "two"})
        with pytest.raises(RayError) as caught:
            await refused.started()
        assert caught.value.code == "queue_full"
        go.set()
        for reader in (running, waiting, joins):
            await reader.result()
        assert len(house.provider.streamed) == 2
        assert house.counter("scheduler.rejections", code="queue_full") == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "twin"),
    [
        ({"cache": False}, {"cache": False}),
        ({"cache": False, "dedupeKey": "k", "input": "a"}, {"cache": False, "dedupeKey": "k", "input": "b"}),
        ({"dedupeKey": "k", "system": "s"}, {"dedupeKey": "k", "system": "t"}),
    ],
    ids=["no key at all", "another input", "another system text"],
)
def test_requests_that_must_not_share_do_not(body: dict[str, object], twin: dict[str, object]) -> None:
    async def main() -> None:
        go = asyncio.Event()
        house = House(FakeProvider([go, "x", STOP]), tiny_config(scheduler={"concurrency": 2}))
        readers = [await house.ask(body), await house.ask(twin)]
        await until(lambda: house.provider.active == 2)
        go.set()
        for reader in readers:
            assert not (await reader.result()).deduplicated

    asyncio.run(main())


def test_a_dedupe_key_joins_the_same_caller_and_never_another() -> None:
    async def main() -> None:
        go = asyncio.Event()
        house = House(FakeProvider([go, "x", STOP]), tiny_config(scheduler={"concurrency": 2}))
        body = {"cache": False, "dedupeKey": "k"}
        mine, again = await house.ask(body), await house.ask({**body, "maxTokens": 3})
        theirs = await house.ask(body, caller=BOB)
        await until(lambda: house.provider.active == 2)
        go.set()
        shared = [(await reader.result()).deduplicated for reader in (mine, again, theirs)]
        assert shared == [False, True, False]

    asyncio.run(main())


def test_a_follower_never_writes_the_cache() -> None:
    async def main() -> None:
        go = asyncio.Event()
        house = House(FakeProvider(["few", go, STOP], ["many", STOP]))
        leader = await house.ask({"dedupeKey": "k", "maxTokens": 3})
        follower = await house.ask({"dedupeKey": "k", "maxTokens": 90})
        go.set()
        assert (await leader.result()).output == (await follower.result()).output == "few"
        later = await house.answer({"maxTokens": 90})
        assert (later.output, later.cached) == ("many", False)

    asyncio.run(main())


def test_with_dedupe_switched_off_nobody_joins() -> None:
    async def main() -> None:
        config = tiny_config(scheduler={"dedupe_inflight": False, "concurrency": 2})
        go = asyncio.Event()
        house = House(FakeProvider([go, "x", STOP]), config)
        readers = [await house.ask(), await house.ask()]
        await until(lambda: house.provider.active == 2)
        go.set()
        for reader in readers:
            await reader.result()

    asyncio.run(main())


def test_a_failing_leader_fails_its_followers_and_the_next_call_runs_afresh() -> None:
    async def main() -> None:
        go = asyncio.Event()
        house = House(FakeProvider([go, RayError("provider_upstream_error", "no")], ["fine", STOP]))
        readers = [await house.ask(), await house.ask()]
        await until(lambda: house.provider.active == 1)
        go.set()
        assert [(await error_of(reader)).code for reader in readers] == ["provider_upstream_error"] * 2
        assert (await house.answer()).output == "fine"
        assert house.counter("requests.errors", code="provider_upstream_error") == 2
        assert [line["requestId"] for line in house.lines()] == ["req_1", "req_2"]

    asyncio.run(main())


def test_a_follower_outlives_the_leaders_deadline() -> None:
    async def main() -> None:
        go = asyncio.Event()
        house = House(FakeProvider(["a", go, STOP]))
        leader = await house.ask(timeout_ms=500)
        await leader.started()
        leaders_deadline = leader.deadline.at
        follower = await house.ask()
        assert leader.deadline.at == leaders_deadline
        assert (await error_of(leader)).code == "request_timeout"
        assert house.provider.contexts[0].deadline.at == follower.deadline.at
        go.set()
        assert (await follower.result()).output == "a"
        assert house.counter("requests.errors", code="request_timeout") == 1
        assert house.counter("requests.total", source="dedupe") == 1

    asyncio.run(main())


# -- refusals


@pytest.mark.parametrize(("prompt_tokens", "fits"), [(3_000, True), (3_001, False)])
def test_prompt_and_allowance_must_fit_the_context_window_exactly(prompt_tokens: int, fits: bool) -> None:
    async def main() -> None:
        config = tiny_config(scheduler={"max_inflight_tokens": 10_000})
        house = House(FakeProvider(prompt_tokens=prompt_tokens, context_window=3_100), config)
        async with await house.ask({"maxTokens": 100}) as reader:
            if fits:
                await reader.result()
                return
            error = await error_of(reader)
        assert (error.code, error.status) == ("request_context_window_exceeded", 413)
        assert error.details == {
            "promptTokens": 3_001,
            "maxTokens": 100,
            "totalTokens": 3_101,
            "contextWindow": 3_100,
        }
        assert house.provider.streamed == []

    asyncio.run(main())


def test_nobody_counting_means_four_characters_per_token_and_the_models_own_window() -> None:
    async def main() -> None:
        config = tiny_config(scheduler={"max_inflight_tokens": 10_000}, degradation={"enabled": False})
        house = House(config=config)
        assert house.config.model.context_window == 4096
        async with await house.ask({"input": "x" * 16_001, "maxTokens": 96}) as reader:
            error = await error_of(reader)
        assert isinstance(error.details, dict)
        assert error.details["promptTokens"] == 4_001

    asyncio.run(main())


def test_a_cost_over_the_token_budget_is_refused_before_anything_is_streamed() -> None:
    async def main() -> None:
        house = House(FakeProvider(prompt_tokens=91), tiny_config(scheduler={"max_inflight_tokens": 100}))
        async with await house.ask({"maxTokens": 10}) as reader:
            with pytest.raises(RayError) as caught:
                await reader.started()
        assert caught.value.code == "request_token_budget_exceeded"
        assert house.provider.streamed == []
        assert house.is_idle()

    asyncio.run(main())


def test_a_full_gate_refuses_with_the_phase() -> None:
    async def main() -> None:
        go = asyncio.Event()
        house = House(FakeProvider(prepare_steps=[go]), tiny_config(scheduler={"max_queue": 1, "concurrency": 1}))
        readers = [await house.ask({"input": str(number)}) for number in range(3)]
        error = await error_of(readers[2])
        assert error.code == "queue_full"
        assert isinstance(error.details, dict)
        assert error.details["phase"] == "prepare"
        assert (await house.runtime.health()).preparation_degraded
        go.set()
        for reader in readers[:2]:
            await reader.result()
        assert house.is_idle()

    asyncio.run(main())


def test_after_closing_nothing_more_is_taken_and_what_ran_is_told() -> None:
    async def main() -> None:
        house = House(FakeProvider(["a", asyncio.Event()]))
        reader = await house.ask()
        await reader.started()
        await house.runtime.close()
        assert (await error_of(reader)).code == "request_aborted"
        assert house.provider.closed
        assert house.is_idle()
        with pytest.raises(RayError) as caught:
            await house.ask()
        assert caught.value.code == "gateway_draining"
        assert [line["requestId"] for line in house.lines()] == ["req_1", "req_2"]

    asyncio.run(main())


# -- bad answers


def test_an_answer_that_grows_past_its_limit_is_stopped_and_not_cached() -> None:
    async def main() -> None:
        endless: list[Step] = ["x" * 4096, "x" * 4096, "x", "x" * 4096, STOP]
        house = House(FakeProvider(endless))
        for _ in range(2):
            async with await house.ask({"maxTokens": 1}) as reader:
                error = await error_of(reader)
            assert (error.code, error.status) == ("provider_result_invalid", 502)
            assert error.details == {"field": "output", "maxChars": 8192, "actualChars": 8193, "maxTokens": 1}
        assert len(house.provider.streamed) == 2
        assert house.provider.cancelled == 2  # the stream was closed, not left to run

    asyncio.run(main())


def test_an_answer_that_just_stops_is_invalid() -> None:
    async def main() -> None:
        house = House(FakeProvider(["half"]))
        async with await house.ask() as reader:
            error = await error_of(reader)
        assert (error.code, error.details) == ("provider_result_invalid", {"field": "finish"})

    asyncio.run(main())


def test_an_unforeseen_exception_of_the_provider_is_logged_with_its_stack() -> None:
    async def main() -> None:
        house = House(FakeProvider([ZeroDivisionError("oops")]))
        async with await house.ask() as reader:
            assert (await error_of(reader)).code == "gateway_error"
        (line,) = house.lines()
        assert (line["level"], line["event"], line["requestId"]) == ("error", "inference_failed", "req_1")
        logged = line["error"]
        assert isinstance(logged, dict)
        assert (logged["name"], logged["code"]) == ("ZeroDivisionError", "gateway_error")
        assert "stack" in logged
        assert house.is_idle()

    asyncio.run(main())


# -- the deadline, stage by stage


@pytest.mark.parametrize("phase", ["prepare", "queue", "generate"])
def test_one_deadline_covers_preparation_queue_and_generation(phase: str) -> None:
    async def main() -> None:
        never = asyncio.Event()
        house = House(FakeProvider([never], prepare_steps=[never] if phase == "prepare" else []))
        other = None
        if phase == "queue":
            other = await house.ask({"input": "first"})
            await until(lambda: house.provider.active == 1)
        reader = await house.ask(timeout_ms=200)
        error = await error_of(reader)
        assert (error.code, error.retry_after) == ("request_timeout", 5)
        assert error.details == {"phase": phase, "timeoutMs": house.config.scheduler.request_timeout_ms}
        counted = house.counter("scheduler.rejections", code="request_timeout")
        assert counted == (0 if phase == "generate" else 1)
        if other is not None:
            other.leave()
        await until(house.is_idle)

    asyncio.run(main())


# -- leaving, stage by stage


@pytest.mark.parametrize("stage", ["at once", "at the gate", "in preparation", "in the queue", "streaming"])
def test_leaving_at_any_stage_gives_everything_back(stage: str) -> None:
    async def main() -> None:
        never = asyncio.Event()
        stuck_in_preparation = stage in ("at the gate", "in preparation")
        provider = FakeProvider(["a", never], prepare_steps=[never] if stuck_in_preparation else [])
        house = House(provider, tiny_config(scheduler={"concurrency": 1}))
        readers: list[Reader] = []
        if stage in ("at the gate", "in the queue"):
            readers.append(await house.ask({"input": "in the way"}))
            await until(lambda: provider.active + provider.preparing == 1)
        reader = await house.ask()
        readers.append(reader)
        if stage == "at the gate":
            await until(lambda: house.gauges()["preparation.queued"] == 1)
        elif stage == "in preparation":
            await until(lambda: provider.preparing == 1)
        elif stage == "in the queue":
            await until(lambda: house.runtime.queue_snapshot().queue_depth == 1)
        elif stage == "streaming":
            assert (await anext(reader)).text == "a"
        for left in reversed(readers):
            left.leave()
        await until(house.is_idle)
        assert house.lines() == []  # nobody is there to be told
        assert len(provider.streamed) == {"streaming": 1, "in the queue": 1}.get(stage, 0)
        assert provider.cancelled == len(provider.streamed)

    asyncio.run(main())


def test_a_client_task_that_is_cancelled_frees_the_slot_for_the_next() -> None:
    async def main() -> None:
        never = asyncio.Event()
        house = House(FakeProvider(["a", never], ["fine", STOP]), tiny_config(scheduler={"concurrency": 1}))

        async def client() -> None:
            async with await house.ask({"input": "gone soon"}) as reader:
                await reader.result()

        gone = asyncio.create_task(client())
        await until(lambda: house.provider.active == 1)
        waiting = await house.ask()
        gone.cancel()
        assert (await waiting.result()).output == "fine"
        assert house.provider.cancelled == 1

    asyncio.run(main())


def test_a_generation_everybody_left_is_not_joined() -> None:
    async def main() -> None:
        house = House(FakeProvider(["a", asyncio.Event()], ["fresh", STOP]))
        left = await house.ask()
        await left.started()
        left.leave()
        assert (await house.answer()).output == "fresh"

    asyncio.run(main())


def test_concurrency_bounds_what_runs_at_once() -> None:
    async def main() -> None:
        house = House(FakeProvider(["a", STOP]), tiny_config(scheduler={"concurrency": 2}))
        readers = [await house.ask({"input": str(number)}) for number in range(20)]
        for reader in readers:
            await reader.result()
        assert house.provider.most_active <= 2
        assert house.is_idle()

    asyncio.run(main())


# -- the books


def test_what_the_backend_reports_is_counted_once_however_many_read_it() -> None:
    async def main() -> None:
        diagnostics = ProviderDiagnostics(
            tokens_cached=30, slot_id=1, timings=Timings(completion_tokens_per_second=20.0)
        )
        go = asyncio.Event()
        house = House(FakeProvider(["x", go, Finish("stop", Counts.of(40, 5), diagnostics)]))
        readers = [await house.ask(), await house.ask()]
        await readers[0].started()
        go.set()
        for reader in readers:
            await reader.result()
        await house.answer()
        assert house.counter("requests.total", source="provider") == 1
        assert house.counter("requests.total", source="dedupe") == 1
        assert house.counter("requests.total", source="cache") == 1
        assert house.counter("provider.prompt_cache.hits") == 1
        assert house.counter("provider.slot.assignments") == 1
        assert house.counter("provider.completion_tokens") == 5
        assert sum(house.metrics.histogram("inference.ttft").counts) == 1
        assert sum(house.metrics.histogram("queue.wait", lane="draft").counts) == 1
        gauges = house.gauges()
        assert gauges["provider.completion_tps"] == 20
        assert gauges["provider.prompt_cache.reuse_ratio"] == 0.75
        assert house.metrics.recent["lastSlotId"] == 1

    asyncio.run(main())


def test_expected_failures_are_one_warning_without_a_stack() -> None:
    async def main() -> None:
        error = RayError("provider_timeout", "too slow", details={"timeoutMs": 5})
        house = House(FakeProvider([error]))
        async with await house.ask() as reader:
            await error_of(reader)
        (line,) = house.lines()
        assert (line["level"], line["event"], line["requestId"]) == ("warn", "inference_rejected", "req_1")
        logged = line["error"]
        assert isinstance(logged, dict)
        assert (logged["code"], logged["details"]) == ("provider_timeout", {"timeoutMs": 5})
        assert "stack" not in logged

    asyncio.run(main())


def test_slow_answers_are_noted_unless_they_came_from_the_cache() -> None:
    async def main() -> None:
        config = tiny_config()
        config = replace(config, telemetry=replace(config.telemetry, slow_request_threshold_ms=0))
        house = House(config=config)
        await house.answer()
        await house.answer()
        (line,) = house.lines()
        assert (line["event"], line["requestId"], line["modelId"]) == ("slow_request", "req_1", "fake-model")

    asyncio.run(main())


def test_prompts_and_answers_never_reach_the_log() -> None:
    async def main() -> None:
        house = House(FakeProvider(["the answer", RayError("provider_upstream_error", "no")]))
        async with await house.ask({"input": "the secret", "system": "the rules"}) as reader:
            await error_of(reader)
        written = house.log.getvalue()
        assert written
        assert not any(text in written for text in ("the answer", "the secret", "the rules"))

    asyncio.run(main())


def test_the_level_gauges_are_those_of_the_moment_of_reading() -> None:
    async def main() -> None:
        never = asyncio.Event()
        house = House(FakeProvider([never], prompt_tokens=10), tiny_config(scheduler={"concurrency": 1}))
        readers = [await house.ask({"input": str(number), "maxTokens": 5}) for number in range(3)]
        await until(lambda: house.runtime.queue_snapshot().queue_depth == 2)
        gauges = house.gauges()
        assert (gauges["queue.depth"], gauges["queue.short_depth"], gauges["queue.tokens"]) == (2, 2, 30)
        assert (gauges["inference.in_flight"], gauges["inference.in_flight_tokens"]) == (1, 15)
        for reader in readers:
            reader.leave()
        await until(house.is_idle)

    asyncio.run(main())


@pytest.mark.parametrize("status", [400, 502])
def test_what_a_backend_wrote_about_a_failure_reaches_the_client_but_not_the_log(status: int) -> None:
    async def main() -> None:
        refused = RayError(
            "provider_upstream_error",
            "the model backend answered /completion with status 500",
            details={"pathname": "/completion", "body": "cannot handle prompt 'dear customer'"},
            status=status,
        )
        house = House(FakeProvider([refused]))
        async with await house.ask() as reader:
            with pytest.raises(RayError) as caught:
                await reader.result()
        assert "dear customer" in str(caught.value.details)
        assert "dear customer" not in house.log.getvalue()
        assert "/completion" in house.log.getvalue()

    asyncio.run(main())


def test_given_an_answer_that_has_just_arrived_when_the_backend_is_looked_at_then_it_is_not_probed() -> None:
    async def main() -> None:
        house = House()
        await house.answer()
        assert await house.runtime.backend_answers()
        assert house.provider.probed == 0

    asyncio.run(main())
