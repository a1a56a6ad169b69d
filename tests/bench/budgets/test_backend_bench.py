"""The part with a real model: equal questions on both sides, and readings of both sides' answers."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from ray.bench.budgets.backend_bench import (
    FULL,
    Backend,
    BackendPlan,
    completion_tokens,
    direct_request,
    gateway_request,
    launched_config,
    measure_backend,
    question,
    rows_without_backend,
    running_config,
    slots_busy,
)
from ray.bench.processes.llama_process import launch_words
from ray.bench.processes.load import Reply
from ray.bench.processes.process import MeasurementError, free_port
from ray.config import LlamaCppAdapter, config_from_mapping


def _body(request: bytes) -> dict[str, object]:
    document: dict[str, object] = json.loads(request.split(b"\r\n\r\n", 1)[1])
    return document


def _reply(document: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(document).encode(), closes=False)


def test_both_sides_are_asked_for_the_same_with_the_same_parameters() -> None:
    direct, through = _body(direct_request("a story", 96)), _body(gateway_request("a story", 96))
    assert direct["messages"] == [
        {"role": "system", "content": through["system"]},
        {"role": "user", "content": through["input"]},
    ]
    assert direct["max_tokens"] == through["maxTokens"] == 96
    for theirs, ours in (("temperature", "temperature"), ("top_p", "topP"), ("seed", "seed")):
        assert direct[theirs] == through[ours]
    assert through["cache"] is False


def test_two_questions_differ_from_their_first_word_on() -> None:
    assert question(2).split()[0] != question(3).split()[0]


@pytest.mark.parametrize(
    "usage", [{"completion_tokens": 64, "prompt_tokens": 9}, {"chars": {}, "tokens": {"prompt": 9, "completion": 64}}]
)
def test_tokens_are_read_from_either_sides_usage(usage: dict[str, object]) -> None:
    assert completion_tokens(_reply({"usage": usage})) == 64


@pytest.mark.parametrize("reply", [_reply({"usage": {}}), _reply({}), _reply({"error": {"code": "x"}}, status=502)])
def test_an_answer_without_tokens_is_a_failed_measurement(reply: Reply) -> None:
    with pytest.raises(MeasurementError, match="without tokens"):
        completion_tokens(reply)


@pytest.mark.parametrize(
    ("slots", "busy"),
    [([{"id": 0, "is_processing": False}, {"id": 1, "is_processing": True}], True), ([{"id": 0}], False)],
)
def test_slots_are_busy_when_one_of_them_is(slots: list[object], busy: bool) -> None:
    assert slots_busy(_reply(slots)) is busy


def test_slots_that_answer_an_error_are_a_failed_measurement() -> None:
    with pytest.raises(MeasurementError, match="501"):
        slots_busy(_reply({"error": {}}, status=501))


def test_the_launched_server_listens_on_loopback_with_one_slot_and_no_prompt_memory() -> None:
    words = launch_words(launched_config("/opt/llama-server", "/models/a.gguf", 4321))
    assert words[0] == "/opt/llama-server"
    flags = dict(pairwise(words))
    assert flags["--model"] == "/models/a.gguf"
    assert flags["--host"] == "127.0.0.1"
    assert flags["--port"] == "4321"
    assert flags["--parallel"] == "1"
    assert flags["--cache-ram"] == "0"
    assert "--slots" in words


@pytest.mark.parametrize(
    "document", [launched_config("/opt/llama-server", "/models/a.gguf", 8099), running_config(("127.0.0.1", 8099))]
)
def test_both_gateway_configs_are_valid_and_point_at_the_backend(document: dict[str, object]) -> None:
    config = config_from_mapping(document)
    assert isinstance(config.model.adapter, LlamaCppAdapter)
    assert config.model.adapter.base_url == "http://127.0.0.1:8099"
    assert config.model.max_output_tokens >= FULL.tokens
    assert not config.graceful_degradation.enabled


def test_a_config_without_launch_profile_cannot_start_a_server() -> None:
    with pytest.raises(MeasurementError, match="no launchProfile"):
        launch_words(running_config(("127.0.0.1", 8099)))


def test_without_a_backend_the_report_says_that_nothing_was_measured() -> None:
    (row,) = rows_without_backend()
    assert row.figure is None
    assert row.note is not None
    assert "--llama-server" in row.note


def test_a_backend_that_does_not_answer_is_named(tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(MeasurementError, match=f"127.0.0.1:{port} does not answer"):
        measure_backend(Backend(("127.0.0.1", port)), BackendPlan(1, 1, 1), "python3", lambda _: None)
