"""An answer as a server-sent event stream: when it begins, what it sends, and how it ends.

What an event says is the writer's business: `/v1/infer` and the OpenAI-compatible routes each have their own. Leaving
the generation is this file's: whatever ends the stream (an answer, an error, a client that went away), the reader
leaves, and the last reader to leave cancels the work.
Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from ray.errors import RayError
from ray.gateway.exchange import Exchange
from ray.gateway.responses import event_stream_headers
from ray.http import COMMENT, Response
from ray.runtime import Reader
from ray.types import Chunk, InferenceResult

KEEP_ALIVE_SECONDS = 15.0


class EventWriter(Protocol):
    """The events of one stream, as bytes. `piece` may return none; `end` and `failure` are the last of their stream."""

    def piece(self, chunk: Chunk) -> bytes:
        """What a chunk says, its finish apart."""

    def end(self, result: InferenceResult) -> bytes:
        """The answer is complete."""

    def failure(self, error: RayError) -> bytes:
        """There will be no more of the answer."""


async def start_events(reader: Reader, exchange: Exchange, writer: EventWriter) -> Response:
    """Wait for the first token, so that everything that fails before it is an ordinary HTTP error."""
    try:
        await reader.started()
    except BaseException:  # a client that leaves now has no event stream yet that would be closed
        reader.leave()
        raise
    return Response(200, event_stream_headers(exchange.headers), AnswerEvents(reader, exchange, writer))


class AnswerEvents:
    """The event stream of one answer: what its writer makes of it, and a comment line when idle.

    An iterator of its own and not an async generator: closing a generator that was never started runs none of its
    code, and a client that leaves between the headers and the first event would keep the backend's slot busy.
    """

    __slots__ = ("_exchange", "_keep_alive", "_loop", "_over", "_reader", "_waits_since", "_writer")

    def __init__(self, reader: Reader, exchange: Exchange, writer: EventWriter) -> None:
        self._reader = reader
        self._exchange = exchange
        self._writer = writer
        self._over = False
        # One timer per stream, which arms itself again: most waits are short, and one for each would cost more than
        # passing on what they bring.
        self._loop = asyncio.get_running_loop()
        self._keep_alive: asyncio.TimerHandle | None = None
        self._waits_since = 0.0

    def __aiter__(self) -> AnswerEvents:
        return self

    async def __anext__(self) -> bytes:
        if self._over:
            raise StopAsyncIteration
        try:
            return await self._next_events()
        except RayError as error:
            self._leave()
            return self._writer.failure(error)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Leave the generation. May be called at any time and more than once."""
        if not self._over:
            self._exchange.cut_short = True
        self._leave()

    async def _next_events(self) -> bytes:
        """The next events, all that are there already: what came together is sent together. A comment when there was
        none for 15 s."""
        while True:
            self._waits_since = self._loop.time()
            if self._keep_alive is None:
                self._keep_alive = self._loop.call_later(KEEP_ALIVE_SECONDS, self._look_at_silence)
            chunks = await self._reader.take()
            if not chunks:
                return COMMENT
            events = [self._writer.piece(chunk) for chunk in chunks]
            if chunks[-1].finish is not None:
                result = await self._reader.result()
                self._leave()
                events.append(self._writer.end(result))
            data = b"".join(events)
            if data:
                return data

    def _look_at_silence(self) -> None:
        due = self._waits_since + KEEP_ALIVE_SECONDS
        now = self._loop.time()
        if now >= due:
            self._reader.stop_waiting()
            due = now + KEEP_ALIVE_SECONDS
        self._keep_alive = self._loop.call_at(due, self._look_at_silence)

    def _leave(self) -> None:
        self._over = True
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        self._reader.leave()
