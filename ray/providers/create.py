"""Choosing the provider that a configuration asks for."""

from __future__ import annotations

from collections.abc import Mapping

from ray.config import Config, LlamaCppAdapter, MockAdapter, OpenAICompatibleAdapter
from ray.errors import RayError
from ray.providers.base import PrefixObserver, Provider


def create_provider(config: Config, environ: Mapping[str, str], observer: PrefixObserver | None = None) -> Provider:
    """The provider for `config.model.adapter`. `environ`: where the backend's API key is looked up at each request;
    `observer`: who counts what the prefix store does.

    The modules of the backends that are not used are not loaded. Raises `provider_unsupported`.
    """
    adapter = config.model.adapter
    if isinstance(adapter, MockAdapter):
        from ray.providers.mock import MockProvider

        return MockProvider(config, adapter)
    if isinstance(adapter, OpenAICompatibleAdapter):
        from ray.providers.openai_compatible import OpenAICompatibleProvider

        return OpenAICompatibleProvider(config, adapter, environ)
    if isinstance(adapter, LlamaCppAdapter):
        from ray.providers.llama_cpp.provider import LlamaCppProvider

        return LlamaCppProvider(config, adapter, environ, observer)
    raise RayError(
        "provider_unsupported", f"there is no provider for model.adapter.kind {getattr(adapter, 'kind', adapter)!r}"
    )
