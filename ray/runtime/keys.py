"""What makes two requests the same: the digests behind the response cache and in-flight dedupe."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple

from ray.types import Caller, InferenceRequest

# One encoder for the life of the process: `json.dumps` with options builds a new one on every call.
_encode = json.JSONEncoder(separators=(",", ":")).encode


def cache_key(request: InferenceRequest, model_id: str, key_strategy: str) -> str:
    """SHA-256 (hex) over everything that shapes the answer: model, messages, tools, stop, seed, form, sampling.

    Metadata is not part of it: a trace id must not make every request unique. With the strategy `input` the sampling
    (maxTokens, temperature, topP) is left out too.
    """
    sampling = None
    if key_strategy != "input":
        sampling = (request.max_tokens, request.temperature, request.top_p)
    parts = (model_id, _conversation(request), request.stop, request.seed, _form(request), sampling)
    return hashlib.sha256(_encode(parts).encode("ascii")).hexdigest()


def twin_key(request: InferenceRequest, caller: Caller, shared: str | None) -> str | None:
    """Under which key an identical request that is in flight would be found, or None if none may be joined.

    An explicit `dedupeKey` joins only requests of the same caller with the same conversation that want an answer of the
    same form. `shared`: the cache key, where caching applies; requests that may share a cached answer may also share
    one in the making.
    """
    if request.dedupe_key is None:
        return shared
    parts = (caller.scope, request.dedupe_key, _conversation(request), _form(request))
    return "dedupe:" + hashlib.sha256(_encode(parts).encode("ascii")).hexdigest()


def _form(request: InferenceRequest) -> tuple[object, ...]:
    """How the prompt is written and what the answer has to look like."""
    return (
        request.wants_json,
        request.json_schema,
        request.tools,
        request.tool_choice,
        request.parallel_tool_calls,
        request.top_logprobs,
        request.is_raw,
    )


def _conversation(request: InferenceRequest) -> list[tuple[object, ...]]:
    return [
        (message.role, message.content)
        if not message.tool_calls and message.tool_call_id is None
        else (message.role, message.content, [astuple(call) for call in message.tool_calls], message.tool_call_id)
        for message in request.messages
    ]
