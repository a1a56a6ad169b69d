"""The provider without a backend."""

from __future__ import annotations

import asyncio
import time

from ray.config import config_from_mapping
from ray.providers import Provider, create_provider
from tests.providers.setting import ask, context_for, request_for, run


def mock(latency_ms: int = 1) -> Provider:
    adapter = {"kind": "mock", "latencyMs": latency_ms, "seed": "s1"}
    return create_provider(config_from_mapping({"profile": "tiny", "model": {"id": "m1", "adapter": adapter}}, {}), {})


def test_given_a_request_when_answered_then_the_text_is_the_documented_one() -> None:
    async def main() -> None:
        answer = await ask(mock(), request_for("i" * 400, system="s" * 100))
        expected = f"[ray:mock model=m1 profile=tiny seed=s1]\nsystem={'s' * 72}\n{'i' * 320}"
        assert answer.text == expected
        assert len(answer.chunks) > 3
        assert answer.finish.reason == "stop"
        assert answer.finish.tokens is None

    run(main())


def test_given_no_system_and_json_mode_when_answered_then_the_text_is_neither_json_nor_mentions_a_system() -> None:
    async def main() -> None:
        answer = await ask(mock(), request_for("hi", response_format="json_object"))
        assert answer.text == "[ray:mock model=m1 profile=tiny seed=s1]\nhi"

    run(main())


def test_given_a_slow_mock_when_its_reader_is_cancelled_then_it_ends_at_once() -> None:
    async def main() -> None:
        started = time.monotonic()
        task = asyncio.create_task(ask(mock(latency_ms=120_000)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert time.monotonic() - started < 10

    run(main())


def test_given_a_mock_when_asked_about_itself_then_it_is_ready() -> None:
    async def main() -> None:
        provider = mock()
        await provider.warm()
        assert (await provider.health()).status == "ready"
        assert (await provider.prepare(request_for(), context_for())).prompt_tokens is None
        assert (provider.kind, provider.model_id) == ("mock", "m1")
        await provider.close()

    run(main())
