"""The backend dies, loads, comes back; the gateway is told to stop. Nothing hangs and nobody is lied to."""

from __future__ import annotations

import json
import signal
import threading

from tests.integration.backend import (
    AT_ONCE_SECONDS,
    PATIENCE_SECONDS,
    Answer,
    GatewayProcess,
    llama_cpp_config,
    wait_until,
)
from tests.integration.conftest import StartGateway, StartLlamaServer

LONG = {"input": "Write a long story about the sea.", "maxTokens": 256, "cache": False}


def readiness(gateway: GatewayProcess) -> tuple[int, object, object]:
    answer = gateway.get("/readyz")
    document = answer.json()
    return answer.status, document["status"], document["providerStatus"]


def in_the_background(gateway: GatewayProcess, document: dict[str, object]) -> tuple[threading.Thread, list[Answer]]:
    """Ask on a thread of its own; the list holds the answer once the thread has ended."""
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(gateway.post("/v1/infer", document)), daemon=True)
    thread.start()
    return thread, answers


def being_answered(gateway: GatewayProcess) -> float:
    """How many answers are under way: those whose prompts are being read by the backend, too."""
    gauges = gateway.get("/metrics").json()["gauges"]
    assert isinstance(gauges, dict)
    return float(gauges["inference.in_flight"]) + float(gauges["preparation.active"])


def test_given_a_backend_killed_in_mid_answer_then_the_client_is_told_and_a_restarted_one_serves_again(
    start_llama_server: StartLlamaServer, start_gateway: StartGateway
) -> None:
    server = start_llama_server()
    gateway = start_gateway(llama_cpp_config(server))
    gateway.wait_ready()

    with gateway.streamed(LONG) as events:
        assert next(events)[0] == "token"
        server.kill9()
        rest = list(events)
    assert rest[-1][0] == "error"
    assert json.loads(rest[-1][1])["error"]["code"] == "provider_request_failed"

    wait_until(
        lambda: readiness(gateway) == (503, "unavailable", "unavailable"), PATIENCE_SECONDS, "/readyz says unavailable"
    )
    assert gateway.get("/livez").status == 200
    assert gateway.get("/health").status == 503
    refused = gateway.post("/v1/infer", {"input": "Are you there?"})
    assert refused.status == 502
    assert b"provider_request_failed" in refused.body

    server.start()
    gateway.wait_ready()
    assert gateway.post("/v1/infer", {"input": "Are you there now?", "maxTokens": 8}).status == 200
    assert gateway.running()


def test_given_a_backend_that_is_killed_while_idle_then_readiness_falls_without_a_request(
    start_llama_server: StartLlamaServer, start_gateway: StartGateway
) -> None:
    server = start_llama_server()
    gateway = start_gateway(llama_cpp_config(server))
    gateway.wait_ready()

    server.kill9()

    wait_until(lambda: readiness(gateway)[0] == 503, PATIENCE_SECONDS, "/readyz notices")


def test_given_no_backend_at_boot_then_the_gateway_listens_says_so_and_is_ready_once_it_is_there(
    start_llama_server: StartLlamaServer, start_gateway: StartGateway
) -> None:
    server = start_llama_server()
    server.kill9()
    gateway = start_gateway(llama_cpp_config(server))

    assert gateway.get("/livez").status == 200
    wait_until(lambda: readiness(gateway)[2] == "unavailable", PATIENCE_SECONDS, "/readyz says unavailable")
    gateway.wait_logged("provider warmup failed after gateway start")

    server.start()
    gateway.wait_ready()
    gateway.wait_logged("provider warmup recovered")


def test_given_sigterm_under_load_then_running_answers_finish_new_ones_are_refused_and_the_exit_is_0(
    start_llama_server: StartLlamaServer, start_gateway: StartGateway
) -> None:
    server = start_llama_server()
    gateway = start_gateway(llama_cpp_config(server))
    gateway.wait_ready()
    with gateway.streamed({**LONG, "maxTokens": 64}) as events:
        next(events)
        server.pause()  # however fast or slow it is, neither answer ends before the signal
        thread, answers = in_the_background(gateway, {"input": "Say hello.", "maxTokens": 8, "cache": False})
        wait_until(lambda: being_answered(gateway) == 2, PATIENCE_SECONDS, "both are being answered")

        gateway.signal(signal.SIGTERM)
        gateway.wait_logged("gateway shutting down")
        try:
            late = gateway.post("/v1/infer", {"input": "Too late?"})
        except OSError:
            late = None  # the listener is closed: refused by the kernel
        assert late is None or late.status == 503

        server.resume()
        streamed = list(events)
    thread.join(PATIENCE_SECONDS)

    assert streamed[-1][0] == "result", (streamed[-1], gateway.output())
    assert [answer.status for answer in answers] == [200]
    assert answers[0].headers["connection"] == "close"
    assert gateway.wait_exit() == 0, gateway.output()


def test_given_a_second_signal_then_it_ends_at_once_and_still_with_0(
    start_llama_server: StartLlamaServer, start_gateway: StartGateway
) -> None:
    server = start_llama_server()
    gateway = start_gateway(llama_cpp_config(server))
    gateway.wait_ready()
    with gateway.streamed(LONG) as events:
        next(events)
        server.pause()  # the answer does not end by itself
        gateway.signal(signal.SIGTERM)
        gateway.wait_logged("gateway shutting down")
        gateway.signal(signal.SIGTERM)
        assert gateway.wait_exit(AT_ONCE_SECONDS) == 0, gateway.output()


def test_given_a_failed_request_then_one_log_line_tells_it_under_the_id_the_client_saw(
    start_llama_server: StartLlamaServer, start_gateway: StartGateway
) -> None:
    server = start_llama_server()
    gateway = start_gateway(llama_cpp_config(server))
    gateway.wait_ready()
    server.kill9()

    answer = gateway.post("/v1/infer", {"input": "Anyone?", "cache": False}, headers={"x-request-id": "trace-42"})

    assert answer.headers["x-request-id"] == "trace-42"
    wait_until(
        lambda: any(line.get("requestId") == "trace-42" for line in gateway.log()), PATIENCE_SECONDS, "the log line"
    )
    lines = [line for line in gateway.log() if line.get("requestId") == "trace-42"]
    assert len(lines) == 1, lines
    assert "Anyone?" not in gateway.output()
