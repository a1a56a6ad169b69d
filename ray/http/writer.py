"""Responses onto a socket: bounded in memory, and bounded in how long a client may stall them.

Nothing is handed to the transport before what went before has reached the kernel, and then one slice at most: a
client that reads nothing holds one slice, and is cut off after `Limits.write_stall_timeout_s` without progress.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from ray.http.messages import Limits, Response
from ray.http.response import CONTINUE, LAST_CHUNK, ResponseTail, encode_head, sends_body

# The transport does not report progress, so a stalled write is looked at this often within its deadline.
STALL_LOOKS = 4


class StreamFailed(Exception):
    """The iterator of a streaming body raised `error` after the head was out: the answer cannot be completed."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class ResponseWriter:
    """The sending side of one connection."""

    __slots__ = ("_limits", "_loop", "_stall_timer", "_tail", "_writer", "sent")

    def __init__(self, writer: asyncio.StreamWriter, limits: Limits, tail: ResponseTail) -> None:
        self._writer = writer
        self._limits = limits
        self._tail = tail
        self._loop = asyncio.get_running_loop()
        self._stall_timer: asyncio.TimerHandle | None = None
        # Bytes of the current response given to the socket, its head included.
        self.sent = 0
        # Without a high-water mark drain() means that everything is with the kernel.
        writer.transport.set_write_buffer_limits(high=0)

    def send_continue(self) -> None:
        """Send the interim response `100 Continue`."""
        self._writer.write(CONTINUE)

    async def send(self, response: Response, method: str, version: str, keep_alive: bool) -> bool:
        """Send `response` to a request of this method and version. Whether the connection may be used again.

        Raises ValueError before anything is sent when a header is invalid; `StreamFailed` when the iterator fails;
        OSError when the client is gone. The iterator is closed in every case.
        """
        self.sent = 0
        body = response.body
        if isinstance(body, bytes):
            await self._send_bytes(response, body, method, keep_alive)
            return keep_alive
        try:
            chunked = version == "1.1"
            keep_alive = keep_alive and chunked
            with_body = sends_body(method, response.status)
            has_framing = chunked and (with_body or method == "HEAD")
            framing = "transfer-encoding: chunked\r\n" if has_framing else ""
            self._write(encode_head(response, framing, self._tail.lines(keep_alive)))
            await self._flush()
            if with_body:
                await self._send_pieces(body, chunked)
            return keep_alive
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    async def _send_bytes(self, response: Response, body: bytes, method: str, keep_alive: bool) -> None:
        status = response.status
        # RFC 9110 section 8.6: no Content-Length in 204, and in 304 only that of the full answer.
        framing = "" if status in (204, 304) else f"content-length: {len(body)}\r\n"
        head = encode_head(response, framing, self._tail.lines(keep_alive))
        if not sends_body(method, status):
            self._write(head)
        elif len(body) <= self._limits.write_slice_bytes:
            self._write(head + body)
        else:
            self._write(head)
            await self._flush()
            await self._send_slices(body)
            return
        if self._writer.transport.get_write_buffer_size():
            await self._flush()

    async def _send_pieces(self, body: AsyncIterator[bytes], chunked: bool) -> None:
        pieces = aiter(body)
        while True:
            try:
                piece = await anext(pieces)
            except StopAsyncIteration:
                break
            except Exception as error:
                raise StreamFailed(error) from error
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # Something that the iterator waited for was cancelled; this connection was not.
                raise StreamFailed(RuntimeError("the body was cancelled from inside")) from error
            if not piece:
                continue  # An empty chunk would end the body.
            if chunked:
                piece = b"%x\r\n%b\r\n" % (len(piece), piece)
            await self._send_slices(piece)
        if chunked:
            self._write(LAST_CHUNK)
            await self._flush()

    async def _send_slices(self, data: bytes) -> None:
        size = self._limits.write_slice_bytes
        if len(data) <= size:
            self._write(data)
            await self._flush()
            return
        view = memoryview(data)
        for start in range(0, len(data), size):
            self._write(view[start : start + size])
            await self._flush()

    def _write(self, data: bytes | memoryview) -> None:
        if self._writer.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._writer.write(data)
        self.sent += len(data)

    async def _flush(self) -> None:
        """Wait until the transport holds nothing any more, and cut the connection when that does not come nearer."""
        waiting = self._writer.transport.get_write_buffer_size()
        if not waiting:
            return
        self._look_at_stall(waiting, self._loop.time())
        try:
            await self._writer.drain()
        finally:
            if self._stall_timer is not None:
                self._stall_timer.cancel()
                self._stall_timer = None

    def _look_at_stall(self, last_size: int, since: float) -> None:
        """`since`: loop time of the last progress, when `last_size` bytes were waiting."""
        now = self._loop.time()
        size = self._writer.transport.get_write_buffer_size()
        if size != last_size:
            since = now
        end = since + self._limits.write_stall_timeout_s
        if now >= end:
            self._writer.transport.abort()
            return
        pause = min(end - now, self._limits.write_stall_timeout_s / STALL_LOOKS)
        self._stall_timer = self._loop.call_later(pause, self._look_at_stall, size, since)
