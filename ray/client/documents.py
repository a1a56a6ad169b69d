"""The shape of what the gateway answers, for type checkers: at run time these are the plain dicts that came.

They are described, not checked: a key may be missing where docs/http-api.md says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from ray.questions import InferAnswer, JobStatus

Document = dict[str, object]


class JobError(TypedDict, total=False):
    message: str
    code: str
    details: Mapping[str, object]


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
