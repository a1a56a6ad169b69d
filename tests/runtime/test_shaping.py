"""Requests on their way through all stages of shaping, and answers that teach the next one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ray.runtime import HostPressure
from ray.runtime.pressure import assess
from ray.runtime.shaping import Shaper
from ray.telemetry import metrics_json
from ray.types import Counts, Finish, InferenceResult, ProviderDiagnostics, Timings
from tests.fakes.machine import Machine
from tests.fakes.provider import STOP, FakeProvider, Step, until
from tests.host.trees import NOWHERE, FakeClock
from tests.runtime.support import BOB, TINY, House, tiny_config

LONG = {"maxTokens": 192}


def degradation_of(result: InferenceResult) -> dict[str, object]:
    assert result.diagnostics.degradation is not None
    return dict(result.diagnostics.degradation)


def answer_of(tokens: int, *, finish: str = "stop", speed: float | None = None) -> list[Step]:
    assert finish in ("stop", "length")
    diagnostics = None if speed is None else ProviderDiagnostics(timings=Timings(completion_tokens_per_second=speed))
    return ["words", Finish("stop" if finish == "stop" else "length", Counts.of(9, tokens), diagnostics)]


# Every stage


def test_an_undisturbed_request_has_all_blocks_and_goes_as_it_came() -> None:
    async def main() -> None:
        house = House()
        result = await house.answer({**LONG, "system": "Be brief."})
        assert degradation_of(result) == {
            "applied": False,
            "reasons": [],
            "requestedMaxTokens": 192,
            "appliedMaxTokens": 192,
            "queueDepth": 0,
            "queueDepthThreshold": 8,
            "processRssMiB": 0.0,
            "memoryRssThresholdMiB": 256,
            "processRssPressureRatio": 0.0,
        }
        blocks = result.diagnostics
        assert blocks.prompt_compiler is not None
        assert (blocks.prompt_compiler.lane, len(blocks.prompt_compiler.family_key)) == ("draft", 16)
        assert blocks.learned_output_cap is not None
        assert blocks.learned_output_cap.family_key == blocks.prompt_compiler.family_key
        assert blocks.adaptive_tuning is not None
        assert blocks.task_routing is not None
        (context,) = house.provider.contexts
        assert (context.lane, context.family) == ("draft", blocks.prompt_compiler.family_key)
        assert house.provider.streamed[0].max_tokens == 192

    asyncio.run(main())


def test_the_model_gets_the_compiled_prompt_and_the_books_know_what_was_saved() -> None:
    async def main() -> None:
        house = House()
        await house.answer({"input": "two   words"})
        assert house.provider.streamed[0].messages[-1].content == "two words"
        assert house.gauges()["prompt.compiler.chars_saved"] == 2
        await house.answer({"input": "two words"})
        assert house.gauges()["prompt.compiler.chars_saved"] == 0
        assert house.counter("prompt.compiler.saved_chars") == 2

    asyncio.run(main())


def test_each_stage_sees_what_the_one_before_left(tmp_path: Path) -> None:
    """192 asked, 150 learned, 96 under pressure, tuned by half; then short enough for the short lane."""

    async def main() -> None:
        machine = Machine(tmp_path)
        config = tiny_config(
            tuning={
                "enabled": True,
                "learned_cap_min_samples": 1,
                "learned_cap_headroom_tokens": 24,
                "min_completion_tokens_per_second": 10,
                "min_output_tokens": 16,
            }
        )
        house = House(FakeProvider(answer_of(126, speed=1)), config, machine.host)
        await house.answer({**LONG, "cache": False})
        machine.memory(760)
        result = await house.answer({**LONG, "cache": False})
        learned, tuned = result.diagnostics.learned_output_cap, result.diagnostics.adaptive_tuning
        assert learned is not None
        assert tuned is not None
        assert (learned.requested_max_tokens, learned.applied_max_tokens) == (192, 150)
        degradation = degradation_of(result)
        assert (degradation["requestedMaxTokens"], degradation["appliedMaxTokens"]) == (150, 96)
        assert (tuned.requested_max_tokens, tuned.applied_max_tokens, tuned.reason) == (96, 48, "throughput")
        assert house.provider.streamed[-1].max_tokens == 48
        assert [context.lane for context in house.provider.contexts] == ["draft", "short"]
        assert result.diagnostics.prompt_compiler is not None
        assert result.diagnostics.prompt_compiler.lane == "draft"
        gauges = house.gauges()
        assert gauges["learned_output_cap.max_tokens_ratio"] == 150 / 192
        assert gauges["adaptive.max_tokens_ratio"] == 0.5

    asyncio.run(main())


# Degraded answers


def test_under_memory_pressure_an_answer_is_shortened_says_so_and_is_not_stored(tmp_path: Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path)
        machine.memory(760)
        house = House(host=machine.host)
        for _ in range(2):
            result = await house.answer(LONG)
            assert (result.degraded, result.cached) == (True, False)
            assert degradation_of(result)["reasons"] == ["memory_pressure"]
            assert degradation_of(result)["cgroupMemoryPressureRatio"] == 0.95
        assert house.counter("requests.degraded") == 2
        recent = metrics_json(house.metrics, include_recent=True)["recent"]
        assert isinstance(recent, dict)
        assert recent["lastDegradedAt"] == result.created_at

        machine.memory(100)
        relieved = [await house.answer(LONG), await house.answer(LONG)]
        assert [(result.degraded, result.cached) for result in relieved] == [(False, False), (False, True)]
        assert [request.max_tokens for request in house.provider.streamed] == [96, 96, 192]

    asyncio.run(main())


def test_a_request_that_asks_for_little_is_not_degraded_and_still_tells_the_sources(tmp_path: Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path)
        machine.memory(760)
        house = House(host=machine.host)
        result = await house.answer({"maxTokens": 50})
        assert result.degraded is False
        assert degradation_of(result)["memoryPressureSources"] == ["cgroup"]
        assert (await house.answer({"maxTokens": 50})).cached

    asyncio.run(main())


def test_a_long_prompt_is_cut_and_its_answer_is_not_stored() -> None:
    async def main() -> None:
        house = House()
        body = {"input": "x" * 5000, "system": "s" * 100}
        for _ in range(2):
            result = await house.answer(body)
            assert (result.degraded, result.cached) == (True, False)
            assert degradation_of(result)["reasons"] == ["prompt_length"]
            assert result.diagnostics.prompt_compiler is not None
            assert result.diagnostics.prompt_compiler.chars_before == 4000
        assert [len(message.content) for message in house.provider.streamed[0].messages] == [100, 3900]

    asyncio.run(main())


def test_a_long_value_of_a_template_is_cut_in_values_and_messages_alike() -> None:
    async def main() -> None:
        house = House()
        values = {"replyText": "r" * 6000}
        async with await house.ask(
            {"templateId": "email.reply_classification.v1", "templateVariables": values}
        ) as reader:
            assert (await reader.result()).degraded
        (request,) = house.provider.streamed
        assert request.prompt_chars == 4000
        assert 3000 < len(request.template_values["replyText"]) < 4000
        assert request.template_values["replyText"] in request.messages[-1].content

    asyncio.run(main())


def test_a_deep_queue_shortens_those_who_come_last() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        house = House(FakeProvider([gate, STOP]), tiny_config(degradation={"queue_depth_threshold": 2}))
        readers = []
        for number in range(4):
            readers.append(await house.ask({**LONG, "input": f"question {number}"}))
            await until(lambda expected=number: house.runtime.queue_snapshot().queue_depth == expected)  # type: ignore[misc]
        gate.set()
        results = [await reader.result() for reader in readers]
        assert [result.degraded for result in results] == [False, False, False, True]
        assert degradation_of(results[-1])["queueDepth"] == 2
        assert degradation_of(results[-1])["reasons"] == ["queue_depth"]

    asyncio.run(main())


def test_a_followers_blocks_are_its_own(tmp_path: Path) -> None:
    """The leader asked for 192 and was cut to 96; the follower asked for 96 and got all of it."""

    async def main() -> None:
        machine = Machine(tmp_path)
        machine.memory(760)
        gate = asyncio.Event()
        house = House(FakeProvider([gate, STOP]), host=machine.host)
        leader = await house.ask(LONG)
        follower = await house.ask({"maxTokens": 96}, caller=BOB)
        gate.set()
        cut, whole = await leader.result(), await follower.result()
        assert (cut.degraded, cut.deduplicated) == (True, False)
        assert (whole.degraded, whole.deduplicated) == (False, True)
        assert degradation_of(cut)["requestedMaxTokens"] == 192
        assert degradation_of(whole)["requestedMaxTokens"] == 96
        assert house.counter("requests.degraded") == 1

    asyncio.run(main())


# Learning


LEARNING = tiny_config(tuning={"enabled": True, "learned_cap_min_samples": 2, "min_output_tokens": 16})


def samples_of(result: InferenceResult) -> int:
    assert result.diagnostics.learned_output_cap is not None
    return result.diagnostics.learned_output_cap.sample_count


def test_leaders_teach_and_followers_hits_and_failures_do_not() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        house = House(FakeProvider([gate, *answer_of(30)], answer_of(30)), LEARNING)
        leader, follower = await house.ask(LONG), await house.ask(LONG, caller=BOB)
        gate.set()
        assert (await follower.result()).deduplicated
        assert samples_of(await leader.result()) == 0
        hit = await house.answer(LONG)
        assert (hit.cached, samples_of(hit)) == (True, 1)
        assert samples_of(await house.answer({**LONG, "cache": False})) == 1
        assert samples_of(await house.answer({**LONG, "cache": False})) == 2

    asyncio.run(main())


def test_a_family_that_answers_shortly_is_capped_from_enough_answers_on() -> None:
    async def main() -> None:
        house = House(FakeProvider(answer_of(30)), LEARNING)
        results = [await house.answer({**LONG, "cache": False}) for _ in range(3)]
        caps = [result.diagnostics.learned_output_cap for result in results]
        assert [cap.applied_max_tokens if cap else None for cap in caps] == [192, 192, 54]
        assert not any(result.degraded for result in results), "a learned cap is no degradation"
        other = await house.answer({**LONG, "metadata": {"promptFamily": "another"}})
        assert samples_of(other) == 0

    asyncio.run(main())


@pytest.mark.parametrize(("finish", "samples"), [("length", 0), ("stop", 1)])
def test_an_answer_that_pressure_broke_off_teaches_no_length(tmp_path: Path, finish: str, samples: int) -> None:
    async def main() -> None:
        machine = Machine(tmp_path)
        machine.memory(760)
        house = House(FakeProvider(answer_of(96, finish=finish)), LEARNING, machine.host)
        assert (await house.answer(LONG)).degraded
        assert samples_of(await house.answer(LONG)) == samples

    asyncio.run(main())


def test_without_token_counts_four_characters_count_as_one() -> None:
    async def main() -> None:
        house = House(FakeProvider(["x" * 121, STOP]), LEARNING)
        for _ in range(2):
            await house.answer({**LONG, "cache": False})
        result = await house.answer({**LONG, "cache": False})
        assert result.diagnostics.learned_output_cap is not None
        assert result.diagnostics.learned_output_cap.learned_cap_tokens == 31 + 24

    asyncio.run(main())


def test_an_empty_answer_counts_as_one_token() -> None:
    async def main() -> None:
        house = House(FakeProvider([STOP]), LEARNING)
        await house.answer({**LONG, "cache": False})
        assert samples_of(await house.answer({**LONG, "cache": False})) == 1

    asyncio.run(main())


# One rule for all


def test_given_degradation_off_when_the_machine_presses_then_nothing_is_cut_or_called_degraded(tmp_path: Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path)
        machine.memory(799)
        house = House(config=tiny_config(degradation={"enabled": False}), host=machine.host)
        result = await house.answer({**LONG, "input": "x" * 5000})
        assert (result.degraded, degradation_of(result)["reasons"]) == (False, [])
        assert "memoryPressureSources" not in degradation_of(result)
        assert degradation_of(result)["cgroupMemoryPressureRatio"] == 0.9988
        health = await house.runtime.health()
        assert (health.status, health.pressure.memory, health.pressure.cpu) == ("ok", False, False)
        gauges = house.gauges()
        assert (gauges["process.memory.pressure"], gauges["process.memory.cgroup_pressure"]) == (0, 1)

    asyncio.run(main())


def test_one_reading_is_judged_once() -> None:
    host = HostPressure(NOWHERE, FakeClock())
    shaper = Shaper(TINY, host)
    assert shaper.pressure() is shaper.pressure()
    assert shaper.pressure() == assess(host.read(), TINY.graceful_degradation)
