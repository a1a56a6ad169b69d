"""Both doors are asked for the same, and what they answer is read exactly or not at all."""

from __future__ import annotations

import json

import pytest

from ray.bench.budgets.doors import (
    DIRECT,
    THROUGH,
    Answer,
    AnswerReader,
    DirectReader,
    GatewayReader,
    direct_body,
    gateway_body,
)
from ray.bench.budgets.workload import Question
from ray.bench.processes.process import MeasurementError

QUESTION = Question(0, "You sell lamps.", "Where is order 7?")


def _fed(reader: AnswerReader, *events: tuple[str | None, object]) -> list[bool]:
    return [reader.feed(name, data if isinstance(data, str) else json.dumps(data)) for name, data in events]


def test_both_doors_get_the_same_text_and_the_same_sampling() -> None:
    direct, through = direct_body(QUESTION, 32, True), gateway_body(QUESTION, 32, True)
    assert direct["messages"] == [
        {"role": "system", "content": through["system"]},
        {"role": "user", "content": through["input"]},
    ]
    for theirs, ours in (
        ("max_tokens", "maxTokens"),
        ("temperature", "temperature"),
        ("top_p", "topP"),
        ("seed", "seed"),
    ):
        assert direct[theirs] == through[ours]
    assert direct["stream"] is through["stream"] is True
    assert direct["temperature"] == 0


def test_neither_the_response_cache_nor_a_dedupe_key_can_answer_for_the_model() -> None:
    body = gateway_body(QUESTION, 32, True)
    assert body["cache"] is False
    assert "dedupeKey" not in body


def test_llama_server_keeps_its_prompt_cache_unless_a_question_goes_without_reuse() -> None:
    assert "cache_prompt" not in direct_body(QUESTION, 32, True)
    assert direct_body(QUESTION, 32, False)["cache_prompt"] is False


def test_a_direct_answer_is_its_deltas_with_the_counts_of_its_last_event() -> None:
    reader = DirectReader()
    brought = _fed(
        reader,
        (None, {"choices": [{"delta": {"role": "assistant", "content": None}}]}),
        (None, {"choices": [{"delta": {"content": "Good "}}]}),
        (None, {"choices": [{"delta": {"content": "day"}}]}),
        (None, {"choices": [{"delta": {}, "finish_reason": "stop"}]}),
        (None, {"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 2}, "timings": {"cache_n": 31}}),
        (None, "[DONE]"),
    )
    assert brought == [False, True, True, False, False, False]
    assert reader.answer() == Answer("Good day", 40, 2, 31)


def test_a_gateways_answer_is_its_tokens_with_the_counts_and_the_prefix_of_its_result() -> None:
    reader = GatewayReader()
    provider = {"tokensCached": 31, "prefix": {"state": "restored", "tokensReused": 31}}
    result = {
        "usage": {"tokens": {"prompt": 40, "completion": 2}},
        "queueTimeMs": 12,
        "diagnostics": {"provider": provider},
    }
    assert _fed(reader, ("token", {"text": "Good "}), ("token", {"text": "day"}), ("result", result)) == [
        True,
        True,
        False,
    ]
    assert reader.answer() == Answer("Good day", 40, 2, 31, "restored", 12.0)


def test_a_gateway_without_prefix_store_says_nothing_about_prefixes() -> None:
    reader = GatewayReader()
    result = {"usage": {"tokens": {"prompt": 4, "completion": 1}}, "diagnostics": {"provider": {"tokensCached": 0}}}
    _fed(reader, ("token", {"text": "a"}), ("result", result))
    assert reader.answer().prefix is None


@pytest.mark.parametrize("reader", [DirectReader(), GatewayReader()])
def test_an_answer_that_ended_early_is_a_failed_measurement(reader: AnswerReader) -> None:
    with pytest.raises(MeasurementError, match="ended without saying prompt"):
        reader.answer()


@pytest.mark.parametrize(
    ("reader", "event", "data"),
    [
        (DirectReader(), None, '{"error":{"message":"Context size has been exceeded"}}'),
        (GatewayReader(), "error", '{"error":{"code":"provider_timeout"}}'),
        (GatewayReader(), None, "{}"),
        (DirectReader(), None, "not JSON"),
        (DirectReader(), None, "[1]"),
        (GatewayReader(), "result", "7"),
    ],
)
def test_anything_else_in_the_stream_is_a_failed_measurement(
    reader: AnswerReader, event: str | None, data: str
) -> None:
    with pytest.raises(MeasurementError):
        reader.feed(event, data)


def test_the_doors_lead_to_different_routes() -> None:
    assert (DIRECT.path, THROUGH.path) == ("/v1/chat/completions", "/v1/infer")
