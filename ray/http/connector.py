"""The worker's side of an exchange: connections to one target, and `http.client` speaking over them.

`http.client` does the talking, on a socket that is opened here and through a reader that enforces the caps on the
answer's head. It is imported on first use: it brings `email` along, 2 MB and 10 ms that a gateway without a remote
backend never pays; `ssl` contexts are made for https targets only.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ray.http.answer import AnswerBody, AnswerFile, Incoming, answer_head
from ray.http.exchange import ClientConnectionError, ClientError, ClientUnreachable, Exchange, Head, Target

if TYPE_CHECKING:
    import http.client
    import ssl

# A kept connection is reused within this time only: shorter than the 5 s after which llama-server closes it.
MAX_IDLE_SECONDS = 2.0
# A piece of this size is handed over at once, however long pieces may be gathered.
_GATHER_BYTES = 8_192
# A connect that was cancelled is normally woken by the shutdown; this bounds the wait on kernels that do not.
_CONNECT_SLICE_MS = 500


class Connector:
    """Opens and keeps the connections to one target. Used by worker threads only, except `close_idle`."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._idle: list[tuple[socket.socket, float]] = []
        self._tls: ssl.SSLContext | None = None

    def perform(self, exchange: Exchange) -> None:
        """Run one exchange to its end. Never raises: what goes wrong is the exchange's error."""
        try:
            error: ClientError | None = None
            self._perform(exchange)
        except ClientError as failure:
            error = failure
        except (OSError, EOFError) as failure:
            error = ClientConnectionError(_reason(failure))
        except Exception as failure:  # noqa: BLE001 - whatever broke, the waiting reader must be told
            error = ClientConnectionError(f"the answer breaks the rules of HTTP ({type(failure).__name__})")
        exchange.end(error)

    def close_idle(self, older_than_seconds: float = 0.0) -> bool:
        """Close connections that have been idle for that long. Returns whether some remain."""
        limit = time.monotonic() - older_than_seconds
        with self._lock:
            expired = [connection for connection, since in self._idle if since <= limit]
            self._idle = [(connection, since) for connection, since in self._idle if since > limit]
            remain = bool(self._idle)
        for connection in expired:
            connection.close()
        return remain

    def _perform(self, exchange: Exchange) -> None:
        connection = None if exchange.ask.fresh else self._reuse(exchange)
        if connection is None:
            connection = self._reach(exchange)
        reusable = False
        try:
            reusable = _converse(exchange, connection, self._target)
        finally:
            exchange.detach()
            if reusable:
                with self._lock:
                    self._idle.append((connection, time.monotonic()))
            else:
                connection.close()

    def _reuse(self, exchange: Exchange) -> socket.socket | None:
        """A connection that was used a moment ago and on which the server has said nothing since."""
        self.close_idle(MAX_IDLE_SECONDS)
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection, _ = self._idle.pop()
            try:
                if not _has_news(connection):
                    exchange.attach(connection)
                    return connection
            except BaseException:
                connection.close()
                raise
            connection.close()

    def _reach(self, exchange: Exchange) -> socket.socket:
        try:
            return self._connect(exchange)
        except OSError as failure:
            raise ClientUnreachable(_reason(failure)) from None

    def _connect(self, exchange: Exchange) -> socket.socket:
        if exchange.aborted:
            raise ClientConnectionError("cancelled")
        failure: OSError | None = None
        addresses = socket.getaddrinfo(self._target.host, self._target.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in addresses:
            connection = socket.socket(family, kind, protocol)
            try:
                exchange.attach(connection)
                _connect_to(exchange, connection, address)
                if self._target.scheme == "https":
                    connection = self._start_tls(exchange, connection)
                return connection
            except OSError as error:
                failure = error
                connection.close()
            except BaseException:
                connection.close()
                raise
        raise failure or OSError(f"{self._target.host} has no address")

    def _start_tls(self, exchange: Exchange, connection: socket.socket) -> socket.socket:
        with self._lock:
            if self._tls is None:
                # Only https targets pay for loading the certificate store.
                import ssl

                self._tls = ssl.create_default_context()
                self._tls.set_alpn_protocols(["http/1.1"])
        secured = self._tls.wrap_socket(
            connection, server_hostname=self._target.host, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        try:
            exchange.attach(secured)
            secured.do_handshake()
        except BaseException:
            secured.close()
            raise
        return secured


def _reason(failure: Exception) -> str:
    text = str(failure)
    return f"{type(failure).__name__}: {text}" if text else type(failure).__name__


def _has_news(connection: socket.socket) -> bool:
    """Whether the other side closed an idle connection, or sent something nobody asked for."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _connect_to(exchange: Exchange, connection: socket.socket, address: tuple[object, ...]) -> None:
    """Connect without ever being stuck: an abort ends the wait."""
    connection.setblocking(False)
    code = connection.connect_ex(address)
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    while code == errno.EINPROGRESS:
        if poll.poll(_CONNECT_SLICE_MS):
            code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if exchange.aborted:
            raise ClientConnectionError("cancelled")
    if code != 0:
        raise OSError(code, os.strerror(code))
    connection.setblocking(True)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _converse(exchange: Exchange, connection: socket.socket, target: Target) -> bool:
    """Send the request and hand the answer over piece by piece. Returns whether the connection can be used again."""
    import http.client

    ask = exchange.ask
    wire = _Wire(connection)
    speaker = http.client.HTTPConnection(target.host, target.port)
    if target.scheme == "https":
        speaker.default_port = 443  # decides whether `Host` names the port
    speaker.sock = wire
    speaker.putrequest(ask.method, target.path + ask.path, skip_accept_encoding=True)
    for name, value in ask.headers:
        speaker.putheader(name, value)
    if ask.fresh:
        # The end of the connection then says at once that the answer is over, where pieces are gathered.
        speaker.putheader(b"connection", b"close")
    refused_early = False
    try:
        speaker.endheaders(ask.body)
    except BrokenPipeError:
        # A server that refuses a request before reading all of it has usually said why.
        refused_early = True
    response = speaker.getresponse()
    # A TLS record must not wait for the next one: its end may be here already.
    wire.end_of_head(ask.gather_seconds if target.scheme == "http" else None)
    head = answer_head(response)
    exchange.start_answer(head)
    complete = _relay_body(exchange, response, wire.file, head)
    response.close()
    # llama-server closes a connection right after a chunked answer without having said so: the next request would run
    # into that. Only an answer of declared length leaves a connection that can be trusted; a fresh one is to close.
    framed = head.declared_length is not None and not ask.fresh
    return complete and framed and not response.will_close and not refused_early and not wire.has_leftover


def _relay_body(exchange: Exchange, response: http.client.HTTPResponse, file: AnswerFile, head: Head) -> bool:
    """Deliver the body within its limit. Returns whether all of it was read."""
    ask = exchange.ask
    body = AnswerBody(response, file, head, ask.limit_bytes if head.is_success else ask.error_limit_bytes)
    while data := body.read():
        exchange.truncated = body.truncated
        exchange.deliver(data)
    exchange.truncated = body.truncated
    return body.complete


class _Wire:
    """A connected socket in the role that `http.client` gives it: something to write to and to make a file of.

    Closing it does nothing: the connection belongs to the `Connector`.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._incoming = _Incoming(connection)
        self.file = AnswerFile(self._incoming)

    def sendall(self, data: bytes) -> None:
        self._connection.sendall(data)

    def makefile(self, mode: str) -> AnswerFile:
        return self.file

    def close(self) -> None:
        pass

    def end_of_head(self, gather_seconds: Callable[[], float] | None) -> None:
        self.file.renew_budget()
        self._incoming.gather_seconds = gather_seconds

    @property
    def has_leftover(self) -> bool:
        """Whether bytes past the end of the answer were read: the connection is useless for the next request then."""
        return self.file.has_leftover


class _Incoming(Incoming):
    """The bytes that arrive on a socket, until somebody says that there is no need for more.

    With `gather_seconds`, the first bytes after a silence are there at once, and what follows comes in larger pieces:
    the kernel wakes this thread when that time is over, at the end of the connection, or when a large piece is there.
    """

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self._gathering = 0.0
        self._is_silent = True
        self.gather_seconds: Callable[[], float] | None = None

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self.is_wanted:
            return 0
        if self.gather_seconds is None:
            return self._connection.recv_into(buffer)
        if not self._is_silent:
            self._gather(self.gather_seconds())
            try:
                return self._connection.recv_into(buffer)
            except BlockingIOError:
                self._is_silent = True
        self._gather(0.0)
        count = self._connection.recv_into(buffer)
        self._is_silent = False
        return count

    def _gather(self, seconds: float) -> None:
        """What the kernel waits for from now on; 0: for a first byte, however long that takes."""
        if seconds != self._gathering:
            self._gathering = seconds
            least_bytes = _GATHER_BYTES if seconds else 1
            whole = int(seconds)
            timeval = struct.pack("@ll", whole, int((seconds - whole) * 1_000_000))
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least_bytes)
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
