"""The server: accepts connections up to a cap, keeps the counts, and drains.

What a request means is the business of the handler; what HTTP refuses by itself goes through `on_error`, so that
every answer has the same shape.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ray.http.connection import Connection
from ray.http.messages import Limits, Request, Response
from ray.http.response import ResponseTail

# Bounds the reader's own buffer, which asyncio fills to twice this before it stops reading from the socket.
STREAM_LIMIT_BYTES = 16_384
# How long close() waits for cancelled handlers to end.
CLOSE_GRACE_S = 1.0
# What asyncio takes from accepting a connection to telling of it, in turns of the loop; three, and some to spare.
ACCEPTING_TURNS = 6

Handler = Callable[[Request], Awaitable[Response]]
OnError = Callable[[Exception, Request | None], Response]
OnComplete = Callable[[Request, int, int, float], None]
OnStreamError = Callable[[Exception, Request], None]


@dataclass(frozen=True, slots=True)
class ConnectionCounts:
    """Open sockets, those with a request under way, and such requests.

    A request counts from its complete head until its response is out or its socket is closed.
    """

    sockets: int
    active_sockets: int
    active_requests: int


class Server:
    """An HTTP/1.1 server on one address, or on listening sockets that somebody else keeps.

    The latter it hands over when it drains: connections that it has not accepted stay in line for whoever listens
    next, and those that it has accepted get an answer to what they are about to say, so that nobody is turned away.

    `handler` answers a request. `on_error` makes the answer when the handler raised, or when HTTP refused the request
    (`HttpError`); its request is None when the bytes were no request. `on_complete` hears of every response to a
    request: status, bytes sent with the head, seconds since the head was complete; also of one that was cut short.
    `on_stream_error` hears of a streaming body that failed after its head was sent; the connection is then cut.

    When the client goes away while the handler runs or its body is being sent, the handler is cancelled
    (`asyncio.CancelledError`), or the body's iterator is closed. A client that only closes its sending side looks the
    same, so the handler of a GET or HEAD is left to answer, for `Limits.request_timeout_s` at most.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        limits: Limits,
        on_error: OnError,
        on_complete: OnComplete | None = None,
        on_stream_error: OnStreamError | None = None,
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.draining = False
        self.hands_over = False
        self.drain_began = 0.0
        self.tail = ResponseTail(limits.keep_alive_timeout_s, limits.max_requests_per_socket)
        self._on_error = on_error
        self._on_complete = on_complete
        self._on_stream_error = on_stream_error
        self._listeners: list[asyncio.Server] = []
        self._closing = False
        self._port = 0
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def port(self) -> int:
        """The port it listens on: the actual one when `start` was given port 0."""
        return self._port

    async def start(self, host: str, port: int) -> None:
        """Bind and listen; again after a drain, if wanted. OSError when the address cannot be bound."""
        backlog = self.limits.max_connections
        listener = await asyncio.start_server(
            self._accept, host, port, limit=STREAM_LIMIT_BYTES, backlog=backlog, start_serving=False
        )
        await self._serve_on([listener], hands_over=False)

    async def start_on(self, sockets: Sequence[socket.socket]) -> None:
        """Accept from TCP sockets that are bound already, and keep them from now on. OSError when one cannot listen."""
        backlog = self.limits.max_connections
        listeners = [
            await asyncio.start_server(
                self._accept, sock=given, limit=STREAM_LIMIT_BYTES, backlog=backlog, start_serving=False
            )
            for given in sockets
        ]
        await self._serve_on(listeners, hands_over=True)

    async def _serve_on(self, listeners: list[asyncio.Server], *, hands_over: bool) -> None:
        # Accepted sockets inherit these: the kernel, too, holds little for a client that sends or reads nothing.
        for listening in (listening for listener in listeners for listening in listener.sockets):
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.limits.socket_buffer_bytes)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.limits.socket_buffer_bytes)
        self.draining = self._closing = False
        self.hands_over = hands_over
        self._listeners = listeners
        self._port = listeners[0].sockets[0].getsockname()[1]
        for listener in listeners:
            await listener.start_serving()

    def begin_drain(self) -> None:
        """Stop accepting, close idle connections, and let every running answer say `connection: close`."""
        if not self.draining:
            self.drain_began = asyncio.get_running_loop().time()
        self.draining = True
        if self.hands_over:
            self._stop_accepting()
        else:
            self._close_listeners()
        for connection in list(self._connections):
            connection.close_if_idle()

    def _stop_accepting(self) -> None:
        """Leave the line to the next one. Closing asyncio's listener would drop what it has accepted and not yet told
        of, so that comes later."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            for listening in listener.sockets:
                loop.remove_reader(listening.fileno())

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    async def drain(self, timeout_s: float) -> bool:
        """Wait until the last connection is done; after `timeout_s` close the rest at once and return False."""
        self.begin_drain()
        try:
            async with asyncio.timeout(timeout_s):
                for _ in range(ACCEPTING_TURNS if self.hands_over else 0):
                    await asyncio.sleep(0)
                self._close_listeners()
                await self._empty.wait()
        except TimeoutError:
            await self.close()
            return False
        return True

    async def close(self) -> None:
        """Stop accepting and close every connection at once; running handlers are cancelled."""
        self._closing = True
        self.begin_drain()
        self._close_listeners()
        ending = [connection.abort() for connection in list(self._connections)]
        if ending:
            await asyncio.wait(ending, timeout=CLOSE_GRACE_S)
        # The transports close their sockets in the next turn of the loop.
        await asyncio.sleep(0)

    def counts(self) -> ConnectionCounts:
        sockets = active = 0
        for connection in self._connections:
            sockets += not connection.gone
            active += connection.active
        # One request at a time on each connection: pipelined ones wait for their turn.
        return ConnectionCounts(sockets, active, active)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        too_late = self._closing or (self.draining and not self.hands_over)
        if too_late or len(self._connections) >= self.limits.max_connections:
            writer.close()
            return
        self._connections.add(Connection(self, reader, writer))
        self._empty.clear()

    # Called by the connections

    def error_response(self, error: Exception, request: Request | None) -> Response:
        """The answer to a failure; a bare 500 if even `on_error` fails."""
        try:
            return self._on_error(error, request)
        except Exception as failure:  # noqa: BLE001 - a broken callback must not cost the client its answer
            self._report("on_error failed", failure)
            return Response(500)

    def stream_failed(self, error: Exception, request: Request) -> None:
        """A streaming body failed after its head was sent."""
        if self._on_stream_error is not None:
            self._on_stream_error(error, request)
        else:
            self._report("a streaming response failed", error)

    def response_completed(self, request: Request, status: int, bytes_sent: int, seconds: float) -> None:
        """A response is out, or was cut short."""
        if self._on_complete is not None:
            self._on_complete(request, status, bytes_sent, seconds)

    def connection_closed(self, connection: Connection) -> None:
        """The serving task of a connection has ended."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    @staticmethod
    def _report(message: str, error: Exception) -> None:
        asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
