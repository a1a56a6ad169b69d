"""Chunked framing (RFC 9112, section 7.1) off the body of an answer. No sockets here.

All the data of the chunks that arrived together comes out as one piece: a stream of tokens is a stream of tiny chunks.
"""

from __future__ import annotations

import re

from ray.http.grammar import FIELD_LINES, FIELD_VALUE_BYTE

MAX_LINE_BYTES = 8_192
MAX_TRAILER_LINES = 64
MAX_TRAILER_BYTES = 65_536

# Spaces after the size are no part of the grammar, but some servers pad it to a fixed width.
_SIZE_LINE = rb"([0-9A-Fa-f]{1,15}+)[ \t]*+(?:;" + FIELD_VALUE_BYTE + rb"*+)?\r\n"
_FIRST_CHUNK = re.compile(_SIZE_LINE)
_NEXT_CHUNK = re.compile(rb"\r\n" + _SIZE_LINE)
_TRAILERS = re.compile(FIELD_LINES + rb"\r\n")


class ChunkedBody:
    """One body. `over`: its end has been read; what is fed after it is dropped."""

    __slots__ = ("_in_trailers", "_line", "_missing", "_rest", "over")

    def __init__(self) -> None:
        self.over = False
        # The line that is awaited: the size of a chunk, with the end of the chunk before it.
        self._line = _FIRST_CHUNK
        # Bytes of the current chunk that have not arrived yet.
        self._missing = 0
        self._in_trailers = False
        # Framing that has arrived in part.
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The data in these bytes, possibly none. Raises ValueError when the framing is broken or too large."""
        buffer = self._rest + data if self._rest else data
        pieces: list[bytes] = []
        position = 0
        while not self._in_trailers:
            if self._missing:
                piece = buffer[position : position + self._missing]
                pieces.append(piece)
                position += len(piece)
                self._missing -= len(piece)
                if self._missing:
                    break
            match = self._line.match(buffer, position, position + MAX_LINE_BYTES)
            if match is None:
                self._check_unfinished(buffer, position)
                break
            position = match.end()
            self._missing = int(match[1], 16)
            self._line = _NEXT_CHUNK
            self._in_trailers = not self._missing
        self._rest = buffer[position:]
        if self._in_trailers:
            self._read_trailers()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _check_unfinished(self, buffer: bytes, position: int) -> None:
        """Refuse now what can never become the line that is awaited."""
        if self._line is _NEXT_CHUNK:
            if not buffer.startswith(b"\r\n"[: len(buffer) - position], position):
                raise ValueError("the data of a chunk must end in CRLF")
            position += 2
        if buffer.find(b"\n", position, position + MAX_LINE_BYTES) >= 0:
            raise ValueError("a chunk must start with its size in hexadecimal, then CRLF")
        if len(buffer) - position >= MAX_LINE_BYTES:
            raise ValueError("a chunk-size line is too large")

    def _read_trailers(self) -> None:
        """Drop them: nobody asked for any."""
        match = _TRAILERS.match(self._rest)
        if match is not None and self._rest.count(b"\n", 0, match.end()) <= MAX_TRAILER_LINES:
            self.over = True
            self._rest = b""
        elif self._rest.count(b"\n") > MAX_TRAILER_LINES or len(self._rest) > MAX_TRAILER_BYTES:
            raise ValueError("the trailers are too large")
        elif self._rest.startswith(b"\r\n") or b"\r\n\r\n" in self._rest:
            raise ValueError("the trailers are malformed")
