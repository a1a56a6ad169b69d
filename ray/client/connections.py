"""Blocking HTTP/1.1 for any number of threads: `http.client` on connections that are kept for the next call.

What it promises: one deadline covers connecting, sending and reading; heads and bodies are bounded; no redirects, no
proxy variables, no compression, no retries. Only the look-up of the host's name cannot be given up: it takes as long as
the system's resolver lets it.
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ray.client.options import Address
from ray.clock import Deadline
from ray.http import (
    AnswerBody,
    AnswerFile,
    ClientConnectionError,
    ClientError,
    ClientRequestError,
    ClientResponse,
    ClientTimeout,
    ClientUnreachable,
    Incoming,
    answer_head,
)

# Shorter than the 5 s after which the gateway closes an idle connection: it must not do so while a request is sent.
MAX_IDLE_SECONDS = 3.0
MAX_IDLE_CONNECTIONS = 8


class OpenAnswer:
    """An answer whose head is here and whose body is still arriving."""

    def __init__(self, connection: socket.socket, response: http.client.HTTPResponse, file: AnswerFile) -> None:
        self._connection = connection
        self._response = response
        self._file = file
        file.renew_budget()
        self._head = answer_head(response)
        self.status = self._head.status
        self.headers = self._head.headers
        self.truncated = False
        self._complete = False

    def pieces(self, max_body_bytes: int, error_body_bytes: int) -> Iterator[bytes]:
        """The body as it arrives. Raises ClientError."""
        with _client_errors():
            limit = max_body_bytes if self._head.is_success else error_body_bytes
            body = AnswerBody(self._response, self._file, self._head, limit)
        while True:
            with _client_errors():
                data = body.read()
            self.truncated, self._complete = body.truncated, body.complete
            if not data:
                return
            yield data

    def gathered(self, max_body_bytes: int, error_body_bytes: int) -> ClientResponse:
        """All of it. The body of a failure may be cut off or late: its status is what matters."""
        pieces: list[bytes] = []
        try:
            for data in self.pieces(max_body_bytes, error_body_bytes):
                pieces.append(data)
        except (ClientConnectionError, ClientTimeout):
            if self._head.is_success:
                raise
            self.truncated = True
        return ClientResponse(self.status, self.headers, b"".join(pieces), self.truncated, self._head.declared_length)

    def close(self) -> bool:
        """Done with it. Returns whether its connection can carry another request."""
        will_close = self._response.will_close
        self._response.close()
        framed = self._head.declared_length is not None or self._head.status == 204
        return self._complete and framed and not will_close and not self._file.has_leftover


class Connections:
    """The connections to one address. Any thread may call; each call has a connection of its own meanwhile."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._idle: list[tuple[socket.socket, float]] = []
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: bytes | None,
        deadline: Deadline,
        max_body_bytes: int,
        error_body_bytes: int,
    ) -> ClientResponse:
        """One exchange, the answer gathered. Raises ClientError."""
        connection = self._reused() or self._connected(deadline)
        reusable = False
        try:
            answer = self._exchange(connection, method, path, headers, body, deadline)
            response = answer.gathered(max_body_bytes, error_body_bytes)
            reusable = answer.close()
            return response
        finally:
            self._give_back(connection, reusable)

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: bytes | None,
        deadline: Deadline,
    ) -> Iterator[OpenAnswer]:
        """One exchange on a connection of its own, which is closed at the end of the block. Raises ClientError."""
        connection = self._connected(deadline)
        try:
            yield self._exchange(connection, method, path, [*headers, ("connection", "close")], body, deadline)
        finally:
            connection.close()

    def close(self) -> None:
        """Close what is idle. Calls that run in other threads come to their end; new ones are refused."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _reused(self) -> socket.socket | None:
        """A connection that was used a moment ago and on which the other side has said nothing since."""
        limit = time.monotonic() - MAX_IDLE_SECONDS
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection, since = self._idle.pop()
            poll = select.poll()
            poll.register(connection, select.POLLIN)
            if since > limit and not poll.poll(0):
                return connection
            connection.close()

    def _give_back(self, connection: socket.socket, reusable: bool) -> None:
        with self._lock:
            if reusable and not self._closed and len(self._idle) < MAX_IDLE_CONNECTIONS:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()

    def _connected(self, deadline: Deadline) -> socket.socket:
        if self._closed:
            raise ClientRequestError("the client is closed: make another one")
        try:
            return self._connect(deadline)
        except TimeoutError:
            raise ClientTimeout("the deadline passed") from None
        except OSError as error:
            raise ClientUnreachable(_reason(error)) from None

    def _connect(self, deadline: Deadline) -> socket.socket:
        address = self._address
        failure: OSError | None = None
        for family, kind, protocol, _, place in socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(_left(deadline))
                connection.connect(place)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return self._secured(connection, deadline) if address.scheme == "https" else connection
            except OSError as error:
                connection.close()
                failure = error
            except BaseException:
                connection.close()
                raise
        raise failure or OSError("the host has no address")

    def _secured(self, connection: socket.socket, deadline: Deadline) -> socket.socket:
        with self._lock:
            if self._tls is None:
                self._tls = ssl.create_default_context()
                self._tls.set_alpn_protocols(["http/1.1"])
        connection.settimeout(_left(deadline))
        return self._tls.wrap_socket(connection, server_hostname=self._address.host, suppress_ragged_eofs=False)

    def _exchange(
        self,
        connection: socket.socket,
        method: str,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes | None,
        deadline: Deadline,
    ) -> OpenAnswer:
        """Send the request and read the head of its answer."""
        address = self._address
        wire = _Wire(connection, deadline)
        speaker = http.client.HTTPConnection(address.host, address.port)
        if address.scheme == "https":
            speaker.default_port = 443  # decides whether `Host` names the port
        speaker.sock = wire  # it has the three methods that are used
        with _client_errors():
            speaker.putrequest(method, address.prefix + path, skip_accept_encoding=True)
            speaker.putheader("accept-encoding", "identity")
            if body is not None:
                speaker.putheader("content-length", str(len(body)))
            for name, value in headers:
                speaker.putheader(name, value.encode("latin-1"))
            try:
                speaker.endheaders(body)
            except (BrokenPipeError, ConnectionResetError):
                # A server that refuses a request before reading all of it has usually said why.
                wire.refused_early = True
            response = speaker.getresponse()
            assert wire.file is not None
            answer = OpenAnswer(connection, response, wire.file)
        if wire.refused_early:
            response.will_close = True
        return answer


class _Wire:
    """A connected socket in the role that `http.client` gives it. Closing it does nothing: it may be used again."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline
        self.file: AnswerFile | None = None
        self.refused_early = False

    def sendall(self, data: bytes) -> None:
        self._connection.settimeout(_left(self._deadline))
        self._connection.sendall(data)

    def makefile(self, mode: str) -> AnswerFile:
        self.file = AnswerFile(_Arriving(self._connection, self._deadline))
        return self.file

    def close(self) -> None:
        pass


class _Arriving(Incoming):
    """The bytes that arrive on a socket before the deadline."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self._connection = connection
        self._deadline = deadline

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self.is_wanted:
            return 0
        self._connection.settimeout(_left(self._deadline))
        return self._connection.recv_into(buffer)


@contextmanager
def _client_errors() -> Iterator[None]:
    """Whatever breaks on the wire, as a ClientError."""
    try:
        yield
    except ClientError:
        raise
    except TimeoutError:
        raise ClientTimeout("the deadline passed") from None
    except (OSError, EOFError) as error:
        raise ClientConnectionError(_reason(error)) from None
    except Exception as error:  # noqa: BLE001 - what http.client makes of a broken answer is not only HTTPException
        raise ClientConnectionError(f"the answer breaks the rules of HTTP ({type(error).__name__})") from None


def _left(deadline: Deadline) -> float:
    remaining = deadline.remaining()
    if remaining <= 0:
        raise TimeoutError("the deadline passed")
    return remaining


def _reason(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
