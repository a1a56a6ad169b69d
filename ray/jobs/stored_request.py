"""The request inside a record: what a submission comes down to, with its template rendered.

The stored form is looser than the rules for a submission: a job that was accepted is run, also when a template's
metadata took it past the submission's limits, or when today's model allows fewer tokens (they are clamped).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

from ray.config import Config
from ray.jobs.form import (
    MAX_EXACT_INTEGER,
    Kind,
    MalformedRecord,
    boolean,
    fields,
    list_of,
    number,
    one_of,
    text,
    texts,
    whole,
)
from ray.types import InferenceRequest, Message, ResponseFormat, Role, ToolCall, as_json

_TOOL_CALL = fields({"id": text(), "name": text(), "arguments": text()}, {})
_MESSAGE = fields(
    {"role": one_of("system", "user", "assistant", "tool"), "content": text()},
    {"toolCalls": list_of(_TOOL_CALL), "toolCallId": text()},
)
_KEYS = fields(
    {
        "maxTokens": whole(1, MAX_EXACT_INTEGER),
        "temperature": number,
        "topP": number,
        "cache": boolean,
        "metadata": texts,
    },
    {
        "input": text(),
        "system": text(),
        "messages": list_of(_MESSAGE),
        "seed": whole(-MAX_EXACT_INTEGER, MAX_EXACT_INTEGER),
        "stop": list_of(text()),
        "responseFormat": fields({"type": one_of("text", "json_object", "json_schema")}, {}),
        "dedupeKey": text(),
        "jsonSchema": text(),
        "tools": text(),
        "toolChoice": text(),
        "parallelToolCalls": boolean,
        "topLogprobs": whole(0, MAX_EXACT_INTEGER),
        "raw": boolean,
    },
)


def _request(value: object, where: str) -> None:
    _KEYS(value, where)
    document = cast("dict[str, object]", value)
    if ("input" in document) == ("messages" in document):
        raise MalformedRecord(f"{where} must hold either input or messages")
    if "messages" in document and "system" in document:
        raise MalformedRecord(f"{where} holds system beside messages")


REQUEST: Kind = _request

# What a person may have written.
_WRITTEN = frozenset({"input", "system", "messages", "metadata", "jsonSchema", "tools", "toolChoice"})


def stored_request(request: InferenceRequest) -> dict[str, object]:
    """The document of `request`. A system text and one question are `system` and `input`; all else is `messages`.

    The template's id and values are left behind: a template that changes later never changes a job.
    """
    document: dict[str, object] = {
        **_conversation(request.messages),
        "maxTokens": request.max_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "cache": request.cache,
        "metadata": dict(request.metadata),
    }
    if request.seed is not None:
        document["seed"] = request.seed
    if request.stop:
        document["stop"] = list(request.stop)
    if request.response_format is not None:
        document["responseFormat"] = {"type": request.response_format}
    for key, value in (
        ("dedupeKey", request.dedupe_key),
        ("jsonSchema", request.json_schema),
        ("tools", request.tools),
        ("toolChoice", request.tool_choice),
        ("parallelToolCalls", request.parallel_tool_calls),
        ("topLogprobs", request.top_logprobs),
    ):
        if value is not None:
            document[key] = value
    if request.is_raw:
        document["raw"] = True
    return document


def _conversation(messages: tuple[Message, ...]) -> dict[str, object]:
    roles = tuple(message.role for message in messages)
    # An empty question stays a message: an empty `input` is what is left of a prompt that is not kept.
    if roles == ("user",) and messages[0].content:
        return {"input": messages[0].content}
    if roles == ("system", "user") and messages[1].content:
        return {"input": messages[1].content, "system": messages[0].content}
    return {"messages": [_turn(message) for message in messages]}


def _turn(message: Message) -> dict[str, object]:
    document: dict[str, object] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        document["toolCalls"] = as_json(message.tool_calls)
    if message.tool_call_id is not None:
        document["toolCallId"] = message.tool_call_id
    return document


def inference_request(document: Mapping[str, object], config: Config) -> InferenceRequest:
    """The request that a stored document asks for, with `maxTokens` clamped to what the model allows today.

    `document` is the `request` of a record that was decoded or built by `stored_request`: nothing in it is refused.
    """
    response_format = cast("dict[str, ResponseFormat] | None", document.get("responseFormat"))
    return InferenceRequest(
        messages=_messages(document),
        max_tokens=max(1, min(config.model.max_output_tokens, cast("int", document["maxTokens"]))),
        temperature=float(cast("float", document["temperature"])),
        top_p=float(cast("float", document["topP"])),
        seed=cast("int | None", document.get("seed")),
        stop=tuple(cast("list[str]", document.get("stop", []))),
        response_format=response_format["type"] if response_format else None,
        cache=cast("bool", document["cache"]),
        dedupe_key=cast("str | None", document.get("dedupeKey")),
        metadata=MappingProxyType(dict(cast("dict[str, str]", document["metadata"]))),
        json_schema=cast("str | None", document.get("jsonSchema")),
        tools=cast("str | None", document.get("tools")),
        tool_choice=cast("str | None", document.get("toolChoice")),
        parallel_tool_calls=cast("bool | None", document.get("parallelToolCalls")),
        top_logprobs=cast("int | None", document.get("topLogprobs")),
        is_raw=cast("bool", document.get("raw", False)),
    )


def _messages(document: Mapping[str, object]) -> tuple[Message, ...]:
    listed = cast("list[dict[str, object]] | None", document.get("messages"))
    if listed is not None:
        return tuple(_message(item) for item in listed)
    question = Message("user", cast("str", document["input"]))
    system = document.get("system")
    return (question,) if system is None else (Message("system", cast("str", system)), question)


def _message(document: Mapping[str, object]) -> Message:
    calls = cast("list[dict[str, str]]", document.get("toolCalls", []))
    return Message(
        cast("Role", document["role"]),
        cast("str", document["content"]),
        tuple(ToolCall(call["id"], call["name"], call["arguments"]) for call in calls),
        cast("str | None", document.get("toolCallId")),
    )


def without_prompt(document: Mapping[str, object]) -> dict[str, object]:
    """The stored request with everything a person may have written taken out (`asyncQueue.retainRequest: false`):
    the texts, and the metadata with them."""
    kept = {key: value for key, value in document.items() if key not in _WRITTEN}
    return {"input": "", **kept, "metadata": {}}
