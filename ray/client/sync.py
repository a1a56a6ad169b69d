"""`RayClient`: the gateway from programs that block.

    with RayClient("http://127.0.0.1:3000", api_key=key) as ray:
        print(ray.infer("Say hello.")["output"])
        with ray.stream({"input": "Count to ten.", "maxTokens": 60}) as tokens:
            for text in tokens:
                print(text, end="", flush=True)

**Threads.** One client serves any number of threads at once: each call takes an idle connection or opens another. A
stream is read by one thread at a time. `close()` lets running calls end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TypeVar, Unpack, cast

from ray.client import calls
from ray.client.answers import (
    MAX_ERROR_BYTES,
    document_of,
    failure,
    listed,
    media_type,
    next_cursor,
    refusal,
    request_id_of,
    unusable,
)
from ray.client.calls import Call, headers_of
from ray.client.connections import Connections, OpenAnswer
from ray.client.documents import ChatAnswer, Document, EmbeddingList, Job, JobSummary, Model
from ray.client.errors import RayClientError
from ray.client.events import ChatEvents, Events, InferEvents, Result, Token
from ray.client.options import (
    DEFAULT_RESPONSE_BYTES,
    DEFAULT_TIMEOUT_MS,
    MAX_REQUEST_BYTES,
    Retries,
    checked_options,
    checked_timeout,
)
from ray.client.plans import DEFAULT_JOB_TIMEOUT_MS, Attempt, attempts, until_ended
from ray.clock import Deadline
from ray.http import ClientError
from ray.questions import InferAnswer, InferFields, JobAccepted, JobFields, Question

T = TypeVar("T")


class TokenStream:
    """The texts of an answer as they come. After the last one `result` is the whole answer."""

    def __init__(self, items: Iterator[Token | Result]) -> None:
        self._items = items
        self._result: InferAnswer | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        item = next(self._items)
        if isinstance(item, Token):
            return item.text
        self._result = item.answer
        return next(self)

    @property
    def result(self) -> InferAnswer:
        """Raises RuntimeError while there are tokens left to read."""
        if self._result is None:
            raise RuntimeError("the stream has not been read to its end")
        return self._result


class RayClient:
    """One gateway. Options, their limits and what each call raises: docs/clients.md.

    `timeout_ms` covers everything from connecting to the last byte of one request; each call can have its own.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        request_body_limit_bytes: int = MAX_REQUEST_BYTES,
        response_body_limit_bytes: int = DEFAULT_RESPONSE_BYTES,
        retries: Retries | None = None,
    ) -> None:
        """Raises TypeError and ValueError, which name the option."""
        self._options = checked_options(
            base_url,
            api_key=api_key,
            headers=headers,
            timeout_ms=timeout_ms,
            request_body_limit_bytes=request_body_limit_bytes,
            response_body_limit_bytes=response_body_limit_bytes,
            retries=retries,
        )
        self._connections = Connections(self._options.address)
        self._sleep: Callable[[float], None] = time.sleep

    def __enter__(self) -> RayClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections. Calls that run in other threads come to their end; later ones are refused."""
        self._connections.close()

    def infer(
        self, request: Question | None = None, *, timeout_ms: int | None = None, **fields: Unpack[InferFields]
    ) -> InferAnswer:
        """`POST /v1/infer`: one whole answer. `request`: its JSON object, or only the text of `input`; every field
        may be a keyword, too."""
        return cast(InferAnswer, self._document(calls.infer_call(request, fields, self._options), timeout_ms))

    @contextmanager
    def stream(
        self, request: Question | None = None, *, timeout_ms: int | None = None, **fields: Unpack[InferFields]
    ) -> Iterator[TokenStream]:
        """The same, token by token. Leaving the block early closes the connection, and that stops the model."""
        call = calls.infer_call(request, fields, self._options, stream=True)
        with self._opened(call, timeout_ms) as (answer, time_ms):
            events = InferEvents(call, answer.headers, self._options.response_body_limit_bytes)
            yield TokenStream(self._items(call, answer, time_ms, events))

    def chat(self, request: Question | Sequence[Mapping[str, object]], *, timeout_ms: int | None = None) -> ChatAnswer:
        """`POST /v1/chat/completions`. `request`: its JSON object, only its messages, or one user message's text."""
        return cast(ChatAnswer, self._document(calls.chat_call(request, self._options), timeout_ms))

    @contextmanager
    def stream_chat(
        self, request: Question | Sequence[Mapping[str, object]], *, timeout_ms: int | None = None
    ) -> Iterator[Iterator[ChatAnswer]]:
        """The same, chunk by chunk, as the route sends them. `delta_text` gives a chunk's text."""
        call = calls.chat_call(request, self._options, stream=True)
        with self._opened(call, timeout_ms) as (answer, time_ms):
            events = ChatEvents(call, answer.headers, self._options.response_body_limit_bytes)
            yield self._items(call, answer, time_ms, events)

    def embeddings(
        self, texts: str | Sequence[str], *, model: str | None = None, timeout_ms: int | None = None
    ) -> EmbeddingList:
        """`POST /v1/embeddings`: one vector for each text. Raises RayRefused 501 when the backend has none."""
        call = calls.embeddings_call(texts, model, self._options)
        return cast(EmbeddingList, self._document(call, timeout_ms))

    def create_job(
        self,
        request: Question | None = None,
        *,
        idempotency_key: str | None = None,
        timeout_ms: int | None = None,
        **fields: Unpack[JobFields],
    ) -> JobAccepted:
        """`POST /v1/jobs`: work that must not be lost. With a key of your own it is safe to call again."""
        call = calls.create_job_call(request, fields, idempotency_key, self._options)
        return cast(JobAccepted, self._document(call, timeout_ms))

    def job(self, job_id: str, *, wait_seconds: int = 0, timeout_ms: int | None = None) -> Job:
        """`GET /v1/jobs/{id}`; with `wait_seconds` (at most 20) the gateway answers when it has ended, or then."""
        return cast(Job, self._document(calls.job_call(job_id, wait_seconds), timeout_ms))

    def wait_job(self, job_id: str, *, timeout_ms: int = DEFAULT_JOB_TIMEOUT_MS) -> Job:
        """The job once it has ended, well or not: look at its `status`. Raises RayTimeout; the job goes on then."""
        options = self._options
        plan = until_ended(job_id, timeout_ms, options.timeout_ms, options.retries)
        return cast(Job, self._carry_out(plan, self._perform))

    def jobs(self, *, status: str | None = None, page_size: int = 100) -> Iterator[JobSummary]:
        """The caller's jobs, newest first; the pages are fetched as they are needed."""
        cursor: str | None = None
        while True:
            call = calls.jobs_call(status, page_size, cursor)
            page = self._document(call, None)
            jobs = cast(list[JobSummary], listed(call, page, "jobs"))
            yield from jobs
            cursor = next_cursor(page)
            if cursor is None or not jobs:
                return

    def cancel_job(self, job_id: str, *, timeout_ms: int | None = None) -> Job:
        """`POST /v1/jobs/{id}/cancel`: the job, ended or (`cancelRequested`) being stopped."""
        return cast(Job, self._document(calls.cancel_call(job_id), timeout_ms))

    def delete_job(self, job_id: str, *, timeout_ms: int | None = None) -> None:
        """`DELETE /v1/jobs/{id}`. Raises RayRefused `job_not_settled` while it has work left."""
        self._document(calls.delete_call(job_id), timeout_ms)

    def models(self) -> list[Model]:
        """`GET /v1/models`."""
        call = calls.get_call("/v1/models")
        return cast(list[Model], listed(call, self._document(call, None), "data"))

    def model(self, model_id: str) -> Model:
        """`GET /v1/models/{id}`. Raises RayRefused `model_not_found`."""
        return cast(Model, self._document(calls.model_call(model_id), None))

    def livez(self) -> Document:
        """`GET /livez`: is the process alive?"""
        return self._document(calls.get_call("/livez"), None)

    def readyz(self) -> Document:
        """`GET /readyz`. Raises RayRefused while not ready: `body` says why."""
        return self._document(calls.get_call("/readyz"), None)

    def health(self) -> Document:
        """`GET /health`. Raises RayRefused while the backend is gone: `body` has the details."""
        return self._document(calls.get_call("/health"), None)

    def metrics(self) -> Document:
        """`GET /metrics` as JSON."""
        return self._document(calls.get_call("/metrics?format=json"), None)

    def config(self) -> Document:
        """`GET /v1/config`."""
        return self._document(calls.get_call("/v1/config"), None)

    def templates(self) -> Document:
        """`GET /v1/templates`."""
        return self._document(calls.get_call("/v1/templates"), None)

    def _document(self, call: Call, timeout_ms: int | None) -> Document:
        plan: Generator[Attempt, Document, Document] = attempts(call, self._time(timeout_ms), self._options.retries)
        return self._carry_out(plan, self._perform)

    def _time(self, timeout_ms: int | None) -> int:
        return self._options.timeout_ms if timeout_ms is None else checked_timeout(timeout_ms)

    def _carry_out(self, plan: Generator[Attempt, T, T], perform: Callable[[Attempt], T]) -> T:
        """Drive a plan to its end."""
        try:
            attempt = next(plan)
            while True:
                if attempt.after_seconds > 0:
                    self._sleep(attempt.after_seconds)
                try:
                    answer = perform(attempt)
                except RayClientError as error:
                    attempt = plan.throw(error)
                else:
                    attempt = plan.send(answer)
        except StopIteration as end:
            return cast(T, end.value)

    def _perform(self, attempt: Attempt) -> Document:
        call, options = attempt.call, self._options
        try:
            response = self._connections.request(
                call.method,
                call.path,
                headers=headers_of(call, options),
                body=call.body,
                deadline=Deadline.after_ms(attempt.timeout_ms),
                max_body_bytes=options.response_body_limit_bytes,
                error_body_bytes=min(MAX_ERROR_BYTES, options.response_body_limit_bytes),
            )
        except ClientError as error:
            raise failure(call, error, attempt.timeout_ms) from None
        return document_of(call, response)

    @contextmanager
    def _opened(self, call: Call, timeout_ms: int | None) -> Iterator[tuple[OpenAnswer, int]]:
        """An event stream whose head has come, and the time it has. Raises what `infer` raises."""
        time_ms = self._time(timeout_ms)
        plan: Generator[Attempt, tuple[OpenAnswer, ExitStack], tuple[OpenAnswer, ExitStack]]
        plan = attempts(call, time_ms, self._options.retries)
        answer, resources = self._carry_out(plan, self._open)
        with resources:
            yield answer, time_ms

    def _open(self, attempt: Attempt) -> tuple[OpenAnswer, ExitStack]:
        call, options = attempt.call, self._options
        with ExitStack() as resources:
            try:
                answer = resources.enter_context(
                    self._connections.stream(
                        call.method,
                        call.path,
                        headers=headers_of(call, options),
                        body=call.body,
                        deadline=Deadline.after_ms(attempt.timeout_ms),
                    )
                )
                if not 200 <= answer.status < 300:
                    raise refusal(call, answer.gathered(0, min(MAX_ERROR_BYTES, options.response_body_limit_bytes)))
            except ClientError as error:
                raise failure(call, error, attempt.timeout_ms) from None
            if media_type(answer.headers) != "text/event-stream":
                raise unusable(call, answer.headers, answer.status, "answered with something else than an event stream")
            return answer, resources.pop_all()
        raise AssertionError("an ExitStack lets exceptions pass")

    def _items(self, call: Call, answer: OpenAnswer, timeout_ms: int, events: Events[T]) -> Iterator[T]:
        """What the stream brings, until its last item. Raises RayRefused, RayAnswerError and so on, also midway."""
        limit = self._options.response_body_limit_bytes
        try:
            for data in answer.pieces(limit, MAX_ERROR_BYTES):
                yield from events.feed(data)
                if events.ended:
                    return
        except ClientError as error:
            raise failure(call, error, timeout_ms, request_id_of(answer.headers)) from None
        events.end()
