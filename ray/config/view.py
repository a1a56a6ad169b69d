"""A config as data: the full document, and the view that `GET /v1/config` may show."""

from __future__ import annotations

from ray.config.adapters import LlamaCppAdapter
from ray.config.schema import CONFIG, Config

REDACTED = "[redacted]"


def config_document(config: Config) -> dict[str, object]:
    """The effective config with camelCase keys, paths absolute, absent optional keys left out.

    It holds header values: for people who may read the config file anyway. Loading it again gives an equal config.
    """
    return CONFIG.write(config)


def sanitised_config(config: Config) -> dict[str, object]:
    """The `/v1/config` body: the document with header values redacted, and `capabilityHints` as its last key."""
    document = config_document(config)
    model = document["model"]
    adapter = model.get("adapter") if isinstance(model, dict) else None
    if isinstance(adapter, dict) and isinstance(adapter.get("headers"), dict):
        adapter["headers"] = dict.fromkeys(adapter["headers"], REDACTED)
    document["capabilityHints"] = capability_hints(config, document)
    return document


def capability_hints(config: Config, document: dict[str, object]) -> dict[str, object]:
    """What a client may want to know before it asks: the model, its limits and its backend's shape."""
    model = config.model
    hints: dict[str, object] = {
        "profile": config.profile,
        "modelId": model.id,
        "family": model.family,
        "quantization": model.quantization,
        "contextWindow": model.context_window,
        "maxOutputTokens": model.max_output_tokens,
    }
    written = document["model"]
    if isinstance(written, dict) and "operational" in written:
        hints["operational"] = dict(written["operational"])
    if isinstance(model.adapter, LlamaCppAdapter):
        hints["llamaCpp"] = _llama_cpp_hints(model.adapter)
    return hints


def _llama_cpp_hints(adapter: LlamaCppAdapter) -> dict[str, object]:
    hints: dict[str, object] = {"modelRef": adapter.model_ref}
    launch = adapter.launch_profile
    if launch is not None:
        hints |= {"launchPreset": launch.preset, "ctxSize": launch.ctx_size, "parallel": launch.parallel}
        if launch.cache_ram_mib is not None:
            hints["cacheRamMiB"] = launch.cache_ram_mib
    return hints | {"cachePrompt": adapter.cache_prompt}
