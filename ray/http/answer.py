"""Reading an answer that `http.client` parses, within limits of its own.

`http.client` alone would take 100 headers of 64 KiB, a cut connection for the end of the headers, and whatever framing
the other side makes up. Here the head has a budget, the body a limit, and what two readers could frame differently is
refused. Chunked bodies are unframed here as well: `http.client` gives them out chunk by chunk, which for a stream of
tokens is several times the work. No sockets: the bytes come from an `Incoming`.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from ray.http.chunked import ChunkedBody
from ray.http.exchange import ClientConnectionError, ClientResponseTooLarge, Head

if TYPE_CHECKING:
    import http.client

MAX_HEADER_LINES = 64
MAX_HEADER_LINE_BYTES = 8_192
MAX_HEADER_BYTES = 65_536
_READ_BYTES = 16_384
_CUT = "the connection was cut in the middle of the answer"


class Incoming(io.RawIOBase):
    """Where the bytes of an answer come from: a subclass has `readinto`, which gives nothing once `is_wanted` is
    false."""

    def __init__(self) -> None:
        super().__init__()
        self.is_wanted = True

    def readable(self) -> bool:
        return True


class AnswerFile(io.BufferedReader):
    """What `http.client` reads an answer from, line by line or in pieces.

    Lines between two pieces of body (status, headers, trailers) have a budget, so that an answer cannot consist of
    headers without end. Python's own limits are 100 lines of 64 KiB.
    """

    def __init__(self, incoming: Incoming) -> None:
        super().__init__(incoming, _READ_BYTES)
        self._incoming = incoming
        self._lines = 0
        self._line_bytes = 0
        self.has_leftover = False

    def readline(self, size: int | None = -1) -> bytes:
        line = super().readline(MAX_HEADER_LINE_BYTES + 1)
        self._lines += 1
        self._line_bytes += len(line)
        # The status line and the empty line at the end are not headers.
        if (
            len(line) > MAX_HEADER_LINE_BYTES
            or self._lines > MAX_HEADER_LINES + 2
            or self._line_bytes > MAX_HEADER_BYTES
        ):
            raise ClientConnectionError("the answer's headers are too large")
        if not line.endswith(b"\n") and self._line_bytes > 0:
            # `http.client` takes the end of the connection for the end of the headers.
            raise ClientConnectionError(_CUT)
        return line

    def read1(self, size: int = -1) -> bytes:
        self.renew_budget()
        return super().read1(size)

    def renew_budget(self) -> None:
        """The head has been read: what follows is counted anew."""
        self._lines = self._line_bytes = 0

    def close(self) -> None:
        if not self.closed:
            self._incoming.is_wanted = False
            self.has_leftover = bool(self.peek(1))
        super().close()


def answer_head(response: http.client.HTTPResponse) -> Head:
    """Status and headers, after refusing what two readers could frame differently or what is compressed."""
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    length = headers.get("content-length")
    coding = headers.get("transfer-encoding")
    if length is not None and not (length.isascii() and length.isdigit() and len(length) < 19):
        raise ClientConnectionError("the answer has an unusable Content-Length")
    if coding is not None and (coding.strip().lower() != "chunked" or length is not None):
        raise ClientConnectionError("the answer has an unusable Transfer-Encoding")
    if headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise ClientConnectionError("the answer is compressed although identity was asked for")
    return Head(response.status, headers, None if length is None else int(length))


class AnswerBody:
    """The body of an answer, piece by piece. Of a 2xx a byte too many is an error; any other body is cut there.

    `truncated`: it was cut; `complete`: all of it was read.
    """

    def __init__(self, response: http.client.HTTPResponse, file: AnswerFile, head: Head, limit_bytes: int) -> None:
        """`file`: what `response` reads from."""
        self._response = response
        self._file = file
        self._chunks = ChunkedBody() if "transfer-encoding" in head.headers else None
        self._head = head
        self._limit = limit_bytes
        self._count = 0
        self.truncated = False
        self.complete = False
        if head.is_success and head.declared_length is not None and head.declared_length > limit_bytes:
            raise self._too_large()

    def read(self) -> bytes:
        """What has arrived, at least a byte; `b""` at the end. Raises ClientConnectionError, ClientResponseTooLarge."""
        # One byte more than allowed tells a body of exactly the limit from a longer one.
        data = b"" if self.truncated else self._read1(min(_READ_BYTES, self._limit + 1 - self._count))
        if not data:
            if self._response.length and not self.truncated:
                raise ClientConnectionError(_CUT)
            self.complete = not self.truncated
            return b""
        self._count += len(data)
        if self._count <= self._limit:
            return data
        if self._head.is_success:
            raise self._too_large()
        self.truncated = True
        return data[: len(data) - (self._count - self._limit)]

    def _read1(self, size: int) -> bytes:
        if self._chunks is not None:
            return self._read_chunks(self._chunks)
        import http.client  # whoever has an answer to read has imported it already

        try:
            return self._response.read1(size)
        except http.client.IncompleteRead:
            raise ClientConnectionError(_CUT) from None

    def _read_chunks(self, chunks: ChunkedBody) -> bytes:
        """What the next bytes hold, and those after them while that is nothing but framing."""
        while not chunks.over:
            received = self._file.read1(_READ_BYTES)
            if not received:
                raise ClientConnectionError(_CUT)
            try:
                data = chunks.feed(received)
            except ValueError as error:
                raise ClientConnectionError(f"the answer's framing is broken: {error}") from None
            if data:
                return data
        return b""

    def _too_large(self) -> ClientResponseTooLarge:
        head = self._head
        return ClientResponseTooLarge(
            self._count, self._limit, head.declared_length, head.headers.get("content-type", "")
        )
