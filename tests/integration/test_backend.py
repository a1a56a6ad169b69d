"""The fixtures themselves: a real `llama-server` can be started, killed the hard way, and started again."""

from __future__ import annotations

import pytest

from tests.integration.backend import LlamaServerProcess, ask
from tests.integration.conftest import StartLlamaServer


def test_given_the_shared_llama_server_when_asked_then_the_real_model_answers(llama_server: LlamaServerProcess) -> None:
    answer = ask(llama_server.port, "POST", "/completion", {"prompt": "One, two, three,", "n_predict": 8, "seed": 1})

    assert answer.status == 200
    assert answer.json()["content"]
    assert llama_server.busy_slots() == 0


def test_given_a_killed_llama_server_when_restarted_then_it_serves_on_the_same_port(
    start_llama_server: StartLlamaServer,
) -> None:
    server = start_llama_server(slots=1, ctx_size=512)
    port = server.port

    server.kill9()
    with pytest.raises(ConnectionRefusedError):
        ask(port, "GET", "/health")
    server.start()
    server.wait_healthy()

    assert server.port == port
    assert ask(port, "GET", "/health").status == 200
