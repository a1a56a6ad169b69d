"""The two ways to the model that the prefix bench compares: `llama-server` asked directly, and through the gateway.

Both are asked for the same text with the same parameters, and both stream, so that the time to the first token is
seen where it counts: at the client. What a door's answers look like is read here, without a socket.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ray.bench.budgets.workload import Question
from ray.bench.processes.process import MeasurementError

SAMPLING_SEED = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `cached_tokens`: prompt tokens that the backend found in its KV cache; `prefix`: how Ray says
    the prefix came there; `queue_ms`: how long Ray let the request wait. None where a door does not say."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    prefix: str | None = None
    queue_ms: float | None = None


class AnswerReader(Protocol):
    """Gathers one streamed answer, event by event."""

    def feed(self, event: str | None, data: str) -> bool:
        """Take one event; True when it brought text. Raises `MeasurementError` for an error event."""

    def answer(self) -> Answer:
        """The whole answer, after the last event. Raises `MeasurementError` when it is not complete."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where to ask, how, and how to read the answer. `body(question, tokens, reuse)`: the JSON of one request."""

    path: str
    body: Callable[[Question, int, bool], dict[str, object]]
    reader: Callable[[], AnswerReader]


def direct_body(question: Question, tokens: int, reuse: bool) -> dict[str, object]:
    """A chat completion of `llama-server`. Without `reuse` it reads the whole prompt anew."""
    return {
        "messages": [
            {"role": "system", "content": question.system},
            {"role": "user", "content": question.line},
        ],
        "max_tokens": tokens,
        "temperature": 0,
        "top_p": 0.95,
        "seed": SAMPLING_SEED,
        "stream": True,
        "stream_options": {"include_usage": True},
        **({} if reuse else {"cache_prompt": False}),
    }


def gateway_body(question: Question, tokens: int, reuse: bool) -> dict[str, object]:
    """The same for `/v1/infer`. `cache` false keeps the response cache out; whether a prefix is reused is Ray's
    own decision."""
    return {
        "system": question.system,
        "input": question.line,
        "maxTokens": tokens,
        "temperature": 0,
        "topP": 0.95,
        "seed": SAMPLING_SEED,
        "stream": True,
        "cache": False,
    }


class DirectReader:
    """The events of `/v1/chat/completions`: deltas, then usage with `timings`, then `[DONE]`."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._last: Mapping[str, object] = {}

    def feed(self, event: str | None, data: str) -> bool:
        if data == "[DONE]":
            return False
        document = _object(data)
        if "error" in document:
            raise MeasurementError(f"the chat was answered with an error: {data[:300]}")
        if isinstance(document.get("usage"), dict):
            self._last = document
        choices = document.get("choices")
        delta = choices[0].get("delta", {}) if isinstance(choices, list) and choices else {}
        piece = delta.get("content") or ""
        if piece:
            self._pieces.append(piece)
        return bool(piece)

    def answer(self) -> Answer:
        usage, timings = _part(self._last, "usage"), _part(self._last, "timings")
        return Answer(
            "".join(self._pieces),
            _count(usage, "prompt_tokens"),
            _count(usage, "completion_tokens"),
            _count(timings, "cache_n"),
        )


class GatewayReader:
    """The events of `/v1/infer` with `"stream": true`: `token` events, then one `result`."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._result: Mapping[str, object] = {}

    def feed(self, event: str | None, data: str) -> bool:
        if event == "token":
            self._pieces.append(str(_object(data).get("text", "")))
            return True
        if event == "result":
            self._result = _object(data)
            return False
        raise MeasurementError(f"the gateway answered with {event or 'an event without name'}: {data[:300]}")

    def answer(self) -> Answer:
        tokens = _part(_part(self._result, "usage"), "tokens")
        provider = _part(_part(self._result, "diagnostics"), "provider")
        prefix = _part(provider, "prefix").get("state")
        queued = self._result.get("queueTimeMs")
        return Answer(
            "".join(self._pieces),
            _count(tokens, "prompt"),
            _count(tokens, "completion"),
            _count(provider, "tokensCached"),
            prefix if isinstance(prefix, str) else None,
            float(queued) if isinstance(queued, int | float) else None,
        )


class ChatReader(DirectReader):
    """The same events from the gateway: what the backend had in its KV cache is in the usage, where the protocol has a
    place for it, and the `ray` object of the last event tells about prefix and queue."""

    def __init__(self) -> None:
        super().__init__()
        self._about: Mapping[str, object] = {}

    def feed(self, event: str | None, data: str) -> bool:
        if data != "[DONE]":
            self._about = _part(_object(data), "ray") or self._about
        return super().feed(event, data)

    def answer(self) -> Answer:
        usage, about = _part(self._last, "usage"), self._about
        prefix, queued = _part(about, "prefix").get("state"), about.get("queueTimeMs")
        return Answer(
            "".join(self._pieces),
            _count(usage, "prompt_tokens"),
            _count(usage, "completion_tokens"),
            _count(_part(usage, "prompt_tokens_details"), "cached_tokens"),
            prefix if isinstance(prefix, str) else None,
            float(queued) if isinstance(queued, int | float) else None,
        )


def chat_body(question: Question, tokens: int, reuse: bool) -> dict[str, object]:
    """The chat completion of `direct_body` for the gateway, letter by letter: whether a prefix is reused is Ray's own
    decision."""
    return direct_body(question, tokens, True)


DIRECT = Door("/v1/chat/completions", direct_body, DirectReader)
THROUGH = Door("/v1/infer", gateway_body, GatewayReader)
THROUGH_CHAT = Door("/v1/chat/completions", chat_body, ChatReader)


def _object(data: str) -> dict[str, object]:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise MeasurementError(f"an event is not JSON: {data[:300]}") from error
    if not isinstance(document, dict):
        raise MeasurementError(f"an event is not a JSON object: {data[:300]}")
    return document


def _part(document: Mapping[str, object], key: str) -> Mapping[str, object]:
    part = document.get(key)
    return part if isinstance(part, dict) else {}


def _count(document: Mapping[str, object], key: str) -> int:
    value = document.get(key)
    if not isinstance(value, int):
        raise MeasurementError(f"an answer ended without saying {key}")
    return value
