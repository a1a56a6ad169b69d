"""What fits: the tokens of one request, of all that run together, and of a KV cache that all slots share."""

from __future__ import annotations

from dataclasses import dataclass

from ray.config import Config, LaunchProfile, LlamaCppAdapter
from ray.providers import Preparation


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """How many tokens may be in flight: all requests `together`, and `each` one alone."""

    together: int
    each: int


def inflight_token_budget(config: Config) -> TokenBudget:
    """The in-flight tokens that both the operator and the backend's KV cache allow.

    llama-server with a unified KV cache shares one pool of `ctxSize` tokens between all slots and fails every
    generation in it when the pool overflows; without, each of the `parallel` slots owns an equal part of it.
    """
    limit = config.scheduler.max_inflight_tokens
    launch = launch_profile(config)
    if launch is None:
        return TokenBudget(limit, limit)
    return TokenBudget(min(limit, launch.ctx_size), min(limit, slot_context(launch)))


def launch_profile(config: Config) -> LaunchProfile | None:
    """How the backend was launched, where the config says so."""
    adapter = config.model.adapter
    return adapter.launch_profile if isinstance(adapter, LlamaCppAdapter) else None


def shared_pool(config: Config) -> int | None:
    """Cells of the KV cache that all slots share, idle ones too; None when each slot has its own or nobody says."""
    launch = launch_profile(config)
    return launch.ctx_size if launch is not None and launch.enable_unified_kv and launch.parallel > 1 else None


def slot_context(launch: LaunchProfile) -> int:
    """Tokens that one request may fill in the KV cache: the whole pool if it is shared, else one slot's part."""
    if launch.enable_unified_kv:
        return launch.ctx_size
    return max(1, launch.ctx_size // max(1, launch.parallel))


def context_window(preparation: Preparation, config: Config) -> int:
    """Tokens that prompt and answer may fill together: the backend's word, else the launch profile's, else the
    operational figures', else the model's."""
    if preparation.context_window is not None and preparation.context_window > 0:
        return preparation.context_window
    launch = launch_profile(config)
    if launch is not None:
        return slot_context(launch)
    if config.model.operational is not None:
        return config.model.operational.preferred_ctx_size
    return config.model.context_window
