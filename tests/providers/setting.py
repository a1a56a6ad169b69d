"""What provider tests share: a config for a fake backend, a request, and a whole answer in one value."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ray.clock import Deadline
from ray.config import Config, config_from_mapping
from ray.providers import CallContext, Provider, create_provider
from ray.types import Chunk, Finish, InferenceRequest, Message, ProviderDiagnostics, ResponseFormat
from tests.fakes.llama_server import FakeLlamaServer

LLAMA = "llama.cpp"
OPENAI = "openai-compatible"


def config_for(
    kind: str,
    base_url: str,
    adapter: Mapping[str, object] | None = None,
    model: Mapping[str, object] | None = None,
    sections: Mapping[str, object] | None = None,
) -> Config:
    """`sections`: the rest of the document."""
    backend = {"kind": kind, "baseUrl": base_url, "modelRef": "fake-model", "timeoutMs": 15_000, **(adapter or {})}
    document = {"profile": "tiny", "model": {**(model or {}), "adapter": backend}, **(sections or {})}
    return config_from_mapping(document, {}, "/")


@asynccontextmanager
async def backend(
    kind: str = LLAMA,
    *,
    adapter: Mapping[str, object] | None = None,
    model: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[FakeLlamaServer, Provider]]:
    """A fake server and a provider that is configured for it."""
    async with FakeLlamaServer() as fake:
        provider = create_provider(config_for(kind, fake.base_url, adapter, model), environ or {})
        try:
            yield fake, provider
        finally:
            await provider.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await main

    asyncio.run(bounded())


def request_for(
    text: str = "Say hello.",
    *,
    system: str | None = None,
    max_tokens: int = 64,
    response_format: ResponseFormat | None = None,
    seed: int | None = None,
    stop: tuple[str, ...] = (),
    metadata: Mapping[str, str] | None = None,
) -> InferenceRequest:
    messages = [Message("user", text)]
    if system is not None:
        messages.insert(0, Message("system", system))
    return InferenceRequest(
        tuple(messages),
        max_tokens=max_tokens,
        response_format=response_format,
        seed=seed,
        stop=stop,
        metadata=metadata or {},
    )


def context_for(milliseconds: float = 15_000) -> CallContext:
    return CallContext("req_1", Deadline.after_ms(milliseconds), "short")


@dataclass(frozen=True, slots=True)
class Whole:
    """A gathered answer."""

    text: str
    chunks: list[Chunk]
    finish: Finish

    @property
    def diagnostics(self) -> ProviderDiagnostics:
        assert self.finish.diagnostics is not None
        return self.finish.diagnostics


async def ask(provider: Provider, request: InferenceRequest | None = None, context: CallContext | None = None) -> Whole:
    """Prepare and generate; checks that exactly the last chunk finishes."""
    context = context or context_for()
    preparation = await provider.prepare(request or request_for(), context)
    chunks = [chunk async for chunk in provider.stream(preparation, context)]
    finish = chunks[-1].finish
    assert finish is not None
    assert all(chunk.finish is None for chunk in chunks[:-1])
    return Whole("".join(chunk.text for chunk in chunks), chunks, finish)
