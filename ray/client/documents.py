"""The shape of what the gateway answers, for type checkers: at run time these are the plain dicts that came.

They are described, not checked: a key may be missing where docs/http-api.md says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

Document = dict[str, object]
JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class InferFields(TypedDict, total=False):
    """The fields of `POST /v1/infer` (http-api, section 4.1) as keywords: `max_tokens` is `maxTokens`."""

    input: str | None
    system: str | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    stop: Sequence[str] | None
    response_format: Mapping[str, object] | None
    cache: bool | None
    dedupe_key: str | None
    metadata: Mapping[str, str] | None
    template_id: str | None
    template_variables: Mapping[str, object] | None


class JobFields(InferFields, total=False):
    """Those, and the fields that only `POST /v1/jobs` has."""

    callback_url: str | None
    result_ttl_ms: int | None


class CountsDocument(TypedDict, total=False):
    prompt: int
    completion: int
    total: int


class UsageDocument(TypedDict, total=False):
    chars: CountsDocument
    tokens: CountsDocument


class InferAnswer(TypedDict, total=False):
    """http-api, section 4.2."""

    id: str
    model: str
    output: str
    usage: UsageDocument
    cached: bool
    deduplicated: bool
    queueTimeMs: int
    latencyMs: int
    degraded: bool
    finishReason: str
    diagnostics: Mapping[str, object]
    createdAt: str


class JobError(TypedDict, total=False):
    message: str
    code: str
    details: Mapping[str, object]


class JobAccepted(TypedDict, total=False):
    """http-api, section 5.1."""

    id: str
    status: JobStatus
    createdAt: str
    location: str


class Job(TypedDict, total=False):
    """http-api, section 5.2."""

    id: str
    status: JobStatus
    request: Mapping[str, object]
    createdAt: str
    updatedAt: str
    startedAt: str
    completedAt: str
    attempts: int
    maxAttempts: int
    nextAttemptAt: str
    deadlineAt: str
    result: InferAnswer
    error: JobError
    callback: Mapping[str, object]
    expiresAt: str
    cancelRequested: bool


class JobSummary(TypedDict, total=False):
    """http-api, section 5.3."""

    id: str
    status: JobStatus
    createdAt: str
    updatedAt: str
    attempts: int
    callbackStatus: str


class ChatMessage(TypedDict, total=False):
    role: str
    content: str | None
    tool_calls: list[Document]


class ChatChoice(TypedDict, total=False):
    index: int
    message: ChatMessage
    delta: ChatMessage
    finish_reason: str | None
    logprobs: Document | None


class ChatAnswer(TypedDict, total=False):
    """An answer of `POST /v1/chat/completions`, or a chunk of one: chunks have `delta` where answers have `message`."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Document | None
    ray: Document


class Model(TypedDict, total=False):
    id: str
    object: str
    created: int
    owned_by: str


class Embedding(TypedDict, total=False):
    object: str
    index: int
    embedding: list[float]


class EmbeddingList(TypedDict, total=False):
    object: str
    model: str
    data: list[Embedding]
    usage: Document
