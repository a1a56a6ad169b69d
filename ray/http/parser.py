"""A sans-IO parser for HTTP/1.1 requests: bytes in with `feed`, events out with `next_event`.

Each request gives one `RequestHead`, any number of body pieces (`bytes`, chunked framing removed), and `Signal.END`;
pipelined requests follow one another. `Signal.NEED_DATA` means: nothing more until more bytes are fed. The events,
and the error if there is one, depend on the bytes alone and not on where they were split.

Framing is strict (see `grammar`): whatever two parsers could read differently raises `HttpError`, and the parser is
then finished, because nobody knows where the next request would begin. A head whose framing is sound but whose
`Host`, target or `Expect` is refused comes out as an event with its `refusal`, so that the answer can name it.

Memory: the parser holds what was fed and not yet consumed; whoever feeds it stops at `Limits.read_ahead_bytes`.
"""

from __future__ import annotations

from enum import Enum

from ray.http.grammar import BROKEN_LINE_END, CHUNK_LINE, CRLF, HEAD, HEAD_END, TOKEN_BYTES, TRAILERS
from ray.http.head import RequestHead, fault_of_head, interpret_head, malformed
from ray.http.messages import HttpError, Limits

# Framing may cost this much per chunk, plus twice the data, before it counts against a budget for the whole body:
# otherwise extensions on one-byte chunks would let a client send hundreds of bytes for one.
FREE_CHUNK_OVERHEAD_BYTES = 16
MAX_CHUNK_OVERHEAD_BYTES = 16_384


class Signal(Enum):
    """The events that carry no value."""

    NEED_DATA = "need more bytes"
    END = "end of this request"


class _State(Enum):
    HEAD = "head"
    SIZED_BODY = "body of a known length"
    CHUNK_LINE = "chunk size"
    CHUNK_DATA = "chunk data"
    TRAILERS = "trailers"
    END = "end"
    FAILED = "failed"


Event = RequestHead | bytes | Signal


class RequestParser:
    """The requests of one connection, in order."""

    __slots__ = (
        "_buffer",
        "_failure",
        "_limits",
        "_overhead",
        "_position",
        "_remaining",
        "_searched",
        "_skipped_empty_line",
        "_state",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # Bytes, not a bytearray: a request usually arrives whole, and then nothing is copied but the head's pieces.
        self._buffer = b""
        self._position = 0
        self._state = _State.HEAD
        self._skipped_empty_line = False
        # How far the unfinished head was already searched for broken line ends.
        self._searched = 0
        # Bytes still missing of a sized body or of the current chunk.
        self._remaining = 0
        self._overhead = 0
        self._failure: HttpError | None = None

    @property
    def buffered(self) -> int:
        """Bytes fed and not yet given out as events."""
        return len(self._buffer) - self._position

    @property
    def request_received(self) -> bool:
        """Whether the last byte of the current request has been fed (for a chunked body: has been consumed)."""
        if self._state is _State.SIZED_BODY:
            return self.buffered >= self._remaining
        return self._state is _State.END or self._state is _State.HEAD

    def feed(self, data: bytes) -> None:
        """Take more bytes from the connection."""
        if self._state is _State.FAILED:
            return
        self._searched -= self._position
        self._buffer = data if self._position == len(self._buffer) else self._buffer[self._position :] + data
        self._position = 0

    def next_event(self) -> Event:
        """The next event. Raises HttpError for a framing error, and the same one again from then on."""
        state = self._state
        try:
            if state is _State.HEAD:
                return self._next_head()
            if state is _State.END:
                self._state = _State.HEAD
                return Signal.END
            if state is _State.SIZED_BODY:
                return self._next_sized_piece()
            if state is not _State.FAILED:
                return self._next_chunked_piece()
        except HttpError as error:
            self._fail(error)
        assert self._failure is not None
        raise self._failure

    def _fail(self, error: HttpError) -> None:
        self._state = _State.FAILED
        self._failure = error
        self._buffer = b""
        self._position = 0

    # The head

    def _next_head(self) -> Event:
        start = self._position
        if not self._skipped_empty_line and self._buffer.startswith(b"\r", start):
            # RFC 9112 section 2.2: one empty line before a request is forgiven, after a body of an old client.
            if not self._buffer.startswith(CRLF, start):
                if self.buffered > 1:
                    raise malformed("the request line must start with a method")
                return Signal.NEED_DATA
            start += 2
            self._position = start
            self._skipped_empty_line = True
        if start == len(self._buffer):
            return Signal.NEED_DATA
        if self._buffer[start] not in TOKEN_BYTES:
            raise malformed("the request line must start with a method")
        window_end = start + self._limits.max_header_bytes
        end = self._buffer.find(HEAD_END, start, window_end)
        if end < 0:
            self._check_unfinished_head(start, window_end)
            return Signal.NEED_DATA
        match = HEAD.match(self._buffer, start)
        if match is None:
            raise malformed(fault_of_head(self._buffer[start : end + 2]))
        self._position = end + 4
        self._skipped_empty_line = False
        self._searched = 0
        method, target, version, field_lines = [part.decode("latin-1") for part in match.groups()]
        head = interpret_head(method, target, version, field_lines, self._limits)
        self._expect_body(head)
        return head

    def _check_unfinished_head(self, start: int, window_end: int) -> None:
        """Refuse now what cannot become a head any more, rather than at the deadline."""
        searched = max(start, self._searched - 1)
        if BROKEN_LINE_END.search(self._buffer, searched, window_end):
            raise malformed("a line must end in CRLF")
        self._searched = min(len(self._buffer), window_end)
        if len(self._buffer) >= window_end:
            raise HttpError(
                431,
                "request_headers_too_large",
                f"the request line and headers must not exceed {self._limits.max_header_bytes} bytes",
                {"maxBytes": self._limits.max_header_bytes},
            )

    def _expect_body(self, head: RequestHead) -> None:
        if head.chunked:
            self._state = _State.CHUNK_LINE
            self._overhead = 0
        elif head.content_length:
            self._state = _State.SIZED_BODY
            self._remaining = head.content_length
        else:
            self._state = _State.END

    # The body

    def _next_sized_piece(self) -> Event:
        piece = self._take(self._remaining)
        if not piece:
            return Signal.NEED_DATA
        self._remaining -= len(piece)
        if not self._remaining:
            self._state = _State.END
        return piece

    def _next_chunked_piece(self) -> Event:
        """All data of the chunks that are there, as one piece: tiny chunks must not cost an event each."""
        pieces: list[bytes] = []
        try:
            while self._chunk_step(pieces):
                pass
        except HttpError as error:
            if not pieces:
                raise
            # What came before the fault is good: give it out first, as if it had been fed alone.
            self._fail(error)
        if pieces:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._state is _State.END:
            self._state = _State.HEAD
            return Signal.END
        return Signal.NEED_DATA

    def _chunk_step(self, pieces: list[bytes]) -> bool:
        """Read one part of the chunked framing. False when it is incomplete, or when the body has ended."""
        if self._state is _State.CHUNK_LINE:
            return self._chunk_line()
        if self._state is _State.CHUNK_DATA:
            return self._chunk_data(pieces)
        return self._state is _State.TRAILERS and self._trailers()

    def _chunk_line(self) -> bool:
        buffer, start = self._buffer, self._position
        match = CHUNK_LINE.match(buffer, start, start + self._limits.max_chunk_line_bytes)
        if match is None:
            end = self._line_end(start, self._limits.max_chunk_line_bytes, "a chunk-size line")
            if end is not None:
                raise malformed("a chunk must start with its size in hexadecimal, then CRLF")
            return False
        self._position = match.end()
        self._remaining = int(match[1], 16)
        self._overhead += max(0, match.end() - start - FREE_CHUNK_OVERHEAD_BYTES - 2 * self._remaining)
        if self._overhead > MAX_CHUNK_OVERHEAD_BYTES:
            raise malformed("the chunk extensions of the body are too large")
        self._state = _State.CHUNK_DATA if self._remaining else _State.TRAILERS
        return True

    def _chunk_data(self, pieces: list[bytes]) -> bool:
        if self._remaining:
            piece = self._take(self._remaining)
            if not piece:
                return False
            pieces.append(piece)
            self._remaining -= len(piece)
            if self._remaining:
                return False
        ending = self._buffer[self._position : self._position + 2]
        if ending != CRLF:
            if not CRLF.startswith(ending):
                raise malformed("the data of a chunk must end in CRLF")
            return False
        self._position += 2
        self._state = _State.CHUNK_LINE
        return True

    def _trailers(self) -> bool:
        """Check the trailer section and drop it: no field in it may change how a request is understood."""
        start = self._position
        limit = self._limits.max_trailer_bytes
        if self._buffer.startswith(CRLF, start):
            end = start
        else:
            end = self._buffer.find(HEAD_END, start, start + limit)
            if end < 0:
                if self.buffered >= limit:
                    raise malformed(f"the trailers of the body must not exceed {limit} bytes")
                if BROKEN_LINE_END.search(self._buffer, start, start + limit):
                    raise malformed("a line must end in CRLF")
                return False
            end += 2
            if TRAILERS.fullmatch(self._buffer, start, end) is None:
                raise malformed("the trailers of the body are malformed")
        self._position = end + 2
        self._state = _State.END
        return True

    def _line_end(self, start: int, limit: int, what: str) -> int | None:
        """Where the line at `start` ends, or None while it may still be completed."""
        end = self._buffer.find(CRLF, start, start + limit)
        if BROKEN_LINE_END.search(self._buffer, start, start + limit if end < 0 else end):
            raise malformed("a line must end in CRLF")
        if end >= 0:
            return end
        if self.buffered >= limit:
            raise malformed(f"{what} must not exceed {limit} bytes")
        return None

    def _take(self, count: int) -> bytes:
        start = self._position
        if start == 0 and len(self._buffer) <= count:
            piece = self._buffer
            self._buffer = b""
            return piece
        piece = self._buffer[start : start + count]
        self._position = start + len(piece)
        return piece
