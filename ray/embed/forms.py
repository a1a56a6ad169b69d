"""What is asked and answered in a program, in types: the fields of `POST /v1/infer` and `POST /v1/jobs` as keywords.

A keyword is the field's name with underscores (`max_tokens` is `maxTokens`); None leaves the field out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict


class Question(TypedDict, total=False):
    """The fields of `POST /v1/infer`: http-api, section 4.1."""

    input: str | None
    system: str | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    stop: Sequence[str] | None
    response_format: object
    cache: bool | None
    dedupe_key: str | None
    metadata: Mapping[str, str] | None
    template_id: str | None
    template_variables: Mapping[str, object] | None


class JobQuestion(Question, total=False):
    """Those, and the fields that only `POST /v1/jobs` has."""

    callback_url: str | None
    result_ttl_ms: int | None


class InferResponse(TypedDict):
    """The response object of `POST /v1/infer`: http-api, section 4.2."""

    id: str
    model: str
    output: str
    usage: dict[str, dict[str, int]]
    cached: bool
    deduplicated: bool
    queueTimeMs: int
    latencyMs: int
    degraded: bool
    finishReason: str
    diagnostics: dict[str, object]
    createdAt: str


class JobAccepted(TypedDict):
    """The body of the 202 of `POST /v1/jobs`."""

    id: str
    status: str
    createdAt: str
    location: str


# The JSON object of a request, or only the text of its `input`.
Body = Mapping[str, object] | str | None


def body_of(body: Body, keywords: Mapping[str, object], known: type[Question]) -> dict[str, object]:
    """The body of a request from a text, a mapping, keywords, or both; a keyword wins over the body's own field.

    Raises TypeError for a keyword that is not `known`: over HTTP an unknown field may be of a later version, in a
    program it is a slip of the pen.
    """
    unknown = sorted(keywords.keys() - known.__annotations__.keys())
    if unknown:
        raise TypeError(f"unknown keyword {unknown[0]!r}: use one of {', '.join(known.__annotations__)}")
    if isinstance(body, str):
        body = {"input": body}
    elif body is not None and not isinstance(body, Mapping):
        raise TypeError(f"a question is a text or a mapping, not {type(body).__name__}")
    given = {_camel_case(name): value for name, value in keywords.items() if value is not None}
    return {**(body or {}), **given}


def _camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
