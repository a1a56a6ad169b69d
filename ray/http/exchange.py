"""One HTTP exchange, shared by the event loop that awaits it and the worker thread that blocks on its socket.

The worker connects, sends, and hands every piece of the answer over as soon as the kernel has it. The loop ends an
exchange (deadline, cancellation) by shutting the socket down, which wakes the worker whatever it is waiting for.
Closing is left to the worker: a file descriptor that is closed under a blocked thread can be reused by another one.

What an answer may cost is capped here: 64 header lines of 8 KiB, 64 KiB of them in total, a body limit, and a bounded
buffer of pieces that nobody has read yet. Redirects, proxies, compression and retries do not exist.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

# Past this many unread bytes the worker stops reading, and TCP makes the sender wait.
MAX_UNREAD_BYTES = 262_144
# A kept connection is reused within this time only: shorter than the 5 s after which llama-server closes it.
MAX_IDLE_SECONDS = 2.0
# A connect that was cancelled is normally woken by the shutdown; this bounds the wait on kernels that do not.
_CONNECT_SLICE_MS = 500


class ClientError(Exception):
    """An exchange that did not bring an answer."""


class ClientRequestError(ClientError):
    """A request that HTTP cannot carry as asked. Nothing was sent; the text names the part, never its value."""


class ClientTimeout(ClientError):
    """The deadline passed before the answer was complete."""


class ClientConnectionError(ClientError):
    """Refused, reset, cut off, unreachable, or an answer that breaks the rules of HTTP."""


class ClientUnreachable(ClientConnectionError):
    """No connection came about: nothing of the request was sent."""


class ClientResponseTooLarge(ClientError):
    """The body is larger than the caller accepts. `bytes_read` is 0 when the declared length said so beforehand."""

    def __init__(self, bytes_read: int, limit_bytes: int, declared_length: int | None, content_type: str) -> None:
        super().__init__(f"the answer is larger than {limit_bytes} bytes")
        self.bytes_read = bytes_read
        self.limit_bytes = limit_bytes
        self.declared_length = declared_length
        self.content_type = content_type


class SupportsRemaining(Protocol):
    """A deadline: how many seconds are left. It may be moved to a later time while an exchange runs."""

    def remaining(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client sends its requests. `path` is a prefix without a trailing slash."""

    scheme: str
    host: str
    port: int
    path: str


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `limit_bytes`: largest accepted body of a 2xx answer; `error_limit_bytes`: how much of any other
    body is kept. `fresh`: on a connection of its own. `gather_seconds`: how long bytes that follow others may wait
    for more, asked in the worker before each wait."""

    method: str
    path: str
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes | None
    limit_bytes: int
    error_limit_bytes: int
    fresh: bool
    gather_seconds: Callable[[], float] | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of an answer; names in lower case, repeated ones joined with a comma."""

    status: int
    headers: Mapping[str, str]
    declared_length: int | None

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class Exchange:
    """The state that the loop and one worker share. `head`, `truncated` and `chunks` are guarded by `_lock`.

    It is looked at for every piece of every stream, and after a pause each line of code costs several times its usual
    time: hence a bare lock and a bare future where a condition and an event would do as well.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ask: Ask, deadline: SupportsRemaining) -> None:
        self.ask = ask
        self.truncated = False
        self._loop = loop
        self._deadline = deadline
        self._lock = threading.Lock()
        # The worker waits here while too much is unread.
        self._room = threading.Condition(self._lock)
        self._is_full = False
        self._head: Head | None = None
        self._chunks: deque[bytes] = deque()
        self._unread = 0
        self._ended = False
        self._error: ClientError | None = None
        self._aborted = False
        self._socket: socket.socket | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._news_sent = False
        self._timer: asyncio.TimerHandle | None = None
        self._watch()

    # On the event loop

    async def head(self) -> Head:
        """Wait for status and headers."""
        while True:
            with self._lock:
                self._news_sent = False
                if self._head is not None and not self._aborted:
                    return self._head
                self._raise_if_over()
            await self._next_news()

    async def read(self) -> bytes:
        """Everything that has arrived since the last call; waits for the first byte; `b""` at the end."""
        while True:
            with self._lock:
                self._news_sent = False
                if self._chunks:
                    data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
                    self._chunks.clear()
                    self._unread = 0
                    if self._is_full:
                        self._room.notify()
                    return data
                if self._ended and self._error is None:
                    return b""
                self._raise_if_over()
            await self._next_news()

    def abort(self, error: ClientError | None) -> None:
        """End the exchange at once. Does nothing when it is over. `error`: what a waiting reader gets."""
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            if self._aborted:
                return
            self._aborted = True
            if not self._ended or error is not None:
                self._error = error or ClientConnectionError("the exchange was given up")
                self._chunks.clear()
            if self._socket is not None:
                # Past ssl.SSLSocket.shutdown, which would drop the TLS state that the worker is using. An error means
                # that it is disconnected already: the worker is about to find out.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            self._room.notify()
        self._tell_reader()

    def _watch(self) -> None:
        """Keep the deadline, read again at least once a second because it may have been extended."""
        if self._ended:
            return
        remaining = self._deadline.remaining()
        if remaining <= 0:
            self.abort(ClientTimeout("the deadline passed"))
        else:
            self._timer = self._loop.call_later(min(remaining, 1.0), self._watch)

    def _raise_if_over(self) -> None:
        if self._error is not None:
            raise self._error
        if self._ended:
            raise ClientConnectionError("the exchange ended without an answer")

    async def _next_news(self) -> None:
        """Until `_tell_reader`. Nothing can be missed: it is called on this loop, after what there is to see."""
        self._waiter = self._loop.create_future()
        await self._waiter

    def _tell_reader(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # In the worker

    @property
    def aborted(self) -> bool:
        return self._aborted

    def attach(self, connection: socket.socket) -> None:
        """From now on an abort shuts this socket down."""
        with self._lock:
            if self._aborted:
                raise ClientConnectionError("cancelled")
            self._socket = connection

    def detach(self) -> None:
        """The socket is no longer this exchange's."""
        with self._lock:
            self._socket = None

    def start_answer(self, head: Head) -> None:
        with self._lock:
            self._head = head
        self._tell_loop()

    def deliver(self, data: bytes) -> None:
        """Hand a piece of the body over; waits while too much is unread."""
        with self._lock:
            while self._unread >= MAX_UNREAD_BYTES and not self._aborted:
                self._is_full = True
                self._room.wait()
            self._is_full = False
            if self._aborted:
                raise ClientConnectionError("cancelled")
            self._chunks.append(data)
            self._unread += len(data)
        self._tell_loop()

    def end(self, error: ClientError | None) -> None:
        with self._lock:
            self._socket = None
            if not self._aborted:
                self._ended = True
                self._error = error
        self._tell_loop()

    def _tell_loop(self) -> None:
        """One wake-up covers everything that was handed over since the loop looked last.

        Called without the lock, which the loop wants as soon as it is awake. What was handed over before the flag is
        read here is seen by whoever lowers the flag afterwards; the other way round there is one wake-up too many.
        """
        if self._news_sent:
            return
        self._news_sent = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._tell_reader)
