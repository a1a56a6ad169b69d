"""The worker's side of an exchange: connections to one target, and `http.client` speaking over them.

`http.client` does the talking, on a socket that is opened here and through a reader that enforces the caps on the
answer's head. It is imported on first use: it brings `email` along, 2 MB and 10 ms that a gateway without a remote
backend never pays; `ssl` contexts are made for https targets only.
"""

from __future__ import annotations

import errno
import io
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ray.http.exchange import ClientConnectionError, ClientError, ClientResponseTooLarge, Exchange, Head, Target

if TYPE_CHECKING:
    import http.client
    import ssl

MAX_HEADER_LINES = 64
MAX_HEADER_LINE_BYTES = 8_192
MAX_HEADER_BYTES = 65_536
# A kept connection is reused within this time only: shorter than the 5 s after which llama-server closes it.
MAX_IDLE_SECONDS = 2.0
_READ_BYTES = 16_384
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
            connection = self._connect(exchange)
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
    head = _head_of(response)
    exchange.start_answer(head)
    try:
        complete = _relay_body(exchange, response, head)
    except http.client.IncompleteRead:
        raise ClientConnectionError("the connection was cut in the middle of the answer") from None
    response.close()
    # llama-server closes a connection right after a chunked answer without having said so: the next request would run
    # into that. Only an answer of declared length leaves a connection that can be trusted.
    framed = head.declared_length is not None
    return complete and framed and not response.will_close and not refused_early and not wire.has_leftover


def _head_of(response: http.client.HTTPResponse) -> Head:
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


def _relay_body(exchange: Exchange, response: http.client.HTTPResponse, head: Head) -> bool:
    """Deliver the body within its limit. Returns whether all of it was read."""
    ask = exchange.ask
    limit = ask.limit_bytes if head.is_success else ask.error_limit_bytes
    if head.is_success and head.declared_length is not None and head.declared_length > limit:
        raise _too_large(0, limit, head)
    count = 0
    while True:
        # One byte more than allowed tells a body of exactly the limit from a longer one.
        data = response.read1(min(_READ_BYTES, limit + 1 - count))
        if not data:
            break
        count += len(data)
        if count > limit:
            if head.is_success:
                raise _too_large(count, limit, head)
            exchange.truncated = True
            exchange.deliver(data[: len(data) - (count - limit)])
            return False
        exchange.deliver(data)
    if response.length:
        raise ClientConnectionError("the connection was cut in the middle of the answer")
    return True


def _too_large(count: int, limit: int, head: Head) -> ClientResponseTooLarge:
    return ClientResponseTooLarge(count, limit, head.declared_length, head.headers.get("content-type", ""))


class _Wire:
    """A connected socket in the role that `http.client` gives it: something to write to and to make a file of.

    Closing it does nothing: the connection belongs to the `Connector`.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file: _AnswerFile | None = None

    def sendall(self, data: bytes) -> None:
        self._connection.sendall(data)

    def makefile(self, mode: str) -> _AnswerFile:
        self._file = _AnswerFile(_Incoming(self._connection))
        return self._file

    def close(self) -> None:
        pass

    def end_of_head(self, gather_seconds: Callable[[], float] | None) -> None:
        if self._file is not None:
            self._file.end_of_head(gather_seconds)

    @property
    def has_leftover(self) -> bool:
        """Whether bytes past the end of the answer were read: the connection is useless for the next request then."""
        return self._file is None or self._file.has_leftover


class _Incoming(io.RawIOBase):
    """The bytes that arrive on a socket, until somebody says that there is no need for more.

    With `gather_seconds`, the first bytes after a silence are there at once, and what follows comes in larger pieces:
    the kernel wakes this thread when that time is over, at the end of the connection, or when a large piece is there.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._gathering = 0.0
        self._is_silent = True
        self.gather_seconds: Callable[[], float] | None = None
        self.is_wanted = True

    def readable(self) -> bool:
        return True

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


class _AnswerFile(io.BufferedReader):
    """What `http.client` reads an answer from, line by line or in pieces.

    Lines between two pieces of body (status, headers, trailers) have a budget, so that an answer cannot consist of
    headers without end. Python's own limits are 100 lines of 64 KiB.
    """

    def __init__(self, incoming: _Incoming) -> None:
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
            raise ClientConnectionError("the connection was cut in the middle of the answer")
        return line

    def read1(self, size: int = -1) -> bytes:
        self.renew_budget()
        return super().read1(size)

    def end_of_head(self, gather_seconds: Callable[[], float] | None) -> None:
        self.renew_budget()
        self._incoming.gather_seconds = gather_seconds

    def renew_budget(self) -> None:
        self._lines = self._line_bytes = 0

    def close(self) -> None:
        if not self.closed:
            self._incoming.is_wanted = False
            self.has_leftover = bool(self.peek(1))
        super().close()
