"""Conversations over a real `llama-server`: the next turn reads only what is new, whoever talked in between."""

from __future__ import annotations

import io
from pathlib import Path

from ray.clock import Deadline
from ray.providers import create_provider
from ray.runtime import PrefixBooks, Runtime
from ray.telemetry import Logger, Metrics
from ray.types import Caller, InferenceRequest, InferenceResult, Message
from tests.integration.conftest import StartLlamaServer
from tests.integration.test_prefix_store import OTHER_SYSTEM, SYSTEM, run, with_store
from tests.providers.setting import LLAMA, config_for

# What the template writes around a turn may be read again with what is new.
TEMPLATE_TOKENS = 16


class Talk:
    """A client that sends the whole conversation with every turn."""

    def __init__(self, runtime: Runtime, system: str) -> None:
        self.runtime = runtime
        self.messages: tuple[Message, ...] = (Message("system", system),)

    async def say(self, text: str) -> InferenceResult:
        self.messages = (*self.messages, Message("user", text))
        request = InferenceRequest(self.messages, max_tokens=24, temperature=0.0, seed=7, cache=False)
        caller = Caller(None, "192.0.2.1")
        async with await self.runtime.generate(request, caller, Deadline.after_ms(60_000), "req_1") as reader:
            result = await reader.result()
        self.messages = (*self.messages, Message("assistant", result.output))
        return result


def tokens_of(result: InferenceResult) -> tuple[int, int]:
    """The prompt's tokens, and those of them that were not read again."""
    assert result.usage.tokens is not None
    assert result.diagnostics.provider is not None
    assert result.diagnostics.provider.tokens_cached is not None
    return result.usage.tokens.prompt, result.diagnostics.provider.tokens_cached


def test_given_two_conversations_in_turn_when_each_goes_on_then_only_what_is_new_is_read(
    start_llama_server: StartLlamaServer, tmp_path: Path
) -> None:
    directory = tmp_path / "prefixes"
    server = with_store(start_llama_server, directory)

    async def main() -> None:
        sections = {"prefixStore": {"enabled": True, "storageDir": str(directory)}}
        config = config_for(LLAMA, server.base_url, {"timeoutMs": 60_000}, sections=sections)
        log, metrics = io.StringIO(), Metrics()
        logger = Logger("test", "info", log, log)
        provider = create_provider(config, {}, PrefixBooks("m", logger, metrics))
        runtime = Runtime(config, provider, logger, metrics)
        await runtime.warm()
        talks = [Talk(runtime, SYSTEM), Talk(runtime, OTHER_SYSTEM)]
        before = [tokens_of(await talk.say("Hello, who are you and what can you do for me?")) for talk in talks]
        for text in ("Where is my parcel?", "And when will it be here?"):
            for index, talk in enumerate(talks):
                prompt, cached = tokens_of(await talk.say(text))
                assert cached >= before[index][0] - TEMPLATE_TOKENS, (prompt, cached, before[index])
                assert prompt > before[index][0]
                before[index] = (prompt, cached)
        again = talks[0]
        again.messages = again.messages[:-2]  # another question in place of the last one
        prompt, cached = tokens_of(await again.say("No, what does it cost?"))
        assert cached >= before[0][1]
        assert metrics.counter("prefix_store.proof_failures").value == 0
        await runtime.close()

    run(main())
