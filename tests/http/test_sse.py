"""Server-sent events, written and read."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray.http import COMMENT, SseDecoder, encode_event

Events = list[tuple[str | None, str]]


def decode(data: bytes, cuts: list[int] | None = None) -> Events:
    decoder = SseDecoder()
    edges = [0, *sorted(cuts or []), len(data)]
    events: Events = []
    for start, end in pairwise(edges):
        events += decoder.feed(data[start:end])
    return events


def test_an_event_has_a_name_and_data() -> None:
    assert encode_event("token", '{"text":"a"}') == b'event: token\ndata: {"text":"a"}\n\n'
    assert encode_event(None, "[DONE]") == b"data: [DONE]\n\n"
    assert encode_event(None, "") == b"data: \n\n"
    assert encode_event(None, "\xe9\u2028") == "data: \xe9\u2028\n\n".encode()


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_each_line_of_the_data_gets_its_own_field(ending: str) -> None:
    assert encode_event("x", f"a{ending}b{ending}") == b"event: x\ndata: a\ndata: b\ndata: \n\n"


@pytest.mark.parametrize("name", ["", "a\nb", "a\rdata: x"])
def test_an_event_name_cannot_smuggle_a_field(name: str) -> None:
    with pytest.raises(ValueError, match="event name"):
        encode_event(name, "x")


def test_the_comment_is_no_event() -> None:
    assert decode(COMMENT) == []


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [(None, "a")]),
        (b"data:a\n\n", [(None, "a")]),
        (b"data:  a\n\n", [(None, " a")]),
        (b"data\n\n", [(None, "")]),
        (b"data: a\r\n\r\n", [(None, "a")]),
        (b"data: a\r\r", [(None, "a")]),
        (b"data: a\r\n\ndata: b\n\r\n", [(None, "a"), (None, "b")]),
        (b"data: a\ndata: b\n\n", [(None, "a\nb")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [("x", "a"), (None, "b")]),
        (b"data: a\nevent: x\n\n", [("x", "a")]),
        (b"event:\ndata: a\n\n", [(None, "a")]),
        (b"event: x\n\n", []),
        (b": hello\n\ndata: a\n\n", [(None, "a")]),
        (b": hello\ndata: a\n: more\n\n", [(None, "a")]),
        (b"id: 1\nretry: 5\nother\ndata: a\n\n", [(None, "a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [(None, "a")]),
        (b"data: \xef\xbb\xbfa\n\n", [(None, "\ufeffa")]),
        (b"\n\n\ndata: a\n\n\n\ndata: b\n\n", [(None, "a"), (None, "b")]),
        (b"data: a\n\ndata: unfinished\n", [(None, "a")]),
        (b"data: \xff\n\n", [(None, "\ufffd")]),
        (b"", []),
    ],
)
def test_a_stream_gives_its_events_however_it_is_cut(stream: bytes, events: Events) -> None:
    assert decode(stream) == events
    assert decode(stream, list(range(1, len(stream)))) == events


def test_an_endless_event_is_refused() -> None:
    decoder = SseDecoder(max_event_bytes=20)
    assert decoder.feed(b"data: " + b"a" * 14 + b"\n\n") == [(None, "a" * 14)]
    assert decoder.feed(b"data: " + b"a" * 14 + b"\n") == []
    assert decoder.feed(b"\n") == [(None, "a" * 14)]
    with pytest.raises(ValueError, match="20 bytes"):
        decoder.feed(b"data: " + b"a" * 15)
    with pytest.raises(ValueError, match="20 bytes"):
        SseDecoder(max_event_bytes=20).feed(b"data: " + b"a" * 15 + b"\n\n")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.none() | st.sampled_from(["token", "result"]), st.text(max_size=30)), max_size=6),
    st.lists(st.integers(0, 300), max_size=10),
)
def test_what_is_written_is_read_again(events: Events, cuts: list[int]) -> None:
    stream = b"".join(encode_event(name, json.dumps(data, ensure_ascii=False)) + COMMENT for name, data in events)
    read = decode(stream, [cut for cut in cuts if cut < len(stream)])
    assert [(name, json.loads(data)) for name, data in read] == events


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"\n", b"\r", b"\r\n", b"data: a", b"data", b"event: x", b":c", b"\xef\xbb\xbf", b"\xff"]),
        max_size=15,
    ).map(b"".join)
    | st.binary(max_size=60),
    st.lists(st.integers(0, 100), max_size=6),
)
def test_any_bytes_give_the_same_events_in_any_pieces(stream: bytes, cuts: list[int]) -> None:
    whole = decode(stream)
    assert decode(stream, [cut for cut in cuts if cut < len(stream)]) == whole
    assert decode(stream, list(range(1, len(stream)))) == whole
