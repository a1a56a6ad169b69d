"""`POST /v1/infer`: one answer, whole or streamed.

Both forms read the same generation. Leaving it is what matters: whatever ends the request (an answer, an error, a
client that went away), the reader leaves, and the last reader to leave cancels the work.
Source: http-api, section 4; for `"stream": true`, the WHATWG server-sent events format.
"""

from __future__ import annotations

import asyncio

from ray.errors import RayError
from ray.gateway.exchange import Exchange
from ray.gateway.json_request import read_json
from ray.gateway.responses import event_stream_headers, json_response, json_text
from ray.gateway.routes.route import Route
from ray.gateway.services import Services
from ray.http import COMMENT, Response, encode_event
from ray.runtime import Reader, normalise_request, result_document
from ray.types import InferenceResult

KEEP_ALIVE_SECONDS = 15.0


async def infer(services: Services, exchange: Exchange) -> Response:
    """The answer as one JSON object, or as events when the body says `"stream": true`.

    Raises RayError: the codes of reading and normalising a body, and every code of `Runtime.generate`.
    """
    body = await read_json(exchange.request, services.config.server.request_body_limit_bytes)
    streamed = wants_stream(body)
    request = normalise_request(body, services.config)
    runtime = services.runtime
    deadline = runtime.new_deadline()
    reader = await runtime.generate(request, exchange.caller, deadline, exchange.request_id)
    exchange.reported = True  # what a reader raises has been logged by the runtime
    if streamed:
        return await start_events(reader, exchange)
    async with reader:
        result = await reader.result()
    return json_response(200, answer_document(result, exchange), exchange.headers)


def wants_stream(body: object) -> bool:
    """Whether the body asks for events. Raises RayError `invalid_request` when `stream` is no boolean."""
    if not isinstance(body, dict):
        return False
    wanted = body.get("stream", False)
    if not isinstance(wanted, bool):
        raise RayError("invalid_request", "stream must be true or false", details={"field": "stream"})
    return wanted


def answer_document(result: InferenceResult, exchange: Exchange) -> dict[str, object]:
    """The response object. Its `id` is Ray's own and fresh, also when the caller named the request."""
    document = result_document(result)
    document["id"] = exchange.inference_id
    return document


async def start_events(reader: Reader, exchange: Exchange) -> Response:
    """Wait for the first token, so that everything that fails before it is an ordinary HTTP error."""
    try:
        await reader.started()
    except BaseException:  # a client that leaves now has no event stream yet that would be closed
        reader.leave()
        raise
    return Response(200, event_stream_headers(exchange.headers), AnswerEvents(reader, exchange))


class AnswerEvents:
    """The event stream of one answer: `token` events, then one `result` or one `error`; a comment line when idle.

    An iterator of its own and not an async generator: closing a generator that was never started runs none of its
    code, and a client that leaves between the headers and the first event would keep the backend's slot busy.
    """

    __slots__ = ("_exchange", "_over", "_reader")

    def __init__(self, reader: Reader, exchange: Exchange) -> None:
        self._reader = reader
        self._exchange = exchange
        self._over = False

    def __aiter__(self) -> AnswerEvents:
        return self

    async def __anext__(self) -> bytes:
        if self._over:
            raise StopAsyncIteration
        try:
            return await self._next_event()
        except TimeoutError:
            return COMMENT
        except RayError as error:
            return self._last("error", error.envelope())
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Leave the generation. May be called at any time and more than once."""
        if not self._over:
            self._exchange.cut_short = True
        self._over = True
        self._reader.leave()

    async def _next_event(self) -> bytes:
        """The next event, with those that are there already: what came together is sent together.

        Raises TimeoutError when there was none for 15 s; a reader takes no harm from that.
        """
        while True:
            async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                first = await anext(self._reader)
            events = []
            for chunk in (first, *self._reader.take_ready()):
                if chunk.text:
                    events.append(encode_event("token", json_text({"text": chunk.text})))
                if chunk.finish is not None:
                    result = await self._reader.result()
                    events.append(self._last("result", answer_document(result, self._exchange)))
            if events:
                return b"".join(events)

    def _last(self, event: str, document: dict[str, object]) -> bytes:
        self._over = True
        self._reader.leave()
        return encode_event(event, json_text(document))


INFER = Route("POST", "/v1/infer", infer, limited=True)
