"""The llama.cpp provider against a scripted llama-server: prompts, counts, completions, failures."""

from __future__ import annotations

import asyncio

import pytest

from ray.errors import RayError
from ray.providers import Preparation, Provider
from ray.types import Counts, InferenceRequest, Message
from tests.fakes.llama_server import (
    Answer,
    FakeLlamaServer,
    body_answer,
    context_exceeded_answer,
    cut_answer,
    error_answer,
    hanging_answer,
    json_answer,
    loading_answer,
    stream_answer,
    token_event,
)
from tests.providers.setting import ask, backend, context_for, request_for, run

OPERATIONAL = {
    "recommendedPromptFormat": "native-template",
    "supportsJsonMode": True,
    "tokensPerSecondTarget": 10,
    "memoryClassMiB": 4096,
    "preferredCtxSize": 2048,
    "chatTemplateKnown": True,
}


async def prepare(provider: Provider, request: InferenceRequest | None = None) -> Preparation:
    return await provider.prepare(request or request_for(), context_for())


def test_given_a_request_when_answered_then_text_usage_and_diagnostics_are_the_backends() -> None:
    async def main() -> None:
        async with backend() as (_, provider):
            answer = await ask(provider, request_for("Say hello now", system="be kind"))
            assert answer.text == "Hello from the fake"
            assert answer.finish.reason == "stop"
            assert answer.finish.tokens == Counts(6, 4, 10)
            found = answer.diagnostics
            assert (found.request_shape, found.prompt_format) == ("llama.cpp-completion", "llama.cpp-template")
            assert (found.model_ref, found.backend_model, found.total_slots) == ("fake-model", "fake-model", 2)
            assert (found.slot_id, found.tokens_cached, found.tokens_evaluated) == (0, 1, 6)
            assert (found.truncated, found.stop_type, found.context_window) == (False, "eos", 4096)
            assert found.timings is not None
            assert (found.timings.prompt_ms, found.timings.completion_ms) == (20, 40)
            assert found.timings.ttft_ms is not None
            assert found.timings.total_ms is not None
            assert found.timings.total_ms >= found.timings.ttft_ms

    run(main())


def test_given_a_request_when_sent_then_the_completion_names_no_slot_and_asks_for_few_fields() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            await ask(provider, request_for("hi", seed=7, stop=("END",), max_tokens=9))
            body = fake.received("/completion")[0].document
            assert body["prompt"] == "<user>hi\n<assistant>"
            assert (body["n_predict"], body["seed"], body["stop"]) == (9, 7, ["END"])
            assert (body["stream"], body["cache_prompt"]) == (True, True)
            assert (body["temperature"], body["top_p"]) == (0.2, 0.95)
            assert "timings" in list(body["response_fields"])  # type: ignore[call-overload]
            assert not {"id_slot", "json_schema", "model", "user"} & set(body)

    run(main())


def test_given_several_turns_when_prepared_then_the_template_gets_all_of_them() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            turns = (Message("system", ""), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
            await prepare(provider, InferenceRequest(turns, max_tokens=8))
            sent = fake.received("/apply-template")[-1].document
            assert sent["messages"] == [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "c"},
            ]
            assert sent["chat_template_kwargs"] == {"enable_thinking": False}

    run(main())


def test_given_json_mode_when_sent_then_a_grammar_holds_the_answer_and_the_chat_route_is_not_used() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.pieces = ['{"a"', ": 1", "}"]
            answer = await ask(provider, request_for(response_format="json_object"))
            assert answer.text == '{"a": 1}'
            assert fake.received("/completion")[0].document["json_schema"] == {"type": "object"}
            assert fake.received("/v1/chat/completions") == []

    run(main())


def test_given_json_mode_when_the_answer_is_cut_at_its_limit_then_it_is_reported_and_not_repaired() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.pieces, fake.stop_type = ['{"a": '], "limit"
            answer = await ask(provider, request_for(response_format="json_object"))
            assert (answer.finish.reason, answer.diagnostics.stop_type) == ("length", "limit")
            assert answer.diagnostics.json_repair_attempted is None
            assert len(fake.received("/completion")) == 1

    run(main())


@pytest.mark.parametrize(("slot", "sent"), [(1, 1), (2, None)])
def test_given_a_configured_slot_when_sent_then_it_is_named_only_if_it_exists(slot: int, sent: int | None) -> None:
    async def main() -> None:
        async with backend(adapter={"slotId": slot, "cachePrompt": False}) as (fake, provider):
            await ask(provider)
            body = fake.received("/completion")[0].document
            assert body.get("id_slot") == sent
            assert body["cache_prompt"] is False

    run(main())


def test_given_the_same_conversation_when_prepared_again_then_the_backend_is_not_asked_again() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            first = await prepare(provider, request_for("hi", max_tokens=5))
            asked = len(fake.requests)
            second = await prepare(provider, request_for("hi", max_tokens=9, response_format="json_object"))
            assert len(fake.requests) == asked
            assert (second.prompt, second.prompt_tokens) == (first.prompt, first.prompt_tokens)
            assert second.request.max_tokens == 9

    run(main())


def test_given_two_conversations_whose_texts_join_alike_when_prepared_then_they_stay_apart() -> None:
    async def main() -> None:
        async with backend() as (_, provider):
            one = await prepare(provider, request_for("b", system="a"))
            two = await prepare(provider, request_for("a:1:b"))
            three = await prepare(provider, request_for("", system="ab"))
            assert len({one.prompt, two.prompt, three.prompt}) == 3

    run(main())


def test_given_requests_at_the_same_time_when_prepared_then_the_backend_is_described_once() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            await asyncio.gather(*(prepare(provider, request_for(f"text {number}")) for number in range(4)))
            assert len(fake.received("/props")) == 1

    run(main())


def test_given_a_preparer_that_leaves_when_others_wait_for_the_same_reading_then_they_get_it() -> None:
    async def main() -> None:
        async with backend() as (_, provider):
            one, two = (asyncio.create_task(prepare(provider)) for _ in range(2))
            await asyncio.sleep(0)
            one.cancel()
            assert (await two).prompt_tokens
            assert one.cancelled()

    run(main())


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({"/apply-template": error_answer(404)}, "/apply-template endpoint is unavailable"),
        ({"/apply-template": error_answer(501)}, "/apply-template endpoint is unavailable"),
        ({"/apply-template": json_answer({"prompt": ""})}, "/apply-template endpoint is unavailable"),
        ({"/props": json_answer({"total_slots": 1})}, "no chat template"),
    ],
)
def test_given_no_usable_template_when_prepared_then_the_prompt_is_labelled_with_roles(
    answers: dict[str, Answer], why: str
) -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            for path, answer in answers.items():
                fake.always(path, answer)
            prepared = await prepare(provider, request_for("hi", system="be kind"))
            assert prepared.prompt == "System:\nbe kind\n\nUser:\nhi\n\nAssistant:"
            assert prepared.diagnostics is not None
            assert prepared.diagnostics.prompt_format == "ray-chat-fallback"
            assert why in str(prepared.diagnostics.prompt_format_reason)

    run(main())


@pytest.mark.parametrize("answer", [error_answer(400, "roles must alternate"), error_answer(500), json_answer({})])
def test_given_a_template_that_refuses_this_conversation_when_prepared_then_the_prompt_falls_back_once(
    answer: Answer,
) -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            await prepare(provider, request_for("warm"))
            fake.script("/apply-template", answer)
            refused = await prepare(provider, request_for("hi"))
            assert refused.prompt == "User:\nhi\n\nAssistant:"
            # The failure was this conversation's, or passing: it is not remembered.
            assert (await prepare(provider, request_for("hi"))).prompt == "<user>hi\n<assistant>"

    run(main())


@pytest.mark.parametrize(
    ("answer", "code", "status"),
    [
        (loading_answer(), "provider_upstream_error", 503),
        (error_answer(401), "provider_upstream_error", 502),
        (cut_answer(), "provider_request_failed", 502),
    ],
)
def test_given_a_backend_that_could_not_answer_either_when_prepared_then_the_error_is_the_answer(
    answer: Answer, code: str, status: int
) -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            await prepare(provider, request_for("warm"))
            fake.script("/apply-template", answer)
            with pytest.raises(RayError) as caught:
                await prepare(provider, request_for("hi"))
            assert (caught.value.code, caught.value.status) == (code, status)

    run(main())


def test_given_a_plain_completion_model_when_prepared_then_the_texts_are_only_joined() -> None:
    async def main() -> None:
        operational = {**OPERATIONAL, "recommendedPromptFormat": "plain-completion"}
        async with backend(model={"operational": operational}) as (_, provider):
            prepared = await prepare(provider, request_for("hi", system="be kind"))
            assert prepared.prompt == "be kind\n\nhi"

    run(main())


def test_given_a_client_that_names_a_prompt_format_when_prepared_then_it_is_ignored() -> None:
    async def main() -> None:
        async with backend() as (_, provider):
            prepared = await prepare(provider, request_for("hi", metadata={"rayPromptFormat": "ray-chat-fallback"}))
            assert prepared.prompt == "<user>hi\n<assistant>"

    run(main())


@pytest.mark.parametrize("answer", [error_answer(500), json_answer({"tokens": 3}), cut_answer(), body_answer(b"{")])
def test_given_no_tokenizer_when_prepared_then_the_count_is_estimated_and_not_remembered(answer: Answer) -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.script("/tokenize", answer)
            estimated = await prepare(provider, request_for("x" * 80))
            assert estimated.prompt_tokens == -(-len(estimated.prompt or "") // 3)
            assert (await prepare(provider, request_for("x" * 80))).prompt_tokens == 2

    run(main())


def test_given_an_answer_that_evaluated_more_than_counted_when_prepared_later_then_the_difference_is_added() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.last_event = {"tokens_evaluated": 4}
            assert (await prepare(provider, request_for("one two"))).prompt_tokens == 3
            await ask(provider, request_for("one two"))
            assert (await prepare(provider, request_for("one two"))).prompt_tokens == 4
            assert (await prepare(provider, request_for("one two three"))).prompt_tokens == 5

    run(main())


def test_given_an_answer_to_a_wholly_other_count_when_prepared_later_then_nothing_is_learned() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.last_event = {"tokens_evaluated": 900}
            await ask(provider, request_for("one two"))
            assert (await prepare(provider, request_for("one two"))).prompt_tokens == 3

    run(main())


def test_given_a_backend_restarted_with_another_model_when_prepared_then_nothing_old_is_used() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            old = await prepare(provider, request_for("hi"))
            await fake.stop()
            with pytest.raises(RayError) as caught:
                await ask(provider, request_for("hi"))
            assert caught.value.code == "provider_request_failed"
            fake.props["model_path"] = "/models/other.gguf"
            fake.always("/apply-template", json_answer({"prompt": "new template"}))
            fake.always("/tokenize", json_answer({"tokens": [1] * 9}))
            await fake.start()
            new = await prepare(provider, request_for("hi"))
            assert old.prompt == "<user>hi\n<assistant>"
            assert (new.prompt, new.prompt_tokens) == ("new template", 9)

    run(main())


def test_given_another_model_with_the_same_chat_template_when_prepared_then_its_own_tokens_are_counted() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            old = await prepare(provider, request_for("hi"))
            fake.props["model_path"] = "/models/other.gguf"
            fake.always("/tokenize", json_answer({"tokens": [1] * 9}))
            await provider.health()
            new = await prepare(provider, request_for("hi"))
            assert (new.prompt, new.prompt_tokens) == (old.prompt, 9)

    run(main())


@pytest.mark.parametrize(
    ("window", "expected"), [(8_193, 8_192), (8_192, 8_192), (512, 512), (0, 8_192), (-1, 8_192), ("x", 8_192)]
)
def test_given_a_window_of_the_backend_when_prepared_then_at_most_the_configured_one_is_believed(
    window: object, expected: int
) -> None:
    async def main() -> None:
        async with backend(model={"contextWindow": 8_192}) as (fake, provider):
            fake.props["default_generation_settings"] = {"n_ctx": window}
            assert (await prepare(provider)).context_window == expected

    run(main())


def test_given_unusable_figures_when_answered_then_they_are_left_out() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.last_event = {
                "timings": {"cache_n": -1, "prompt_n": -1, "prompt_ms": -1, "predicted_n": -1, "predicted_ms": -1},
                "tokens_predicted": -5,
                "tokens_evaluated": -3,
                "id_slot": -1,
                "truncated": "yes",
                "stop_type": 7,
            }
            answer = await ask(provider, request_for("one two three"))
            assert answer.finish.tokens == Counts(4, 0, 4)
            found = answer.diagnostics
            assert (found.slot_id, found.tokens_cached, found.tokens_evaluated) == (None, None, None)
            assert (found.truncated, found.stop_type) == (None, None)
            assert found.timings is not None
            assert found.timings.prompt_ms is None

    run(main())


def test_given_no_figures_at_all_when_answered_then_the_prepared_count_stands() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.last_event = {"timings": None, "tokens_predicted": None, "tokens_evaluated": None, "stop_type": None}
            answer = await ask(provider, request_for("one two three"))
            assert (answer.text, answer.finish.tokens) == ("Hello from the fake", Counts(4, 0, 4))

    run(main())


def test_given_a_model_that_says_nothing_when_answered_then_the_empty_text_is_an_answer() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.pieces = []
            answer = await ask(provider)
            assert (answer.text, answer.finish.reason) == ("", "stop")

    run(main())


def last_event(**more: object) -> dict[str, object]:
    return {"content": "", "stop": True, "stop_type": "eos", "tokens_predicted": 1, **more}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (stream_answer(token_event("a"), cut=True), "provider_request_failed"),
        (stream_answer(token_event("a")), "provider_invalid_response"),
        (stream_answer(), "provider_invalid_response"),
        (stream_answer(token_event("a"), "garbage", ended=False), "provider_invalid_response"),
        (stream_answer(token_event("a"), "[1, 2]", ended=False), "provider_invalid_response"),
        (stream_answer(token_event("a"), {"stop": False}, ended=False), "provider_invalid_response"),
        (stream_answer({"content": 7, "stop": False}, ended=False), "provider_invalid_response"),
        (stream_answer(token_event("a"), {"error": {"code": 500, "message": "x"}}), "provider_upstream_error"),
        (stream_answer(token_event("x" * 8_193), ended=False), "provider_result_invalid"),
        (stream_answer("x" * 1_100_000, ended=False), "provider_invalid_response"),
        (json_answer(None), "provider_invalid_response"),
        (body_answer(b"", 204, ""), "provider_invalid_response"),
        (body_answer(b"<html>", 200, "text/html"), "provider_invalid_response"),
        (body_answer(b"x" * 1_048_577), "provider_response_too_large"),
        (error_answer(500), "provider_upstream_error"),
        (context_exceeded_answer(900, 512), "request_context_window_exceeded"),
        (cut_answer(reset=True), "provider_request_failed"),
    ],
)
def test_given_a_failing_completion_when_answered_then_it_has_its_code(answer: Answer, code: str) -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.script("/completion", answer)
            with pytest.raises(RayError) as caught:
                await ask(provider, request_for(max_tokens=1))
            assert caught.value.code == code

    run(main())


def test_given_an_answer_in_one_document_when_answered_then_it_is_read() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.script("/completion", json_answer({**last_event(), "content": "whole"}))
            assert (await ask(provider)).text == "whole"

    run(main())


def test_given_the_last_event_when_the_server_keeps_the_stream_open_then_the_answer_is_complete_anyway() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.script("/completion", stream_answer(token_event("a"), last_event(), ended=False))
            assert (await ask(provider)).text == "a"

    run(main())


def test_given_a_silent_completion_when_the_adapters_time_is_over_then_it_is_a_provider_timeout() -> None:
    async def main() -> None:
        async with backend(adapter={"timeoutMs": 250}) as (fake, provider):
            fake.script("/completion", hanging_answer())
            with pytest.raises(RayError) as caught:
                await ask(provider)
            assert caught.value.code == "provider_timeout"

    run(main())


def test_given_a_completion_in_progress_when_its_reader_is_cancelled_then_the_backend_sees_it_leave() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.gate = asyncio.Event()
            task = asyncio.create_task(ask(provider))
            request = await fake.wait_for("/completion")
            await fake.generating.wait()
            task.cancel()
            await asyncio.wait([task])
            await asyncio.wait_for(request.client_left.wait(), 30)

    run(main())


def test_given_a_backend_that_dies_in_mid_answer_when_answered_then_the_failure_comes_at_once() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.gate = asyncio.Event()
            context = context_for()
            chunks = provider.stream(await prepare(provider), context)
            assert (await anext(chunks)).text == "Hello"
            await fake.stop()
            with pytest.raises(RayError) as caught:
                await anext(chunks)
            assert caught.value.code == "provider_request_failed"
            await fake.start()

    run(main())


def test_given_a_preparation_without_a_prompt_when_generated_then_it_is_refused() -> None:
    async def main() -> None:
        async with backend() as (_, provider):
            with pytest.raises(RayError) as caught:
                await anext(provider.stream(Preparation(request_for()), context_for()))
            assert (caught.value.code, caught.value.status) == ("provider_invalid_response", 500)

    run(main())


def test_given_warm_up_requests_when_warmed_then_the_server_is_asked_what_it_can_do_and_nothing_is_generated() -> None:
    async def main() -> None:
        async with backend(adapter={"warmupRequests": [{"input": "one"}]}) as (fake, provider):
            await provider.warm()
            assert (len(fake.received("/props")), fake.received("/completion")) == (1, [])

    run(main())


def test_given_a_reading_under_way_when_closed_then_who_waits_for_it_still_gets_a_verdict() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.always("/props", hanging_answer())
            task = asyncio.create_task(provider.health())
            await fake.wait_for("/props")
            await provider.close()
            assert (await task).status in ("degraded", "unavailable")

    run(main())


def test_given_a_provider_in_use_when_closed_then_what_runs_is_ended() -> None:
    async def main() -> None:
        async with FakeLlamaServer() as fake, backend(adapter={"baseUrl": fake.base_url}) as (_, provider):
            fake.gate = asyncio.Event()
            task = asyncio.create_task(ask(provider))
            await fake.wait_for("/completion")
            await provider.close()
            with pytest.raises(RayError):
                await task

    run(main())
