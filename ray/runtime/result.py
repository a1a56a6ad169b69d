"""From what a provider streamed to an answer that is fit to send: limits, usage, bounded diagnostics, the JSON form."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TypeVar

from ray.errors import RayError, truncated
from ray.runtime.generation import Answer
from ray.types import (
    Counts,
    Diagnostics,
    Finish,
    InferenceRequest,
    InferenceResult,
    ProviderDiagnostics,
    Timings,
    TokenLogprob,
    ToolCall,
    Usage,
    as_json,
)

MAX_MODEL_ID_CHARS = 512
MAX_DIAGNOSTIC_CHARS = 512
MAX_OUTPUT_CHARS = 262_144
MIN_OUTPUT_LIMIT_CHARS = 8_192
OUTPUT_CHARS_PER_TOKEN = 64
CHARS_PER_TOKEN = 4
MAX_REPORTED_NUMBER = 1e9

Reported = TypeVar("Reported", ProviderDiagnostics, Timings)


def output_limit(max_tokens: int) -> int:
    """The most characters an answer of `max_tokens` tokens may have; no sane tokenizer comes near it."""
    return min(MAX_OUTPUT_CHARS, max(MIN_OUTPUT_LIMIT_CHARS, OUTPUT_CHARS_PER_TOKEN * max_tokens))


def output_too_long(actual_chars: int, max_tokens: int) -> RayError:
    limit = output_limit(max_tokens)
    return RayError(
        "provider_result_invalid",
        f"the backend's answer grew past {limit} characters for {max_tokens} tokens; it was stopped",
        details={"field": "output", "maxChars": limit, "actualChars": actual_chars, "maxTokens": max_tokens},
    )


def clean_text(text: str) -> str:
    """`text` with unpaired surrogates replaced: they cannot be written as UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def estimated_prompt_tokens(request: InferenceRequest) -> int:
    """Prompt tokens when nobody counted: four characters each, at least one."""
    return max(1, math.ceil(sent_chars(request) / CHARS_PER_TOKEN))


def sent_chars(request: InferenceRequest) -> int:
    """Characters of all that the model is given to read: the messages, the tools, earlier calls of them."""
    called = sum(call_chars(message.tool_calls) for message in request.messages if message.tool_calls)
    return request.prompt_chars + called + len(request.tools or "")


def call_chars(calls: Sequence[ToolCall]) -> int:
    """Characters that the model writes, or reads again, for these calls."""
    return sum(len(call.name) + len(call.arguments) for call in calls)


def usage_of(
    request: InferenceRequest,
    output: str,
    finish: Finish,
    prepared_prompt_tokens: int | None,
    tool_calls: Sequence[ToolCall] = (),
) -> Usage:
    """Characters of what was sent and answered; tokens as reported, the prepared count in place of a missing prompt.

    Raises `RayError provider_result_invalid` for token counts that cannot be.
    """
    chars = Counts.of(sent_chars(request), len(output) + call_chars(tool_calls))
    reported = finish.tokens
    if reported is None:
        if prepared_prompt_tokens is None:
            return Usage(chars)
        return Usage(chars, Counts.of(prepared_prompt_tokens, 0))
    if not all(0 <= count <= MAX_REPORTED_NUMBER for count in (reported.prompt, reported.completion, reported.total)):
        raise RayError(
            "provider_result_invalid",
            "the backend reported impossible token counts",
            details={"field": "usage.tokens"},
        )
    prompt = reported.prompt or prepared_prompt_tokens or 0
    parts_known = reported.total <= reported.prompt + reported.completion
    total = prompt + reported.completion if parts_known else reported.total
    return Usage(chars, Counts(prompt, reported.completion, total))


def bounded_diagnostics(diagnostics: ProviderDiagnostics | None) -> ProviderDiagnostics | None:
    """The provider's diagnostics with texts cut to 512 characters and impossible numbers left out."""
    if diagnostics is None:
        return None
    return _bounded(diagnostics if diagnostics.timings is None else _with_timings(diagnostics, diagnostics.timings))


def _with_timings(diagnostics: ProviderDiagnostics, timings: Timings) -> ProviderDiagnostics:
    bounded = _bounded(timings)
    return diagnostics if bounded is timings else replace(diagnostics, timings=bounded)


def _bounded(value: Reported) -> Reported:
    """The same object unless something in it has to change: these are built for every answer."""
    changes: dict[str, object] = {}
    for entry in fields(value):
        item = getattr(value, entry.name)
        if isinstance(item, str) and len(item) > MAX_DIAGNOSTIC_CHARS:
            changes[entry.name] = truncated(item, MAX_DIAGNOSTIC_CHARS)
        elif isinstance(item, int | float) and not 0 <= item <= MAX_REPORTED_NUMBER:
            changes[entry.name] = None
    return replace(value, **changes) if changes else value  # type: ignore[arg-type]  # the names are its fields'


def result_document(result: InferenceResult) -> dict[str, object]:
    """The response object of http-api section 4.2, ready for JSON. By hand: every cached answer pays for it."""
    usage: dict[str, object] = {"chars": _counts(result.usage.chars)}
    if result.usage.tokens is not None:
        usage["tokens"] = _counts(result.usage.tokens)
    document: dict[str, object] = {
        "id": result.id,
        "model": result.model,
        "output": result.output,
        "usage": usage,
        "cached": result.cached,
        "deduplicated": result.deduplicated,
        "queueTimeMs": result.queue_time_ms,
        "latencyMs": result.latency_ms,
        "degraded": result.degraded,
        "finishReason": result.finish_reason,
        "diagnostics": _diagnostics(result.diagnostics),
        "createdAt": result.created_at,
    }
    if result.tool_calls:
        document["toolCalls"] = as_json(result.tool_calls)
    if result.logprobs:
        document["logprobs"] = [_logprob(entry) for entry in result.logprobs]
    return document


def _logprob(entry: TokenLogprob) -> dict[str, object]:
    document: dict[str, object] = {"token": entry.token, "logprob": entry.logprob}
    if entry.top:
        document["top"] = [_logprob(other) for other in entry.top]
    return document


def _diagnostics(diagnostics: Diagnostics) -> dict[str, object]:
    document: dict[str, object] = {}
    if diagnostics.degradation is not None:
        document["degradation"] = dict(diagnostics.degradation)  # thirty figures that are JSON already
    for name, block in (
        ("promptCompiler", diagnostics.prompt_compiler),
        ("learnedOutputCap", diagnostics.learned_output_cap),
        ("adaptiveTuning", diagnostics.adaptive_tuning),
        ("taskRouting", diagnostics.task_routing),
        ("provider", diagnostics.provider),
    ):
        if block is not None:
            document[name] = as_json(block)
    return document


def answer_size(key: str, answer: Answer) -> int:
    """What an answer costs the cache, in bytes: UTF-8 of key, model and text, compact JSON of all the rest."""
    parts = [as_json(answer.usage), as_json(answer.diagnostics), as_json(answer.tool_calls)]
    documents = json.dumps([*parts, [_logprob(entry) for entry in answer.logprobs]], separators=(",", ":"))
    return sum(len(text.encode("utf-8")) for text in (key, answer.model, answer.output, documents))


def _counts(counts: Counts) -> dict[str, int]:
    return {"prompt": counts.prompt, "completion": counts.completion, "total": counts.total}
