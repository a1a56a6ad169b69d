"""The OpenAI-compatible provider against a scripted backend."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from ray.errors import RayError
from ray.providers import Provider
from ray.types import Counts
from tests.fakes.llama_server import (
    Answer,
    FakeLlamaServer,
    body_answer,
    error_answer,
    json_answer,
    loading_answer,
    redirect_answer,
    stream_answer,
)
from tests.providers.setting import OPENAI, Whole, ask, backend, context_for, request_for, run

CHAT = "/v1/chat/completions"


def delta(content: object, reason: str | None = None) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": reason}]}


def whole(content: object, *, reason: str = "stop", usage: object = None, text: object = None) -> dict[str, object]:
    choice: dict[str, object] = {"message": {"content": content}, "finish_reason": reason}
    if text is not None:
        choice["text"] = text
    return {"choices": [choice], **({} if usage is None else {"usage": usage})}


def usage_of(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def test_given_a_request_when_sent_then_the_body_is_the_chat_protocol() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            await ask(provider, request_for("hi", system="be kind", seed=7, stop=("END",), max_tokens=9))
            assert fake.received(CHAT)[0].document == {
                "model": "fake-model",
                "stream": True,
                "stream_options": {"include_usage": True},
                "temperature": 0.2,
                "top_p": 0.95,
                "max_tokens": 9,
                "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}],
                "user": "req_1",
                "seed": 7,
                "stop": ["END"],
            }

    run(main())


def test_given_a_streaming_backend_when_asked_then_text_usage_and_timings_arrive() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.stop_type = "limit"
            answer = await ask(provider)
            assert answer.text == "Hello from the fake"
            assert answer.finish.reason == "length"
            assert answer.finish.tokens == Counts(3, 4, 7)
            assert answer.diagnostics.request_shape == "openai-chat"
            assert answer.diagnostics.timings is not None
            assert answer.diagnostics.timings.ttft_ms is not None
            assert answer.diagnostics.timings.completion_tokens_per_second == 50

    run(main())


def test_given_a_backend_in_mid_answer_when_a_token_is_sent_then_it_arrives_before_the_next() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.gate = asyncio.Event()
            context = context_for()
            chunks = provider.stream(await provider.prepare(request_for(), context), context)
            assert (await anext(chunks)).text == "Hello"
            fake.gate.set()
            assert "".join([chunk.text async for chunk in chunks]) == " from the fake"

    run(main())


def test_given_a_running_answer_when_its_reader_is_cancelled_then_the_backend_sees_it_leave() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.gate = asyncio.Event()
            task = asyncio.create_task(ask(provider))
            request = await fake.wait_for(CHAT)
            await fake.generating.wait()
            task.cancel()
            await asyncio.wait([task])
            await asyncio.wait_for(request.client_left.wait(), 30)

    run(main())


def test_given_a_running_answer_when_its_iterator_is_closed_then_the_backend_sees_it_leave() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.gate = asyncio.Event()
            context = context_for()
            chunks = provider.stream(await provider.prepare(request_for(), context), context)
            await anext(chunks)
            await chunks.aclose()  # type: ignore[attr-defined]
            await asyncio.wait_for(fake.received(CHAT)[0].client_left.wait(), 30)

    run(main())


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (whole("hello"), "hello"),
        (whole("  kept  "), "  kept  "),
        (whole("other", text="text wins"), "text wins"),
        (whole("other", text=""), "other"),
        (whole([None, {}, {"text": " hello"}, {"text": " world "}, {"text": 7}, "x"]), "hello world"),
    ],
)
def test_given_a_backend_that_ignores_streaming_when_asked_then_its_document_is_read(
    document: object, expected: str
) -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.script(CHAT, json_answer(document))
            assert (await ask(provider)).text == expected

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        json_answer(whole("")),
        json_answer(whole(None)),
        json_answer(whole([{"text": "  "}])),
        json_answer(whole([{"text": "x"}] * 513)),
        json_answer({"choices": []}),
        json_answer({"choices": "none"}),
        json_answer({}),
        json_answer(None),
        json_answer([]),
        body_answer(b"", 204, ""),
        body_answer(b'{"choices": [{"message": {"content": "x"}}]}', content_type="text/plain"),
        body_answer(b"{broken"),
        stream_answer(delta("a"), "not json", ended=False),
        stream_answer(delta("a")),
        stream_answer(),
        stream_answer(delta("", "stop"), done=True),
    ],
)
def test_given_no_usable_answer_when_asked_then_it_is_an_invalid_response(answer: Answer) -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.script(CHAT, answer)
            with pytest.raises(RayError) as caught:
                await ask(provider)
            assert (caught.value.code, caught.value.status) == ("provider_invalid_response", 502)

    run(main())


def test_given_a_model_that_only_reasons_when_asked_then_the_error_names_the_remedy() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            event = {"choices": [{"delta": {"reasoning_content": "hm"}, "finish_reason": "stop"}]}
            fake.script(CHAT, stream_answer(event, done=True))
            with pytest.raises(RayError, match="--reasoning off"):
                await ask(provider)

    run(main())


def test_given_a_stream_without_the_last_marker_when_a_reason_was_given_then_it_is_complete() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.script(CHAT, stream_answer(delta("a"), delta("b", "stop")))
            answer = await ask(provider)
            assert (answer.text, answer.finish.tokens) == ("ab", None)

    run(main())


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (
            stream_answer(delta("a"), {"error": {"code": 500, "message": "boom"}}, ended=False),
            "provider_upstream_error",
        ),
        (stream_answer(delta("a"), {"error": None}, ended=False), "provider_upstream_error"),
        (stream_answer(delta("a"), cut=True), "provider_request_failed"),
        (error_answer(500), "provider_upstream_error"),
    ],
)
def test_given_a_failure_in_mid_stream_when_asked_then_it_has_its_code(answer: Answer, code: str) -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.script(CHAT, answer)
            with pytest.raises(RayError) as caught:
                await ask(provider)
            assert caught.value.code == code

    run(main())


@pytest.mark.parametrize("answer", [json_answer(whole("x" * 8_193)), stream_answer(delta("x" * 8_193), ended=False)])
def test_given_an_answer_longer_than_its_tokens_allow_when_asked_then_it_is_refused(answer: Answer) -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.script(CHAT, answer)
            with pytest.raises(RayError) as caught:
                await ask(provider, request_for(max_tokens=1))
            assert caught.value.code == "provider_invalid_response"
            assert caught.value.details == {"maxChars": 8_192, "actualChars": 8_193}

    run(main())


async def ask_json(provider: Provider) -> Whole:
    return await ask(provider, request_for("classify", response_format="json_object"))


def test_given_json_mode_when_the_answer_is_an_object_then_it_comes_in_one_piece_without_repair() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.pieces = ['{"a"', ": 1}"]
            answer = await ask_json(provider)
            assert [chunk.text for chunk in answer.chunks] == ['{"a": 1}', ""]
            assert fake.received(CHAT)[0].document["response_format"] == {"type": "json_object"}
            assert len(fake.received(CHAT)) == 1
            assert answer.diagnostics.json_repair_attempted is None

    run(main())


def test_given_json_mode_when_the_answer_is_no_object_then_it_is_repaired_once_and_usage_is_summed() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            repaired = '{"intent":"positive"}'
            fake.script(
                CHAT,
                json_answer(whole("intent: positive", usage=usage_of(3, 4))),
                json_answer(whole(repaired, usage=usage_of(5, 2))),
            )
            answer = await ask_json(provider)
            assert answer.text == repaired
            assert answer.finish.tokens == Counts(8, 6, 14)
            assert (answer.diagnostics.json_repair_attempted, answer.diagnostics.json_repair_succeeded) == (True, True)
            repair = fake.received(CHAT)[1].document
            assert (repair["temperature"], repair["top_p"], repair["max_tokens"]) == (0.0, 1.0, 64)
            assert repair["response_format"] == {"type": "json_object"}
            assert "seed" not in repair
            assert "classify" in str(repair["messages"])
            assert "intent: positive" in str(repair["messages"])

    run(main())


def test_given_json_mode_when_the_repair_is_no_object_either_then_the_first_text_stands() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.script(CHAT, json_answer(whole("first")), json_answer(whole("second")))
            answer = await ask_json(provider)
            assert answer.text == "first"
            assert (answer.diagnostics.json_repair_attempted, answer.diagnostics.json_repair_succeeded) == (True, False)

    run(main())


def test_given_json_mode_when_the_repair_fails_then_the_request_fails() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.script(CHAT, json_answer(whole("first")), error_answer(500))
            with pytest.raises(RayError) as caught:
                await ask_json(provider)
            assert caught.value.code == "provider_upstream_error"

    run(main())


def test_given_json_mode_when_the_answer_was_cut_at_its_limit_then_there_is_no_repair() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.script(CHAT, json_answer(whole('{"a": ', reason="length")))
            answer = await ask_json(provider)
            assert (answer.text, answer.finish.reason) == ('{"a": ', "length")
            assert len(fake.received(CHAT)) == 1

    run(main())


def models(*names: object) -> Answer:
    return json_answer({"data": [{"id": name} for name in names]})


FOREIGN = [f"model-{number}" for number in range(12)]


@pytest.mark.parametrize(
    ("answers", "status", "probe"),
    [
        ({"/v1/models": models("fake-model")}, "ready", "/v1/models"),
        ({"/v1/models": models(*FOREIGN, "fake-model")}, "ready", "/v1/models"),
        ({"/v1/models": models("other")}, "unavailable", "/v1/models"),
        ({"/v1/models": models()}, "ready", "/health"),
        ({"/v1/models": models(7, "", "x" * 257)}, "ready", "/health"),
        ({"/v1/models": json_answer({"data": "none"})}, "ready", "/health"),
        ({"/v1/models": models(*["x"] * 4_097)}, "ready", "/health"),
        ({"/v1/models": error_answer(404)}, "ready", "/health"),
        ({"/v1/models": error_answer(404), "/health": body_answer(b"fine", 200, "text/plain")}, "ready", "/health"),
        ({"/v1/models": error_answer(404), "/health": error_answer(500)}, "unavailable", "/v1/models + /health"),
        ({"/v1/models": error_answer(401)}, "unavailable", "/v1/models"),
        ({"/v1/models": error_answer(403)}, "unavailable", "/v1/models"),
        ({"/v1/models": loading_answer(), "/health": loading_answer()}, "warming", "/v1/models"),
        ({"/v1/models": error_answer(404), "/health": loading_answer()}, "warming", "/health"),
        (
            {"/v1/models": redirect_answer("/y"), "/health": redirect_answer("/y")},
            "unavailable",
            "/v1/models + /health",
        ),
    ],
)
def test_given_a_backend_when_its_health_is_asked_then_the_status_is_honest(
    answers: Mapping[str, Answer], status: str, probe: str
) -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            for path, answer in answers.items():
                fake.always(path, answer)
            health = await provider.health()
            assert health.status == status
            assert health.details is not None
            assert health.details["probe"] == probe
            assert health.latency_ms is not None

    run(main())


def test_given_a_key_is_missing_when_health_is_asked_then_the_message_names_the_setting() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.api_key = "secret"
            health = await provider.health()
            assert health.status == "unavailable"
            assert "apiKeyEnv" in str(health.details)

    run(main())


def test_given_many_foreign_models_when_health_is_asked_then_ten_are_listed() -> None:
    async def main() -> None:
        async with backend(OPENAI) as (fake, provider):
            fake.always("/v1/models", models("x" * 257, *FOREIGN))
            details = (await provider.health()).details
            assert details is not None
            assert details["availableModels"] == FOREIGN[:10]
            assert details["availableModelsTruncated"] is True

    run(main())


def test_given_a_dead_backend_when_health_is_asked_then_it_is_unavailable_and_names_the_path_of_the_base_url() -> None:
    async def main() -> None:
        async with FakeLlamaServer() as fake:
            port_url = fake.base_url
        async with backend(OPENAI, adapter={"baseUrl": port_url + "/v1"}) as (_, provider):
            health = await provider.health()
            assert health.status == "unavailable"
            assert health.details is not None
            assert health.details["baseUrlPath"] == "/v1"
            assert "refused" in str(health.details["message"])

    run(main())
