"""A server that says whatever a test wants, right or wrong."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Says:
    """What is sent after a request. `then`: close the connection, keep it for the next request, or say no more."""

    data: bytes
    then: str = "close"


def answer(
    status: int, body: bytes = b"", *headers: tuple[str, str], kind: str = "application/json", then: str = "close"
) -> Says:
    """A well-formed answer of declared length, which says so when the connection will be closed."""
    lines = [f"content-length: {len(body)}", *(f"{name}: {value}" for name, value in headers)]
    if then == "close":
        lines.append("connection: close")
    if kind:
        lines.append(f"content-type: {kind}")
    head = f"HTTP/1.1 {status} Said\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n"
    return Says(head.encode("latin-1") + body, then)


def events(data: bytes, then: str = "close") -> Says:
    """An event stream whose end is the end of the connection."""
    return Says(b"HTTP/1.1 200 Said\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + data, then)


@dataclass
class Scripted:
    """A server that gives one answer after the other. `requests`: what it was sent, byte by byte."""

    url: str
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    def header(self, name: str, number: int = -1) -> str | None:
        for line in self.requests[number].partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name:
                return value.strip()
        return None


@contextmanager
def server_that(*script: Says, tls: ssl.SSLContext | None = None) -> Iterator[Scripted]:
    """Answers the first request with the first entry, and so on; connections after the last entry are closed."""
    left = list(script)
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        scheme = "http" if tls is None else "https"
        server = Scripted(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                server.connections += 1
                connection.settimeout(WAIT_SECONDS)
                if tls is not None:
                    try:
                        connection = tls.wrap_socket(connection, server_side=True)
                    except OSError:
                        connection.close()  # the client did not trust the certificate
                        continue
                _converse(connection, server, left, held)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in held:
                connection.close()
            thread.join(WAIT_SECONDS)


def _converse(connection: socket.socket, server: Scripted, left: list[Says], held: list[socket.socket]) -> None:
    while left:
        request = read_request(connection)
        if request is None:
            break
        server.requests.append(request)
        said = left.pop(0)
        try:
            connection.sendall(said.data)
        except OSError:
            break  # the client had heard enough
        if said.then == "hold":
            held.append(connection)
            return
        if said.then == "close":
            break
    _close_politely(connection)


def _close_politely(connection: socket.socket) -> None:
    """Closing with something unread would reset the connection, and take away what the client has not read yet."""
    try:
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass
    except OSError:
        pass
    connection.close()


def read_request(connection: socket.socket) -> bytes | None:
    """One request with its body; None when the client closes instead."""
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65_536)
            if not piece:
                return None
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        while lengths and len(body) < lengths[0]:
            piece = connection.recv(65_536)
            if not piece:
                return None
            body += piece
    except OSError:
        return None
    return head + b"\r\n\r\n" + body
