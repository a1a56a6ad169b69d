"""An answer as it comes in: each chunk checked and cleaned before a reader sees it, and all of them put together.

A backend is not trusted: texts that cannot be written as UTF-8 are mended, an answer that is longer than its allowance
can explain is refused with `RayError provider_result_invalid`, whether it grows in text, tool calls or probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ray.errors import RayError
from ray.providers import Preparation
from ray.runtime.generation import Answer
from ray.runtime.result import bounded_diagnostics, clean_text, output_limit, output_too_long, usage_of
from ray.types import Chunk, Finish, TokenLogprob, ToolCall, ToolCallPart

MAX_TOOL_CALLS = 128
MAX_TOKEN_CHARS = 512
# Backends report the tokens that end an answer, too.
UNCOUNTED_TOKENS = 16
# What the chat protocol writes for a token that is next to impossible.
IMPOSSIBLE_LOGPROB = -9999.0


@dataclass(slots=True)
class _Call:
    """A tool call that is being written."""

    id: str
    name: str
    arguments: list[str] = field(default_factory=list)


class Gathering:
    """One answer to `preparation`. `request_id` names tool calls that the backend left without a name of their own."""

    __slots__ = ("_calls", "_finish", "_length", "_limit", "_logprobs", "_preparation", "_request_id", "_texts")

    def __init__(self, preparation: Preparation, request_id: str) -> None:
        self._preparation = preparation
        self._request_id = request_id
        self._limit = output_limit(preparation.request.max_tokens)
        self._length = 0
        self._texts: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._logprobs: list[TokenLogprob] = []
        self._finish: Finish | None = None

    @property
    def has_begun(self) -> bool:
        """The model has said something."""
        return bool(self._texts or self._calls)

    def add(self, chunk: Chunk) -> Chunk | None:
        """What readers get to see of `chunk`: None for one that says that the prefix is ready, and nothing else."""
        self._finish = chunk.finish or self._finish
        text = clean_text(chunk.text)
        if text:
            self._texts.append(text)
            self._grow(len(text))
        if chunk.tool_calls or chunk.logprobs:
            calls, logprobs = self._add_calls(chunk.tool_calls), self._add_logprobs(chunk.logprobs)
            if not (text or calls or logprobs or chunk.finish):
                return None
            return Chunk(text, chunk.finish, calls, logprobs)
        if not text and chunk.finish is None:
            return None
        return chunk if text is chunk.text else Chunk(text, chunk.finish)

    def answer(self, model: str, queue_time_ms: int, *, degraded: bool) -> Answer:
        """The whole answer, once the stream is over."""
        finish, preparation = self._finish, self._preparation
        if finish is None:
            raise RayError(
                "provider_result_invalid",
                "the backend's answer ended without saying why it finished",
                details={"field": "finish"},
            )
        output = "".join(self._texts)
        calls = tuple(ToolCall(call.id, call.name, "".join(call.arguments)) for _, call in sorted(self._calls.items()))
        return Answer(
            model=model,
            output=output,
            usage=usage_of(preparation.request, output, finish, preparation.prompt_tokens, calls),
            finish_reason=finish.reason,
            diagnostics=bounded_diagnostics(finish.diagnostics or preparation.diagnostics),
            degraded=degraded,
            queue_time_ms=queue_time_ms,
            tool_calls=calls,
            logprobs=tuple(self._logprobs),
        )

    def _grow(self, chars: int) -> None:
        self._length += chars
        if self._length > self._limit:
            raise output_too_long(self._length, self._preparation.request.max_tokens)

    def _add_calls(self, parts: tuple[ToolCallPart, ...]) -> tuple[ToolCallPart, ...]:
        """The parts with something new in them: the id and the name of each call once, with its first part."""
        added: list[ToolCallPart] = []
        for part in parts:
            arguments = clean_text(part.arguments)
            call = self._calls.get(part.index)
            if call is None:
                call = self._begin_call(part)
                added.append(ToolCallPart(part.index, call.id, call.name, arguments))
            elif arguments:
                added.append(ToolCallPart(part.index, arguments=arguments))
            if arguments:
                call.arguments.append(arguments)
                self._grow(len(arguments))
        return tuple(added)

    def _begin_call(self, part: ToolCallPart) -> _Call:
        name = clean_text(part.name or "")
        if part.index < 0 or not name or len(self._calls) >= MAX_TOOL_CALLS:
            raise RayError(
                "provider_result_invalid",
                f"the backend answered with a tool call that has no name or a wrong number, or with more than "
                f"{MAX_TOOL_CALLS} of them",
                details={"field": "toolCalls", "maxCalls": MAX_TOOL_CALLS},
            )
        call = _Call(clean_text(part.id or "") or f"call_{self._request_id}_{part.index}", name)
        self._grow(len(call.id) + len(call.name))
        self._calls[part.index] = call
        return call

    def _add_logprobs(self, entries: tuple[TokenLogprob, ...]) -> tuple[TokenLogprob, ...]:
        """Those that were asked for: one for each token, with at most so many alternatives."""
        wanted = self._preparation.request.top_logprobs
        if wanted is None:
            return ()
        cleaned = tuple(_cleaned(entry, wanted) for entry in entries)
        self._logprobs += cleaned
        limit = self._preparation.request.max_tokens + UNCOUNTED_TOKENS
        if len(self._logprobs) > limit:
            raise RayError(
                "provider_result_invalid",
                f"the backend reported the probabilities of more than {limit} tokens",
                details={"field": "logprobs", "maxTokens": limit},
            )
        return cleaned


def _cleaned(entry: TokenLogprob, wanted: int) -> TokenLogprob:
    """An entry that can be written as JSON: a logarithm of a probability is a number, and never above 0."""
    if len(entry.token) > MAX_TOKEN_CHARS:
        raise RayError(
            "provider_result_invalid",
            f"the backend reported a token of {len(entry.token)} characters",
            details={"field": "logprobs", "maxChars": MAX_TOKEN_CHARS},
        )
    logprob = min(0.0, entry.logprob) if math.isfinite(entry.logprob) else IMPOSSIBLE_LOGPROB
    return TokenLogprob(clean_text(entry.token), logprob, tuple(_cleaned(other, 0) for other in entry.top[:wanted]))
