"""Answers as OpenAI clients read them."""

from __future__ import annotations

import json
import struct
from base64 import b64decode
from dataclasses import replace

import pytest

from ray.errors import RayError
from ray.gateway.openai.documents import (
    Identity,
    chat_chunk,
    chat_completion,
    completion,
    completion_logprobs,
    embeddings_document,
    usage_document,
)
from ray.gateway.openai.errors import error_document
from ray.gateway.openai.events import ChatEvents, CompletionEvents, chunk_event
from ray.http import SseDecoder
from ray.types import (
    Chunk,
    Counts,
    Diagnostics,
    Embeddings,
    Finish,
    InferenceResult,
    PrefixUse,
    ProviderDiagnostics,
    TokenLogprob,
    ToolCall,
    ToolCallPart,
    Usage,
)

IDENTITY = Identity("chatcmpl-1", "m", 1_700_000_000)
PROVIDER = ProviderDiagnostics(tokens_cached=12, prefix=PrefixUse("hot", 9))
RESULT = InferenceResult(
    id="req_1",
    model="m",
    output="Hello",
    usage=Usage(Counts.of(5, 5), Counts.of(20, 3)),
    cached=False,
    deduplicated=True,
    queue_time_ms=4,
    latency_ms=50,
    degraded=True,
    finish_reason="length",
    diagnostics=Diagnostics(degradation={"applied": True, "reasons": ["queue_depth"]}, provider=PROVIDER),
    created_at="2026-11-21T17:20:01.482Z",
)
LOGPROBS = (
    TokenLogprob("Hel", -0.5, (TokenLogprob("Hel", -0.5), TokenLogprob("Ha", -2.0))),
    TokenLogprob("\ufffd", -1.0),
)
RAY = {
    "degraded": True,
    "reasons": ["queue_depth"],
    "cached": False,
    "deduplicated": True,
    "queueTimeMs": 4,
    "prefix": {"state": "hot", "tokensReused": 9},
}
USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 3,
    "total_tokens": 23,
    "prompt_tokens_details": {"cached_tokens": 12},
}


def choice_of(document: dict[str, object]) -> dict[str, object]:
    """The one choice of a completion."""
    choices = document["choices"]
    assert isinstance(choices, list)
    (choice,) = choices
    assert isinstance(choice, dict)
    return choice


def data_of(stream: bytes) -> list[object]:
    """The data of a stream of unnamed events; `[DONE]` as it is."""
    events = SseDecoder().feed(stream)
    assert all(name in (None, "message") for name, _ in events)
    return [data if data == "[DONE]" else json.loads(data) for _, data in events]


def test_given_an_answer_when_written_as_a_chat_then_usage_finish_and_what_ray_did_are_told() -> None:
    assert chat_completion(IDENTITY, RESULT) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "length",
            }
        ],
        "usage": USAGE,
        "ray": RAY,
    }


def test_given_tool_calls_without_text_when_written_as_a_chat_then_the_content_is_null() -> None:
    called = replace(RESULT, output="", tool_calls=(ToolCall("c1", "f", "{}"),), finish_reason="tool_calls")
    choice = choice_of(chat_completion(IDENTITY, called))
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    assert choice["finish_reason"] == "tool_calls"


def test_given_nobody_counted_when_written_then_there_is_no_made_up_usage() -> None:
    uncounted = replace(RESULT, usage=Usage(Counts.of(5, 5)))
    assert usage_document(uncounted) is None
    assert "usage" not in chat_completion(IDENTITY, uncounted)
    events = ChatEvents(IDENTITY, include_usage=True)
    last = data_of(events.end(uncounted))[-2]
    assert isinstance(last, dict)
    assert (last["choices"], last["usage"]) == ([], None)


def test_given_probabilities_when_written_then_bytes_are_told_where_they_are_known() -> None:
    choice = choice_of(chat_completion(IDENTITY, replace(RESULT, logprobs=LOGPROBS)))
    first, second = choice["logprobs"]["content"]  # type: ignore[index]
    assert (first["token"], first["logprob"], first["bytes"]) == ("Hel", -0.5, [72, 101, 108])
    assert [entry["token"] for entry in first["top_logprobs"]] == ["Hel", "Ha"]
    assert (second["bytes"], second["top_logprobs"]) == (None, [])


def test_given_probabilities_of_a_completion_when_written_then_offsets_count_characters() -> None:
    assert completion_logprobs(LOGPROBS, 7) == {
        "tokens": ["Hel", "\ufffd"],
        "token_logprobs": [-0.5, -1.0],
        "top_logprobs": [{"Hel": -0.5, "Ha": -2.0}, {}],
        "text_offset": [7, 10],
    }
    document = completion(IDENTITY, replace(RESULT, logprobs=LOGPROBS))
    assert document["object"] == "text_completion"
    choice = choice_of(document)
    assert (choice["text"], choice["finish_reason"], choice["logprobs"]["text_offset"]) == ("Hello", "length", [0, 3])  # type: ignore[index]


def test_given_chunks_when_streamed_as_a_chat_then_role_text_finish_and_done_come_in_this_order() -> None:
    events = ChatEvents(IDENTITY, include_usage=False)
    stream = events.piece(Chunk("Hel")) + events.piece(Chunk("lo", logprobs=LOGPROBS)) + events.end(RESULT)
    *chunks, done = data_of(stream)
    assert done == "[DONE]"
    assert all(isinstance(chunk, dict) and "usage" not in chunk for chunk in chunks)
    choices = [chunk["choices"][0] for chunk in chunks]  # type: ignore[index]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, "length"]
    assert [choice["logprobs"] is not None for choice in choices] == [False, False, True, False]
    assert [chunk.get("ray") for chunk in chunks] == [None, None, None, RAY]  # type: ignore[attr-defined]


def test_given_tool_calls_when_streamed_then_their_pieces_follow_the_role() -> None:
    events = ChatEvents(IDENTITY, include_usage=False)
    stream = events.piece(Chunk(tool_calls=(ToolCallPart(0, "c1", "f", ""),)))
    stream += events.piece(Chunk(tool_calls=(ToolCallPart(0, arguments='{"a":1}'),)))
    deltas = [chunk["choices"][0]["delta"] for chunk in data_of(stream)]  # type: ignore[index]
    assert deltas == [
        {"role": "assistant", "content": None, "refusal": None},
        {
            "tool_calls": [
                {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}},
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]},
    ]


def test_given_usage_is_wanted_when_streamed_then_it_comes_last_and_the_others_say_null() -> None:
    for events in (ChatEvents(IDENTITY, include_usage=True), CompletionEvents(IDENTITY, include_usage=True)):
        *chunks, usage, done = data_of(events.piece(Chunk("Hello")) + events.end(RESULT))
        assert done == "[DONE]"
        assert isinstance(usage, dict)
        assert (usage["choices"], usage["usage"]) == ([], USAGE)
        assert all(isinstance(chunk, dict) and chunk["usage"] is None for chunk in chunks)


def test_given_an_answer_without_text_when_streamed_then_role_and_finish_are_there_all_the_same() -> None:
    events = ChatEvents(IDENTITY, include_usage=False)
    stream = events.piece(Chunk(finish=Finish("stop"))) + events.end(replace(RESULT, output=""))
    deltas = [chunk["choices"][0]["delta"] for chunk in data_of(stream)[:-1]]  # type: ignore[index]
    assert deltas == [{"role": "assistant", "content": "", "refusal": None}, {}]


def test_given_chunks_when_streamed_as_a_completion_then_offsets_go_on_from_chunk_to_chunk() -> None:
    events = CompletionEvents(IDENTITY, include_usage=False)
    stream = events.piece(Chunk("Hel", logprobs=LOGPROBS[:1])) + events.piece(Chunk(finish=Finish("stop")))
    stream += events.piece(Chunk("lo", logprobs=(TokenLogprob("lo", -0.1),))) + events.end(RESULT)
    first, second, last, done = data_of(stream)
    choices = [chunk["choices"][0] for chunk in (first, second, last)]  # type: ignore[index]
    assert [choice["text"] for choice in choices] == ["Hel", "lo", ""]
    assert [choice["logprobs"] and choice["logprobs"]["text_offset"] for choice in choices] == [[0], [3], None]
    assert (choices[-1]["finish_reason"], done) == ("length", "[DONE]")


def test_given_text_with_unusual_line_ends_when_streamed_then_they_are_escaped() -> None:
    text = "a\u2028b\u2029c\x85d\r\ne\u00e4"
    stream = ChatEvents(IDENTITY, include_usage=False).piece(Chunk(text))
    assert len(stream.decode().rstrip("\n").splitlines()) == 3  # two events and the empty line between them
    assert data_of(stream)[1]["choices"][0]["delta"]["content"] == text  # type: ignore[index]


def test_given_a_failure_when_streamed_then_the_error_is_the_last_event_and_nothing_is_done() -> None:
    error = RayError("provider_request_failed", "the backend went away")
    for events in (ChatEvents(IDENTITY, include_usage=True), CompletionEvents(IDENTITY, include_usage=True)):
        assert data_of(events.failure(error)) == [error_document(error)]


@pytest.mark.parametrize(
    ("error", "kind", "param"),
    [
        (RayError("invalid_request", "no", details={"field": "messages[0].role"}), "invalid_request_error", "messages"),
        (RayError("model_not_found", "no"), "invalid_request_error", "model"),
        (RayError("unauthorized", "no"), "authentication_error", None),
        (RayError("rate_limited", "no"), "rate_limit_error", None),
        (RayError("queue_full", "no"), "server_error", None),
        (RayError("invalid_json", "no", details={"field": 7}), "invalid_request_error", None),
    ],
)
def test_given_an_error_when_written_then_it_has_the_four_keys(error: RayError, kind: str, param: str | None) -> None:
    document = error_document(error)["error"]
    assert isinstance(document, dict)
    assert list(document) == ["message", "type", "param", "code"]
    assert (document["message"], document["type"], document["code"]) == ("no", kind, error.code)
    assert document["param"] == param or str(document["param"]).startswith(f"{param}[")


def test_given_vectors_when_written_then_base64_holds_the_same_numbers() -> None:
    vectors = Embeddings("m", ((0.5, -1.25), (0.0, 3.0)), 9)
    plain = embeddings_document(vectors, as_base64=False)
    packed = embeddings_document(vectors, as_base64=True)
    assert plain["data"] == [
        {"object": "embedding", "index": 0, "embedding": [0.5, -1.25]},
        {"object": "embedding", "index": 1, "embedding": [0.0, 3.0]},
    ]
    first = packed["data"][0]["embedding"]  # type: ignore[index]
    assert struct.unpack("<2f", b64decode(first)) == (0.5, -1.25)
    assert plain["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    assert "usage" not in embeddings_document(replace(vectors, tokens=None), as_base64=False)


@pytest.mark.parametrize("include_usage", [True, False])
@pytest.mark.parametrize("model", ["m", '"content":""', "\ud800", "m\u2028\u00fc"])
@pytest.mark.parametrize("text", ["word", ' "\\\n', "\u2028\x85", "\u00fc\U0001f600", '"content":""'])
def test_given_any_text_when_it_is_not_the_first_then_its_event_is_the_chunk_as_json(
    text: str, model: str, include_usage: bool
) -> None:
    identity = replace(IDENTITY, model=model)
    events = ChatEvents(identity, include_usage=include_usage)
    events.piece(Chunk("first"))
    [(_, data)] = SseDecoder().feed(events.piece(Chunk(text)))
    [(_, whole)] = SseDecoder().feed(chunk_event(chat_chunk(identity, {"content": text}), include_usage))
    assert json.loads(data) == json.loads(whole)
    assert not set("\x85\u2028\u2029") & set(data)
