"""A server for tests: a scriptable handler on a free port, with everything it reported."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ray.http import HttpError, Limits, Request, Response, Server
from tests.http.raw import PATIENCE_S, RawClient

BODY_LIMIT = 100_000


@dataclass(slots=True)
class Report:
    """What the callbacks of the server heard."""

    errors: list[tuple[Exception, Request | None]] = field(default_factory=list)
    stream_errors: list[Exception] = field(default_factory=list)
    completed: list[tuple[str, int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Site:
    server: Server
    report: Report

    async def client(self, receive_buffer: int | None = None) -> RawClient:
        return await RawClient.connect(self.server.port, receive_buffer=receive_buffer)


async def echo(request: Request) -> Response:
    """The path and the body, as text."""
    body = await request.read_body(BODY_LIMIT)
    return Response(200, [("content-type", "text/plain")], request.path.encode() + b" " + body)


@asynccontextmanager
async def serving(
    handler: Callable[[Request], Awaitable[Response]] = echo, limits: Limits | None = None
) -> AsyncIterator[Site]:
    report = Report()

    def on_error(error: Exception, request: Request | None) -> Response:
        report.errors.append((error, request))
        if isinstance(error, HttpError):
            return Response(error.status, [("content-type", "text/plain")], error.code.encode())
        return Response(500, [("content-type", "text/plain")], b"internal")

    def on_complete(request: Request, status: int, sent: int, seconds: float) -> None:
        assert seconds >= 0
        report.completed.append((request.path, status, sent))

    server = Server(
        handler,
        limits=limits or Limits(),
        on_error=on_error,
        on_complete=on_complete,
        on_stream_error=lambda error, request: report.stream_errors.append(error),
    )
    await server.start("127.0.0.1", 0)
    try:
        yield Site(server, report)
    finally:
        await server.close()
        assert server.counts().sockets == 0


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run an async test, bounded in time."""

    async def bounded() -> None:
        async with asyncio.timeout(3 * PATIENCE_S):
            await main()

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition` holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is looked at has no event
            await asyncio.sleep(0.001)


async def until_empty(site: Site) -> None:
    """Let the loop turn until no connection is left."""
    await until(lambda: site.server.counts().sockets == 0)


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    """A streaming body."""
    for part in parts:
        yield part
