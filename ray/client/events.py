"""The events of a streamed answer as typed items. Bytes in, items out; no sockets.

A stream ends well in one way only: with its last item. Whatever else ends it is an exception.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar, cast

from ray.client.answers import error_fields_of, request_id_of, stream_refusal, unusable
from ray.client.calls import Call
from ray.client.documents import ChatAnswer
from ray.http import SseDecoder
from ray.questions import InferAnswer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Result:
    """The end: the whole answer, with its usage and diagnostics."""

    answer: InferAnswer


class Events(ABC, Generic[T]):
    """What the two kinds of streams share. `ended`: the last item has come, and nothing after it is looked at."""

    def __init__(self, call: Call, headers: Mapping[str, str], max_event_bytes: int) -> None:
        self._call = call
        self._headers = headers
        self._decoder = SseDecoder(max_event_bytes)
        self.ended = False

    def feed(self, data: bytes) -> Iterator[T]:
        """The items that these bytes complete, each before the next is looked at: what came before an error is not
        lost. Raises RayRefused (an error event) and RayAnswerError."""
        try:
            events = self._decoder.feed(data)
        except ValueError as error:
            self._unusable(str(error))
        for name, text in events:
            if self.ended:
                return
            item = self._item(name, text)
            if item is not None:
                yield item

    def end(self) -> None:
        """The bytes are over. Raises RayAnswerError when the last item has not come."""
        if not self.ended:
            self._unusable("the stream was cut off before its end")

    @abstractmethod
    def _item(self, name: str | None, text: str) -> T | None:
        """The item that an event is, or None for one that is none. Raises RayRefused and RayAnswerError."""

    def _object(self, text: str) -> dict[str, object]:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            self._unusable("an event of the stream is not a JSON object")
        return document

    def _refuse(self, text: str) -> NoReturn:
        self.ended = True
        raise stream_refusal(self._call, text, request_id_of(self._headers))

    def _unusable(self, what: str) -> NoReturn:
        raise unusable(self._call, self._headers, 200, what) from None


class InferEvents(Events[Token | Result]):
    """`token` events, then one `result` or `error` (http-api, section 4.3). Unknown events are read over."""

    def _item(self, name: str | None, text: str) -> Token | Result | None:
        if name == "token":
            piece = self._object(text).get("text")
            if not isinstance(piece, str):
                self._unusable("a token event of the stream has no text")
            return Token(piece)
        if name == "result":
            self.ended = True
            return Result(cast(InferAnswer, self._object(text)))
        if name == "error":
            self._refuse(text)
        return None


class ChatEvents(Events[ChatAnswer]):
    """Chunks, then `[DONE]`; or `{"error": …}` and nothing more."""

    def _item(self, name: str | None, text: str) -> ChatAnswer | None:
        if text.strip() == "[DONE]":
            self.ended = True
            return None
        chunk = self._object(text)
        if "error" in chunk and error_fields_of(chunk) != (None, None):
            self._refuse(text)
        choices = chunk.get("choices", [])
        if not isinstance(choices, list) or not all(_is_choice(choice) for choice in choices):
            self._unusable("a chunk of the stream has choices of another form")
        return cast(ChatAnswer, chunk)


def _is_choice(choice: object) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("delta", {}), dict)


def delta_text(chunk: ChatAnswer) -> str:
    """The text that a chunk adds to the answer; "" for the first, the last, and those that carry something else."""
    for choice in chunk.get("choices", []):
        content = choice.get("delta", {}).get("content")
        if isinstance(content, str) and content:
            return content
    return ""
