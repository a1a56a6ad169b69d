"""Ray inside a program, in front of a real model: the examples, and a question that is given up."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

import ray
from tests.examples.test_embedding import run_example
from tests.integration.backend import LlamaServerProcess, llama_cpp_config, wait_until

QUESTION = "Name three colours of the rainbow."


@pytest.mark.parametrize("name", ["embed_sync.py", "embed_async.py"])
def test_given_a_real_model_when_an_example_runs_then_it_prints_an_answer_and_nothing_else(
    name: str, llama_server: LlamaServerProcess, tmp_path: Path
) -> None:
    config = tmp_path / "ray.json"
    # A busy machine is slow, and Ray would warn of that.
    config.write_text(json.dumps({**llama_cpp_config(llama_server), "telemetry": {"logLevel": "error"}}))

    ended = run_example(name, config)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(ended.stdout.split()) > 3
    assert llama_server.busy_slots() == 0


def test_given_a_real_model_when_asked_whole_and_streamed_then_the_text_is_the_same(
    llama_server: LlamaServerProcess,
) -> None:
    async def main() -> None:
        async with ray.Gateway(llama_cpp_config(llama_server), environ={}) as gateway:
            async with asyncio.timeout(60):
                while not await gateway.ready():  # noqa: ASYNC110 - there is no event for a backend that has warmed
                    await asyncio.sleep(0.05)
            whole = await gateway.infer(input=QUESTION, max_tokens=24, temperature=0, cache=False)
            texts = [t async for t in gateway.stream(input=QUESTION, max_tokens=24, temperature=0, cache=False)]
        assert len(texts) > 5
        assert "".join(texts) == whole["output"]
        assert 1 <= whole["usage"]["tokens"]["completion"] <= 24

    asyncio.run(main())


@pytest.mark.parametrize("streamed", [False, True])
def test_given_a_question_that_is_given_up_then_the_slot_of_the_backend_is_free(
    streamed: bool, llama_server: LlamaServerProcess
) -> None:
    async def ask(gateway: ray.Gateway) -> None:
        tell = "Tell a very long story about a river."
        if streamed:
            async for _ in gateway.stream(input=tell, max_tokens=256, cache=False):
                pass
        else:
            await gateway.infer(input=tell, max_tokens=256, cache=False)

    async def main() -> None:
        async with ray.Gateway(llama_cpp_config(llama_server), environ={}) as gateway:
            asking = asyncio.create_task(ask(gateway))
            await asyncio.to_thread(wait_until, lambda: llama_server.busy_slots() == 1, 60, "a slot works")
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await asyncio.to_thread(wait_until, lambda: llama_server.busy_slots() == 0, 20, "the slot is free")
            assert (await gateway.infer(input=QUESTION, max_tokens=8))["output"].strip()

    asyncio.run(main())
