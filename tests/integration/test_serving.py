"""The main job, on real input: a real model answers through the gateway, whole and streamed."""

from __future__ import annotations

import json

import pytest

from tests.integration.backend import GatewayProcess, LlamaServerProcess, llama_cpp_config
from tests.integration.conftest import StartGateway

QUESTION = "Name three colours of the rainbow."


@pytest.fixture
def gateway(llama_server: LlamaServerProcess, start_gateway: StartGateway) -> GatewayProcess:
    gateway = start_gateway(llama_cpp_config(llama_server))
    gateway.wait_ready()
    return gateway


def test_given_a_real_model_when_asked_then_the_whole_answer_comes_with_its_usage_and_timings(
    gateway: GatewayProcess,
) -> None:
    answer = gateway.post("/v1/infer", {"input": QUESTION, "maxTokens": 24, "temperature": 0, "seed": 7})

    assert answer.status == 200, answer.body
    document = answer.json()
    assert isinstance(document["output"], str)
    assert document["output"].strip()
    assert document["model"] == "SmolLM2-135M-Instruct.Q4_1"
    assert (document["cached"], document["deduplicated"], document["degraded"]) == (False, False, False)
    usage = document["usage"]
    assert isinstance(usage, dict)
    tokens = usage["tokens"]
    assert tokens["prompt"] > 8
    assert 1 <= tokens["completion"] <= 24
    assert tokens["total"] == tokens["prompt"] + tokens["completion"]
    diagnostics = document["diagnostics"]
    assert isinstance(diagnostics, dict)
    provider = diagnostics["provider"]
    assert provider["requestShape"] == "llama.cpp-completion"
    assert provider["promptFormat"] == "llama.cpp-template"
    assert provider["tokensEvaluated"] == tokens["prompt"]
    assert provider["timings"]["ttftMs"] > 0
    assert provider["timings"]["completionTokensPerSecond"] > 0


def test_given_the_same_question_when_asked_again_then_the_answer_comes_from_the_cache(gateway: GatewayProcess) -> None:
    question = {"input": "What is the capital of France?", "maxTokens": 16, "temperature": 0}

    first = gateway.post("/v1/infer", question).json()
    second = gateway.post("/v1/infer", question).json()

    assert (first["cached"], second["cached"]) == (False, True)
    assert second["output"] == first["output"]
    assert second["id"] != first["id"]


def test_given_a_stream_when_the_model_answers_then_tokens_arrive_one_by_one_and_add_up(
    gateway: GatewayProcess,
) -> None:
    with gateway.streamed({"input": QUESTION, "maxTokens": 24, "temperature": 0, "cache": False}) as events:
        received = list(events)

    tokens = [json.loads(data)["text"] for event, data in received if event == "token"]
    assert [event for event, _ in received] == ["token"] * len(tokens) + ["result"]
    assert len(tokens) > 5
    result = json.loads(received[-1][1])
    assert "".join(tokens) == result["output"]
    assert result["usage"]["tokens"]["completion"] >= len(tokens) - 1


def test_given_the_same_seed_when_whole_and_streamed_then_the_text_is_the_same(gateway: GatewayProcess) -> None:
    question = {"input": "Write one sentence about rivers.", "maxTokens": 20, "temperature": 0, "cache": False}

    whole = gateway.post("/v1/infer", question).json()
    with gateway.streamed(question) as events:
        streamed = json.loads(list(events)[-1][1])

    assert streamed["output"] == whole["output"]


def test_given_json_mode_when_the_answer_is_complete_then_it_is_a_json_object(gateway: GatewayProcess) -> None:
    answer = gateway.post(
        "/v1/infer",
        {
            "system": 'Answer with a JSON object {"colour": string} and nothing else.',
            "input": "What colour is the sky?",
            "responseFormat": {"type": "json_object"},
            "maxTokens": 200,
            "temperature": 0,
        },
    )

    assert answer.status == 200, answer.body
    document = answer.json()
    assert isinstance(document["output"], str)
    # A grammar holds the text to an object; only the token limit may cut it, and then the answer says so.
    diagnostics = document["diagnostics"]
    assert isinstance(diagnostics, dict)
    if diagnostics["provider"]["stopType"] != "limit":
        assert isinstance(json.loads(document["output"]), dict)
    else:
        assert document["output"].lstrip().startswith("{")


def test_given_a_stop_sequence_when_the_model_reaches_it_then_the_answer_ends_before_it(
    gateway: GatewayProcess,
) -> None:
    question = {"input": "Count: one, two, three, four.", "maxTokens": 60, "temperature": 0, "cache": False}
    free = str(gateway.post("/v1/infer", question).json()["output"])
    word = free.split()[3]

    stopped = gateway.post("/v1/infer", {**question, "stop": [word]}).json()

    assert word in free
    assert stopped["output"] == free[: free.index(word)]


def test_given_a_prompt_longer_than_the_context_when_asked_then_413_says_by_how_much(gateway: GatewayProcess) -> None:
    answer = gateway.post("/v1/infer", {"input": "the quick brown fox " * 1_100, "maxTokens": 32})

    assert answer.status == 413, answer.body
    error = answer.json()["error"]
    assert isinstance(error, dict)
    assert error["code"] == "request_context_window_exceeded"
    assert error["details"]["contextWindow"] == 4096
    assert error["details"]["totalTokens"] == error["details"]["promptTokens"] + 32 > 4096


def test_given_equal_questions_at_once_when_one_is_in_flight_then_the_backend_works_once(
    gateway: GatewayProcess,
) -> None:
    question = {"input": "Tell a story about two dogs and a boat.", "maxTokens": 96, "temperature": 0.7}
    with gateway.streamed(question) as leader:
        next(leader)
        with gateway.streamed(question) as follower:
            follower_events = list(follower)
        leader_events = list(leader)

    leading, following = json.loads(leader_events[-1][1]), json.loads(follower_events[-1][1])
    assert (leading["deduplicated"], following["deduplicated"]) == (False, True)
    assert following["output"] == leading["output"]
    assert following["id"] != leading["id"]


def test_given_a_client_that_leaves_in_mid_answer_then_its_slot_is_free_again(
    gateway: GatewayProcess, llama_server: LlamaServerProcess
) -> None:
    before = llama_server.tokens_written()
    with gateway.streamed({"input": "Write a very long story.", "maxTokens": 256, "cache": False}) as events:
        next(events)
        assert llama_server.busy_slots() == 1

    llama_server.wait_idle()
    assert llama_server.tokens_written() - before < 256, "it wrote on for nobody"
    gauges = gateway.get("/metrics").json()["gauges"]
    assert isinstance(gauges, dict)
    assert gauges["inference.in_flight"] == 0


def test_given_a_serving_gateway_when_an_operator_looks_then_everything_is_told(gateway: GatewayProcess) -> None:
    gateway.post("/v1/infer", {"input": QUESTION, "maxTokens": 8})

    health = gateway.get("/health").json()
    assert health["status"] == "ok"
    provider = health["provider"]
    assert isinstance(provider, dict)
    assert provider["status"] == "ready"
    assert provider["detectedCapabilities"]["totalSlots"] == 2
    assert provider["detectedCapabilities"]["applyTemplate"] == "available"

    ready = gateway.get("/readyz")
    assert (ready.status, ready.json()["status"], ready.json()["reasons"]) == (200, "ok", [])

    metrics = gateway.get("/metrics").json()
    counters, gauges = metrics["counters"], metrics["gauges"]
    assert isinstance(counters, dict)
    assert isinstance(gauges, dict)
    assert counters["requests.total"] >= 1
    assert gauges["provider.completion_tps"] > 0

    prometheus = gateway.get("/metrics", headers={"accept": "text/plain;version=0.0.4"})
    assert prometheus.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = prometheus.body.decode()
    assert 'ray_inference_requests_total{source="provider"} 1' in text
    assert 'ray_inference_duration_seconds_count{source="provider"} 1' in text
    assert "ray_inference_time_to_first_token_seconds_count 1" in text

    config = gateway.get("/v1/config").json()
    hints = config["capabilityHints"]
    assert isinstance(hints, dict)
    assert hints["llamaCpp"]["parallel"] == 2
