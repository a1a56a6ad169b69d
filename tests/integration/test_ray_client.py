"""The clients on the real thing: a real model behind a gateway process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ray.client import AsyncRayClient, RayClient, delta_text
from tests.integration.backend import GatewayProcess, LlamaServerProcess, llama_cpp_config
from tests.integration.conftest import StartGateway

QUESTION = "Name three colours of the rainbow."
STORY = "Write a very long story about a river."


@pytest.fixture
def gateway(llama_server: LlamaServerProcess, start_gateway: StartGateway, tmp_path: Path) -> GatewayProcess:
    store = {"enabled": True, "storageDir": str(tmp_path / "store")}
    gateway = start_gateway({**llama_cpp_config(llama_server), "asyncQueue": store})
    gateway.wait_ready()
    return gateway


def client_of(gateway: GatewayProcess) -> RayClient:
    return RayClient(f"http://127.0.0.1:{gateway.port}", timeout_ms=90_000)


def test_given_a_real_model_when_asked_whole_streamed_and_in_a_chat_then_each_answers(gateway: GatewayProcess) -> None:
    with client_of(gateway) as client:
        whole = client.infer(QUESTION, max_tokens=16, temperature=0, seed=7)
        with client.stream(QUESTION, max_tokens=16, temperature=0, seed=7, cache=False) as tokens:
            pieces = list(tokens)
        request = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 16}
        with client.stream_chat(request) as chunks:
            chat = "".join(delta_text(chunk) for chunk in chunks)

    assert whole["usage"]["tokens"]["completion"] >= 1
    assert len(pieces) > 1
    assert "".join(pieces) == tokens.result["output"]
    assert chat.strip()


def test_given_a_stream_of_either_client_when_left_then_the_slot_of_the_model_is_free_again(
    gateway: GatewayProcess, llama_server: LlamaServerProcess
) -> None:
    before = llama_server.tokens_written()
    with client_of(gateway) as client, client.stream(STORY, max_tokens=256, cache=False) as tokens:
        next(tokens)
        assert llama_server.busy_slots() == 1
    llama_server.wait_idle()
    assert llama_server.tokens_written() - before < 256, "it wrote on after a blocking client left"

    before = llama_server.tokens_written()

    async def main() -> None:
        async with (
            AsyncRayClient(f"http://127.0.0.1:{gateway.port}") as client,
            client.stream(STORY, max_tokens=256, cache=False) as tokens,
        ):
            await anext(aiter(tokens))

    asyncio.run(main())
    llama_server.wait_idle()
    assert llama_server.tokens_written() - before < 256, "it wrote on after an asyncio client left"


def test_given_a_job_when_waited_for_then_the_real_answer_is_in_it(gateway: GatewayProcess) -> None:
    with client_of(gateway) as client:
        made = client.create_job(QUESTION, max_tokens=12, idempotency_key="colours")
        job = client.wait_job(made["id"], timeout_ms=90_000)

    assert job["status"] == "succeeded"
    assert job["result"]["output"].strip()
