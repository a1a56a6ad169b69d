"""`POST /v1/infer`: one answer, whole or streamed.

Both forms read the same generation, and whatever ends the request (an answer, an error, a client that went away) ends
with leaving it: the last reader to leave cancels the work.
Source: http-api, section 4; for `"stream": true`, the WHATWG server-sent events format.
"""

from __future__ import annotations

from ray.errors import RayError
from ray.gateway.answer_events import start_events
from ray.gateway.exchange import Exchange
from ray.gateway.json_request import read_json
from ray.gateway.responses import json_response, json_text
from ray.gateway.routes.route import BACKEND_CODES, Route
from ray.gateway.services import Services
from ray.http import Response, encode_event
from ray.runtime import INFER_FIELDS, INFER_RULES, Field, Flag, normalise_request, result_document
from ray.types import Chunk, InferenceResult


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
        return await start_events(reader, exchange, InferEvents(exchange))
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


class InferEvents:
    """`token` events, then one `result` or one `error`."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def piece(self, chunk: Chunk) -> bytes:
        return encode_event("token", json_text({"text": chunk.text})) if chunk.text else b""

    def end(self, result: InferenceResult) -> bytes:
        return encode_event("result", json_text(answer_document(result, self._exchange)))

    def failure(self, error: RayError) -> bytes:
        return encode_event("error", json_text(error.envelope()))


STREAM = Field("stream", Flag(), "true: the answer comes as server-sent events.", default=False)
INFER = Route(
    "POST",
    "/v1/infer",
    infer,
    limited=True,
    doc="One answer of the model, whole or streamed.",
    request=(*INFER_FIELDS, STREAM),
    rules=INFER_RULES,
    responses={200: "InferenceResult"},
    codes=("invalid_request", *BACKEND_CODES),
)
