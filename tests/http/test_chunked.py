from __future__ import annotations

import pytest

from ray.http.chunked import MAX_LINE_BYTES, MAX_TRAILER_LINES, ChunkedBody

WHOLE = b'5\r\nhello\r\n3;name="v"\r\n, w\r\n0004 \r\norld\r\n0\r\nDate: now\r\n\r\n'


def fed(body: ChunkedBody, wire: bytes, size: int) -> bytes:
    return b"".join(body.feed(wire[start : start + size]) for start in range(0, len(wire), size))


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(WHOLE)])
def test_given_any_cuts_when_fed_then_the_data_comes_out_in_order_and_the_end_is_seen(size: int) -> None:
    body = ChunkedBody()
    assert fed(body, WHOLE, size) == b"hello, world"
    assert body.over


def test_given_several_chunks_together_when_fed_then_their_data_is_one_piece() -> None:
    assert ChunkedBody().feed(b"1\r\na\r\n2\r\nbc\r\n1\r\nd") == b"abcd"


def test_given_a_part_of_a_chunk_when_fed_then_it_is_given_out_at_once() -> None:
    body = ChunkedBody()
    assert body.feed(b"5\r\nhe") == b"he"
    assert body.feed(b"llo") == b"llo"
    assert not body.over


@pytest.mark.parametrize("end", range(1, len(WHOLE)))
def test_given_an_unfinished_body_when_fed_then_it_is_not_over(end: int) -> None:
    body = ChunkedBody()
    body.feed(WHOLE[:end])
    assert not body.over


def test_given_bytes_after_the_end_when_fed_then_they_are_no_data() -> None:
    body = ChunkedBody()
    assert body.feed(b"1\r\na\r\n0\r\n\r\n1\r\nb\r\n") == b"a"
    assert body.over


@pytest.mark.parametrize("size", [1, 4, 100_000])
@pytest.mark.parametrize(
    "wire",
    [
        b"zz\r\n",
        b"\r\n1\r\n",
        b"-1\r\na\r\n",
        b"0x1\r\na\r\n",
        b"1_0\r\n",
        b"1\na\r\n",
        b"1234567890abcdef\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n1\r\n",
        b"1;" + b"e" * MAX_LINE_BYTES + b"\r\na\r\n",
        b"1;\0\r\na\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n" + b"t: v\r\n" * (MAX_TRAILER_LINES + 1) + b"\r\n",
        b"0\r\nt: " + b"v" * 70_000,
    ],
    ids=[
        "no-size",
        "empty-size",
        "sign",
        "prefix",
        "underscore",
        "bare-lf",
        "too-many-digits",
        "too-much-data",
        "lf-after-data",
        "long-line",
        "nul",
        "broken-trailer",
        "many-trailers",
        "long-trailer",
    ],
)
def test_given_broken_framing_when_fed_then_it_is_refused_wherever_it_was_cut(wire: bytes, size: int) -> None:
    with pytest.raises(ValueError, match=r"chunk|trailers"):
        fed(ChunkedBody(), wire, size)
