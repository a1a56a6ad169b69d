"""A gateway in this process on a port of the system's choosing, and a client that shows exactly what came back."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ray.config import config_from_mapping
from ray.gateway import Gateway
from ray.http import SseDecoder
from ray.providers import Provider
from ray.runtime import HostPressure
from ray.telemetry import Logger, Metrics, metrics_json
from tests.host.trees import NOWHERE

WAIT_SECONDS = 60.0


@dataclass
class Reply:
    """One response as it was on the wire. Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    interim: list[int] = field(default_factory=list)

    def json(self) -> dict[str, object]:
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document

    @property
    def code(self) -> str:
        """The code of an error envelope."""
        error = self.json()["error"]
        assert isinstance(error, dict)
        return str(error["code"])

    @property
    def details(self) -> dict[str, object]:
        error = self.json()["error"]
        assert isinstance(error, dict)
        details = error.get("details", {})
        assert isinstance(details, dict)
        return details

    def events(self) -> list[tuple[str | None, dict[str, object]]]:
        """The body as server-sent events with JSON data."""
        return [(name, json.loads(data)) for name, data in SseDecoder().feed(self.body)]


class Client:
    """One connection. Everything it waits for is bounded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ask(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Reply:
        """Send one request and read its answer."""
        await self.send(request_bytes(method, path, headers=headers, body=body))
        return await self.reply(head_only=method == "HEAD")

    async def post(self, path: str, document: object, headers: Mapping[str, str] | None = None) -> Reply:
        """Send a document as JSON."""
        given = {"content-type": "application/json", **(headers or {})}
        return await self.ask("POST", path, headers=given, body=json.dumps(document).encode())

    async def reply(self, *, head_only: bool = False) -> Reply:
        """Read one final response, noting the interim ones before it."""
        interim: list[int] = []
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                status, headers = await self.head()
                if status >= 200:
                    break
                interim.append(status)
            body = b"" if head_only or status == 204 else await self._body(headers)
        return Reply(status, headers, body, interim)

    async def closed(self) -> bool:
        """Whether the server has closed the connection and sent nothing more."""
        async with asyncio.timeout(WAIT_SECONDS):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of a response, of which the body is still to be read."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if colon:
                headers[name.lower()] = value.strip()
        return int(lines[0].split(" ")[1]), headers

    async def piece(self) -> bytes:
        """The next chunk of a chunked body, as the server wrote it; empty at the end."""
        async with asyncio.timeout(WAIT_SECONDS):
            size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self.reader.readexactly(int(headers["content-length"]))
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)


def request_bytes(
    method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """A request as bytes; `headers` may replace `host` and `content-length`."""
    given = {"host": "127.0.0.1"}
    if body is not None:
        given["content-length"] = str(len(body))
    given |= headers or {}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + (body or b"")


async def soon(condition: Callable[[], bool]) -> None:
    """Until `condition` holds; fails after a generous while instead of hanging.

    What it waits for comes through the kernel's sockets, so that there is no event to wait for.
    """
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@dataclass
class Running:
    """A gateway that listens, with everything it has logged."""

    gateway: Gateway
    log: io.StringIO

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()

    async def ask(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Reply:
        """One request on a connection of its own."""
        async with self.connect() as client:
            return await client.ask(method, path, headers=headers, body=body)

    async def post(self, path: str, document: object, headers: Mapping[str, str] | None = None) -> Reply:
        async with self.connect() as client:
            return await client.post(path, document, headers)

    async def gauges(self) -> dict[str, float]:
        """The gauges and counters as the registry has them now."""
        view = metrics_json(self.gateway.metrics, include_recent=False)
        counters, gauges = view["counters"], view["gauges"]
        assert isinstance(counters, dict)
        assert isinstance(gauges, dict)
        return {**counters, **gauges}

    def lines(self, message: str | None = None) -> list[dict[str, object]]:
        """The log lines so far, those with this message only if one is given."""
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if message is None or line["message"] == message]


def put_together(
    document: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    provider: Provider | None = None,
    log: io.StringIO | None = None,
    log_level: str = "info",
    host: HostPressure | None = None,
) -> Gateway:
    """What `running` runs, before it is started."""
    settings: dict[str, object] = {"profile": "tiny", "model": {"adapter": {"kind": "mock", "latencyMs": 1}}}
    settings.update(document or {})
    log = log or io.StringIO()
    return Gateway(
        config_from_mapping(settings),
        environ=environ or {},
        logger=Logger("ray-test", log_level, stdout=log, stderr=log),
        metrics=Metrics(),
        provider=provider,
        host=host or HostPressure(NOWHERE),
    )


@asynccontextmanager
async def running(
    document: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    provider: Provider | None = None,
    log_level: str = "info",
    host: HostPressure | None = None,
) -> AsyncIterator[Running]:
    """A gateway on the tiny profile with `document` over it, answering at once unless a provider is given.

    `host`: a machine that tells nothing unless given, so that a busy one does not change what a test sees.
    """
    log = io.StringIO()
    gateway = put_together(document, environ=environ, provider=provider, log=log, log_level=log_level, host=host)
    await gateway.start(port=0)
    try:
        yield Running(gateway, log)
    finally:
        await gateway.abandon()
