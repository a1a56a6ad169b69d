"""The nouns of HTTP: `Headers`, `Request`, `Response`, the `Limits` of a server, and `HttpError`.

Values only: nothing here reads or writes a socket.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


class HttpError(Exception):
    """A request that HTTP itself refuses. `status` and `code` say how, `details` names the limit or value at fault.

    Codes: `invalid_http_request` (400), `invalid_request` (400), `http_request_timeout` (408), `length_required`
    (411), `body_too_large` (413), `request_target_too_large` (414), `unsupported_expectation` (417),
    `request_headers_too_large` (431).
    """

    def __init__(self, status: int, code: str, message: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = None if details is None else dict(details)


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of a server. Times are seconds, sizes bytes unless the name says characters."""

    max_connections: int = 256
    max_header_bytes: int = 12_288
    max_headers_count: int = 64
    max_target_chars: int = 8_192
    max_host_chars: int = 512
    max_requests_per_socket: int = 1_000
    # From the start of the wait for a request (connection open, or previous response) to its complete head.
    headers_timeout_s: float = 15.0
    # From the same moment to the last byte of the body.
    request_timeout_s: float = 30.0
    keep_alive_timeout_s: float = 5.0
    # A write that makes no progress for this long cuts the connection.
    write_stall_timeout_s: float = 30.0
    # Bytes read from a socket before anybody asked for them. A head must fit.
    read_ahead_bytes: int = 32_768
    # Response bytes handed to the transport at once: all that a client that reads nothing can hold.
    write_slice_bytes: int = 65_536
    # Kernel buffers of each accepted socket, in each direction.
    socket_buffer_bytes: int = 65_536
    # A chunk-size line with its extensions, and the trailer section of a chunked body.
    max_chunk_line_bytes: int = 128
    max_trailer_bytes: int = 4_096
    # After an early answer: how long, and how much, of the unwanted rest is read and dropped before the close.
    linger_timeout_s: float = 2.0
    linger_bytes: int = 2_097_152


class Headers:
    """The header fields of a message, in order, with lower-case names. Immutable.

    A field that occurs several times reads as one list, joined with `, ` (RFC 9110 section 5.3).
    """

    __slots__ = ("_combined", "_pairs")

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs: list[tuple[str, str]] = []
        self._combined: dict[str, str] = {}
        combined = self._combined
        for name, value in pairs:
            lowered = name.lower()
            self._pairs.append((lowered, value))
            combined[lowered] = value if lowered not in combined else f"{combined[lowered]}, {value}"

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of `name` in any case, repeated fields joined with `, `; `default` when absent."""
        return self._combined.get(name.lower(), default)

    def get_all(self, name: str) -> list[str]:
        """The values of `name` in any case, one per field line, in the order received."""
        lowered = name.lower()
        if lowered not in self._combined:
            return []
        return [value for key, value in self._pairs if key == lowered]

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._combined

    def __len__(self) -> int:
        """The number of field lines."""
        return len(self._pairs)

    def items(self) -> list[tuple[str, str]]:
        """All field lines as (lower-case name, value), in the order received."""
        return list(self._pairs)


class RequestBody(Protocol):
    """Where the body of a request comes from."""

    @property
    def present(self) -> bool:
        """Whether the head announces a body of at least one byte, or a chunked one."""
        ...

    @property
    def received(self) -> bool:
        """Whether the last byte of the body has arrived. True for a request without a body."""
        ...

    async def read(self, limit: int) -> bytes: ...


class NoBody:
    """The body of a request that announces none."""

    __slots__ = ()

    present = False
    received = True

    async def read(self, limit: int) -> bytes:
        return b""


NO_BODY = NoBody()


class Request:
    """One request, complete up to the end of its head.

    `target` is the request target as sent, `path` and `query` its parts, not decoded and not normalised. `path` is
    empty when the target was refused (only an error callback sees such a request). `version` is `1.0` or `1.1`,
    `peer` the address of the other end without port, `received_at` seconds on the monotonic clock. `context` is the
    handler's own: the server never looks at it, and callbacks about this request find there what the handler left.
    """

    __slots__ = ("_body", "context", "headers", "method", "path", "peer", "query", "received_at", "target", "version")

    def __init__(
        self,
        method: str,
        target: str,
        path: str,
        query: str,
        version: str,
        headers: Headers,
        peer: str,
        received_at: float,
        body: RequestBody = NO_BODY,
    ) -> None:
        self.method = method
        self.target = target
        self.path = path
        self.query = query
        self.version = version
        self.headers = headers
        self.peer = peer
        self.received_at = received_at
        self.context: object = None
        self._body = body

    @property
    def has_body(self) -> bool:
        """Whether the head announces a body."""
        return self._body.present

    @property
    def body_received(self) -> bool:
        """Whether the whole body has arrived, read or not. True when there is none."""
        return self._body.received

    async def read_body(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes. A client that waits for `100 Continue` gets it now, and only now.

        Raises HttpError: `length_required` (411) when such a client declared no length; `body_too_large` (413) with
        details `limitBytes` and `declaredContentLength` before anything is read, or without details when an undeclared
        length crosses the limit; `http_request_timeout` (408) at the request deadline; `invalid_http_request` (400)
        for broken chunks. Let it propagate: the server answers and closes.
        """
        return await self._body.read(limit)


@dataclass(slots=True)
class Response:
    """An answer. A body of bytes gets its `content-length`; an async iterator is sent piece by piece as it yields.

    The server adds `date`, `content-length` or `transfer-encoding`, `connection` and `keep-alive`; do not set those.
    """

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | AsyncIterator[bytes] = b""
