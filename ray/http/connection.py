"""One connection of a server: its requests one after the other, each answered before the next is looked at.

Two tasks live as long as the connection, and none is made per request. The pump alone reads from the socket and
feeds the parser, also while a handler runs, so that a client that goes away is noticed at once: the serving task,
and with it the handler or the iterator of a streaming answer, is then cancelled. The pump stops at
`Limits.read_ahead_bytes` until somebody wants more.

A client that has closed its sending side only (`nc -N`, some health checkers) looks like one that has gone until
something is sent to it. So what is cheap is answered, and what may be long work for nobody is given up: a GET or HEAD
that has arrived gets its whole answer, if that is not a stream; anything else is cancelled at once.

Deadlines need no timer per request: the connection keeps the loop time at which its current wait ends, and one timer
that re-arms itself when it fires too early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from ray.http.body import IncomingBody
from ray.http.head import RequestHead
from ray.http.messages import NO_BODY, HttpError, Limits, Request, Response
from ray.http.parser import RequestParser
from ray.http.response import ResponseTail
from ray.http.writer import ResponseWriter, StreamFailed

READ_SIZE = 16_384
# RFC 9110 section 9.2.1: the safe methods that ask for something.
READING_METHODS = frozenset({"GET", "HEAD"})
# While a server hands its sockets over, a client that was active this recently may be about to send the next request;
# and for so long after the drain began any client may, since what it has sent already is not read yet.
RECENTLY_ACTIVE_S = 0.5
ON_ITS_WAY_S = 0.02


class ConnectionOwner(Protocol):
    """What a connection needs of its server."""

    limits: Limits
    tail: ResponseTail
    draining: bool
    hands_over: bool
    drain_began: float

    handler: Callable[[Request], Awaitable[Response]]

    def error_response(self, error: Exception, request: Request | None) -> Response: ...

    def stream_failed(self, error: Exception, request: Request) -> None: ...

    def response_completed(self, request: Request, status: int, bytes_sent: int, seconds: float) -> None: ...

    def connection_closed(self, connection: Connection) -> None: ...


class Connection:
    """A socket with its parser and its two tasks. Made by the server for every accepted socket."""

    __slots__ = (
        "_answered",
        "_deadline",
        "_discarding",
        "_finishes",
        "_input_over",
        "_loop",
        "_out",
        "_owner",
        "_parser",
        "_peer",
        "_pump_task",
        "_reader",
        "_room",
        "_serve_task",
        "_served",
        "_timer",
        "_wait_started",
        "_waiter",
        "_writer",
        "active",
        "gone",
    )

    def __init__(self, owner: ConnectionOwner, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._owner = owner
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._parser = RequestParser(owner.limits)
        peername = writer.get_extra_info("peername")
        self._peer = peername[0] if isinstance(peername, tuple) else ""
        # True from a complete request head until its response is out or the socket is closed.
        self.active = False
        self.gone = False
        self._served = 0
        self._discarding = False
        # The client has closed its sending side, or has gone.
        self._input_over = False
        # What is under way is finished even then.
        self._finishes = True
        self._wait_started = self._loop.time()
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        # The serving task waits here for bytes; the pump waits in `_room` for the parser to be emptied.
        self._waiter: asyncio.Future[bool] | None = None
        self._room: asyncio.Future[None] | None = None
        self._out = ResponseWriter(writer, owner.limits, owner.tail)
        self._serve_task = self._loop.create_task(self._serve())
        self._pump_task = self._loop.create_task(self._pump())
        self._serve_task.add_done_callback(self._closed)

    # Called by the server

    def close_if_idle(self) -> None:
        """Close when no request is under way and none has begun to arrive; when the server hands over, not before a
        request that may be on its way has had its time."""
        if self._waiter is None or self.active or self._parser.buffered:
            return
        if self._owner.hands_over and self._deadline is not None:
            self._wait_until(min(self._deadline, self._last_call()))
        else:
            self.abort()

    def _last_call(self) -> float:
        """Until when (loop time) a connection that is idle may still begin a request while the server hands over."""
        return max(self._owner.drain_began + ON_ITS_WAY_S, self._wait_started + RECENTLY_ACTIVE_S)

    def abort(self) -> asyncio.Task[None]:
        """Close the socket and cancel what runs. Returns the task that then ends."""
        self._leave()
        self._serve_task.cancel()
        return self._serve_task

    # The pump

    async def _pump(self) -> None:
        limits = self._owner.limits
        discarded = 0
        try:
            while data := await self._reader.read(READ_SIZE):
                if self._discarding:
                    discarded += len(data)
                    if discarded > limits.linger_bytes:
                        break
                    continue
                self._parser.feed(data)
                waiter = self._waiter
                if waiter is not None and not waiter.done():
                    waiter.set_result(True)
                elif self._parser.buffered >= limits.read_ahead_bytes:
                    self._room = self._loop.create_future()
                    await self._room
            else:
                self._input_over = True
        except OSError:
            pass  # A reset is one more way to go away.
        if self._input_over and self._answers_still():
            # Bounded, because from here on nobody would notice that the client has really gone.
            await asyncio.sleep(limits.request_timeout_s)
        self._leave()
        self._serve_task.cancel()

    def _answers_still(self) -> bool:
        """Whether there is something to answer after the end of the input."""
        waits_for_input = self._waiter is not None and not self._waiter.done()
        return self._finishes and not self._discarding and not waits_for_input

    def _leave(self) -> None:
        """The socket is finished; the counts of the server drop now, even if the handler takes a moment to end."""
        self.gone = True
        self.active = False
        self._writer.transport.abort()

    def _make_room(self) -> None:
        room = self._room
        if room is not None:
            self._room = None
            if not room.done():
                room.set_result(None)

    def _closed(self, task: asyncio.Task[None]) -> None:
        """Runs when the serving task has ended, whatever the reason."""
        self.active = False
        self._pump_task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self.gone:
            self._writer.transport.abort()
        else:
            self._writer.close()
        self._owner.connection_closed(self)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "an HTTP connection failed", "exception": error})

    # Waiting

    async def wait_for_data(self, deadline: float) -> bool:
        """Wait until more bytes were fed to the parser; False when `deadline` (loop time) came first."""
        if self._input_over:
            self.abort()
        self._waiter = self._loop.create_future()
        self._make_room()
        self._wait_until(deadline)
        try:
            return await self._waiter
        finally:
            self._waiter = None
            self._deadline = None

    def _wait_until(self, deadline: float) -> None:
        self._deadline = deadline
        timer = self._timer
        if timer is None or timer.when() > deadline:
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_at(deadline, self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        self._timer = None
        deadline, waiter = self._deadline, self._waiter
        if deadline is None:
            return
        if self._loop.time() < deadline:
            self._timer = self._loop.call_at(deadline, self._look_at_deadline)
        elif waiter is not None and not waiter.done():
            waiter.set_result(False)

    def send_continue(self) -> None:
        """Send `100 Continue`."""
        self._out.send_continue()

    # Serving

    async def _serve(self) -> None:
        try:
            while True:
                try:
                    head = await self._next_head()
                except HttpError as error:
                    await self._refuse(error)
                    return
                if head is None or not await self._answer(head):
                    return
        except OSError:
            self._leave()  # The client went away in the middle of a write.

    async def _next_head(self) -> RequestHead | None:
        """The next request head; None when none came in time and nothing has begun to arrive.

        Raises HttpError for broken framing, and `http_request_timeout` for a head that does not get finished.
        """
        limits = self._owner.limits
        started = self._wait_started = self._loop.time()
        idle_s = limits.keep_alive_timeout_s if self._served else limits.headers_timeout_s
        while True:
            event = self._parser.next_event()
            if isinstance(event, RequestHead):
                if self._room is not None and self._parser.buffered < limits.read_ahead_bytes:
                    self._make_room()
                return event
            begun = self._parser.buffered > 0
            deadline = started + (limits.headers_timeout_s if begun else idle_s)
            if self._input_over:
                return None
            if self._owner.draining and not begun:
                if not self._owner.hands_over:
                    return None
                deadline = min(deadline, self._last_call())
            if not await self.wait_for_data(deadline):
                if not begun:
                    return None
                raise HttpError(408, "http_request_timeout", "the request headers did not arrive in time")

    async def _refuse(self, error: HttpError) -> None:
        """Answer bytes that are not a request, and end the connection."""
        response = self._owner.error_response(error, None)
        await self._out.send(response, "GET", "1.1", keep_alive=False)
        if error.status != 408:
            await self._linger()

    async def _answer(self, head: RequestHead) -> bool:
        """Answer one request. Whether the connection can carry another one."""
        self._finishes = head.method in READING_METHODS or head.refusal is not None
        if self._input_over and not self._finishes:
            return False
        self._served += 1
        self.active = True
        received_at = self._loop.time()
        deadline = self._wait_started + self._owner.limits.request_timeout_s
        incoming = IncomingBody(head, self._parser, self, deadline)
        request = Request(
            head.method,
            head.target,
            head.path,
            head.query,
            head.version,
            head.headers,
            self._peer,
            received_at,
            incoming if head.has_body or head.expect_continue else NO_BODY,
        )
        response = await self._respond(head, request)
        complete = incoming.discard()
        try:
            if not isinstance(response.body, bytes):
                self._finishes = False
                if self._input_over:
                    self._leave()  # The sending then fails, and closes the iterator.
            keep_alive = await self._send(response, request, complete and self._may_keep(head))
        finally:
            self.active = False
            self._finishes = True
        if keep_alive and not self._owner.draining:
            return True
        # A client that has used up its time gets no more of it: its place is wanted.
        if (not complete or self._parser.buffered) and response.status != 408:
            await self._linger()
        return False

    async def _respond(self, head: RequestHead, request: Request) -> Response:
        try:
            if head.refusal is not None:
                raise head.refusal
            response = await self._owner.handler(request)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, the client gets an answer
            response = self._owner.error_response(error, request)
        except asyncio.CancelledError:
            if self.gone or self._serve_task.cancelling():
                raise
            # Something that the handler waited for was cancelled; this connection was not.
            response = self._owner.error_response(RuntimeError("the handler was cancelled from inside"), request)
        return response

    async def _send(self, response: Response, request: Request, keep_alive: bool) -> bool:
        """Send an answer; whether the connection may be kept."""
        try:
            return await self._out.send(response, request.method, request.version, keep_alive)
        except ValueError as error:
            if self._out.sent:
                raise
            # The head could not be encoded, and nothing was sent: this can still be explained.
            response = self._owner.error_response(error, request)
            return await self._out.send(response, request.method, request.version, keep_alive)
        except StreamFailed as failure:
            # No last chunk: the client must see that the answer is cut short.
            self._leave()
            self._owner.stream_failed(failure.error, request)
            return False
        finally:
            if self._out.sent:
                seconds = self._loop.time() - request.received_at
                self._owner.response_completed(request, response.status, self._out.sent, seconds)

    def _may_keep(self, head: RequestHead) -> bool:
        limits = self._owner.limits
        # A refused Host or target smells of a client that means another server: start afresh.
        sound = head.refusal is None or head.refusal.status == 417
        return head.keep_alive and sound and self._served < limits.max_requests_per_socket and not self._owner.draining

    async def _linger(self) -> None:
        """Let the client read its answer before the socket closes (RFC 9112 section 9.6).

        Closing with unread input makes the kernel send a reset, which can destroy the answer on its way. So the
        sending side is closed, and input is dropped until the client closes too, or it has been long or much enough.
        """
        if self._input_over:
            return
        self._discarding = True
        self._make_room()
        self._writer.write_eof()
        await asyncio.sleep(self._owner.limits.linger_timeout_s)
