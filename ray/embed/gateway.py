"""`Gateway`: Ray inside an asyncio program.

    async with Gateway("ray.json") as gateway:
        answer = await gateway.infer("Say hello.")

No socket is opened unless `listen` or `serve` is called. The event loop, its signal handlers, its exception handler and
the garbage collector stay as the program has set them. Leaving the block is what SIGTERM is to the process of
`python -m ray`: nothing new is taken, what runs may finish, then everything is closed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from types import TracebackType
from typing import TextIO, Unpack, cast

from ray.config import Config
from ray.embed.settings import ConfigSource, load_config, logger_for
from ray.gateway import DEFAULT_DRAIN_MS, InProcess
from ray.gateway import Gateway as GatewayParts
from ray.host import read_process
from ray.providers import Provider
from ray.questions import InferAnswer, InferFields, JobAccepted, JobFields, Question, body_of
from ray.runtime import Reader, result_document
from ray.telemetry import EventLoopLag, Metrics, ProcessCollector


class Gateway:
    """One embedded gateway. To be entered with `async with`, and used from the event loop it was entered on.

    Asking it needs no key and is not rate limited: whoever holds the object is the program itself. Over the socket of
    `listen` and `serve` both apply as configured. Every failure is a RayError with the code the route would answer.
    """

    def __init__(
        self,
        config: ConfigSource = None,
        *,
        environ: Mapping[str, str] | None = None,
        log: TextIO | None = None,
        drain_ms: int = DEFAULT_DRAIN_MS,
        provider: Provider | None = None,
    ) -> None:
        """`config`: see `load_config`; `environ`: where RAY_* variables and keys are looked up, the process's own
        unless given. `log`: where log lines go, Python's logger `ray` unless given. `drain_ms`: how long running
        answers may take at the end. `provider`: instead of the one the configuration names.

        Raises RayError `config_parse_error`, `config_validation_error`.
        """
        self._environ = dict(os.environ if environ is None else environ)
        self.config: Config = load_config(config, environ=self._environ)
        self._log = log
        self._drain_ms = drain_ms
        self._provider = provider
        self._parts: GatewayParts | None = None
        self._door: InProcess | None = None
        self._lag: EventLoopLag | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked = asyncio.Event()
        self._stopping = asyncio.Lock()
        self._listens = False

    # -- its life

    async def __aenter__(self) -> Gateway:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """What entering the block does: open the job store, begin to warm the backend in the background.

        Raises RayError `config_validation_error` (keys, secrets, provider settings), `async_queue_locked`,
        `async_queue_storage_error`, `async_queue_recovery_limit_exceeded`; then nothing is left open.
        """
        if self._parts is not None:
            raise RuntimeError("this gateway has been started already: make another one")
        metrics = Metrics()
        parts = GatewayParts(
            self.config,
            environ=self._environ,
            logger=logger_for(self.config, self._log),
            metrics=metrics,
            provider=self._provider,
        )
        self._parts, self._loop = parts, asyncio.get_running_loop()
        try:
            await _finished(parts.open())
            parts.begin()
        except BaseException:
            self._parts = None
            await parts.abandon()
            raise
        metrics.add_collector(ProcessCollector(read_process))
        self._lag = EventLoopLag(metrics)
        # Made anew: they belong to the event loop they were last waited for on, and a gateway may be started again.
        self._stop_asked, self._stopping = asyncio.Event(), asyncio.Lock()
        self._door = InProcess(parts)

    async def stop(self, drain_ms: int | None = None) -> None:
        """What leaving the block does: take nothing new, let running answers and jobs finish for up to `drain_ms` (as
        given at the start), then close what is left. `serve` returns. May be called again.

        Cancelling it closes everything at once. After its event loop was closed without it, it can be called on another
        one, and gives at least the job store free.
        """
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            await self._let_go(self._loop)
            return
        self._stop_asked.set()
        async with self._stopping:
            if self._parts is None or self._door is None:
                return
            parts, door = self._parts, self._door
            if self._lag is not None:
                self._lag.stop()
            try:
                await _drain(parts, door, self._drain_ms if drain_ms is None else drain_ms)
            except BaseException:
                await parts.abandon()
                raise
            finally:
                self._parts, self._door, self._listens = None, None, False

    async def _let_go(self, own: asyncio.AbstractEventLoop) -> None:
        if not own.is_closed():
            raise _wrong_loop()
        parts, self._parts, self._door, self._listens = self._parts, None, None, False
        if parts is not None and parts.services.jobs is not None:
            await parts.services.jobs.let_go()

    # -- asking it

    async def infer(self, body: Question | None = None, /, **fields: Unpack[InferFields]) -> InferAnswer:
        """The answer to one question, as `POST /v1/infer` gives it. Cancelling it frees the backend's slot.

        `body`: the JSON object of the route, or only the text of its `input`; every field may be a keyword instead.
        Raises RayError: the codes of that route.
        """
        door = self._open_door()
        reader = await door.generate(body_of(body, fields, InferFields), streamed=False)
        try:
            return cast(InferAnswer, result_document(await reader.result()))
        finally:
            door.forget(reader)

    def stream(self, body: Question | None = None, /, **fields: Unpack[InferFields]) -> AnswerStream:
        """The same answer piece by piece: an async iterator of texts. Nothing is asked before it is iterated or
        entered; leaving it early frees the backend's slot."""
        return AnswerStream(self._open_door(), body_of(body, fields, InferFields))

    async def submit_job(
        self,
        body: Question | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[JobFields],
    ) -> JobAccepted:
        """Accept a durable job; it is on disk on return.

        Raises RayError: the codes of `POST /v1/jobs`, `async_queue_disabled` where jobs are off.
        """
        accepted = await self._open_door().submit_job(body_of(body, fields, JobFields), idempotency_key)
        return cast(JobAccepted, accepted)

    async def job(self, job_id: str, *, wait_s: float = 0.0) -> dict[str, object]:
        """The whole record of a job that this program submitted (also an earlier run of it), as `GET /v1/jobs/{id}`.

        `wait_s`: return as soon as the job has ended, or as it stands after so many seconds, 20 at most.
        """
        return await self._open_door().job(job_id, wait_s)

    async def cancel_job(self, job_id: str) -> dict[str, object]:
        """End a job before its time; its record as it stands then. A running one ends soon."""
        return await self._open_door().cancel_job(job_id)

    async def health(self) -> dict[str, object]:
        """The body of `GET /health`."""
        return await self._open_door().health()

    async def ready(self) -> bool:
        """Whether the backend can be asked now: what `GET /readyz` answers 200 for."""
        status, _ = await self._open_door().readiness()
        return status == 200

    # -- with a socket

    @property
    def port(self) -> int:
        """The port that is listened on. RuntimeError while nothing is."""
        if self._parts is None or not self._listens:
            raise RuntimeError("this gateway does not listen: call listen() or serve() first")
        return self._parts.port

    @property
    def url(self) -> str:
        """Where programs on this machine reach it, without a slash at the end. Raises as `port`."""
        return f"http://{_reachable(self.config.server.host)}:{self.port}"

    async def listen(self, port: int | None = None) -> None:
        """Open the HTTP door and return. `port`: instead of the configured one; 0 lets the system choose.

        Raises RayError `listen_failed`; the gateway itself works on then.
        """
        self._open_door()
        if self._listens:
            raise RuntimeError(f"this gateway listens already, on port {self.port}")
        assert self._parts is not None  # an open door belongs to it
        await self._parts.listen(port)
        self._listens = True
        if self._lag is not None:
            self._lag.start()

    async def serve(self, port: int | None = None) -> None:
        """Listen, unless `listen` was called, and serve until this is cancelled or `stop` is called elsewhere.

        Running HTTP answers may finish then. After a cancellation the gateway itself works on until its block is left.
        """
        self._open_door()
        if not self._listens:
            await self.listen(port)
        try:
            await self._stop_asked.wait()
        finally:
            if self._parts is not None and self._listens:
                self._listens = False
                await _close_http(self._parts, self._drain_ms)

    def _open_door(self) -> InProcess:
        if self._door is None:
            raise RuntimeError("this gateway is not running: use it inside `async with ray.Gateway(...) as gateway:`")
        if asyncio.get_running_loop() is not self._loop:
            raise _wrong_loop()
        return self._door


class AnswerStream:
    """One answer as it comes: `async for text in stream`. `result()` is the whole of it.

    With `async with` around it the work ends where the block is left; without, where the loop is.
    """

    def __init__(self, door: InProcess, body: Mapping[str, object]) -> None:
        self._door = door
        self._body = body
        self._reader: Reader | None = None
        self._is_entered = False
        self._is_iterated = False

    async def __aenter__(self) -> AnswerStream:
        await self._started()
        self._is_entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    async def __aiter__(self) -> AsyncIterator[str]:
        self._is_iterated = True
        reader = await self._started()
        try:
            async for chunk in reader:
                if chunk.text:
                    yield chunk.text
        finally:
            if not self._is_entered:
                self._leave()

    async def result(self) -> InferAnswer:
        """The response object, complete: id, usage, diagnostics. Waits for the end of the answer; cancelling that ends
        the work, unless the stream is entered or iterated as well.

        Raises RayError as `Gateway.infer`; `request_aborted` after the stream was left early.
        """
        reader = await self._started()
        try:
            return cast(InferAnswer, result_document(await reader.result()))
        finally:
            if not (self._is_entered or self._is_iterated):
                self._leave()

    async def _started(self) -> Reader:
        if self._reader is None:
            self._reader = await self._door.generate(self._body, streamed=True)
        return self._reader

    def _leave(self) -> None:
        if self._reader is not None:
            self._door.forget(self._reader)


async def _finished(opening: Coroutine[object, object, None]) -> None:
    """Go through with it also when cancelled: a half opened job store could not be closed, and would stay locked."""
    task = asyncio.ensure_future(opening)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


async def _close_http(parts: GatewayParts, drain_ms: int) -> None:
    """Close the HTTP door after its running answers; a cancellation meanwhile cuts them off."""
    try:
        await parts.stop_listening(drain_ms)
    except BaseException:
        await parts.stop_listening(0)
        raise


async def _drain(parts: GatewayParts, door: InProcess, drain_ms: int) -> None:
    """The end, in the order of a process that is told to end; what this program has asked counts as running answers."""
    began = time.monotonic()
    parts.begin_stop()
    await door.drain(drain_ms / 1000)
    spent_ms = int((time.monotonic() - began) * 1000)
    await parts.stop(max(0, drain_ms - spent_ms), "stop")


def _wrong_loop() -> RuntimeError:
    return RuntimeError(
        "this gateway belongs to another event loop: call it there with asyncio.run_coroutine_threadsafe, "
        "or use ray.serve_in_thread"
    )


def _reachable(host: str) -> str:
    """A host that is listened on as one to connect to: a wildcard address is this machine's loopback."""
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{loopback}]" if ":" in loopback else loopback
