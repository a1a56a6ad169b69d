"""The answers of the stand-in for llama-server, one exchange at a time: proper ones, broken ones, none at all."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

REASONS = {200: "OK", 204: "No Content", 307: "Temporary Redirect", 400: "Bad Request", 503: "Service Unavailable"}
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    500: "server_error",
    501: "not_supported_error",
    503: "unavailable_error",
}


@dataclass(eq=False)
class Received:
    """A request that arrived. `client_left` is set when its client closed the connection before the answer was over."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    client_left: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def document(self) -> dict[str, object]:
        value = json.loads(self.body or b"{}")
        assert isinstance(value, dict)
        return value


class Exchange:
    """One answer in the making."""

    def __init__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.keep_alive = False
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def respond(self, status: int, body: bytes, content_type: str, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", f"Content-Length: {len(body)}"]
        if content_type:
            lines.append(f"Content-Type: {content_type}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.keep_alive = "connection" not in {name.lower() for name in headers}

    async def start_stream(self) -> None:
        await self.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
            b"Keep-Alive: timeout=5, max=100\r\n\r\n"
        )

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, document: object) -> None:
        await self.chunk(b"data: " + json.dumps(document).encode() + b"\n\n")

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    def cut(self, *, reset: bool = False) -> None:
        """Drop the connection as a dying process does; `reset`: with RST instead of FIN."""
        if reset:
            connection = self._writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Answer = Callable[[Exchange], Awaitable[None]]


def json_answer(document: object, status: int = 200, content_type: str = "application/json; charset=utf-8") -> Answer:
    return body_answer(json.dumps(document).encode(), status, content_type)


def body_answer(
    body: bytes, status: int = 200, content_type: str = "application/json; charset=utf-8", **headers: str
) -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond(status, body, content_type, **headers)

    return answer


def error_answer(status: int, message: str = "no", **more: object) -> Answer:
    error = {"code": status, "message": message, "type": ERROR_TYPES.get(status, "server_error"), **more}
    return json_answer({"error": error}, status)


def loading_answer() -> Answer:
    return error_answer(503, "Loading model")


def context_exceeded_answer(prompt_tokens: int, window: int) -> Answer:
    return error_answer(
        400,
        f"request ({prompt_tokens} tokens) exceeds the available context size ({window} tokens)",
        type="exceed_context_size_error",
        n_prompt_tokens=prompt_tokens,
        n_ctx=window,
    )


def redirect_answer(location: str) -> Answer:
    return body_answer(b"", 307, "", location=location)


def raw_answer(data: bytes, *, then_cut: bool = True) -> Answer:
    """These bytes on the wire, whatever they are."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send(data)
        if then_cut:
            exchange.cut()
        else:
            await asyncio.Event().wait()

    return answer


def hanging_answer() -> Answer:
    """Nothing, ever."""

    async def answer(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    return answer


def cut_answer(*, reset: bool = False) -> Answer:
    """The connection dies before a byte was sent."""

    async def answer(exchange: Exchange) -> None:
        exchange.cut(reset=reset)

    return answer


def stream_answer(*events: object, ended: bool = True, cut: bool = False, done: bool = False) -> Answer:
    """These events (text is sent as it is, anything else as JSON), then a proper end, a cut, or silence."""

    async def answer(exchange: Exchange) -> None:
        await exchange.start_stream()
        for event in events:
            if isinstance(event, str):
                await exchange.chunk(f"data: {event}\n\n".encode())
            else:
                await exchange.event(event)
        if done:
            await exchange.chunk(b"data: [DONE]\n\n")
        if cut:
            exchange.cut(reset=True)
        elif ended:
            await exchange.end_stream()
        else:
            await asyncio.Event().wait()

    return answer


def token_event(text: str, number: int = 1) -> dict[str, object]:
    """A `/completion` event of one token."""
    return {"index": 0, "content": text, "tokens": [7], "stop": False, "id_slot": -1, "tokens_predicted": number}
