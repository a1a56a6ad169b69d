"""One side of `peers`: the body everyone understands, and streams of servers that say much or little."""

from __future__ import annotations

import json

import pytest

from ray.bench.peers.chat_side import ChatAnswer, base_url, chat_body, code_of
from ray.bench.processes.process import MeasurementError
from ray.bench.run.sample import Sample
from ray.bench.run.workload_file import Item, parse_items

SENT = Sample(0, 0, 0.0, 100.0, ttft_ms=40.0)


def _item(**fields: object) -> Item:
    return parse_items(json.dumps([fields]))[0]


def _read(*events: object) -> Sample:
    answer = ChatAnswer()
    for event in events:
        answer.feed(event if isinstance(event, str) else json.dumps(event))
    return answer.into(SENT, _item(input="a question"))


def _piece(text: str | None, finish: str | None = None) -> dict[str, object]:
    return {"choices": [{"delta": {} if text is None else {"content": text}, "finish_reason": finish}]}


def test_an_item_becomes_a_streamed_chat_with_its_sampling() -> None:
    item = _item(
        input="Hello",
        system="Be kind",
        maxTokens=9,
        temperature=0,
        topP=0.5,
        seed=3,
        stop=["x"],
        responseFormat={"type": "json_object"},
        metadata={"promptFamily": "not for others"},
        dedupeKey="k",
    )
    assert chat_body(item, "llama") == {
        "model": "llama",
        "messages": [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hello"}],
        "max_tokens": 9,
        "temperature": 0,
        "top_p": 0.5,
        "seed": 3,
        "stop": ["x"],
        "response_format": {"type": "json_object"},
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert "model" not in chat_body(_item(input="Hello"), None)


def test_a_template_is_filled_in_with_its_own_length_and_format() -> None:
    values = {"replyText": "Not now, thank you."}
    body = chat_body(_item(templateId="email.reply_classification.v1", templateVariables=values), None)
    messages = body["messages"]
    assert isinstance(messages, list)
    assert "Not now, thank you." in messages[-1]["content"]
    assert "{{" not in json.dumps(messages)
    assert "max_tokens" in body


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"templateId": "our.own.v1", "templateVariables": {}}, "our.own.v1 is none of them"),
        ({"templateId": "email.reply_classification.v1", "templateVariables": {}}, "email.reply_classification.v1"),
    ],
)
def test_a_template_that_cannot_be_filled_in_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        chat_body(_item(**fields), None)


def test_everything_that_ray_says_is_read() -> None:
    sample = _read(
        _piece(""),
        _piece("Hel"),
        {
            **_piece("lo", "stop"),
            "ray": {"cached": True, "degraded": True, "queueTimeMs": 4, "prefix": {"state": "hot"}},
        },
        {
            "choices": [],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 5}},
        },
        "[DONE]",
    )
    assert sample.answered
    assert (sample.prompt_tokens, sample.completion_tokens, sample.cached_tokens) == (9, 2, 5)
    assert (sample.cached, sample.degraded, sample.queue_ms, sample.prefix) == (True, True, 4, "hot")
    assert sample.quality_score == 100


def test_the_timings_of_llama_server_are_read() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2}
    sample = _read(
        _piece("a"), {"choices": [], "usage": usage, "timings": {"cache_n": 7, "predicted_per_second": 33.5}}, "[DONE]"
    )
    assert (sample.cached_tokens, sample.tokens_per_second) == (7, 33.5)


def test_a_server_that_says_only_the_text_is_enough() -> None:
    sample = _read(_piece("a"), _piece(None, "stop"))
    assert sample.answered
    assert (sample.prompt_tokens, sample.cached_tokens, sample.prefix, sample.queue_ms) == (None, None, None, None)


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([_piece("a")], "unfinished"),
        ([], "unfinished"),
        ([_piece("a"), "{", "[DONE]"], "invalid_answer"),
        ([_piece("a"), "[1]", "[DONE]"], "invalid_answer"),
        ([_piece("a"), {"error": {"code": "queue_full"}}], "queue_full"),
        ([{"error": {"code": 500, "type": "server_error"}}, "[DONE]"], "server_error"),
        ([{"error": {"code": 500}}], "error_in_stream"),
        ([{"error": "what"}], "error_in_stream"),
    ],
)
def test_a_stream_that_is_not_whole_is_an_error_with_a_code(events: list[object], code: str) -> None:
    assert _read(*events).code == code


def test_a_code_from_outside_has_a_limit() -> None:
    assert code_of({"error": {"code": "x" * 1000}}, "http_500") == "x" * 64


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://a:1", "http://a:1/v1"),
        ("http://a:1/", "http://a:1/v1"),
        ("https://a/openai/v1/", "https://a/openai/v1"),
        ("http://a:1/v1", "http://a:1/v1"),
    ],
)
def test_a_url_without_a_path_means_v1(url: str, base: str) -> None:
    assert base_url(url) == base
