"""Things that tests of callbacks are made of: settings, a name server in memory, a receiver that does as it is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from ray.config import AsyncQueueConfig, config_from_mapping

JOB_DEFAULTS: dict[str, object] = {"callbackAllowPrivateNetwork": True, "callbackTimeoutMs": 10_000}


def settings(**changes: object) -> AsyncQueueConfig:
    """The section's settings; private addresses are allowed unless said otherwise."""
    return config_from_mapping({"profile": "tiny", "asyncQueue": {**JOB_DEFAULTS, **changes}}).async_queue


class Names:
    """Answers lookups from a table. A list of answers is used up one after the other, its last one stays."""

    def __init__(self, table: Mapping[str, list[tuple[bytes, ...]]]) -> None:
        self._table = {name: list(answers) for name, answers in table.items()}
        self.asked: list[str] = []

    def __call__(self, name: str) -> tuple[bytes, ...]:
        self.asked.append(name)
        answers = self._table.get(name)
        if not answers:
            raise OSError("unknown name")
        return answers.pop(0) if len(answers) > 1 else answers[0]


@dataclass(frozen=True, slots=True)
class Arrived:
    """One request, as bytes on the wire had it. `headers`: names in lower case."""

    line: str
    headers: Mapping[str, str]
    body: bytes


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(*answers: bytes) -> Script:
    """Write these answers, one per request; the last one stays."""
    left = list(answers)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])

    return answer


NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


class Receiver:
    """Listens on 127.0.0.1 (or another address) while it is entered; reads each request, then follows its script."""

    def __init__(
        self, script: Script | None = None, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.arrived: list[Arrived] = []
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._script = script or answering(NO_CONTENT)
        self._tls = tls
        self._host = host
        self.port = port

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._tasks.add(asyncio.ensure_future(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
            pairs = (line.split(": ", 1) for line in head[1:] if line)
            headers = {name.lower(): value for name, value in pairs}
            body = await reader.readexactly(int(headers["content-length"]))
            self.arrived.append(Arrived(head[0], headers, body))
            await self._script(reader, writer)
            await writer.drain()
            # The sender hangs up, as soon as it has seen enough.
            await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the sender is gone
        finally:
            writer.transport.abort()

    async def __aenter__(self) -> Receiver:
        self._server = await asyncio.start_server(self._accept, self._host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # One turn of the loop, in which aborted connections are closed.
        await asyncio.sleep(0)
