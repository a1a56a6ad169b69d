"""A small load generator: prepared bytes over keep-alive sockets, closed loop, one thread.

Closed loop means that every connection sends its next request when its last answer is complete. With one connection
the times are pure answering times; with several, the server is never idle and the pace is its throughput. The
generator is built to cost little next to the server: requests are bytes made in advance, answers are looked at for
status, length and one expected piece of text, and a parser is not involved.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from ray.bench.processes.process import MeasurementError

ANSWER_SECONDS = 60.0
_RECEIVE_BYTES = 65_536
_HEAD_END = b"\r\n\r\n"

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Reply:
    """One complete answer. `closes`: the server will not take another request on this connection."""

    status: int
    body: bytes
    closes: bool


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a run of requests took. `latencies`: seconds from sending to the complete answer, in order of completion."""

    wall_seconds: float
    latencies: list[float]

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.wall_seconds


def request_bytes(method: str, path: str, body: bytes = b"") -> bytes:
    """An HTTP/1.1 keep-alive request. A body is announced as JSON."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1"]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join(lines).encode("ascii") + _HEAD_END + body


def parse_reply(received: bytes | bytearray) -> Reply | None:
    """The answer that `received` holds, or None while it is incomplete.

    Raises `MeasurementError` for what a server never sends to these requests: no content-length, or more bytes than
    it announced. The latter would mean that answers are attributed to the wrong request.
    """
    end = received.find(_HEAD_END)
    if end < 0:
        return None
    head = bytes(received[:end]).lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise MeasurementError(f"an answer without content-length: {bytes(received[:200])!r}")
    length = int(head[at + 17 :].split(b"\r\n", 1)[0])
    whole = end + 4 + length
    if len(received) < whole:
        return None
    if len(received) > whole:
        raise MeasurementError(f"{len(received) - whole} bytes too many after an answer of {length} bytes")
    return Reply(int(head[9:12]), bytes(received[end + 4 :]), b"\r\nconnection: close" in head)


class Connection:
    """One blocking keep-alive connection, for one request at a time."""

    def __init__(self, address: Address, timeout: float = ANSWER_SECONDS) -> None:
        self.socket = socket.create_connection(address, timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, request: bytes) -> Reply:
        """Send `request`, wait for the whole answer. Raises `MeasurementError` or `OSError`."""
        try:
            return self._exchange(request)
        except TimeoutError as error:
            asked = request.split(b" HTTP/", 1)[0].decode("ascii", "replace")
            raise TimeoutError(f"{asked}: nothing came for {self.socket.gettimeout():.0f} s") from error

    def _exchange(self, request: bytes) -> Reply:
        self.socket.sendall(request)
        received = bytearray()
        while True:
            data = self.socket.recv(_RECEIVE_BYTES)
            if not data:
                raise MeasurementError(f"the connection ended before an answer was complete: {bytes(received[:200])!r}")
            received += data
            reply = parse_reply(received)
            if reply is not None:
                return reply

    def close(self) -> None:
        self.socket.close()


def ask(address: Address, request: bytes, timeout: float = ANSWER_SECONDS) -> Reply:
    """One request on a connection of its own. Raises `MeasurementError` or `OSError`."""
    connection = Connection(address, timeout)
    try:
        return connection.exchange(request)
    finally:
        connection.close()


class _Worker:
    """One connection of a run: what it has received of its answer, and when it asked."""

    __slots__ = ("asked_at", "connection", "received")

    def __init__(self, address: Address) -> None:
        self.connection = Connection(address)
        self.received = bytearray()
        self.asked_at = 0.0

    def ask(self, request: bytes) -> None:
        self.asked_at = time.perf_counter()
        # A request of some hundred bytes always fits an empty socket buffer, so this never waits for the server.
        self.connection.socket.sendall(request)


class _Run:
    """The state of one closed-loop run."""

    def __init__(
        self, address: Address, make: Callable[[int], bytes], count: int, connections: int, expect: bytes, status: int
    ) -> None:
        self.address = address
        self.make = make
        self.count = count
        self.expect = expect
        self.status = status
        self.sent = 0
        self.latencies: list[float] = []
        self.poll = select.epoll()
        self.workers: dict[int, _Worker] = {}
        for _ in range(min(connections, count)):
            self.connect()

    def connect(self) -> _Worker:
        worker = _Worker(self.address)
        number = worker.connection.socket.fileno()
        self.workers[number] = worker
        self.poll.register(number, select.EPOLLIN)
        return worker

    def start_next(self, worker: _Worker) -> None:
        if self.sent < self.count:
            worker.ask(self.make(self.sent))
            self.sent += 1

    def receive(self, number: int) -> None:
        worker = self.workers[number]
        data = worker.connection.socket.recv(_RECEIVE_BYTES)
        if not data:
            raise MeasurementError(f"the server closed a connection in mid-answer: {bytes(worker.received[:200])!r}")
        worker.received += data
        reply = parse_reply(worker.received)
        if reply is None:
            return
        self.latencies.append(time.perf_counter() - worker.asked_at)
        if reply.status != self.status or self.expect not in reply.body:
            raise MeasurementError(f"not the expected answer: status {reply.status}, body {reply.body[:300]!r}")
        worker.received.clear()
        if reply.closes:
            # A server may limit the requests per connection. The new one is part of the cost, as for any client.
            self.poll.unregister(number)
            self.workers.pop(number).connection.close()
            worker = self.connect()
        self.start_next(worker)

    def close(self) -> None:
        for worker in self.workers.values():
            worker.connection.close()
        self.poll.close()


def run_load(
    address: Address,
    make: Callable[[int], bytes],
    *,
    count: int,
    connections: int,
    expect: bytes,
    status: int = 200,
) -> LoadResult:
    """Ask `count` times over `connections` connections, closed loop; `make(n)` gives the bytes of the n-th request.

    Connecting is not part of the measured time. Every answer must have `status` and a body that holds `expect`,
    otherwise the run ends with `MeasurementError`: a fast error is not a fast answer.
    """
    run = _Run(address, make, count, connections, expect, status)
    try:
        started = time.perf_counter()
        for worker in list(run.workers.values()):
            run.start_next(worker)
        while len(run.latencies) < count:
            events = run.poll.poll(ANSWER_SECONDS)
            if not events:
                raise MeasurementError(f"no answer for {ANSWER_SECONDS:.0f} s after {len(run.latencies)} requests")
            for number, _ in events:
                run.receive(number)
        return LoadResult(time.perf_counter() - started, run.latencies)
    finally:
        run.close()
