"""The parser: what is a request, what is refused, and that splitting the bytes changes nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ray.http import HttpError, Limits
from ray.http.head import RequestHead
from ray.http.parser import RequestParser, Signal

LIMITS = Limits()
HOST = b"Host: a\r\n"


def parse(data: bytes, cuts: list[int] | None = None, limits: Limits = LIMITS) -> list[object]:
    """All events of `data`, fed in pieces; adjoining body pieces are joined, an error ends the list."""
    parser = RequestParser(limits)
    events: list[object] = []
    edges = [0, *sorted(cuts or []), len(data)]
    for start, end in pairwise(edges):
        if start < end:
            parser.feed(data[start:end])
        for _ in range(len(data) + 10):
            try:
                event = parser.next_event()
            except HttpError as error:
                return [*events, (error.status, error.code)]
            if event is Signal.NEED_DATA:
                break
            if isinstance(event, bytes) and events and isinstance(events[-1], bytes):
                events[-1] += event
            else:
                events.append(describe(event))
        else:
            raise AssertionError("the parser never asks for data")
    return events


def describe(event: object) -> object:
    if not isinstance(event, RequestHead):
        return event
    refusal = None if event.refusal is None else (event.refusal.status, event.refusal.code)
    return (event.method, event.target, event.version, event.headers.items(), event.content_length, refusal)


def head_of(data: bytes) -> RequestHead:
    parser = RequestParser(LIMITS)
    parser.feed(data)
    event = parser.next_event()
    assert isinstance(event, RequestHead)
    return event


def error_of(data: bytes, limits: Limits = LIMITS) -> HttpError:
    parser = RequestParser(limits)
    parser.feed(data)
    with pytest.raises(HttpError) as caught:
        parser.next_event()
    return caught.value


def get(target: bytes = b"/", headers: bytes = HOST) -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\n" + headers + b"\r\n"


def post(framing: bytes, body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + framing + b"\r\n\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body)


def test_a_request_without_body_gives_a_head_and_an_end() -> None:
    parser = RequestParser(LIMITS)
    parser.feed(b"GET /v1/x?a=1?b HTTP/1.1\r\nHost: Example.com:3000\r\nX-Two: a\r\nx-two:\t b \r\nEmpty:\r\n\r\n")
    head = parser.next_event()
    assert isinstance(head, RequestHead)
    assert (head.method, head.target, head.path, head.query, head.version) == (
        "GET",
        "/v1/x?a=1?b",
        "/v1/x",
        "a=1?b",
        "1.1",
    )
    assert head.headers.get("X-TWO") == "a, b"
    assert head.headers.get_all("x-Two") == ["a", "b"]
    assert head.headers.get("empty") == ""
    assert head.headers.get("absent") is None
    assert head.headers.get_all("absent") == []
    assert not head.has_body
    assert head.keep_alive
    assert head.refusal is None
    assert parser.next_event() is Signal.END
    assert parser.next_event() is Signal.NEED_DATA
    assert parser.buffered == 0


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (post(b"Content-Length: 5", b"hello"), b"hello"),
        (post(b"Content-Length: 0005", b"hello"), b"hello"),
        (post(b"Content-Length:\t 5 \t", b"hello"), b"hello"),
        (chunked(b"5\r\nhello\r\n0\r\n\r\n"), b"hello"),
        (chunked(b"2\r\nhe\r\n03\r\nllo\r\n0\r\n\r\n"), b"hello"),
        (chunked(b"5;a=b;c\r\nhello\r\n0;last\r\n\r\n"), b"hello"),
        (chunked(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n"), b"hello"),
        (chunked(b"A\r\n0123456789\r\n0\r\n\r\n"), b"0123456789"),
        (post(b"transfer-encoding: Chunked", b"5\r\nhello\r\n0\r\n\r\n"), b"hello"),
    ],
)
def test_a_body_is_given_out_without_its_framing(data: bytes, body: bytes) -> None:
    events = parse(data)
    assert events[1:] == [body, Signal.END]


@pytest.mark.parametrize("data", [post(b"Content-Length: 0", b""), chunked(b"0\r\n\r\n"), post(b"X: y", b"")])
def test_an_empty_body_gives_no_piece(data: bytes) -> None:
    assert parse(data)[1:] == [Signal.END]


def test_pipelined_requests_come_out_in_order() -> None:
    data = get(b"/1") + post(b"Content-Length: 2", b"ab") + chunked(b"1\r\nc\r\n0\r\n\r\n") + get(b"/4")
    assert [event[1] if isinstance(event, tuple) else event for event in parse(data)] == [
        "/1",
        Signal.END,
        "/",
        b"ab",
        Signal.END,
        "/",
        b"c",
        Signal.END,
        "/4",
        Signal.END,
    ]


def test_one_empty_line_before_a_request_is_forgiven_and_a_second_is_not() -> None:
    assert len(parse(b"\r\n" + get())) == 2
    assert len(parse(get() + b"\r\n" + get())) == 4
    assert parse(b"\r\n\r\n" + get()) == [(400, "invalid_http_request")]


MALFORMED = {
    "bare LF everywhere": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF after a header": b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "CR alone in a value": get(headers=HOST + b"X: a\rb\r\n"),
    "CR alone at the end of a line": get(headers=HOST + b"X: a\r\r\n"),
    "obs-fold with space": get(headers=HOST + b"X: a\r\n b\r\n"),
    "obs-fold with tab": get(headers=HOST + b"X: a\r\n\tb\r\n"),
    "fold before the first header": get(headers=b" X: a\r\n" + HOST),
    "space before the colon": get(headers=HOST + b"X : a\r\n"),
    "no colon": get(headers=HOST + b"X\r\n"),
    "empty name": get(headers=HOST + b": a\r\n"),
    "NUL in a value": get(headers=HOST + b"X: a\0b\r\n"),
    "escape in a value": get(headers=HOST + b"X: \x1b\r\n"),
    "DEL in a value": get(headers=HOST + b"X: \x7f\r\n"),
    "obs-text in a name": get(headers=HOST + b"X\xe4: a\r\n"),
    "two spaces in the request line": b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
    "tab in the request line": b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "space at the end of the request line": b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n",
    "space in the target": get(b"/a b"),
    "control byte in the target": get(b"/\x01"),
    "obs-text in the target": get(b"/\xe4"),
    "no target": b"GET HTTP/1.1\r\n" + HOST + b"\r\n",
    "no version": b"GET /\r\n" + HOST + b"\r\n",
    "version 2": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "version 1.2": b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
    "version 0.9": b"GET / HTTP/0.9\r\n" + HOST + b"\r\n",
    "version in lower case": b"GET / http/1.1\r\n" + HOST + b"\r\n",
    "long version": b"GET / HTTP/1.11\r\n" + HOST + b"\r\n",
    "method with a colon": b"GE:T / HTTP/1.1\r\n" + HOST + b"\r\n",
    "long method": b"G" * 33 + b" / HTTP/1.1\r\n" + HOST + b"\r\n",
    "leading space": b" GET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS ClientHello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "absent Host": get(headers=b""),
    "repeated Host": get(headers=HOST + HOST),
    "both framing headers": post(b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    "both framing headers, coding first": post(b"Transfer-Encoding: chunked\r\nContent-Length: 5", b"0\r\n\r\n"),
    "repeated Content-Length": post(b"Content-Length: 5\r\nContent-Length: 5", b"hello"),
    "different Content-Lengths": post(b"Content-Length: 5\r\nContent-Length: 6", b"hello"),
    "listed Content-Length": post(b"Content-Length: 5, 5", b"hello"),
    "signed Content-Length": post(b"Content-Length: +5", b"hello"),
    "negative Content-Length": post(b"Content-Length: -5", b"hello"),
    "hexadecimal Content-Length": post(b"Content-Length: 0x5", b"hello"),
    "Content-Length with an underscore": post(b"Content-Length: 1_0", b"hellohello"),
    "Content-Length with junk": post(b"Content-Length: 5 5", b"hello"),
    "Content-Length with a fraction": post(b"Content-Length: 5.0", b"hello"),
    "empty Content-Length": post(b"Content-Length:", b""),
    "Content-Length in other digits": post(b"Content-Length: \xb2", b""),
    "Content-Length beyond 64 bits": post(b"Content-Length: 99999999999999999999", b""),
    "Transfer-Encoding in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": post(b"Transfer-Encoding: gzip", b""),
    "coding before chunked": post(b"Transfer-Encoding: gzip, chunked", b"0\r\n\r\n"),
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked", b"0\r\n\r\n"),
    "chunked in two headers": post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    "chunked with a parameter": post(b"Transfer-Encoding: chunked;q=1", b"0\r\n\r\n"),
    "identity": post(b"Transfer-Encoding: identity", b""),
    "empty coding": post(b"Transfer-Encoding:", b""),
    "vertical tab around chunked": post(b"Transfer-Encoding: \x0bchunked", b"0\r\n\r\n"),
    "chunk size not hexadecimal": chunked(b"g\r\n"),
    "chunk size with 0x": chunked(b"0x5\r\nhello\r\n0\r\n\r\n"),
    "chunk size signed": chunked(b"+5\r\nhello\r\n0\r\n\r\n"),
    "chunk size empty": chunked(b"\r\nhello\r\n0\r\n\r\n"),
    "space after the chunk size": chunked(b"5 \r\nhello\r\n0\r\n\r\n"),
    "space before the chunk size": chunked(b" 5\r\nhello\r\n0\r\n\r\n"),
    "chunk size too long": chunked(b"0" * 16 + b"5\r\nhello\r\n0\r\n\r\n"),
    "bare LF after the chunk size": chunked(b"5\nhello\r\n0\r\n\r\n"),
    "bare LF in an extension": chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "NUL in an extension": chunked(b"5;a\0\r\nhello\r\n0\r\n\r\n"),
    "extension over the cap": chunked(b"5;" + b"a" * 128 + b"\r\nhello\r\n0\r\n\r\n"),
    "endless extension": chunked(b"5;" + b"a" * 128),
    "extensions over the sum": chunked((b"1;" + b"a" * 100 + b"\r\nx\r\n") * 200),
    "chunk data without CRLF": chunked(b"5\r\nhelloX\r\n0\r\n\r\n"),
    "chunk data ended by LF": chunked(b"5\r\nhello\n0\r\n\r\n"),
    "trailer without colon": chunked(b"0\r\nX\r\n\r\n"),
    "trailer with NUL": chunked(b"0\r\nX: \0\r\n\r\n"),
    "folded trailer": chunked(b"0\r\nX: a\r\n b\r\n\r\n"),
    "trailer with bare LF": chunked(b"0\r\nX: a\nY: b\r\n\r\n"),
    "trailers over the cap": chunked(b"0\r\n" + b"X: aaaaaaaaaaaaaaaa\r\n" * 300),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_two_parsers_could_read_differently_is_400(data: bytes) -> None:
    assert parse(data)[-1] == (400, "invalid_http_request")


def test_a_failed_parser_stays_failed_and_holds_nothing() -> None:
    parser = RequestParser(LIMITS)
    parser.feed(b"\0" + get() * 100)
    for _ in range(2):
        with pytest.raises(HttpError):
            parser.next_event()
        parser.feed(get())
    assert parser.buffered == 0


def test_a_fault_does_not_repeat_the_value_it_is_about() -> None:
    error = error_of(get(headers=HOST + b"Authorization: Bearer s3cret\0\r\n"))
    assert "s3cret" not in error.message
    assert "line 2" in error.message


def test_garbage_is_refused_before_its_head_is_complete() -> None:
    for data in (b"\x16", b"GET / HTTP/1.1\nHo", b"GET / HTTP/1.1\r\nX: a\rb", b"\0"):
        assert parse(data) == [(400, "invalid_http_request")]


def test_the_head_may_fill_its_limit_and_not_more() -> None:
    fixed = len(get(headers=HOST + b"X: \r\n"))
    fits = get(headers=HOST + b"X: " + b"a" * (12_288 - fixed) + b"\r\n")
    assert len(fits) == 12_288
    assert len(parse(fits)) == 2
    too_long = get(headers=HOST + b"X: " + b"a" * (12_289 - fixed) + b"\r\n")
    assert parse(too_long) == [(431, "request_headers_too_large")]
    assert parse(too_long[:12_288]) == [(431, "request_headers_too_large")]
    assert parse(too_long[:12_287]) == []


def test_one_header_of_the_whole_limit_is_431() -> None:
    assert parse(get(headers=HOST + b"X: " + b"a" * 12_285 + b"\r\n")) == [(431, "request_headers_too_large")]


def test_64_headers_pass_and_65_are_431() -> None:
    assert len(parse(get(headers=HOST + b"X: a\r\n" * 63))) == 2
    assert parse(get(headers=HOST + b"X: a\r\n" * 64)) == [(431, "request_headers_too_large")]


def refusal_of(data: bytes) -> HttpError:
    refusal = head_of(data).refusal
    assert refusal is not None
    return refusal


def test_a_target_over_the_limit_is_414_with_numbers() -> None:
    assert head_of(get(b"/" + b"a" * 8_191)).refusal is None
    refusal = refusal_of(get(b"/" + b"a" * 8_193))
    assert (refusal.status, refusal.code) == (414, "request_target_too_large")
    assert refusal.details == {"maxChars": 8_192, "actualChars": 8_194}


def test_a_target_over_the_head_limit_is_431() -> None:
    assert parse(get(b"/" + b"a" * 13_000)) == [(431, "request_headers_too_large")]


def test_an_empty_target_is_refused_by_its_own_name() -> None:
    refusal = refusal_of(b"GET  HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (refusal.status, refusal.code) == (400, "invalid_request")
    assert "empty" in refusal.message


def test_an_unknown_expectation_is_417_with_its_value_and_the_path_stays_known() -> None:
    head = head_of(get(b"/v1/infer?x", HOST + b"Expect: wait-for-budget" + b"x" * 200 + b"\r\n"))
    assert head.refusal is not None
    assert (head.refusal.status, head.refusal.code) == (417, "unsupported_expectation")
    assert head.refusal.details == {
        "expect": ("wait-for-budget" + "x" * 200)[:128],
        "supported": ["100-continue"],
    }
    assert head.path == "/v1/infer"


def test_an_unknown_expectation_is_named_before_a_bad_host() -> None:
    assert refusal_of(get(headers=b"Host: a_b\r\nExpect: x\r\n")).status == 417


@pytest.mark.parametrize(("value", "expected"), [(b"100-continue", True), (b"100-Continue", True)])
def test_100_continue_is_known_in_any_case(value: bytes, expected: bool) -> None:
    assert head_of(get(headers=HOST + b"Expect: " + value + b"\r\n")).expect_continue is expected


def test_100_continue_of_an_http_1_0_client_is_ignored() -> None:
    head = head_of(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
    assert not head.expect_continue
    assert head.refusal is None


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        (b"1.1", None, True),
        (b"1.1", b"close", False),
        (b"1.1", b"Keep-Alive, CLOSE", False),
        (b"1.1", b"upgrade", True),
        (b"1.0", None, False),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"keep-alive, close", False),
    ],
)
def test_the_client_decides_whether_the_connection_may_stay(
    version: bytes, connection: bytes | None, keep_alive: bool
) -> None:
    line = b"" if connection is None else b"Connection: " + connection + b"\r\n"
    assert head_of(b"GET / HTTP/" + version + b"\r\n" + HOST + line + b"\r\n").keep_alive is keep_alive


def test_tiny_chunks_with_large_framing_are_bounded_but_plain_ones_pass() -> None:
    assert parse(chunked(b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"))[1:] == [b"x" * 20_000, Signal.END]


def test_data_before_a_broken_chunk_still_comes_out() -> None:
    assert parse(chunked(b"2\r\nab\r\n2\r\ncd\r\nz\r\n"))[1:] == [b"abcd", (400, "invalid_http_request")]


@pytest.mark.parametrize(
    ("fed", "received"),
    [
        (post(b"Content-Length: 5", b"hell"), False),
        (post(b"Content-Length: 5", b"hello"), True),
        (get(), True),
    ],
)
def test_the_parser_knows_whether_the_request_has_arrived(fed: bytes, received: bool) -> None:
    parser = RequestParser(LIMITS)
    parser.feed(fed)
    parser.next_event()
    assert parser.request_received is received


# Property tests. Fragments of real requests, so that mutations reach deep into the grammar.

FRAGMENTS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"POST /v1/infer HTTP/1.1\r\n",
        b"HEAD /livez HTTP/1.0\r\n",
        HOST,
        b"Host: [::1]:3000\r\n",
        b"Host: a_b\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 70\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"Connection: close\r\n",
        b"X: " + b"y" * 90 + b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"abc",
        b"3\r\nabc\r\n",
        b"3;ext\r\nabc\r\n",
        b"0\r\n\r\n",
        b"0\r\nT: v\r\n\r\n",
        get(),
        post(b"Content-Length: 3", b"abc"),
        chunked(b"3\r\nabc\r\n0\r\n\r\n"),
        b"\x00",
        b" ",
        b":",
    ]
)
STREAMS = st.one_of(st.binary(max_size=400), st.lists(FRAGMENTS, max_size=12).map(b"".join))
SMALL = Limits(
    max_header_bytes=200,
    max_headers_count=4,
    max_target_chars=60,
    max_chunk_line_bytes=24,
    max_trailer_bytes=40,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.lists(FRAGMENTS, min_size=1, max_size=8).map(b"".join)))
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, len(data)))
        data[position : position + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data)


@settings(max_examples=400, deadline=None)
@given(st.one_of(STREAMS, mutated()), st.lists(st.integers(0, 400), max_size=8), st.booleans())
@example(b"\r\n\r\n" + get(), [1, 2, 3], False)
@example(chunked(b"2\r\nab\r\nz\r\n"), [60, 61], False)
def test_any_bytes_in_any_pieces_give_the_same_events_and_only_http_errors(
    data: bytes, cuts: list[int], small: bool
) -> None:
    limits = SMALL if small else LIMITS
    whole = parse(data, limits=limits)
    assert parse(data, [cut for cut in cuts if cut < len(data)], limits) == whole
    assert parse(data, list(range(1, len(data))), limits) == whole


@settings(max_examples=100, deadline=None)
@given(st.one_of(STREAMS, mutated()))
def test_the_parser_never_holds_more_than_its_caps_once_it_asks_for_data(data: bytes) -> None:
    parser = RequestParser(SMALL)
    cap = max(SMALL.max_header_bytes, SMALL.max_trailer_bytes, SMALL.max_chunk_line_bytes)
    try:
        for position in range(len(data)):
            parser.feed(data[position : position + 1])
            while parser.next_event() is not Signal.NEED_DATA:
                pass
            assert parser.buffered <= cap
    except HttpError:
        assert parser.buffered == 0


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=60), st.booleans(), st.integers(1, 9)), min_size=1, max_size=4),
    st.lists(st.integers(0, 900), max_size=10),
)
def test_pipelined_bodies_survive_framing_and_splitting(
    requests: list[tuple[bytes, bool, int]], cuts: list[int]
) -> None:
    data = b""
    for body, in_chunks, size in requests:
        if in_chunks:
            pieces = [body[start : start + size] for start in range(0, len(body), size)]
            framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
            data += chunked(framed + b"0\r\n\r\n")
        else:
            data += post(b"Content-Length: %d" % len(body), body)
    events = parse(data, [cut for cut in cuts if cut < len(data)])
    bodies: list[bytes] = []
    for event in events:
        if isinstance(event, tuple):
            bodies.append(b"")
        elif isinstance(event, bytes):
            bodies[-1] = event
    assert bodies == [body for body, _, _ in requests]
    assert events.count(Signal.END) == len(requests)
