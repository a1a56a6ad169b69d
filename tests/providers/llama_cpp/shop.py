"""What the tests of the prefix store share: a stand-in server with slots, a provider with a store, and who watches."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ray.clock import Deadline
from ray.providers import CallContext, Preparation, Provider, create_provider
from ray.types import InferenceRequest, Message, PrefixState, PrefixUse
from tests.fakes.llama_server import FakeLlamaServer
from tests.providers.setting import LLAMA, Whole, config_for

SYSTEM = "You answer mails of the parcel service " + " ".join(f"rule{number}" for number in range(40))
OTHER_SYSTEM = "You sort mails of a bakery " + " ".join(f"bread{number}" for number in range(40))
MIN_TOKENS = 20


class Watch:
    """Who observes the store."""

    def __init__(self) -> None:
        self.states: list[PrefixState] = []
        self.failures: Counter[str] = Counter()
        self.saves = self.restores = self.evictions = self.failed_proofs = 0
        self.reasons: list[str] = []
        self.levels: list[tuple[int, int, int, bool]] = []
        self.tokens = 0
        self.seconds = 0.0

    def hit(self, state: PrefixState, tokens: int, seconds: float) -> None:
        assert seconds >= 0
        self.states.append(state)
        self.seconds += seconds
        self.tokens += tokens

    def saved(self, size: int) -> None:
        assert size > 0
        self.saves += 1

    def restored(self) -> None:
        self.restores += 1

    def evicted(self, count: int) -> None:
        self.evictions += count

    def proof_failed(self) -> None:
        self.failed_proofs += 1

    def failed(self, operation: str) -> None:
        self.failures[operation] += 1

    def level(self, size: int, entries: int, unknown_files: int, enabled: bool) -> None:
        self.levels.append((size, entries, unknown_files, enabled))

    def switched_off(self, reason: str) -> None:
        self.reasons.append(reason)


@dataclass
class Shop:
    """A stand-in server, a provider in front of it, and its store."""

    fake: FakeLlamaServer
    provider: Provider
    watch: Watch
    directory: Path

    def snapshots(self) -> list[Path]:
        return sorted(self.directory.glob("*.kv"))

    def actions(self, action: str) -> list[str]:
        return [request.path for request in self.fake.requests if request.path.endswith(f"?action={action}")]

    async def prepare(
        self, text: str = "hello", *, system: str | None = SYSTEM, context: CallContext | None = None
    ) -> Preparation:
        return await self.provider.prepare(request(text, system), context or at_slot(0))

    async def ask(
        self,
        text: str = "hello",
        *,
        system: str | None = SYSTEM,
        slot: int | None = 0,
        hot: bool = True,
        family: str | None = "family",
        warming: bool = False,
    ) -> Whole:
        """One answer; checks that it is the whole text, whatever the store does, and waits for its disk."""
        context = replace(at_slot(slot, hot), family=family, warming=warming)
        preparation = await self.provider.prepare(request(text, system), context)
        answer = await generate(self.provider, preparation, context)
        assert answer.text == "".join(self.fake.pieces)
        await self.settle()
        return answer

    async def settle(self) -> None:
        store = getattr(self.provider, "_store", None)
        if store is not None:
            await store._snapshots.settle()


async def generate(provider: Provider, preparation: Preparation, context: CallContext) -> Whole:
    chunks = [chunk async for chunk in provider.stream(preparation, context)]
    finish = chunks[-1].finish
    assert finish is not None
    return Whole("".join(chunk.text for chunk in chunks), chunks, finish)


def request(text: str, system: str | None = SYSTEM) -> InferenceRequest:
    messages = [Message("user", text)]
    if system is not None:
        messages.insert(0, Message("system", system))
    return InferenceRequest(tuple(messages), max_tokens=16)


def at_slot(slot: int | None, hot: bool = True) -> CallContext:
    return CallContext("req_1", Deadline.after_ms(15_000), "short", family="family", slot=slot, hot=hot)


def use_of(answer: Whole) -> PrefixUse:
    assert answer.diagnostics.prefix is not None
    return answer.diagnostics.prefix


def provider_of(
    fake: FakeLlamaServer, directory: Path, watch: Watch, adapter: Mapping[str, object] | None = None, **store: object
) -> Provider:
    sections = {"templates": store.pop("templates", {})}
    sections["prefixStore"] = {"enabled": True, "storageDir": str(directory), "minTokens": MIN_TOKENS, **store}
    return create_provider(config_for(LLAMA, fake.base_url, adapter, sections=sections), {}, watch)


@asynccontextmanager
async def shop(
    directory: Path,
    *,
    server_directory: Path | None = None,
    adapter: Mapping[str, object] | None = None,
    **store: object,
) -> AsyncIterator[Shop]:
    """A warmed-up shop. `server_directory`: what the server was told, if it is another one; `store`: settings of the
    store, and `templates`."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    async with FakeLlamaServer() as fake:
        fake.slots.directory = server_directory or directory
        fake.props["media_marker"] = "first start"
        watch = Watch()
        provider = provider_of(fake, directory, watch, adapter, **store)
        try:
            await provider.warm()
            yield Shop(fake, provider, watch, directory)
        finally:
            await provider.close()
