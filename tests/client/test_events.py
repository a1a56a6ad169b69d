"""Streams of events, cut into pieces anywhere, give the same items; and nothing but an end is an end."""

from __future__ import annotations

from typing import TypeVar

import pytest

from ray.client import RayAnswerError, RayRefused, delta_text
from ray.client.calls import Call
from ray.client.documents import ChatAnswer
from ray.client.events import ChatEvents, Events, InferEvents, Result, Token

T = TypeVar("T")

CALL = Call("POST", "/v1/infer", "refused", is_stream=True)
HEADERS = {"x-request-id": "req_1"}
INFER = (
    'event: token\r\ndata: {"text":"Grün"}\r\n\r\n: keep-alive\n\n'
    'event: token\ndata: {"text":" 🌈"}\n\nevent: result\ndata: {"output":\ndata: "Grün 🌈"}\n\n'
).encode()
CHAT = 'data: {"choices":[{"delta":{"content":"Grün"}}]}\n\ndata: {"choices":[]}\n\ndata: [DONE]\n\n'.encode()


def fed(events: Events[T], data: bytes, size: int) -> list[T]:
    return [item for start in range(0, len(data), size) for item in events.feed(data[start : start + size])]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 16, 64, 1000])
def test_given_an_answer_in_pieces_when_fed_then_its_items_do_not_depend_on_them(size: int) -> None:
    infer, chat = InferEvents(CALL, HEADERS, 1000), ChatEvents(CALL, HEADERS, 1000)

    assert fed(infer, INFER, size) == [Token("Grün"), Token(" 🌈"), Result({"output": "Grün 🌈"})]
    assert fed(chat, CHAT, size) == [{"choices": [{"delta": {"content": "Grün"}}]}, {"choices": []}]
    infer.end()
    chat.end()


def test_given_a_stream_without_its_last_item_when_it_ends_then_that_is_an_error() -> None:
    for events, data in (
        (InferEvents(CALL, HEADERS, 1000), INFER[:-1]),
        (ChatEvents(CALL, HEADERS, 1000), CHAT[: CHAT.index(b"data: [DONE]")]),
    ):
        list(events.feed(data))
        with pytest.raises(RayAnswerError, match="cut off") as failure:
            events.end()
        assert failure.value.request_id == "req_1"


def test_given_tokens_and_an_error_in_one_piece_when_fed_then_the_tokens_come_first() -> None:
    error = b'{"error":{"code":"no_such_code","message":"?"}}'
    data = b'event: token\ndata: {"text":"Blue"}\n\nevent: error\ndata: ' + error + b"\n\n"
    feed = InferEvents(CALL, HEADERS, 1000).feed(data)

    assert next(feed) == Token("Blue")
    with pytest.raises(RayRefused) as refusal:
        next(feed)
    assert (refusal.value.status, refusal.value.code, refusal.value.request_id) == (None, "no_such_code", "req_1")


@pytest.mark.parametrize(
    "chunk", [b"5", b'"text"', b'{"choices":5}', b'{"choices":[5]}', b'{"choices":[{"delta":5}]}', b'{"choices":{}}']
)
def test_given_a_chunk_that_is_none_when_fed_then_it_is_an_error(chunk: bytes) -> None:
    with pytest.raises(RayAnswerError):
        list(ChatEvents(CALL, HEADERS, 1000).feed(b"data: " + chunk + b"\n\n"))


def test_given_an_error_that_cannot_be_read_when_fed_then_it_is_a_refusal_all_the_same() -> None:
    with pytest.raises(RayRefused) as refusal:
        list(InferEvents(CALL, HEADERS, 1000).feed(b"event: error\ndata: oops\n\n"))
    assert (refusal.value.code, refusal.value.body) == (None, "oops")


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        ({"choices": [{"delta": {"content": "Blue"}}]}, "Blue"),
        ({"choices": [{"delta": {"role": "assistant", "content": None}}]}, ""),
        ({"choices": [{"delta": {}, "finish_reason": "stop"}]}, ""),
        ({"choices": [], "usage": {}}, ""),
        ({}, ""),
    ],
)
def test_given_a_chunk_when_asked_for_its_text_then_it_is_what_the_delta_adds(chunk: ChatAnswer, text: str) -> None:
    assert delta_text(chunk) == text
