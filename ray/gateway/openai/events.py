"""Streamed completions: `data:` events with chunks, then `data: [DONE]`; a failure is an event with an error and no
`[DONE]`, so that nobody takes half an answer for a whole one.

The chunk that ends the answer carries `finish_reason` and the `ray` object; with `include_usage` one more chunk,
without choices, carries the usage.
"""

from __future__ import annotations

from ray.errors import RayError
from ray.gateway.openai.documents import (
    CHAT_CHUNK,
    COMPLETION,
    Document,
    Identity,
    chat_chunk,
    completion_chunk,
    completion_logprobs,
    ray_document,
    tool_call_delta,
    usage_document,
)
from ray.gateway.openai.errors import error_document
from ray.gateway.responses import json_text
from ray.http import encode_event
from ray.types import Chunk, InferenceResult

DONE = encode_event(None, "[DONE]")


class ChatEvents:
    """The events of one chat: the assistant's role first, then text and tool calls as they come."""

    __slots__ = ("_after_text", "_before_text", "_begun", "_identity", "_include_usage")

    def __init__(self, identity: Identity, *, include_usage: bool) -> None:
        self._identity = identity
        self._include_usage = include_usage
        self._begun = False
        # An event with nothing but text, cut where the text goes: the rest is the same in all of them.
        before, empty, after = self._event(chat_chunk(identity, {"content": ""})).rpartition(b'"content":""')
        self._before_text = before + empty[:-2]
        self._after_text = after

    def piece(self, chunk: Chunk) -> bytes:
        events = b""
        if self._begun and chunk.text and not chunk.tool_calls and not chunk.logprobs:
            return self._before_text + event_text(chunk.text).encode() + self._after_text
        if not self._begun:
            self._begun = True
            role: Document = {"role": "assistant", "content": None if chunk.tool_calls else "", "refusal": None}
            events = self._event(chat_chunk(self._identity, role))
        delta: Document = {}
        if chunk.text:
            delta["content"] = chunk.text
        if chunk.tool_calls:
            delta["tool_calls"] = [tool_call_delta(part) for part in chunk.tool_calls]
        if not delta and not chunk.logprobs:
            return events
        return events + self._event(chat_chunk(self._identity, delta, chunk.logprobs))

    def end(self, result: InferenceResult) -> bytes:
        last = chat_chunk(self._identity, {}, finish_reason=result.finish_reason)
        last["ray"] = ray_document(result)
        return self._event(last) + usage_event(self._identity, CHAT_CHUNK, result, self._include_usage) + DONE

    def failure(self, error: RayError) -> bytes:
        return error_event(error)

    def _event(self, document: Document) -> bytes:
        return chunk_event(document, self._include_usage)


class CompletionEvents:
    """The events of one continuation. `text_offset` of probabilities counts from the beginning of the answer."""

    __slots__ = ("_identity", "_include_usage", "_offset")

    def __init__(self, identity: Identity, *, include_usage: bool) -> None:
        self._identity = identity
        self._include_usage = include_usage
        self._offset = 0

    def piece(self, chunk: Chunk) -> bytes:
        if not chunk.text and not chunk.logprobs:
            return b""
        logprobs = completion_logprobs(chunk.logprobs, self._offset)
        self._offset += len(chunk.text)
        return chunk_event(completion_chunk(self._identity, chunk.text, logprobs), self._include_usage)

    def end(self, result: InferenceResult) -> bytes:
        last = completion_chunk(self._identity, "", finish_reason=result.finish_reason)
        last["ray"] = ray_document(result)
        usage = usage_event(self._identity, COMPLETION, result, self._include_usage)
        return chunk_event(last, self._include_usage) + usage + DONE

    def failure(self, error: RayError) -> bytes:
        return error_event(error)


def chunk_event(document: Document, include_usage: bool) -> bytes:
    """A chunk as an event. Where a usage will come, every chunk before it says that it is not the one."""
    if include_usage:
        document["usage"] = None
    return event(document)


def usage_event(identity: Identity, kind: str, result: InferenceResult, include_usage: bool) -> bytes:
    """The chunk with the usage, if it was asked for; its usage is null when nobody counted."""
    if not include_usage:
        return b""
    document = identity.document(kind)
    document |= {"choices": [], "usage": usage_document(result)}
    return event(document)


def error_event(error: RayError) -> bytes:
    """What ends a stream that failed after its beginning."""
    return event(error_document(error))


def event(document: Document) -> bytes:
    """One `data:` event."""
    return encode_event(None, event_text(document))


def event_text(value: object) -> str:
    """JSON in one line. Characters that some readers take for the end of a line are escaped: not every client splits
    lines as server-sent events want them split."""
    text = json_text(value)
    if not text.isascii():
        text = text.replace("\x85", "\\u0085").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return text
