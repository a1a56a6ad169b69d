"""`Generation`: the one place where an answer comes into being, and its `Reader`s.

A generation is an append-only list of chunks that ends in an answer or in an error. Whoever wants the answer is a
reader: the client that asked first, its in-flight twins, an SSE writer, a durable job. The work runs in one task; when
the last reader leaves, the task is cancelled, which closes the provider's stream and frees the slot. There is no other
dedupe, cancellation or fan-out in Ray. An answer out of the cache is a generation that was finished before it began.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol

from ray.clock import Deadline, iso_now
from ray.errors import RayError
from ray.types import (
    Chunk,
    Diagnostics,
    Finish,
    FinishReason,
    InferenceResult,
    ProviderDiagnostics,
    TokenLogprob,
    ToolCall,
    ToolCallPart,
    Usage,
)

Phase = Literal["prepare", "queue", "generate"]
Source = Literal["provider", "cache", "dedupe"]

NO_DIAGNOSTICS = Diagnostics()

PHASE_WORDS: dict[Phase, str] = {
    "prepare": "while it was being prepared",
    "queue": "while it waited in the queue",
    "generate": "while the model was generating",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a generation came to: the part of a result that all its readers share. `queue_time_ms` and `degraded`: of
    the request that started it."""

    model: str
    output: str
    usage: Usage
    finish_reason: FinishReason
    diagnostics: ProviderDiagnostics | None = None
    degraded: bool = False
    queue_time_ms: int = 0
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()

    def as_chunks(self) -> list[Chunk]:
        """The answer as a stream that came in one piece."""
        finish = Chunk(finish=Finish(self.finish_reason, self.usage.tokens, self.diagnostics))
        calls = tuple(
            ToolCallPart(index, call.id, call.name, call.arguments) for index, call in enumerate(self.tool_calls)
        )
        if self.output or calls or self.logprobs:
            return [Chunk(self.output, tool_calls=calls, logprobs=self.logprobs), finish]
        return [finish]


class ReaderObserver(Protocol):
    """Who keeps the books. Each reader reports exactly once, unless it left before there was an outcome."""

    def answered(self, reader: Reader, result: InferenceResult) -> None: ...

    def failed(self, reader: Reader, error: RayError) -> None: ...


class Generation:
    """One answer coming into being. Made running (`start`) or already over (`finished`).

    `deadline`: the latest of all readers' deadlines; it is moved when a reader with a later one joins, so it must be
    the generation's own. `phase`: what the work is busy with, for timeouts to name. `is_watched`: some reader wants the
    answer piece by piece.
    """

    __slots__ = (
        "_on_over",
        "_readers",
        "_task",
        "answer",
        "chunks",
        "deadline",
        "error",
        "is_watched",
        "over",
        "phase",
    )

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.chunks: list[Chunk] = []
        self.answer: Answer | None = None
        self.error: RayError | None = None
        self.phase: Phase = "prepare"
        self.over = False
        self.is_watched = False
        self._readers: list[Reader] = []
        self._task: asyncio.Task[Answer] | None = None
        self._on_over: Callable[[], None] | None = None

    @classmethod
    def finished(cls, answer: Answer, deadline: Deadline) -> Generation:
        """The generation of an answer that is known already: no task, no timer."""
        generation = cls(deadline)
        generation.chunks = answer.as_chunks()
        generation.answer = answer
        generation.over = True
        return generation

    def start(self, work: Coroutine[object, object, Answer], on_over: Callable[[], None]) -> asyncio.Task[Answer]:
        """Run `work` as this generation's task. `on_over` is called once, when nobody may join any more.

        Whoever cancels the task, readers that are still there get `request_aborted`.
        """
        self._on_over = on_over
        self._task = asyncio.get_running_loop().create_task(work, name="generation")
        # The outcome is taken from the task itself, not from inside it: a task cancelled before its first step
        # never runs, and still has to settle.
        self._task.add_done_callback(self._ended)
        return self._task

    def publish(self, chunk: Chunk) -> None:
        """Append to the answer; every reader sees it."""
        self.chunks.append(chunk)
        for reader in self._readers:
            reader._wake()

    def _join(self, reader: Reader) -> None:
        self._readers.append(reader)
        self.deadline.extend_to(reader.deadline)

    def _leave(self, reader: Reader) -> None:
        """The last one out turns off the light."""
        if reader not in self._readers:
            return
        self._readers.remove(reader)
        if not self._readers and not self.over:
            self._close_door()
            if self._task is not None:
                self._task.cancel()

    def _ended(self, task: asyncio.Task[Answer]) -> None:
        self._close_door()
        if task.cancelled():
            self.error = RayError("request_aborted", "the generation was stopped before it was finished")
        else:
            failure = task.exception()
            if failure is None:
                self.answer = task.result()
            elif isinstance(failure, RayError):
                self.error = failure
            else:
                self.error = RayError("gateway_error", "the gateway failed while generating; its log says more")
                self.error.__cause__ = failure
        for reader in self._readers:
            reader._settle()
        self._readers.clear()

    def _close_door(self) -> None:
        self.over = True
        if self._on_over is not None:
            self._on_over()
            self._on_over = None


class Reader:
    """One reader's view of a generation, with its own request id, start time and deadline.

    An async iterator over the chunks, from the first one on, ending after the chunk with `finish`; `result()` is the
    whole answer. Both raise what went wrong as `RayError`; at the reader's deadline that is `request_timeout`, and the
    other readers go on. Use as `async with reader:`, so that leaving (`leave`) is never forgotten: work nobody reads is
    cancelled. Failures raised here have been logged and counted by the runtime already.
    """

    __slots__ = (
        "_diagnostics",
        "_next",
        "_observer",
        "_outcome",
        "_outcome_waiters",
        "_timeout_ms",
        "_timer",
        "_waiters",
        "deadline",
        "degraded",
        "generation",
        "request_id",
        "source",
        "started_at",
    )  # fmt: skip

    def __init__(
        self,
        generation: Generation,
        *,
        request_id: str,
        started_at: float,
        deadline: Deadline,
        timeout_ms: int,
        source: Source,
        observer: ReaderObserver,
        diagnostics: Diagnostics = NO_DIAGNOSTICS,
        degraded: bool = False,
    ) -> None:
        """`started_at`: seconds on `time.monotonic()`; `timeout_ms`: what the timeout error names as the limit;
        `diagnostics` and `degraded`: what was decided about this reader's own request."""
        self.generation = generation
        self.request_id = request_id
        self.started_at = started_at
        self.deadline = deadline
        self.source: Source = source
        self._timeout_ms = timeout_ms
        self._observer = observer
        self._diagnostics = diagnostics
        self.degraded = degraded
        self._outcome: InferenceResult | RayError | None = None
        self._next = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._outcome_waiters: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        if generation.answer is not None:
            self._settle()
            return
        generation._join(self)
        self._timer = asyncio.get_running_loop().call_later(deadline.remaining(), self._time_is_up)

    @property
    def degradation_reasons(self) -> tuple[str, ...]:
        """Why this reader's own request was shortened; known before the answer, empty when it was not."""
        reasons = (self._diagnostics.degradation or {}).get("reasons")
        return tuple(map(str, reasons)) if isinstance(reasons, list | tuple) else ()

    async def started(self) -> None:
        """Returns once the first chunk or the whole answer is there; raises the refusal or failure that came instead.

        A route that streams waits here before it sends its status line.
        """
        self.generation.is_watched = True
        while self._outcome is None and not self.generation.chunks:
            await self._next_wake(self._waiters)
        if isinstance(self._outcome, RayError) and not self._may_still_read():
            raise self._outcome

    async def result(self) -> InferenceResult:
        """The whole answer, as this reader gets it. Does not disturb iteration."""
        while self._outcome is None:
            # Not woken by every chunk: whoever wants the whole answer has nothing to do before the end.
            await self._next_wake(self._outcome_waiters)
        if isinstance(self._outcome, RayError):
            raise self._outcome
        return self._outcome

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> Chunk:
        # Not an async generator on purpose: a caller may give up on one `anext` (a keep-alive is due) and ask again.
        self.generation.is_watched = True
        while True:
            if self._may_still_read():
                chunk = self.generation.chunks[self._next]
                self._next += 1
                return chunk
            if isinstance(self._outcome, RayError):
                raise self._outcome
            if self._outcome is not None:
                raise StopAsyncIteration
            await self._next_wake(self._waiters)

    async def take(self) -> list[Chunk]:
        """All chunks that were not read yet; waits for the first of them. Empty after the last one, and when
        `stop_waiting` ended the wait. Raises as iterating does."""
        self.generation.is_watched = True
        if self._outcome is None and self._next >= len(self.generation.chunks):
            await self._next_wake(self._waiters)
        if self._may_still_read():
            ready = self.generation.chunks[self._next :]
            self._next += len(ready)
            return ready
        if isinstance(self._outcome, RayError):
            raise self._outcome
        return []

    def stop_waiting(self) -> None:
        """Let a `take` that waits return empty-handed: its caller has something else to do, and may ask again."""
        _release(self._waiters)

    def leave(self) -> None:
        """Stop reading. The last reader to leave an unfinished generation cancels it. May be called again."""
        if self._outcome is None:
            self._end(RayError("request_aborted", "this reader has left"))

    async def __aenter__(self) -> Reader:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()

    def _may_still_read(self) -> bool:
        """Chunks are left, and this reader did not drop out: what arrived before a failure is still delivered."""
        if self._next >= len(self.generation.chunks):
            return False
        return not isinstance(self._outcome, RayError) or self._outcome is self.generation.error

    def _settle(self) -> None:
        """The generation has an outcome: make it this reader's."""
        if self._outcome is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        answer = self.generation.answer
        if answer is not None:
            result = self._result_of(answer)
            self._outcome = result
            self._observer.answered(self, result)
        elif self.deadline.expired():
            # The backend call ends at the same moment and may report first; to this reader, its time ran out.
            self._time_is_up()
        elif self.generation.error is not None:
            self._outcome = self.generation.error
            self._observer.failed(self, self.generation.error)
        self._wake()

    def _time_is_up(self) -> None:
        if self._outcome is not None:
            return
        error = timed_out(self.generation.phase, self._timeout_ms)
        self._end(error)
        self._observer.failed(self, error)

    def _end(self, error: RayError) -> None:
        """Drop out before the generation is over."""
        self._outcome = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.generation._leave(self)
        self._wake()

    def _result_of(self, answer: Answer) -> InferenceResult:
        cached = self.source == "cache"
        return InferenceResult(
            id=self.request_id,
            model=answer.model,
            output=answer.output,
            usage=answer.usage,
            cached=cached,
            deduplicated=self.source == "dedupe",
            queue_time_ms=0 if cached else answer.queue_time_ms,
            latency_ms=int((time.monotonic() - self.started_at) * 1000),
            degraded=self.degraded,
            finish_reason=answer.finish_reason,
            diagnostics=self._diagnostics.with_provider(answer.diagnostics),
            created_at=iso_now(),
            tool_calls=answer.tool_calls,
            logprobs=answer.logprobs,
        )

    async def _next_wake(self, waiters: list[asyncio.Future[None]]) -> None:
        """Until something new is there; with `_outcome_waiters`: until this reader has its outcome."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        _release(self._waiters)
        if self._outcome is not None:
            _release(self._outcome_waiters)


def timed_out(phase: Phase, timeout_ms: int) -> RayError:
    """The error of a request whose deadline passed while it was in `phase`."""
    return RayError(
        "request_timeout",
        f"the request did not finish within {timeout_ms} ms: its time ran out {PHASE_WORDS[phase]}; "
        "ask for fewer tokens or raise scheduler.requestTimeoutMs",
        details={"phase": phase, "timeoutMs": timeout_ms},
    )


def _release(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()
