"""Warm-up requests: what the configuration wants sent before the gateway calls itself ready.

They are ordinary requests: tidied, rendered, admitted and generated like a client's, so that what they leave in the
backend's KV cache, and in the prefix store, is what real requests of their family look for.
"""

from __future__ import annotations

from ray.config import Config, MockAdapter, WarmupRequest
from ray.types import InferenceRequest, Message

WARMUP_REQUEST_ID = "ray_warmup"
DEFAULT_INPUT = "ping"
DEFAULT_MAX_TOKENS = 1


def warmup_requests(config: Config) -> tuple[InferenceRequest, ...]:
    """The configured warm-ups in order, or one `ping`: temperature 0, top_p 1, one token unless configured otherwise.

    None for a provider without a backend.
    """
    adapter = config.model.adapter
    if isinstance(adapter, MockAdapter):
        return ()
    return tuple(_request(entry) for entry in adapter.warmup_requests or (WarmupRequest(input=DEFAULT_INPUT),))


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
        cache=False,
    )
