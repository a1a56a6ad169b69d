"""What a program asks and is answered, in types: the JSON of `POST /v1/infer` and of accepting a job.

The clients and an embedded gateway share them: the same question can be sent to either. A keyword is the field's name
with underscores (`max_tokens` is `maxTokens`). What is checked about the values is the gateway's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]

# What a question is asked with: the JSON object of the route, or only the text of its `input`.
Question = Mapping[str, object] | str


class InferFields(TypedDict, total=False):
    """The fields of `POST /v1/infer` (http-api, section 4.1) as keywords."""

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
    """The response object of `POST /v1/infer`: http-api, section 4.2."""

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


class JobAccepted(TypedDict, total=False):
    """The body of the 202 of `POST /v1/jobs`: http-api, section 5.1."""

    id: str
    status: JobStatus
    createdAt: str
    location: str


def body_of(question: Question | None, keywords: Mapping[str, object], known: type[InferFields]) -> dict[str, object]:
    """The JSON object of a question from a text, a mapping, keywords, or both; a keyword wins over the question's own
    field, and None leaves a field out.

    Raises TypeError for a keyword that is not `known` (over HTTP an unknown field may be of a later version, in a
    program it is a slip of the pen), and for a question of another kind.
    """
    unknown = sorted(keywords.keys() - known.__annotations__.keys())
    if unknown:
        raise TypeError(f"unknown keyword {unknown[0]!r}: use one of {', '.join(known.__annotations__)}")
    if isinstance(question, str):
        question = {"input": question}
    elif question is not None and not isinstance(question, Mapping):
        raise TypeError(f"a question is a text or a mapping, not {type(question).__name__}")
    given = {_camel_case(name): value for name, value in keywords.items() if value is not None}
    return {**(question or {}), **given}


def _camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
