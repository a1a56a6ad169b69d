"""The OpenAI-compatible routes: guards, errors in their shape, streams, and what the pipeline is asked for."""

from __future__ import annotations

import asyncio
import json
import struct
from base64 import b64decode
from collections.abc import Mapping

import pytest

from ray.errors import RayError
from ray.gateway import answer_events
from ray.http import SseDecoder
from ray.types import Chunk, Counts, Finish, PrefixUse, ProviderDiagnostics, TokenLogprob, ToolCall, ToolCallPart
from tests.fakes.provider import STOP, FakeProvider
from tests.gateway.harness import Reply, request_bytes, running, soon

JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"
HELLO: dict[str, object] = {"messages": [{"role": "user", "content": "hello"}]}
PROMPT: dict[str, object] = {"prompt": "Once"}
STREAMED = {**HELLO, "stream": True}
KEYS = {"RAY_API_KEYS": "sesame"}
COUNTED = Finish("length", Counts.of(9, 2), ProviderDiagnostics(tokens_cached=7, prefix=PrefixUse("hot", 5)))


def error_of(reply: Reply) -> dict[str, object]:
    """The error of an answer, whose shape is checked on the way."""
    error = reply.json()["error"]
    assert isinstance(error, dict)
    assert list(error) == ["message", "type", "param", "code"]
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert reply.headers["x-request-id"]
    return error


def chunks_of(reply: Reply) -> list[dict[str, object]]:
    """The chunks of a stream that ended as it should."""
    *data, done = [data for _, data in SseDecoder().feed(reply.body)]
    assert done == "[DONE]"
    return [json.loads(chunk) for chunk in data]


def choice_of(document: Mapping[str, object]) -> dict[str, object]:
    choices = document["choices"]
    assert isinstance(choices, list)
    (choice,) = choices
    assert isinstance(choice, dict)
    return choice


def test_given_a_chat_when_asked_then_one_completion_with_usage_and_what_ray_did() -> None:
    async def main() -> None:
        async with running(provider=FakeProvider(["Hel", "lo", COUNTED])) as ray:
            reply = await ray.post(CHAT, HELLO, {"x-request-id": "mine-1"})
            document = reply.json()
            assert (reply.status, reply.headers["x-request-id"]) == (200, "mine-1")
            assert (document["object"], document["model"]) == ("chat.completion", "fake-model")
            assert str(document["id"]).startswith("chatcmpl-")
            assert choice_of(document) == {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "length",
            }
            assert document["usage"] == {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "total_tokens": 11,
                "prompt_tokens_details": {"cached_tokens": 7},
            }
            told = document["ray"]
            assert isinstance(told, dict)
            assert (told["degraded"], told["prefix"]) == (False, {"state": "hot", "tokensReused": 5})
            assert "x-ray-degraded" not in reply.headers

    asyncio.run(main())


def test_given_a_conversation_when_asked_then_the_pipeline_gets_all_its_turns_and_fields() -> None:
    async def main() -> None:
        provider = FakeProvider(["ok", STOP])
        async with running(provider=provider) as ray:
            call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            turns = [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "one"}]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": "2"},
            ]
            tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
            reply = await ray.post(CHAT, {"messages": turns, "tools": tools, "tool_choice": "auto", "seed": 3})
            assert reply.status == 200, reply.body
            (request,) = provider.streamed
            assert [message.role for message in request.messages] == ["system", "user", "assistant", "tool"]
            assert request.messages[2].tool_calls == (ToolCall("c1", "f", "{}"),)
            assert (json.loads(request.tools or ""), request.tool_choice, request.seed) == (tools, '"auto"', 3)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "body", "kind", "prefix"),
    [(CHAT, HELLO, "chat.completion.chunk", "chatcmpl-"), ("/v1/completions", PROMPT, "text_completion", "cmpl-")],
)
def test_given_stream_when_asked_then_chunks_of_one_answer_and_done(
    path: str, body: dict[str, object], kind: str, prefix: str
) -> None:
    async def main() -> None:
        async with running(provider=FakeProvider(["Grü", "ße\n🐍", COUNTED])) as ray:
            reply = await ray.post(path, {**body, "stream": True, "stream_options": {"include_usage": True}})
            assert reply.status == 200
            assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert reply.headers["x-accel-buffering"] == "no"
            *chunks, usage = chunks_of(reply)
            assert {(chunk["object"], chunk["id"], chunk["model"], chunk["created"]) for chunk in chunks} == {
                (kind, usage["id"], "fake-model", usage["created"])
            }
            assert str(usage["id"]).startswith(prefix)
            texts = []
            for choice in map(choice_of, chunks):
                delta = choice.get("delta", {"content": choice.get("text")})
                assert isinstance(delta, dict)
                texts.append(delta.get("content") or "")
            assert "".join(texts) == "Grüße\n🐍"
            assert choice_of(chunks[-1])["finish_reason"] == "length"
            assert isinstance(chunks[-1]["ray"], dict)
            assert isinstance(usage["usage"], dict)
            assert usage["usage"]["total_tokens"] == 11

    asyncio.run(main())


def test_given_tool_calls_when_asked_whole_and_streamed_then_both_tell_the_same() -> None:
    async def main() -> None:
        pieces = (
            Chunk(tool_calls=(ToolCallPart(0, "c1", "weather", ""),)),
            Chunk(tool_calls=(ToolCallPart(0, arguments='{"city":'),)),
            Chunk(tool_calls=(ToolCallPart(0, arguments='"Bern"}'),)),
            Finish("tool_calls"),
        )
        async with running(provider=FakeProvider(pieces)) as ray:
            whole = choice_of((await ray.post(CHAT, {**HELLO, "cache": False})).json())
            message = whole["message"]
            assert isinstance(message, dict)
            function = {"name": "weather", "arguments": '{"city":"Bern"}'}
            assert message["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]
            assert (message["content"], whole["finish_reason"]) == (None, "tool_calls")

            choices = list(map(choice_of, chunks_of(await ray.post(CHAT, {**STREAMED, "cache": False}))))
            arguments = ""
            for choice in choices:
                delta = choice["delta"]
                assert isinstance(delta, dict)
                for part in delta.get("tool_calls", ()):
                    arguments += part["function"]["arguments"]
            assert (arguments, choices[-1]["finish_reason"]) == (function["arguments"], "tool_calls")

    asyncio.run(main())


def test_given_a_cached_answer_with_calls_and_probabilities_when_streamed_then_nothing_is_lost() -> None:
    async def main() -> None:
        script = (
            Chunk("Hm.", logprobs=(TokenLogprob("Hm.", -0.5),)),
            Chunk(tool_calls=(ToolCallPart(0, "c1", "weather", "{}"),)),
            Finish("tool_calls"),
        )
        body = {**HELLO, "logprobs": True}
        async with running(provider=FakeProvider(script)) as ray:
            await ray.post(CHAT, body)
            chunks = chunks_of(await ray.post(CHAT, {**body, "stream": True}))
            told = chunks[-1]["ray"]
            assert isinstance(told, dict)
            assert told["cached"] is True
            deltas = json.dumps(chunks)
            assert '"content": "Hm."' in deltas
            assert '"name": "weather"' in deltas
            assert '"logprob": -0.5' in deltas

    asyncio.run(main())


def test_given_a_prompt_when_completed_then_the_text_and_a_raw_request() -> None:
    async def main() -> None:
        provider = FakeProvider([" upon a time", STOP])
        async with running(provider=provider) as ray:
            document = (await ray.post("/v1/completions", {**PROMPT, "max_tokens": 5})).json()
            assert (document["object"], choice_of(document)["text"]) == ("text_completion", " upon a time")
            assert str(document["id"]).startswith("cmpl-")
            (request,) = provider.streamed
            assert (request.is_raw, request.max_tokens, request.prompt_chars) == (True, 5, 4)

    asyncio.run(main())


def test_given_a_long_prompt_when_it_is_shortened_then_header_and_answer_say_so() -> None:
    async def main() -> None:
        settings: dict[str, object] = {"gracefulDegradation": {"enabled": True, "maxPromptChars": 200}}
        long = {"messages": [{"role": "user", "content": "word " * 200}]}
        async with running(settings, provider=FakeProvider(["ok", STOP])) as ray:
            whole = await ray.post(CHAT, long)
            assert whole.headers["x-ray-degraded"] == "prompt_length"
            told = whole.json()["ray"]
            assert isinstance(told, dict)
            assert (told["degraded"], told["reasons"]) == (True, ["prompt_length"])
            streamed = await ray.post(CHAT, {**long, "stream": True})
            assert streamed.headers["x-ray-degraded"] == "prompt_length"
            assert chunks_of(streamed)[-1]["ray"] == {**told, "queueTimeMs": 0}

    asyncio.run(main())


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings"])
def test_given_an_unknown_model_when_asked_then_404_names_it(path: str) -> None:
    async def main() -> None:
        provider = FakeProvider()
        async with running(provider=provider) as ray:
            body = {"model": "gpt-5", "messages": HELLO["messages"], "prompt": "x", "input": "x"}
            reply = await ray.post(path, body)
            error = error_of(reply)
            assert reply.status == 404
            assert (error["code"], error["param"], error["type"]) == (
                "model_not_found",
                "model",
                "invalid_request_error",
            )
            assert "gpt-5" in str(error["message"])
            assert provider.prepared == []

    asyncio.run(main())


def test_given_the_configured_id_or_an_alias_when_asked_then_it_is_the_same_model() -> None:
    async def main() -> None:
        settings: dict[str, object] = {
            "profile": "sub1b",
            "model": {
                "id": "org/tiny model",
                "adapter": {"kind": "llama.cpp", "modelRef": "tiny.gguf", "launchProfile": {"alias": "tiny"}},
            },
        }
        async with running(settings, provider=FakeProvider(["ok", STOP])) as ray:
            listed = (await ray.ask("GET", "/v1/models")).json()
            assert listed["object"] == "list"
            data = listed["data"]
            assert isinstance(data, list)
            (model,) = data
            assert (model["id"], model["object"], model["owned_by"]) == ("org/tiny model", "model", "ray")
            assert {"tiny.gguf", "tiny"} <= set(model["ray"]["aliases"])
            assert model["ray"]["contextWindow"] > 0
            for name in ("org/tiny model", "tiny", "tiny.gguf"):
                assert (await ray.post(CHAT, {**HELLO, "model": name})).status == 200
            for path in ("org/tiny%20model", "org%2Ftiny%20model", "tiny"):
                reply = await ray.ask("GET", f"/v1/models/{path}")
                assert (reply.status, reply.json()) == (200, model), path
            for path in ("gpt-5", "org", "tiny/", "%FF%FE"):
                reply = await ray.ask("GET", f"/v1/models/{path}")
                assert (reply.status, error_of(reply)["code"]) == (404, "model_not_found")
            assert (await ray.ask("HEAD", "/v1/models")).status == 200

    asyncio.run(main())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x-api-key": "sesame"}, 401),
        ({"api-key": "sesame"}, 401),
        ({"authorization": "sesame"}, 401),
        ({"authorization": "Basic sesame"}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Bearer sesame"}, 200),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", CHAT), ("GET", "/v1/models"), ("GET", "/v1/models/x")])
def test_given_keys_when_one_is_missing_wrong_or_in_another_header_then_401_in_their_shape(
    method: str, path: str, headers: dict[str, str], status: int
) -> None:
    async def main() -> None:
        async with running({"auth": {"enabled": True}}, environ=KEYS) as ray:
            body = json.dumps(HELLO).encode() if method == "POST" else None
            reply = await ray.ask(method, path, headers={**JSON, **headers}, body=body)
            if path.endswith("/x") and status == 200:
                assert reply.status == 404
                return
            assert reply.status == status
            if status == 401:
                error = error_of(reply)
                assert (error["type"], error["code"]) == ("authentication_error", "unauthorized")
                assert reply.headers["www-authenticate"] == 'Bearer realm="ray"'
                assert "sesame" not in ray.log.getvalue()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "code"),
    [
        ("GET", CHAT, {}, None, 405, "method_not_allowed"),
        ("DELETE", "/v1/models/x", {}, None, 405, "method_not_allowed"),
        ("POST", CHAT, {"content-type": "text/plain"}, b"{}", 415, "unsupported_media_type"),
        ("POST", CHAT, {**JSON, "content-encoding": "gzip"}, b"{}", 415, "unsupported_content_encoding"),
        ("POST", CHAT, {**JSON, "content-length": "9999999"}, b"{}", 413, "body_too_large"),
        ("POST", CHAT, {**JSON, "expect": "200-ok"}, b"{}", 417, "unsupported_expectation"),
        ("POST", CHAT, JSON, b"{", 400, "invalid_json"),
        ("POST", CHAT, JSON, b'{"messages": "\xff"}', 400, "invalid_json"),
        ("POST", CHAT, JSON, b'{"messages":' + b"[" * 30_000 + b"]" * 30_000 + b"}", 413, "body_too_large"),
        ("POST", CHAT, JSON, b"[]", 400, "invalid_request"),
        ("POST", CHAT, JSON, b"", 400, "invalid_request"),
        ("POST", "/v1/embeddings", JSON, b"{}", 400, "invalid_request"),
    ],
)
def test_given_a_request_that_fails_before_or_in_the_route_when_refused_then_in_their_shape(
    method: str, path: str, headers: dict[str, str], body: bytes | None, status: int, code: str
) -> None:
    async def main() -> None:
        async with running() as ray:
            reply = await ray.ask(method, path, headers=headers, body=body)
            assert (reply.status, error_of(reply)["code"]) == (status, code)
            if status == 405:
                assert reply.headers["allow"]

    asyncio.run(main())


def test_given_a_tool_schema_of_a_mebibyte_when_sent_then_413_or_400_and_the_gateway_answers_on() -> None:
    async def main() -> None:
        schema = {"type": "object", "description": "x" * 1_048_000}
        tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
        async with running() as ray:
            reply = await ray.post(CHAT, {**HELLO, "tools": tools})
            assert (reply.status, error_of(reply)["code"]) == (413, "body_too_large")
        async with running({"server": {"requestBodyLimitBytes": 1_048_576}}) as ray:
            reply = await ray.post(CHAT, {**HELLO, "tools": tools})
            assert (reply.status, error_of(reply)["param"]) == (400, "tools[0].function.parameters")
            nested = b'{"tools":' + b'[{"a":' * 100_000
            reply = await ray.ask("POST", CHAT, headers=JSON, body=nested)
            assert (reply.status, error_of(reply)["code"]) == (400, "invalid_json")
            assert (await ray.post(CHAT, HELLO)).status == 200

    asyncio.run(main())


def test_given_one_request_per_window_when_exceeded_then_429_with_retry_after_in_their_shape() -> None:
    async def main() -> None:
        settings: dict[str, object] = {"rateLimit": {"enabled": True, "windowMs": 60_000, "maxRequests": 1}}
        async with running(settings) as ray:
            assert (await ray.post(CHAT, HELLO)).status == 200
            reply = await ray.post(CHAT, HELLO)
            error = error_of(reply)
            assert (reply.status, error["type"], error["code"]) == (429, "rate_limit_error", "rate_limited")
            assert int(reply.headers["retry-after"]) >= 1
            assert (await ray.ask("GET", "/v1/models")).status == 200

    asyncio.run(main())


def test_given_a_gateway_that_stops_when_asked_then_503_in_their_shape() -> None:
    async def main() -> None:
        async with running() as ray:
            ray.gateway.draining = True
            reply = await ray.post(CHAT, HELLO)
            assert (reply.status, error_of(reply)["code"]) == (503, "gateway_draining")
            assert reply.headers["retry-after"] == "1"

    asyncio.run(main())


def test_given_a_model_that_never_answers_when_the_deadline_passes_then_504_in_their_shape() -> None:
    async def main() -> None:
        settings: dict[str, object] = {"scheduler": {"requestTimeoutMs": 30, "batchWindowMs": 0}}
        async with running(settings, provider=FakeProvider([asyncio.Event(), STOP])) as ray:
            for body in (HELLO, STREAMED):
                reply = await ray.post(CHAT, body)
                assert (reply.status, error_of(reply)["code"]) == (504, "request_timeout")
                assert reply.headers["retry-after"] == "5"
            assert not ray.lines("request rejected"), "one line per failure"

    asyncio.run(main())


@pytest.mark.parametrize(("path", "body"), [(CHAT, HELLO), ("/v1/completions", PROMPT)])
def test_given_a_backend_that_breaks_when_streamed_then_before_the_first_token_http_and_after_it_an_error_event(
    path: str, body: dict[str, object]
) -> None:
    async def main() -> None:
        failure = RayError("provider_request_failed", "the backend went away")
        provider = FakeProvider([failure], ["Hel", failure])
        async with running(provider=provider) as ray:
            reply = await ray.post(path, {**body, "stream": True})
            assert (reply.status, error_of(reply)["code"]) == (502, "provider_request_failed")
            reply = await ray.post(path, {**body, "stream": True})
            assert reply.status == 200
            data = [data for _, data in SseDecoder().feed(reply.body)]
            assert json.loads(data[-1]) == {
                "error": {
                    "message": "the backend went away",
                    "type": "server_error",
                    "param": None,
                    "code": "provider_request_failed",
                }
            }
            assert "[DONE]" not in data

    asyncio.run(main())


def test_given_the_deadline_in_mid_stream_when_streamed_then_the_last_event_says_so() -> None:
    async def main() -> None:
        settings: dict[str, object] = {"scheduler": {"requestTimeoutMs": 1_000, "batchWindowMs": 0}}
        async with running(settings, provider=FakeProvider(["Hel", asyncio.Event(), STOP])) as ray:
            reply = await ray.post(CHAT, STREAMED)
            last = json.loads(SseDecoder().feed(reply.body)[-1][1])
            assert (reply.status, last["error"]["code"]) == (200, "request_timeout")

    asyncio.run(main())


def test_given_a_silent_model_when_streamed_then_a_comment_keeps_the_stream_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        monkeypatch.setattr(answer_events, "KEEP_ALIVE_SECONDS", 0.01)
        gate = asyncio.Event()
        provider = FakeProvider(["Hel", gate, "lo", STOP])
        async with running(provider=provider) as ray, ray.connect() as client:
            await client.send(request_bytes("POST", CHAT, headers=JSON, body=json.dumps(STREAMED).encode()))
            await client.head()
            while not (await client.piece()).startswith(b":"):
                pass
            gate.set()
            rest = b""
            while piece := await client.piece():
                rest += piece
            assert rest.endswith(b"data: [DONE]\n\n")

    asyncio.run(main())


@pytest.mark.parametrize("body", [HELLO, STREAMED])
@pytest.mark.parametrize("first_token", [True, False])
def test_given_a_client_that_leaves_when_nobody_else_reads_then_the_work_is_cancelled(
    body: dict[str, object], first_token: bool
) -> None:
    async def main() -> None:
        never = asyncio.Event()
        provider = FakeProvider(["Hel", never, STOP] if first_token else [never, STOP])
        async with running(provider=provider) as ray:
            async with ray.connect() as client:
                posting = asyncio.ensure_future(client.post(CHAT, body))
                await soon(lambda: provider.active == 1)
                posting.cancel()
                await asyncio.wait([posting])
            await soon(lambda: provider.active == 0)
            assert provider.cancelled == 1

    asyncio.run(main())


def test_given_texts_when_embedded_then_vectors_in_either_encoding() -> None:
    async def main() -> None:
        async with running() as ray:
            plain = (await ray.post("/v1/embeddings", {"input": ["a", "b"]})).json()
            packed = (await ray.post("/v1/embeddings", {"input": "a", "encoding_format": "base64"})).json()
            assert (plain["object"], plain["model"]) == ("list", ray.gateway.config.model.id)
            vectors, texts = plain["data"], packed["data"]
            assert isinstance(vectors, list)
            assert isinstance(texts, list)
            assert [entry["index"] for entry in vectors] == [0, 1]
            unpacked = struct.unpack(f"<{len(vectors[0]['embedding'])}f", b64decode(texts[0]["embedding"]))
            assert unpacked == pytest.approx(vectors[0]["embedding"], abs=1e-6)

    asyncio.run(main())


def test_given_a_backend_without_embeddings_when_asked_then_501_that_need_not_be_repeated() -> None:
    async def main() -> None:
        provider = FakeProvider()
        provider.embed_steps = [RayError("embeddings_unsupported", "start llama-server with --embeddings")]
        async with running(provider=provider) as ray:
            reply = await ray.post("/v1/embeddings", {"input": "a"})
            error = error_of(reply)
            assert (reply.status, error["code"]) == (501, "embeddings_unsupported")
            assert reply.headers["x-should-retry"] == "false"
            assert "--embeddings" in str(error["message"])

    asyncio.run(main())


def test_given_an_equal_question_on_v1_infer_when_asked_as_a_chat_then_its_cached_answer_is_found() -> None:
    async def main() -> None:
        provider = FakeProvider(["Hello", STOP])
        async with running(provider=provider) as ray:
            await ray.post("/v1/infer", {"system": "Be brief.", "input": "hello"})
            turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
            told = (await ray.post(CHAT, {"messages": turns})).json()["ray"]
            assert isinstance(told, dict)
            assert told["cached"] is True
            again = await ray.post(CHAT, {"messages": turns, "cache": False})
            assert len(provider.streamed) == 2
            assert again.status == 200

    asyncio.run(main())
