"""The prefix store against a real `llama-server`: prefixes survive its restart, and answers stay the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ray.clock import Deadline
from ray.providers import CallContext, Provider, create_provider
from ray.types import InferenceRequest, Message
from tests.integration.backend import LlamaServerProcess
from tests.integration.conftest import Backend, StartLlamaServer
from tests.providers.llama_cpp.shop import Watch, generate, use_of
from tests.providers.setting import LLAMA, Whole, config_for

SYSTEM = "You answer customers of a parcel service. " + " ".join(
    f"Rule {number}: the customer is greeted in line {number}." for number in range(20)
)
OTHER_SYSTEM = "You sort mails of a bakery. " + " ".join(f"Bread number {number} is fresh." for number in range(20))


@dataclass
class Owned:
    """A provider that owns the slots of a server."""

    provider: Provider
    watch: Watch

    async def ask(self, text: str, *, system: str = SYSTEM, slot: int = 0, hot: bool = False) -> Whole:
        context = CallContext("req_1", Deadline.after_ms(60_000), "short", slot=slot, hot=hot)
        request = InferenceRequest(
            (Message("system", system), Message("user", text)), max_tokens=24, temperature=0.0, seed=7
        )
        return await generate(self.provider, await self.provider.prepare(request, context), context)


@asynccontextmanager
async def owned(server: LlamaServerProcess, directory: Path) -> AsyncIterator[Owned]:
    sections = {"prefixStore": {"enabled": True, "storageDir": str(directory)}}
    watch = Watch()
    config = config_for(LLAMA, server.base_url, {"timeoutMs": 60_000}, sections=sections)
    provider = create_provider(config, {}, watch)
    try:
        await provider.warm()
        yield Owned(provider, watch)
    finally:
        await provider.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(180):
            await main

    asyncio.run(bounded())


def flags_for(directory: Path) -> tuple[str, ...]:
    directory.mkdir(mode=0o700)
    return ("--no-kv-unified", "--cache-ram", "0", "--no-cache-idle-slots", "--slot-save-path", f"{directory}/")


def with_store(start: StartLlamaServer, directory: Path) -> LlamaServerProcess:
    return start(slots=2, ctx_size=2048, extra=flags_for(directory))


def test_given_a_saved_prefix_when_both_are_restarted_then_it_is_restored_and_the_answer_is_the_cold_one(
    start_llama_server: StartLlamaServer, tmp_path: Path
) -> None:
    directory = tmp_path / "prefixes"
    server = with_store(start_llama_server, directory)

    async def first() -> str:
        async with owned(server, directory) as at:
            assert at.provider.assignable_slots == 2
            cold = await at.ask("Where is my parcel?")
            assert use_of(cold).state == "evaluated"
            assert use_of(await at.ask("Thank you!", hot=True)).state == "hot"
            assert use_of(await at.ask("One loaf", system=OTHER_SYSTEM)).state == "evaluated"
            restored = await at.ask("Where is my parcel?")
            assert use_of(restored).state == "restored"
            assert restored.text == cold.text
            assert at.watch.failed_proofs == 0
            return cold.text

    async def second(text: str) -> None:
        async with owned(server, directory) as at:
            answer = await at.ask("Where is my parcel?")
            assert use_of(answer).state == "restored"
            assert answer.finish.tokens is not None
            assert use_of(answer).tokens_reused >= 0.9 * answer.finish.tokens.prompt
            assert answer.text == text
            assert (at.watch.failures, at.watch.failed_proofs) == ({}, 0)

    async def both() -> None:
        text = await first()
        await asyncio.to_thread(server.kill9)
        server.start()
        await asyncio.to_thread(server.wait_healthy)
        await second(text)

    run(both())


def test_given_a_server_that_restarts_behind_a_running_provider_when_asked_then_nothing_is_taken_for_hot(
    start_llama_server: StartLlamaServer, tmp_path: Path
) -> None:
    directory = tmp_path / "prefixes"
    server = with_store(start_llama_server, directory)

    async def main() -> None:
        async with owned(server, directory) as at:
            await at.ask("One")
            await at.ask("Two", hot=True)
            epoch = at.provider.slots_epoch
            await asyncio.to_thread(server.kill9)
            server.start()
            await asyncio.to_thread(server.wait_healthy)
            await at.provider.health()
            assert use_of(await at.ask("Three", hot=True)).state == "restored"
            assert at.provider.slots_epoch > epoch
            assert at.watch.failed_proofs == 0

    run(main())


def test_given_a_file_cut_short_when_needed_then_the_real_server_never_sees_it(
    start_llama_server: StartLlamaServer, tmp_path: Path
) -> None:
    directory = tmp_path / "prefixes"
    server = with_store(start_llama_server, directory)

    async def main() -> None:
        async with owned(server, directory) as at:
            await at.ask("One")
            await at.ask("Two", hot=True)
            await at.ask("One loaf", system=OTHER_SYSTEM)
            [path] = list(directory.glob("*.kv"))
            # The server ends with a segmentation fault when it is made to restore this.
            path.write_bytes(path.read_bytes()[:100_000])
            assert use_of(await at.ask("Three")).state == "evaluated"
            assert at.watch.failures == {"corrupt": 1}
            assert await asyncio.to_thread(server.healthy)

    run(main())


@pytest.mark.parametrize("can_restore", [False, True], ids=["by default", "with --swa-full"])
def test_given_a_model_with_a_sliding_window_when_used_then_it_gains_or_the_store_switches_itself_off_with_one_warning(
    backend: Backend, sliding_window_model: Path, tmp_path: Path, can_restore: bool
) -> None:
    directory = tmp_path / "prefixes"
    extra = (*flags_for(directory), *(("--swa-full",) if can_restore else ()))
    server = LlamaServerProcess(
        backend.binary, sliding_window_model, tmp_path / "server.log", slots=1, ctx_size=2048, extra=extra
    )

    async def main() -> None:
        async with owned(server, directory) as at:
            for number in range(4):
                for system in (SYSTEM, OTHER_SYSTEM):
                    for text in ("first", "second"):
                        await at.ask(f"The {text} of round {number}", system=system, hot=True)
            assert at.watch.failures == {}
            if can_restore:
                assert (at.watch.failed_proofs, at.watch.reasons) == (0, [])
                assert at.watch.states.count("restored") >= 6
            else:
                assert at.watch.failed_proofs == 3
                assert len(at.watch.reasons) == 1
                assert at.provider.assignable_slots is None

    server.start()
    try:
        server.wait_healthy()
        run(main())
    finally:
        server.stop()
