"""Vectors of texts from a backend's `/v1/embeddings`: a few texts at a time, and every answer checked.

A backend that cannot do it says so in its own way; `embeddings_unsupported` says it in one, with the remedy.
"""

from __future__ import annotations

import math
import sys
from array import array
from binascii import Error as NotBase64
from binascii import a2b_base64

from ray.clock import Deadline
from ray.errors import RayError
from ray.providers.reading import count, mapping
from ray.providers.upstream import Upstream, upstream_status
from ray.types import Embeddings

EMBEDDINGS_PATH = "/v1/embeddings"
# So many vectors of a large model fit into the longest answer that is read, even written out in digits.
TEXTS_PER_CALL = 8
MAX_DIMENSIONS = 16_384
# What a server answers that has no such route, or was started for other work.
_NOT_OFFERED = frozenset({404, 405, 501})


async def embed(
    upstream: Upstream, model_ref: str, texts: tuple[str, ...], deadline: Deadline, *, remedy: str, is_compact: bool
) -> Embeddings:
    """`is_compact`: the backend is known to write vectors as base64 when asked to. `remedy`: what to do about a backend
    without embeddings. `model` of the answer is `model_ref`.

    Codes: `embeddings_unsupported`, `provider_invalid_response`, and those of `Upstream.call`.
    """
    vectors: list[tuple[float, ...]] = []
    tokens: int | None = 0
    for start in range(0, len(texts), TEXTS_PER_CALL):
        some = texts[start : start + TEXTS_PER_CALL]
        body: dict[str, object] = {"model": model_ref, "input": list(some)}
        if is_compact:
            body["encoding_format"] = "base64"
        try:
            answer = mapping(await upstream.call("POST", EMBEDDINGS_PATH, body, deadline=deadline))
        except RayError as error:
            raise _as_unsupported(error, remedy) or error from None
        vectors += _vectors(upstream, answer.get("data"), len(some))
        counted = count(mapping(answer.get("usage")).get("prompt_tokens"))
        tokens = None if tokens is None or counted is None else tokens + counted
    if len({len(vector) for vector in vectors}) > 1:
        raise upstream.invalid(EMBEDDINGS_PATH, "has vectors of different lengths")
    return Embeddings(model_ref, tuple(vectors), tokens)


def _as_unsupported(error: RayError, remedy: str) -> RayError | None:
    """None when the refusal has another reason."""
    status = upstream_status(error)
    # A model without a pooling of its own gives a vector for each token, which is no embedding of a text.
    is_unpooled = status == 400 and "pooling" in str(mapping(error.details).get("body", "")).lower()
    if status not in _NOT_OFFERED and not is_unpooled:
        return None
    return RayError(
        "embeddings_unsupported", f"the model backend offers no embeddings: {remedy}", details=mapping(error.details)
    )


def _vectors(upstream: Upstream, data: object, expected: int) -> list[tuple[float, ...]]:
    """In the order of the texts, whatever the order of the answer."""
    entries = data if isinstance(data, list) else []
    by_index: dict[int, tuple[float, ...]] = {}
    for position, entry in enumerate(entries):
        index = count(mapping(entry).get("index"))
        vector = _vector(mapping(entry).get("embedding"))
        if vector is None:
            raise upstream.invalid(EMBEDDINGS_PATH, "has a vector that is not a list of finite numbers")
        by_index[position if index is None else index] = vector
    if len(entries) != expected or sorted(by_index) != list(range(expected)):
        raise upstream.invalid(EMBEDDINGS_PATH, f"does not have one vector for each of {expected} texts")
    return [by_index[index] for index in range(expected)]


def _vector(value: object) -> tuple[float, ...] | None:
    if isinstance(value, str):
        return _decoded(value)
    if not isinstance(value, list) or not 0 < len(value) <= MAX_DIMENSIONS:
        return None
    if any(isinstance(item, bool) or not isinstance(item, int | float) for item in value):
        return None
    try:
        return _finite(tuple(float(item) for item in value))
    except OverflowError:
        return None


def _decoded(encoded: str) -> tuple[float, ...] | None:
    """The protocol's other spelling: little-endian 32-bit floats in base64."""
    try:
        data = a2b_base64(encoded, strict_mode=True)
    except (NotBase64, ValueError):
        return None
    if not data or len(data) % 4 or len(data) > 4 * MAX_DIMENSIONS:
        return None
    numbers = array("f", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return _finite(tuple(numbers))


def _finite(vector: tuple[float, ...]) -> tuple[float, ...] | None:
    return vector if all(map(math.isfinite, vector)) else None
