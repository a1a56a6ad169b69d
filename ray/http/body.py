"""The body of a request on a connection: read only when asked for, and only up to a limit.

Order of checks, all before a byte is read: an expectation without a length (411), a declared length above the limit
(413), then `100 Continue`, once. So no client is told to go on before its request has passed every check above.
"""

from __future__ import annotations

from typing import Protocol

from ray.http.head import RequestHead
from ray.http.messages import HttpError
from ray.http.parser import RequestParser, Signal


class BodyConnection(Protocol):
    """What a body needs of its connection."""

    async def wait_for_data(self, deadline: float) -> bool:
        """Wait until more bytes were fed to the parser; False when `deadline` (loop time) came first."""
        ...

    def send_continue(self) -> None:
        """Send the interim response `100 Continue`."""
        ...


class IncomingBody:
    """The body of one request. `deadline`: loop time by which its last byte must have arrived."""

    __slots__ = ("_connection", "_continue_due", "_data", "_deadline", "_head", "_parser", "_received")

    def __init__(self, head: RequestHead, parser: RequestParser, connection: BodyConnection, deadline: float) -> None:
        self._head = head
        self._parser = parser
        self._connection = connection
        self._deadline = deadline
        self._continue_due = head.expect_continue
        self._received = False
        self._data: bytes | None = None

    @property
    def present(self) -> bool:
        return self._head.has_body

    @property
    def received(self) -> bool:
        return self._received or self._parser.request_received

    async def read(self, limit: int) -> bytes:
        """See `Request.read_body`. A second call gives the same bytes."""
        if self._data is None:
            self._admit(limit)
            self._data = await self._gather(limit)
        return self._data

    def discard(self) -> bool:
        """Drop what has arrived already; whether that was all of the body, so that the connection can go on."""
        try:
            while not self._received:
                event = self._parser.next_event()
                if event is Signal.NEED_DATA:
                    return False
                self._received = event is Signal.END
        except HttpError:
            return False
        return True

    def _admit(self, limit: int) -> None:
        declared = self._head.content_length
        if self._head.expect_continue and declared is None:
            raise HttpError(411, "length_required", "a request with Expect: 100-continue needs a Content-Length")
        if declared is not None and declared > limit:
            raise HttpError(
                413,
                "body_too_large",
                f"the request body must not exceed {limit} bytes",
                {"limitBytes": limit, "declaredContentLength": declared},
            )

    async def _gather(self, limit: int) -> bytes:
        if self._continue_due and self.present:
            self._continue_due = False
            self._connection.send_continue()
        pieces: list[bytes] = []
        size = 0
        while not self._received:
            event = self._parser.next_event()
            if isinstance(event, bytes):
                size += len(event)
                if size > limit:
                    raise HttpError(413, "body_too_large", f"the request body must not exceed {limit} bytes")
                pieces.append(event)
            elif event is Signal.END:
                self._received = True
            elif not await self._connection.wait_for_data(self._deadline):
                raise HttpError(408, "http_request_timeout", "the request body did not arrive in time")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
