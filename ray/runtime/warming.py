"""Warm-up requests: what the configuration wants sent before the gateway calls itself ready.

They are ordinary requests: tidied, rendered, admitted and generated like a client's, so that what they leave in the
backend's KV cache, and in the prefix store, is what real requests of their family look for.
"""

from __future__ import annotations

from dataclasses import replace

from ray.config import Config, MockAdapter, WarmupRequest
from ray.prompts import CompiledPrompt, catalog_of, compile_prompt, filled, template_values
from ray.types import InferenceRequest, Message

WARMUP_REQUEST_ID = "ray_warmup"
DEFAULT_INPUT = "ping"
DEFAULT_MAX_TOKENS = 1


def warmup_prompts(config: Config) -> list[CompiledPrompt]:
    """The configured warm-ups in order, or one `ping`: temperature 0, top_p 1, one token unless configured otherwise.

    None for a provider without a backend. Raises `RayError invalid_request` for template values that make no prompt.
    """
    adapter = config.model.adapter
    if isinstance(adapter, MockAdapter):
        return []
    entries = adapter.warmup_requests or (WarmupRequest(input=DEFAULT_INPUT),)
    return [_compiled(entry, config) for entry in entries]


def _compiled(entry: WarmupRequest, config: Config) -> CompiledPrompt:
    # Trimmed as a client's texts are: one blank more, and the backend would remember another beginning.
    messages = [Message("user", (entry.input or "").strip())]
    if entry.system:
        messages.insert(0, Message("system", entry.system.strip()))
    request = InferenceRequest(
        messages=tuple(messages),
        max_tokens=entry.max_tokens or DEFAULT_MAX_TOKENS,
        temperature=0.0,
        top_p=1.0,
        seed=entry.seed,
        stop=entry.stop,
        response_format=entry.response_format,
        cache=False,
    )
    template = catalog_of(config).get(entry.template_id) if entry.template_id is not None else None
    if template is not None:
        request = filled(request, template, template_values(template, entry.template_variables))
        request = replace(request, response_format=entry.response_format or template.response_format)
    return compile_prompt(request, config, template)
