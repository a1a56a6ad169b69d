"""Warm-up requests from the configuration, as ordinary requests."""

from __future__ import annotations

from collections.abc import Sequence

from ray.config import WarmupRequest
from ray.types import InferenceRequest, Message

WARMUP_REQUEST_ID = "ray_warmup"
DEFAULT_INPUT = "ping"
DEFAULT_MAX_TOKENS = 1


def warmup_requests(entries: Sequence[WarmupRequest]) -> tuple[InferenceRequest, ...]:
    """The configured warm-ups in order, or one `ping`: temperature 0, top_p 1, one token unless configured otherwise.

    An entry with a template id sends the text of its variables, one per line: the model is exercised with the words
    that the template would carry.
    """
    return tuple(_request(entry) for entry in entries or (WarmupRequest(input=DEFAULT_INPUT),))


def _request(entry: WarmupRequest) -> InferenceRequest:
    text = entry.input or "\n".join(str(value) for value in entry.template_variables.values()) or DEFAULT_INPUT
    messages = [Message("user", text)]
    if entry.system:
        messages.insert(0, Message("system", entry.system))
    return InferenceRequest(
        messages=tuple(messages),
        max_tokens=entry.max_tokens or DEFAULT_MAX_TOKENS,
        temperature=0.0,
        top_p=1.0,
        seed=entry.seed,
        stop=entry.stop,
        response_format=entry.response_format,
    )
