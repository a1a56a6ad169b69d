"""What the routes answer: component schemas by name, and which media types an answer comes in.

The schemas are open: an answer may gain a key without breaking anyone. Tests compare real answers with them, closed.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray.gateway.job_request import JOB_STATES
from ray.gateway.openapi.nouns import Schema, json_text, reference, schemas_of
from ray.gateway.openapi.openai_answers import OPENAI_SCHEMAS, chunk_event
from ray.types import Health, InferenceResult

JSON = "application/json"
TEXT = "text/plain"
EVENTS = "text/event-stream"

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
TIME: Schema = {"type": "string", "format": "date-time"}
STRINGS: Schema = {"type": "array", "items": STRING}


def record(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """An object with these keys."""
    schema: Schema = {"type": "object", "properties": {**required, **(optional or {})}}
    if required:
        schema["required"] = list(required)
    return schema


def choice(*words: str) -> Schema:
    return {"enum": list(words)}


def list_of(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


_SERVICE_STATUS = choice("ok", "degraded", "unavailable")
_PRESSURES = ("queue", "preparation", "memory", "cpu", "asyncQueue", "rateLimit", "gatewayHttp")
_NAMED: dict[str, Schema] = {
    "Error": record({"error": record({"code": STRING, "message": STRING}, {"details": OBJECT})}),
    "Banner": record(
        {"name": STRING, "description": STRING, "thesis": STRING, "docs": OBJECT}, {"profile": STRING, "model": STRING}
    ),
    "Liveness": record({"status": choice("ok"), "service": STRING}),
    "Readiness": record(
        {
            "status": _SERVICE_STATUS,
            "service": STRING,
            "providerStatus": choice("unknown", "ready", "warming", "degraded", "unavailable"),
            "queueDepth": INTEGER,
            "inFlight": INTEGER,
            "pressure": record(dict.fromkeys(_PRESSURES, BOOLEAN)),
            "reasons": STRINGS,
        }
    ),
    "ServiceHealth": record(
        {
            "status": _SERVICE_STATUS,
            "uptimeMs": INTEGER,
            "queueDepth": INTEGER,
            "inFlight": INTEGER,
            "cacheEntries": INTEGER,
            "profile": STRING,
            "modelId": STRING,
            "provider": reference("Health"),
            "runtime": OBJECT,
            "gateway": OBJECT,
        },
        {"prefixStore": OBJECT, "asyncQueue": OBJECT, "rateLimit": OBJECT},
    ),
    "Metrics": record(
        {
            "counters": {"type": "object", "additionalProperties": NUMBER},
            "gauges": {"type": "object", "additionalProperties": NUMBER},
        },
        {"recent": {"type": "object", "additionalProperties": {"type": ["string", "number", "null"]}}},
    ),
    "Config": {
        "type": "object",
        "description": "Every setting, as docs/configuration.md explains them.",
        "properties": {"profile": STRING, "server": OBJECT, "model": OBJECT, "capabilityHints": OBJECT},
        "required": ["profile", "server", "model", "capabilityHints"],
    },
    "TemplateList": record({"templates": list_of(reference("Template"))}),
    "Template": record(
        {
            "id": STRING,
            "version": STRING,
            "family": STRING,
            "lane": choice("short", "draft"),
            "variables": STRINGS,
            "maxTokens": INTEGER,
        },
        {"responseFormat": record({"type": choice("text", "json_object")})},
    ),
    "JobAcknowledgement": record({"id": STRING, "status": choice("queued"), "createdAt": TIME, "location": STRING}),
    "JobRequest": record(
        {
            "maxTokens": INTEGER,
            "temperature": NUMBER,
            "topP": NUMBER,
            "cache": BOOLEAN,
            "metadata": {"type": "object", "additionalProperties": STRING},
        },
        {
            "input": STRING,
            "system": STRING,
            "messages": list_of(record({"role": STRING, "content": STRING})),
            "seed": INTEGER,
            "stop": STRINGS,
            "responseFormat": record({"type": choice("text", "json_object")}),
            "dedupeKey": STRING,
        },
    ),
    "Job": record(
        {
            "id": STRING,
            "status": choice(*JOB_STATES),
            "request": reference("JobRequest"),
            "createdAt": TIME,
            "updatedAt": TIME,
            "attempts": INTEGER,
            "maxAttempts": INTEGER,
            "deadlineAt": TIME,
        },
        {
            "nextAttemptAt": TIME,
            "startedAt": TIME,
            "completedAt": TIME,
            "expiresAt": TIME,
            "resultTtlMs": INTEGER,
            "cancelRequested": {"const": True},
            "result": reference("InferenceResult"),
            "error": record({"message": STRING}, {"code": STRING, "details": OBJECT}),
            "callback": record(
                {"url": STRING, "status": choice("pending", "delivered", "failed"), "attempts": INTEGER},
                {"nextAttemptAt": TIME, "lastAttemptAt": TIME, "deliveredAt": TIME, "lastError": STRING},
            ),
        },
    ),
    "JobSummary": record(
        {"id": STRING, "status": choice(*JOB_STATES), "createdAt": TIME, "updatedAt": TIME, "attempts": INTEGER},
        {"callbackStatus": choice("pending", "delivered", "failed")},
    ),
    "JobList": record({"jobs": list_of(reference("JobSummary"))}, {"nextCursor": STRING}),
    "OpenApi": record({"openapi": STRING, "info": OBJECT, "paths": OBJECT, "components": OBJECT}),
}

# Answers that come in more than JSON, or in another form of it. All others are JSON of the schema of their name.
# Of an event stream the schema describes each event: its fields, and what the JSON in `data` is.


def event(name: str, data: Schema) -> Schema:
    """An event of this name."""
    return {"properties": {"event": {"const": name}, "data": json_text(data)}}


_INFERENCE_EVENT: Schema = {
    "type": "object",
    "description": "Any number of `token` events, then one `result` or one `error`.",
    "oneOf": [
        event("token", record({"text": STRING})),
        event("result", reference("InferenceResult")),
        event("error", reference("Error")),
    ],
    "required": ["event", "data"],
}
MEDIA: Mapping[str, Mapping[str, Schema]] = {
    "InferenceResult": {JSON: reference("InferenceResult"), EVENTS: _INFERENCE_EVENT},
    "ChatCompletion": {JSON: reference("ChatCompletion"), EVENTS: chunk_event("ChatCompletionChunk")},
    "Completion": {JSON: reference("Completion"), EVENTS: chunk_event("CompletionChunk")},
    "Metrics": {JSON: reference("Metrics"), TEXT: STRING},
    "Nothing": {},
}


def component_schemas() -> dict[str, Schema]:
    """Every schema that answers refer to, by name."""
    return {**schemas_of(InferenceResult, Health), **_NAMED, **OPENAI_SCHEMAS}


def media_of(answer: str) -> Mapping[str, Schema]:
    """The media types of an answer, each with its schema; none for an answer without a body."""
    return MEDIA.get(answer) or ({} if answer == "Nothing" else {JSON: reference(answer)})
