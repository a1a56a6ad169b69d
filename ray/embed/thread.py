"""`serve_in_thread`: Ray for programs that are not asyncio, and for tests. It listens, in a thread with its own loop.

    with serve_in_thread("ray.json") as server:
        print(server.url, server.infer("Say hello.")["output"])

Signals stay with the program: the thread installs no handler, and only the program decides when it ends.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TextIO, Unpack

from ray.embed.gateway import Gateway
from ray.embed.settings import ConfigSource
from ray.errors import RayError
from ray.gateway import DEFAULT_DRAIN_MS
from ray.questions import InferAnswer, InferFields, Question

# How often a caller who waits for an answer looks whether there is still somebody who gives one.
_LOOK_SECONDS = 1.0


def serve_in_thread(
    config: ConfigSource = None,
    *,
    port: int | None = 0,
    environ: Mapping[str, str] | None = None,
    log: TextIO | None = None,
    drain_ms: int = DEFAULT_DRAIN_MS,
) -> ServerThread:
    """A gateway that listens when this returns, until the `with` block is left or `stop` is called.

    `port`: 0 lets the system choose, None means the configured one; the rest as for `Gateway`. Whatever goes wrong
    before it listens is raised here: RayError `config_parse_error`, `config_validation_error`, `listen_failed`, and
    the codes of a job store that cannot be used.
    """
    return ServerThread(Gateway(config, environ=environ, log=log, drain_ms=drain_ms), port)


class ServerThread:
    """A running gateway in its thread. `url`: where to reach it, without a slash at the end; `port`: of the same."""

    def __init__(self, gateway: Gateway, port: int | None) -> None:
        self._gateway = gateway
        self._loop = asyncio.new_event_loop()
        self._told = asyncio.Event()
        self._drain_ms: int | None = None
        self._main: asyncio.Task[object] | None = None
        self._failure: BaseException | None = None
        self._listening: concurrent.futures.Future[tuple[int, str]] = concurrent.futures.Future()
        # A daemon: a program that forgets to stop it can end nevertheless.
        self._thread = threading.Thread(target=self._run, args=(port,), name="ray-gateway", daemon=True)
        self._thread.start()
        try:
            self.port, self.url = self._listening.result()
        except BaseException:  # it did not start, or the program no longer wants to wait
            self.stop()
            raise

    def __enter__(self) -> ServerThread:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def infer(self, body: Question | None = None, /, **fields: Unpack[InferFields]) -> InferAnswer:
        """`Gateway.infer`, from any thread, waiting for the answer: in the process, without key and rate limit."""
        asking = self._gateway.infer(body, **fields)
        try:
            answer = asyncio.run_coroutine_threadsafe(asking, self._loop)
        except RuntimeError:  # the loop is closed
            asking.close()
            raise _stopped() from None
        try:
            while not concurrent.futures.wait([answer], timeout=_LOOK_SECONDS).done:
                if not self._thread.is_alive():
                    raise _stopped()
        except BaseException:
            answer.cancel()
            raise
        if answer.cancelled():  # not by the caller: the loop ended under it
            raise RayError("request_aborted", "this gateway was stopped before the answer was complete")
        return answer.result()

    def stop(self, drain_ms: int | None = None) -> None:
        """Take nothing new, let running answers finish for up to `drain_ms` (as given at the start), and end the
        thread. May be called again, from any other thread. An interrupt while it waits ends everything at once."""
        try:
            self._call(self._tell, drain_ms)
            self._thread.join()
        except BaseException:
            self._call(self._give_up)
            self._thread.join()
            raise
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: it has ended by itself
            self._loop.call_soon_threadsafe(function, *arguments)

    def _tell(self, drain_ms: int | None) -> None:
        self._drain_ms = drain_ms
        self._told.set()

    def _give_up(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _run(self, port: int | None) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._live(port))
        except asyncio.CancelledError:  # given up, see `stop`
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised where the program waits: for the start, or the end
            if self._listening.done():
                self._failure = error
            else:
                self._listening.set_exception(error)

    async def _live(self, port: int | None) -> None:
        self._main = asyncio.current_task()
        async with self._gateway as gateway:
            await gateway.listen(port)
            self._listening.set_result((gateway.port, gateway.url))
            await self._told.wait()
            await gateway.stop(self._drain_ms)


def _stopped() -> RayError:
    return RayError("gateway_draining", "this gateway has been stopped: it takes no new requests")
