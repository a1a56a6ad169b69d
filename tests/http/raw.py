"""A client for tests that sends exactly the bytes it is told to, and reads responses as plainly as possible.

Every wait is bounded by `PATIENCE_S`, so that a broken server fails a test instead of hanging it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field

PATIENCE_S = 30.0


@dataclass(slots=True)
class RawResponse:
    """A response as received. Header names are in lower case; of a repeated header the last value is kept."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)


class RawClient:
    """One TCP connection. Use as `async with await RawClient.connect(port) as client`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, host: str = "127.0.0.1", receive_buffer: int | None = None) -> RawClient:
        """`receive_buffer`: bytes the kernel holds for a client that does not read (it may double the number)."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        async with asyncio.timeout(PATIENCE_S):
            try:
                await asyncio.get_running_loop().sock_connect(sock, (host, port))
            except BaseException:
                sock.close()
                raise
            reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 20)
        return cls(reader, writer)

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE_S):
            await self.writer.drain()

    async def request(self, method: str, target: str, *headers: str, body: bytes | None = None) -> None:
        """Send a request with `Host: test`, the header lines given, and a Content-Length when there is a body."""
        lines = [f"{method} {target} HTTP/1.1", "Host: test", *headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""))

    async def head(self) -> RawResponse:
        """Read one response head, an interim one (1xx) included."""
        async with asyncio.timeout(PATIENCE_S):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = text[:-4].split("\r\n")
        version, status, *_ = status_line.split(" ")
        assert version == "HTTP/1.1"
        headers = {}
        for line in lines:
            name, colon, value = line.partition(": ")
            assert colon, line
            headers[name.lower()] = value
        return RawResponse(int(status), headers)

    async def response(self, method: str = "GET") -> RawResponse:
        """Read one final response with its body."""
        response = await self.head()
        if method == "HEAD" or response.status in (204, 304):
            return response
        if response.headers.get("transfer-encoding") == "chunked":
            while chunk := await self.chunk():
                response.chunks.append(chunk)
            response.body = b"".join(response.chunks)
        elif "content-length" in response.headers:
            async with asyncio.timeout(PATIENCE_S):
                response.body = await self.reader.readexactly(int(response.headers["content-length"]))
        else:
            response.body = await self.rest()
        return response

    async def chunk(self) -> bytes:
        """Read one chunk; empty for the last one."""
        async with asyncio.timeout(PATIENCE_S):
            size = int(await self.reader.readline(), 16)
            data = await self.reader.readexactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def rest(self) -> bytes:
        """All bytes until the server closes its side."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.read(-1)

    async def closed(self) -> bool:
        """Wait until the server closes, and say whether it did so without sending another byte."""
        try:
            return await self.rest() == b""
        except ConnectionError:
            return True

    def shutdown_write(self) -> None:
        """Half-close: no more bytes will come from here."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Go away with a TCP reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.writer.wait_closed()
        except OSError:
            pass  # The server was faster, and not gentle.
