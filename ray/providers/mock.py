"""The provider without a backend: a fixed text, for smoke tests, demos and measuring the gateway itself.

The text is the same for the same request and config. Sampling, `max_tokens`, `stop` and JSON mode change nothing; for a
JSON schema the answer is the emptiest document of its shape. It was certain of every word; it knows no tools.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Mapping
from hashlib import sha256

from ray.clock import Deadline, iso_now
from ray.config import Config, MockAdapter
from ray.providers.base import CallContext, Preparation
from ray.providers.reading import mapping
from ray.providers.tool_calls import refusal, wants_tools
from ray.types import Chunk, Embeddings, Finish, Health, InferenceRequest, TokenLogprob

MAX_SYSTEM_CHARS = 72
MAX_INPUT_CHARS = 320
PIECES = 8
DIMENSIONS = 16
MAX_SCHEMA_DEPTH = 32
_EMPTY: Mapping[str, object] = {"string": "", "integer": 0, "number": 0, "boolean": False, "null": None, "array": []}


class MockProvider:
    """Answers after `latency_ms`, piece by piece."""

    kind = "mock"

    def __init__(self, config: Config, adapter: MockAdapter) -> None:
        self.model_id = config.model.id[:512]
        self._latency_s = adapter.latency_ms / 1000
        self._signature = f"[ray:mock model={config.model.id} profile={config.profile} seed={adapter.seed}]"

    @property
    def assignable_slots(self) -> int | None:
        """There are no slots."""
        return None

    @property
    def slots_epoch(self) -> int:
        """Nothing is ever lost."""
        return 0

    def prefix_health(self) -> Mapping[str, object] | None:
        """There is no prefix store."""
        return None

    async def warm(self) -> None:
        """There is nothing to warm."""

    async def health(self) -> Health:
        return Health("ready", checked_at=iso_now(), latency_ms=0.0)

    async def prepare(self, request: InferenceRequest, context: CallContext) -> Preparation:
        """The request as it is; nobody counts tokens. Raises `invalid_request` for one with tools."""
        if wants_tools(request):
            raise refusal("the mock has no model. Configure another model.adapter.kind, or leave out the tools")
        return Preparation(request)

    async def stream(self, preparation: Preparation, context: CallContext) -> AsyncIterator[Chunk]:
        """The text in up to `PIECES` chunks of equal length, spread evenly over the latency. Raises nothing."""
        request = preparation.request
        text = self._text(request)
        size = -(-len(text) // PIECES)
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        for piece in pieces:
            await asyncio.sleep(self._latency_s / len(pieces))
            yield Chunk(
                piece, logprobs=() if request.top_logprobs is None else (_certain(piece, request.top_logprobs),)
            )
        yield Chunk(finish=Finish("stop"))

    async def embed(self, texts: tuple[str, ...], deadline: Deadline) -> Embeddings:
        """Unit vectors that depend on nothing but the text, and mean nothing. Nobody counts tokens."""
        await asyncio.sleep(self._latency_s)
        return Embeddings(self.model_id, tuple(map(_unit_vector, texts)))

    async def close(self) -> None:
        """There is nothing to give back."""

    def _text(self, request: InferenceRequest) -> str:
        if request.response_format == "json_schema" and request.json_schema is not None:
            return json.dumps(_emptiest(json.loads(request.json_schema)), ensure_ascii=False, separators=(",", ":"))
        system = request.system
        lines = [self._signature]
        if system:
            lines.append(f"system={system[:MAX_SYSTEM_CHARS]}")
        lines.append(request.messages[-1].content[:MAX_INPUT_CHARS])
        return "\n".join(lines)


def _unit_vector(text: str) -> tuple[float, ...]:
    # From -127.5 to 127.5 and never 0, so that the length is not 0 either.
    numbers = [byte - 127.5 for byte in sha256(text.encode("utf-8", "replace")).digest()[:DIMENSIONS]]
    length = math.hypot(*numbers)
    return tuple(number / length for number in numbers)


def _certain(piece: str, top: int) -> TokenLogprob:
    return TokenLogprob(piece, 0.0, (TokenLogprob(piece, 0.0),) if top else ())


def _emptiest(schema: object, depth: int = 0) -> object:
    """A value of the schema's type with nothing in it but what is required. An object where the schema says little."""
    given = mapping(schema)
    if "const" in given:
        return given["const"]
    choices = given.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    kind = given.get("type")
    if isinstance(kind, list) and kind:
        kind = kind[0]
    if isinstance(kind, str) and kind in _EMPTY:
        return _EMPTY[kind]
    properties, required = mapping(given.get("properties")), given.get("required")
    if depth >= MAX_SCHEMA_DEPTH or not isinstance(required, list):
        return {}
    return {name: _emptiest(properties.get(name), depth + 1) for name in required if isinstance(name, str)}
