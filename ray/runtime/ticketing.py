"""What the scheduler is told about a prepared request, and what the provider is told about its admission. Pure."""

from __future__ import annotations

from dataclasses import replace

from ray.config import Config
from ray.errors import RayError
from ray.providers import CallContext, Preparation
from ray.runtime.budget import context_window
from ray.runtime.conversation import continued_turns
from ray.runtime.result import estimated_prompt_tokens
from ray.runtime.scheduler import Admission, Ticket


def ticket_for(preparation: Preparation, context: CallContext, config: Config) -> Ticket:
    """What the request will cost, once it is known to fit the context window. Raises
    `RayError request_context_window_exceeded`."""
    request = preparation.request
    prompt_tokens = preparation.prompt_tokens or estimated_prompt_tokens(request)
    total = prompt_tokens + request.max_tokens
    window = context_window(preparation, config)
    if total > window:
        raise RayError(
            "request_context_window_exceeded",
            f"{prompt_tokens} prompt tokens and {request.max_tokens} completion tokens do not fit the model's "
            f"context window of {window}; shorten the prompt or lower maxTokens",
            details={
                "promptTokens": prompt_tokens,
                "maxTokens": request.max_tokens,
                "totalTokens": total,
                "contextWindow": window,
            },
        )
    affinity = preparation.prefix.key if preparation.prefix is not None else context.family
    return Ticket(total, context.lane, context.deadline, affinity, continued_turns(request))


def in_slot(context: CallContext, admission: Admission, preparation: Preparation) -> CallContext:
    """The context of a generation that was admitted. Only a known prefix can be known to be hot."""
    if admission.slot is None:
        return context
    return replace(
        context,
        slot=admission.slot,
        hot=admission.hot and preparation.prefix is not None,
        crowding=admission.crowding,
        continues=admission.continues,
    )
