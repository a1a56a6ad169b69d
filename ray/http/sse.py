"""Server-sent events: writing them to a client, and reading those of an upstream. No sockets here.

The format is the WHATWG HTML standard, section 9.2 "Server-sent events". `id` and `retry` fields are read over:
nobody reconnects to a stream here.
"""

from __future__ import annotations

# A comment keeps proxies and clients from taking a quiet stream for a dead one.
COMMENT = b": keep-alive\n\n"
MAX_EVENT_BYTES = 1_048_576

_BOM = b"\xef\xbb\xbf"


def encode_event(event: str | None, data: str) -> bytes:
    """One event. Data of several lines becomes several `data:` lines, whatever its line ends were.

    Raises ValueError when the event name holds a line end or is empty: it would become another field.
    """
    if "\r" in data:
        data = data.replace("\r\n", "\n").replace("\r", "\n")
    if "\n" in data:
        data = data.replace("\n", "\ndata: ")
    if event is None:
        return f"data: {data}\n\n".encode()
    if not event or "\r" in event or "\n" in event:
        raise ValueError("an event name must not be empty and must not contain a line end")
    return f"event: {event}\ndata: {data}\n\n".encode()


class SseDecoder:
    """Events out of bytes that arrive in any pieces. One decoder per stream.

    `max_event_bytes` bounds one event, with its comments, and so the memory held. An event without its empty line at
    the end of the stream is dropped, as the standard wants it.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._buffer = b""
        self._searched = 0
        self._at_start = True
        # The last piece ended in CR, which already counted as a line end: a LF that follows belongs to it.
        self._after_cr = False

    def feed(self, data: bytes) -> list[tuple[str | None, str]]:
        """The events that these bytes complete, as (event name or None, data).

        Raises ValueError when an event exceeds the bound; the stream is of no use then. Invalid UTF-8 is replaced.
        """
        if self._after_cr or b"\r" in data:
            data = self._plain_lines(data)
        if self._at_start:
            data = self._without_bom(data)
        buffer = self._buffer + data if self._buffer else data
        events: list[tuple[str | None, str]] = []
        start = 0
        while True:
            end = buffer.find(b"\n\n", max(start, self._searched))
            if end < 0:
                break
            self._searched = 0
            self._check_size(end - start)
            # The common case of an upstream: one line of data and nothing else.
            if buffer.startswith(b"data: ", start) and buffer.find(b"\n", start, end) < 0:
                events.append((None, buffer[start + 6 : end].decode("utf-8", "replace")))
            else:
                event = _read_fields(buffer[start:end])
                if event is not None:
                    events.append(event)
            start = end + 2
        self._buffer = buffer[start:] if start else buffer
        # The first half of the empty line may be there already: it is not part of the event.
        self._searched = max(0, len(self._buffer) - 1)
        self._check_size(len(self._buffer) - self._buffer.endswith(b"\n"))
        return events

    def _plain_lines(self, data: bytes) -> bytes:
        """CRLF and CR as LF."""
        if not data:
            return data
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
            if not data:
                self._after_cr = False
                return data
        self._after_cr = data[-1:] == b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _without_bom(self, data: bytes) -> bytes:
        """The stream without its byte order mark. Its first bytes wait until it is clear whether they are one."""
        data = self._buffer + data
        self._buffer = b""
        self._searched = 0
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._buffer = data
            return b""
        self._at_start = False
        return data[len(_BOM) :] if data.startswith(_BOM) else data

    def _check_size(self, size: int) -> None:
        if size > self._max_event_bytes:
            raise ValueError(f"an event of the stream exceeds {self._max_event_bytes} bytes")


def _read_fields(block: bytes) -> tuple[str | None, str] | None:
    """The event in the lines between two empty lines, or None when they hold no data."""
    name: str | None = None
    data: list[str] = []
    for line in block.decode("utf-8", "replace").split("\n"):
        field, _, value = line.partition(":")
        if value[:1] == " ":
            value = value[1:]
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value or None
    return (name, "\n".join(data)) if data else None
