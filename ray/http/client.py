"""An HTTP/1.1 client for an event loop: `http.client` in a small pool of named worker threads.

What it promises: the first byte of every piece of an answer reaches the loop at once; memory is bounded by the caps of
`exchange.py`; one absolute deadline covers waiting for a worker, connecting, sending and reading, and may be extended
meanwhile; cancelling the awaiting task shuts the socket down at once, and sends nothing when it comes early enough.
No redirects, no proxy variables, no compression, no retries.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from ray.http.connector import MAX_IDLE_SECONDS, Connector
from ray.http.exchange import (
    Ask,
    ClientConnectionError,
    ClientError,
    ClientRequestError,
    ClientResponseTooLarge,
    ClientTimeout,
    ClientUnreachable,
    Exchange,
    Head,
    SupportsRemaining,
    Target,
)

__all__ = [
    "ClientConnectionError",
    "ClientError",
    "ClientRequestError",
    "ClientResponse",
    "ClientResponseTooLarge",
    "ClientStream",
    "ClientTimeout",
    "ClientUnreachable",
    "ErrorBody",
    "HttpClient",
    "SupportsRemaining",
]

DEFAULT_ERROR_BODY_BYTES = 4_096
DEFAULT_STREAM_BYTES = 16 * 1_048_576
_CLOSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The first bytes of an answer that is no success. `truncated`: there was more."""

    data: bytes
    truncated: bool


@dataclass(frozen=True, slots=True)
class ClientResponse:
    """A whole answer. Header names are in lower case. `truncated` can be true for non-2xx answers only."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool
    declared_length: int | None


class ClientStream:
    """An answer whose body is still arriving: `async for data in stream` gives the bytes as they come.

    Iterating raises `ClientTimeout`, `ClientConnectionError` (cut in the middle) or `ClientResponseTooLarge`.
    """

    __slots__ = ("_exchange", "_head")

    def __init__(self, exchange: Exchange, head: Head) -> None:
        self._exchange = exchange
        self._head = head

    @property
    def status(self) -> int:
        return self._head.status

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case; repeated headers joined with a comma."""
        return self._head.headers

    @property
    def declared_length(self) -> int | None:
        return self._head.declared_length

    @property
    def is_success(self) -> bool:
        return self._head.is_success

    def __aiter__(self) -> ClientStream:
        return self

    async def __anext__(self) -> bytes:
        data = await self._exchange.read()
        if not data:
            raise StopAsyncIteration
        return data

    async def read_error_body(self) -> ErrorBody:
        """What the server said about a failure. A body that is cut off or late counts as truncated: the status is
        what matters."""
        pieces: list[bytes] = []
        try:
            async for data in self:
                pieces.append(data)
        except ClientConnectionError:
            return ErrorBody(b"".join(pieces), truncated=True)
        return ErrorBody(b"".join(pieces), truncated=self._exchange.truncated)


class HttpClient:
    """Requests to one base URL, from one event loop.

    `threads`: how many exchanges can run at a time; more wait for a free worker, within their own deadline.
    """

    def __init__(self, base_url: str, *, threads: int, name: str) -> None:
        """`base_url`: absolute http or https URL; its path is a prefix of every request. Raises ValueError."""
        target = _target(base_url)
        self.base_path = target.path
        self._connector = Connector(target)
        self._workers = _Workers(self._connector, threads, name)

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        deadline: SupportsRemaining,
        max_body_bytes: int,
        error_body_bytes: int = DEFAULT_ERROR_BODY_BYTES,
    ) -> ClientResponse:
        """One exchange, the answer gathered. A 2xx body over `max_body_bytes` raises `ClientResponseTooLarge`; of any
        other answer the first `error_body_bytes` are kept."""
        ask = Ask(method, path, _wire_headers(headers, body), body, max_body_bytes, error_body_bytes, fresh=False)
        async with self._exchange(ask, deadline) as stream:
            if not stream.is_success:
                error = await stream.read_error_body()
                return ClientResponse(
                    stream.status, stream.headers, error.data, error.truncated, stream.declared_length
                )
            data = b"".join([piece async for piece in stream])
            return ClientResponse(stream.status, stream.headers, data, False, stream.declared_length)

    def stream(
        self,
        method: str,
        path: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        deadline: SupportsRemaining,
        max_body_bytes: int = DEFAULT_STREAM_BYTES,
        error_body_bytes: int = DEFAULT_ERROR_BODY_BYTES,
        gather_seconds: Callable[[], float] | None = None,
    ) -> AbstractAsyncContextManager[ClientStream]:
        """One exchange whose body is read as it arrives. Leaving the block before the end closes the connection.

        It runs on a connection of its own: what streams is rarely safe to send twice, and a kept connection may be
        closing.

        Every piece costs two wake-ups, which hurts where the server has to share its processor with this client. With
        `gather_seconds` the first bytes, and the first ones after a silence, are still handed over at once; those that
        follow wait for more, at most for as long as the callable says. The end of the connection ends every wait. It
        is called in a worker thread before each wait, so it may change its mind. Over https it has no effect.
        """
        wire = _wire_headers(headers, body)
        ask = Ask(method, path, wire, body, max_body_bytes, error_body_bytes, True, gather_seconds)
        return self._exchange(ask, deadline)

    @asynccontextmanager
    async def _exchange(self, ask: Ask, deadline: SupportsRemaining) -> AsyncIterator[ClientStream]:
        exchange = Exchange(asyncio.get_running_loop(), ask, deadline)
        self._workers.submit(exchange)
        try:
            yield ClientStream(exchange, await exchange.head())
        finally:
            exchange.abort(None)
            self._workers.forget(exchange)

    async def close(self) -> None:
        """Abort what is running and give back threads and sockets; waits for the threads 2 s at most."""
        await self._workers.close()


class _Workers:
    """Daemon threads, started on demand, that take exchanges in the order in which they were submitted."""

    def __init__(self, connector: Connector, size: int, name: str) -> None:
        if size < 1:
            raise ValueError("a client needs at least one thread")
        self._connector = connector
        self._size = size
        self._name = name
        self._changed = threading.Condition()
        self._waiting: deque[Exchange] = deque()
        self._running: set[Exchange] = set()
        self._threads: list[threading.Thread] = []
        self._free = 0
        self._closing = False

    def submit(self, exchange: Exchange) -> None:
        with self._changed:
            if self._closing:
                exchange.abort(ClientConnectionError("the client is closed"))
                return
            self._waiting.append(exchange)
            if len(self._waiting) > self._free and len(self._threads) < self._size:
                thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads) + 1}", daemon=True)
                self._threads.append(thread)
                thread.start()
            else:
                self._changed.notify()

    def forget(self, exchange: Exchange) -> None:
        """An exchange that nobody waits for any more does not wait for a worker either."""
        with self._changed:
            if exchange in self._waiting:
                self._waiting.remove(exchange)

    async def close(self) -> None:
        with self._changed:
            self._closing = True
            pending = [*self._waiting, *self._running]
            self._waiting.clear()
            self._changed.notify_all()
        for exchange in pending:
            exchange.abort(ClientConnectionError("the client is closed"))
        end = time.monotonic() + _CLOSE_SECONDS
        # Looked at again and again, because joining a thread would block the loop.
        while any(thread.is_alive() for thread in self._threads) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        self._connector.close_idle()

    def _work(self) -> None:
        while (exchange := self._next()) is not None:
            self._connector.perform(exchange)
            with self._changed:
                self._running.discard(exchange)

    def _next(self) -> Exchange | None:
        """The next exchange; None when the client closes. A free worker closes connections that idled too long."""
        with self._changed:
            self._free += 1
            try:
                while not self._waiting:
                    if self._closing:
                        return None
                    remain = self._connector.close_idle(MAX_IDLE_SECONDS)
                    self._changed.wait(MAX_IDLE_SECONDS if remain else None)
                exchange = self._waiting.popleft()
                self._running.add(exchange)
                return exchange
            finally:
                self._free -= 1


def _target(base_url: str) -> Target:
    """The parts of a base URL. Raises ValueError, which names the part that is wrong."""
    # Imported here: it brings `ipaddress` along, which a gateway without a remote backend has no use for.
    from urllib.parse import urlsplit

    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("a base URL starts with http:// or https://")
    if not parts.hostname:
        raise ValueError("a base URL names a host")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("a base URL has no credentials, query or fragment")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Target(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))


def _wire_headers(headers: Sequence[tuple[str, str]], body: bytes | None) -> list[tuple[bytes, bytes]]:
    """The headers as bytes. An unusable one is named, its value is never shown."""
    wire = [(b"accept-encoding", b"identity")]
    if body is not None:
        wire.append((b"content-length", b"%d" % len(body)))
    for name, value in headers:
        if any(mark in value for mark in "\r\n\0"):
            raise ClientRequestError(f"the value of header {name!r} holds a line break or NUL")
        try:
            wire.append((name.encode("ascii"), value.encode("latin-1")))
        except UnicodeEncodeError:
            raise ClientRequestError(f"header {name!r} holds characters that HTTP cannot carry") from None
    return wire
