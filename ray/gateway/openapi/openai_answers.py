"""The schemas of what the OpenAI-compatible routes answer, as `ray.gateway.openai.documents` writes it."""

from __future__ import annotations

from ray.gateway.openapi.nouns import Schema, json_text, reference

_STRING: Schema = {"type": "string"}
_INTEGER: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}
_NULL: Schema = {"type": "null"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_FINISH_REASON: Schema = {"enum": ["stop", "length", "tool_calls"]}


def _record(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, _NULL]}


def chunk_event(chunk: str) -> Schema:
    """An event of a stream of these chunks: a chunk, the last word, or why there will be none."""
    document: Schema = {"anyOf": [reference(chunk), reference("OpenAIError")]}
    return {
        "type": "object",
        "description": "Chunks, then `[DONE]`; or, after a failure, one error and no `[DONE]`.",
        "properties": {"data": {"anyOf": [{"const": "[DONE]"}, json_text(document)]}},
        "required": ["data"],
    }


def _chunk(kind: str, key: str, value: Schema, logprobs: str) -> Schema:
    choice = _record(
        {
            "index": {"const": 0},
            key: value,
            "logprobs": _or_null(reference(logprobs)),
            "finish_reason": _or_null(_FINISH_REASON),
        }
    )
    return _record(
        {
            "id": _STRING,
            "object": {"const": kind},
            "created": _INTEGER,
            "model": _STRING,
            "choices": _list(choice),
        },
        {"usage": _or_null(reference("OpenAIUsage")), "ray": reference("RayFacts")},
    )


def _completion(kind: str, key: str, value: Schema, logprobs: str) -> Schema:
    choice = _record(
        {
            "index": {"const": 0},
            key: value,
            "logprobs": _or_null(reference(logprobs)),
            "finish_reason": _FINISH_REASON,
        }
    )
    return _record(
        {
            "id": _STRING,
            "object": {"const": kind},
            "created": _INTEGER,
            "model": _STRING,
            "choices": _list(choice),
            "ray": reference("RayFacts"),
        },
        {"usage": reference("OpenAIUsage")},
    )


_LOGPROB: dict[str, Schema] = {"token": _STRING, "logprob": _NUMBER, "bytes": _or_null(_list(_INTEGER))}
OPENAI_SCHEMAS: dict[str, Schema] = {
    "OpenAIError": _record(
        {
            "error": _record(
                {"message": _STRING, "type": _STRING, "param": _TEXT_OR_NULL, "code": _STRING},
            )
        }
    ),
    "OpenAIUsage": _record(
        {"prompt_tokens": _INTEGER, "completion_tokens": _INTEGER, "total_tokens": _INTEGER},
        {"prompt_tokens_details": _record({"cached_tokens": _INTEGER})},
    ),
    "RayFacts": _record(
        {
            "degraded": {"type": "boolean"},
            "reasons": _list(_STRING),
            "cached": {"type": "boolean"},
            "deduplicated": {"type": "boolean"},
            "queueTimeMs": _INTEGER,
        },
        {"prefix": reference("PrefixUse")},
    ),
    "ChatLogprobs": _record(
        {"content": _list(_record({**_LOGPROB, "top_logprobs": _list(_record(_LOGPROB))})), "refusal": _NULL}
    ),
    "CompletionLogprobs": _record(
        {
            "tokens": _list(_STRING),
            "token_logprobs": _list(_NUMBER),
            "top_logprobs": _list({"type": "object", "additionalProperties": _NUMBER}),
            "text_offset": _list(_INTEGER),
        }
    ),
    "ChatToolCall": _record(
        {"id": _STRING, "type": {"const": "function"}, "function": _record({"name": _STRING, "arguments": _STRING})}
    ),
    "ChatMessage": _record(
        {"role": {"const": "assistant"}, "content": _TEXT_OR_NULL, "refusal": _NULL},
        {"tool_calls": _list(reference("ChatToolCall"))},
    ),
    "ChatCompletion": _completion("chat.completion", "message", reference("ChatMessage"), "ChatLogprobs"),
    "Completion": _completion("text_completion", "text", _STRING, "CompletionLogprobs"),
    "ChatDelta": {
        "type": "object",
        "properties": {
            "role": {"const": "assistant"},
            "content": _TEXT_OR_NULL,
            "refusal": _NULL,
            "tool_calls": _list(
                _record(
                    {"index": _INTEGER, "function": _record({"arguments": _STRING}, {"name": _STRING})},
                    {"id": _STRING, "type": {"const": "function"}},
                )
            ),
        },
    },
    "ChatCompletionChunk": _chunk("chat.completion.chunk", "delta", reference("ChatDelta"), "ChatLogprobs"),
    "CompletionChunk": _chunk("text_completion", "text", _STRING, "CompletionLogprobs"),
    "EmbeddingList": _record(
        {
            "object": {"const": "list"},
            "data": _list(
                _record(
                    {
                        "object": {"const": "embedding"},
                        "index": _INTEGER,
                        "embedding": {"anyOf": [_list(_NUMBER), {**_STRING, "contentEncoding": "base64"}]},
                    }
                )
            ),
            "model": _STRING,
        },
        {"usage": _record({"prompt_tokens": _INTEGER, "total_tokens": _INTEGER})},
    ),
    "Model": _record(
        {
            "id": _STRING,
            "object": {"const": "model"},
            "created": _INTEGER,
            "owned_by": _STRING,
            "ray": _record({"aliases": _list(_STRING), "contextWindow": _INTEGER, "maxOutputTokens": _INTEGER}),
        }
    ),
    "ModelList": _record({"object": {"const": "list"}, "data": _list(reference("Model"))}),
}
