"""From the bodies of the OpenAI-compatible routes to `InferenceRequest`s.

As strict as `/v1/infer`: every field is checked, a value that is wrong or that Ray cannot honour is RayError
`invalid_request` with the `field`, fields that nobody knows are ignored. Unlike there, `null` means absent, and numbers
out of range are refused; only a `max_tokens` above the model's ceiling is clamped. Source: http-api, section 17.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import cast

from ray.config import Config
from ray.gateway.openai.fields import CHAT_FIELDS, COMPLETION_FIELDS, EMBEDDING_FIELDS, IDENTIFIERS
from ray.gateway.openai.messages import conversation
from ray.gateway.openai.tools import answer_form, check_tools, chosen
from ray.runtime import DEFAULT_TEMPERATURE, DEFAULT_TOP_P, Field, compact_json, read_fields, refuse
from ray.types import InferenceRequest, Message


@dataclass(frozen=True, slots=True)
class Asked:
    """What a body asks for. `model`: as the client spells it, or None; `streamed`: as events, with the usage at their
    end if `include_usage`."""

    request: InferenceRequest
    model: str | None
    streamed: bool
    include_usage: bool


@dataclass(frozen=True, slots=True)
class AskedEmbeddings:
    """Which texts are to be embedded. `as_base64`: how their vectors are to be written."""

    texts: tuple[str, ...]
    model: str | None
    as_base64: bool


def chat_request(body: object, config: Config) -> Asked:
    """`POST /v1/chat/completions`. Raises RayError `invalid_request`; its details name the `field`."""
    found = _read(body, CHAT_FIELDS)
    messages = conversation(cast("list[Mapping[str, object]]", found["messages"]))
    tools = cast("list[object]", found.get("tools", []))
    check_tools(tools)
    callable_tools, tool_choice = chosen(tools, found.get("tool_choice"))
    response_format, json_schema = answer_form(cast("Mapping[str, object] | None", found.get("response_format")))
    request = replace(
        _request(messages, _max_tokens(found), found, config),
        response_format=response_format,
        json_schema=json_schema,
        tools=compact_json(callable_tools) if callable_tools else None,
        tool_choice=tool_choice,
        parallel_tool_calls=cast("bool | None", found.get("parallel_tool_calls")) if callable_tools else None,
        top_logprobs=_chat_logprobs(found),
    )
    return _asked(request, found)


def completion_request(body: object, config: Config) -> Asked:
    """`POST /v1/completions`. Raises RayError `invalid_request`; its details name the `field`."""
    found = _read(body, COMPLETION_FIELDS)
    (prompt,) = _texts(found["prompt"])
    max_tokens = cast("int | None", found.get("max_tokens"))
    request = replace(
        _request((Message("user", prompt),), max_tokens, found, config),
        is_raw=True,
        top_logprobs=cast("int | None", found.get("logprobs")),
    )
    return _asked(request, found)


def embedding_request(body: object) -> AskedEmbeddings:
    """`POST /v1/embeddings`. Raises RayError `invalid_request`; its details name the `field`."""
    found = _read(body, EMBEDDING_FIELDS)
    model = cast("str | None", found.get("model"))
    return AskedEmbeddings(_texts(found["input"]), model, found.get("encoding_format") == "base64")


def _read(body: object, fields: Sequence[Field]) -> dict[str, object]:
    if not isinstance(body, dict):
        refuse("the request body must be a JSON object", "body")
    return read_fields(body, fields, null_is_absent=True)


def _request(
    messages: tuple[Message, ...], max_tokens: int | None, found: Mapping[str, object], config: Config
) -> InferenceRequest:
    """What both kinds of completions share."""
    ceiling = config.model.max_output_tokens
    stop = found.get("stop")
    return InferenceRequest(
        messages=messages,
        max_tokens=ceiling if max_tokens is None else min(ceiling, max_tokens),
        temperature=cast("float", found.get("temperature", DEFAULT_TEMPERATURE)),
        top_p=cast("float", found.get("top_p", DEFAULT_TOP_P)),
        seed=cast("int | None", found.get("seed")),
        stop=() if stop is None else _texts(stop),
        cache=found.get("cache") is not False,
        metadata=_metadata(found),
    )


def _asked(request: InferenceRequest, found: Mapping[str, object]) -> Asked:
    streamed = found.get("stream") is True
    options = cast("Mapping[str, object]", found.get("stream_options", {}))
    if options and not streamed:
        refuse("stream_options need stream to be true", "stream_options")
    return Asked(request, cast("str | None", found.get("model")), streamed, options.get("include_usage") is True)


def _max_tokens(found: Mapping[str, object]) -> int | None:
    old, new = cast("int | None", found.get("max_tokens")), cast("int | None", found.get("max_completion_tokens"))
    if old is not None and new is not None and old != new:
        refuse("max_tokens and max_completion_tokens are two names of one limit: send one of them", "max_tokens")
    return old if new is None else new


def _chat_logprobs(found: Mapping[str, object]) -> int | None:
    alternatives = cast("int | None", found.get("top_logprobs"))
    if found.get("logprobs") is True:
        return alternatives or 0
    if alternatives:
        refuse("top_logprobs needs logprobs to be true", "top_logprobs")
    return None


def _metadata(found: Mapping[str, object]) -> Mapping[str, str]:
    given = cast("Mapping[str, str]", found.get("metadata", {}))
    about = {name: cast("str", found[name]) for name in IDENTIFIERS if name in found}
    return MappingProxyType({**given, **about})


def _texts(value: object) -> tuple[str, ...]:
    """One text or several, as a tuple."""
    return (value,) if isinstance(value, str) else tuple(cast("list[str]", value))
