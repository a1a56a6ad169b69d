"""`AsyncRayClient`: the gateway from asyncio programs, with the calls of `RayClient`.

    async with AsyncRayClient("http://127.0.0.1:3000", api_key=key) as ray:
        answer = await ray.infer("Say hello.")
        async with ray.stream("Count to ten.") as tokens:
            async for text in tokens:
                print(text, end="", flush=True)

One client belongs to one event loop; any number of its tasks may use it. Cancelling a task that waits for an answer
closes its connection at once, and that stops the model.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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
from ray.client.documents import ChatAnswer, Document, EmbeddingList, Job, JobSummary, Model
from ray.client.errors import RayClientError, RayRequestError
from ray.client.events import ChatEvents, Events, InferEvents, Result, Token
from ray.client.options import (
    DEFAULT_RESPONSE_BYTES,
    DEFAULT_TIMEOUT_MS,
    MAX_REQUEST_BYTES,
    Retries,
    checked_options,
    checked_timeout,
    whole_number,
)
from ray.client.plans import DEFAULT_JOB_TIMEOUT_MS, Attempt, attempts, until_ended
from ray.clock import Deadline
from ray.http import ClientError, ClientResponse, ClientStream, HttpClient
from ray.questions import InferAnswer, InferFields, JobAccepted, JobFields, Question

T = TypeVar("T")

MAX_CONNECTIONS = 256


class AsyncTokenStream:
    """The texts of an answer as they come. After the last one `result` is the whole answer."""

    def __init__(self, items: AsyncIterator[Token | Result]) -> None:
        self._items = items
        self._result: InferAnswer | None = None

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        item = await anext(self._items)
        if isinstance(item, Token):
            return item.text
        self._result = item.answer
        return await anext(self)

    @property
    def result(self) -> InferAnswer:
        """Raises RuntimeError while there are tokens left to read."""
        if self._result is None:
            raise RuntimeError("the stream has not been read to its end")
        return self._result


class AsyncRayClient:
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
        max_connections: int = 16,
    ) -> None:
        """`max_connections`: how many requests can be under way at a time; more wait, within their own time.

        Raises TypeError and ValueError, which name the option.
        """
        self._options = checked_options(
            base_url,
            api_key=api_key,
            headers=headers,
            timeout_ms=timeout_ms,
            request_body_limit_bytes=request_body_limit_bytes,
            response_body_limit_bytes=response_body_limit_bytes,
            retries=retries,
        )
        threads = whole_number("max_connections", max_connections, 1, MAX_CONNECTIONS)
        self._http = HttpClient(self._options.address.origin, threads=threads, name="ray-client")
        self._sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
        self._closed = False

    async def __aenter__(self) -> AsyncRayClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End what is running, and give back threads and connections. Later calls are refused."""
        self._closed = True
        await self._http.close()

    async def infer(
        self, request: Question | None = None, *, timeout_ms: int | None = None, **fields: Unpack[InferFields]
    ) -> InferAnswer:
        """`POST /v1/infer`: one whole answer. `request`: its JSON object, or only the text of `input`; every field
        may be a keyword, too."""
        return cast(InferAnswer, await self._document(calls.infer_call(request, fields, self._options), timeout_ms))

    @asynccontextmanager
    async def stream(
        self, request: Question | None = None, *, timeout_ms: int | None = None, **fields: Unpack[InferFields]
    ) -> AsyncIterator[AsyncTokenStream]:
        """The same, token by token. Leaving the block early closes the connection, and that stops the model."""
        call = calls.infer_call(request, fields, self._options, stream=True)
        async with self._opened(call, timeout_ms) as (answer, time_ms):
            events = InferEvents(call, answer.headers, self._options.response_body_limit_bytes)
            yield AsyncTokenStream(self._items(call, answer, time_ms, events))

    async def chat(
        self, request: Question | Sequence[Mapping[str, object]], *, timeout_ms: int | None = None
    ) -> ChatAnswer:
        """`POST /v1/chat/completions`. `request`: its JSON object, only its messages, or one user message's text."""
        return cast(ChatAnswer, await self._document(calls.chat_call(request, self._options), timeout_ms))

    @asynccontextmanager
    async def stream_chat(
        self, request: Question | Sequence[Mapping[str, object]], *, timeout_ms: int | None = None
    ) -> AsyncIterator[AsyncIterator[ChatAnswer]]:
        """The same, chunk by chunk, as the route sends them. `delta_text` gives a chunk's text."""
        call = calls.chat_call(request, self._options, stream=True)
        async with self._opened(call, timeout_ms) as (answer, time_ms):
            events = ChatEvents(call, answer.headers, self._options.response_body_limit_bytes)
            yield self._items(call, answer, time_ms, events)

    async def embeddings(
        self, texts: str | Sequence[str], *, model: str | None = None, timeout_ms: int | None = None
    ) -> EmbeddingList:
        """`POST /v1/embeddings`: one vector for each text. Raises RayRefused 501 when the backend has none."""
        call = calls.embeddings_call(texts, model, self._options)
        return cast(EmbeddingList, await self._document(call, timeout_ms))

    async def create_job(
        self,
        request: Question | None = None,
        *,
        idempotency_key: str | None = None,
        timeout_ms: int | None = None,
        **fields: Unpack[JobFields],
    ) -> JobAccepted:
        """`POST /v1/jobs`: work that must not be lost. With a key of your own it is safe to call again."""
        call = calls.create_job_call(request, fields, idempotency_key, self._options)
        return cast(JobAccepted, await self._document(call, timeout_ms))

    async def job(self, job_id: str, *, wait_seconds: int = 0, timeout_ms: int | None = None) -> Job:
        """`GET /v1/jobs/{id}`; with `wait_seconds` (at most 20) the gateway answers when it has ended, or then."""
        return cast(Job, await self._document(calls.job_call(job_id, wait_seconds), timeout_ms))

    async def wait_job(self, job_id: str, *, timeout_ms: int = DEFAULT_JOB_TIMEOUT_MS) -> Job:
        """The job once it has ended, well or not: look at its `status`. Raises RayTimeout; the job goes on then."""
        options = self._options
        plan = until_ended(job_id, timeout_ms, options.timeout_ms, options.retries)
        return cast(Job, await self._carry_out(plan, self._perform))

    async def jobs(self, *, status: str | None = None, page_size: int = 100) -> AsyncIterator[JobSummary]:
        """The caller's jobs, newest first; the pages are fetched as they are needed."""
        cursor: str | None = None
        while True:
            call = calls.jobs_call(status, page_size, cursor)
            page = await self._document(call, None)
            jobs = cast(list[JobSummary], listed(call, page, "jobs"))
            for job in jobs:
                yield job
            cursor = next_cursor(page)
            if cursor is None or not jobs:
                return

    async def cancel_job(self, job_id: str, *, timeout_ms: int | None = None) -> Job:
        """`POST /v1/jobs/{id}/cancel`: the job, ended or (`cancelRequested`) being stopped."""
        return cast(Job, await self._document(calls.cancel_call(job_id), timeout_ms))

    async def delete_job(self, job_id: str, *, timeout_ms: int | None = None) -> None:
        """`DELETE /v1/jobs/{id}`. Raises RayRefused `job_not_settled` while it has work left."""
        await self._document(calls.delete_call(job_id), timeout_ms)

    async def models(self) -> list[Model]:
        """`GET /v1/models`."""
        call = calls.get_call("/v1/models")
        return cast(list[Model], listed(call, await self._document(call, None), "data"))

    async def model(self, model_id: str) -> Model:
        """`GET /v1/models/{id}`. Raises RayRefused `model_not_found`."""
        return cast(Model, await self._document(calls.model_call(model_id), None))

    async def livez(self) -> Document:
        """`GET /livez`: is the process alive?"""
        return await self._document(calls.get_call("/livez"), None)

    async def readyz(self) -> Document:
        """`GET /readyz`. Raises RayRefused while not ready: `body` says why."""
        return await self._document(calls.get_call("/readyz"), None)

    async def health(self) -> Document:
        """`GET /health`. Raises RayRefused while the backend is gone: `body` has the details."""
        return await self._document(calls.get_call("/health"), None)

    async def metrics(self) -> Document:
        """`GET /metrics` as JSON."""
        return await self._document(calls.get_call("/metrics?format=json"), None)

    async def config(self) -> Document:
        """`GET /v1/config`."""
        return await self._document(calls.get_call("/v1/config"), None)

    async def templates(self) -> Document:
        """`GET /v1/templates`."""
        return await self._document(calls.get_call("/v1/templates"), None)

    async def _document(self, call: Call, timeout_ms: int | None) -> Document:
        plan: Generator[Attempt, Document, Document] = attempts(call, self._time(timeout_ms), self._options.retries)
        return await self._carry_out(plan, self._perform)

    def _time(self, timeout_ms: int | None) -> int:
        return self._options.timeout_ms if timeout_ms is None else checked_timeout(timeout_ms)

    async def _carry_out(self, plan: Generator[Attempt, T, T], perform: Callable[[Attempt], Awaitable[T]]) -> T:
        """Drive a plan to its end."""
        try:
            attempt = next(plan)
            while True:
                if attempt.after_seconds > 0:
                    await self._sleep(attempt.after_seconds)
                if self._closed:
                    raise RayRequestError(f"{attempt.call.shown}: the client is closed: make another one")
                try:
                    answer = await perform(attempt)
                except RayClientError as error:
                    attempt = plan.throw(error)
                else:
                    attempt = plan.send(answer)
        except StopIteration as end:
            return cast(T, end.value)

    async def _perform(self, attempt: Attempt) -> Document:
        call, options = attempt.call, self._options
        try:
            response = await self._http.request(
                call.method,
                options.address.prefix + call.path,
                headers=headers_of(call, options),
                body=call.body,
                deadline=Deadline.after_ms(attempt.timeout_ms),
                max_body_bytes=options.response_body_limit_bytes,
                error_body_bytes=min(MAX_ERROR_BYTES, options.response_body_limit_bytes),
            )
        except ClientError as error:
            raise failure(call, error, attempt.timeout_ms) from None
        return document_of(call, response)

    @asynccontextmanager
    async def _opened(self, call: Call, timeout_ms: int | None) -> AsyncIterator[tuple[ClientStream, int]]:
        """An event stream whose head has come, and the time it has. Raises what `infer` raises."""
        time_ms = self._time(timeout_ms)
        plan: Generator[Attempt, tuple[ClientStream, AsyncExitStack], tuple[ClientStream, AsyncExitStack]]
        plan = attempts(call, time_ms, self._options.retries)
        answer, resources = await self._carry_out(plan, self._open)
        async with resources:
            yield answer, time_ms

    async def _open(self, attempt: Attempt) -> tuple[ClientStream, AsyncExitStack]:
        call, options = attempt.call, self._options
        async with AsyncExitStack() as resources:
            try:
                answer = await resources.enter_async_context(
                    self._http.stream(
                        call.method,
                        options.address.prefix + call.path,
                        headers=headers_of(call, options),
                        body=call.body,
                        deadline=Deadline.after_ms(attempt.timeout_ms),
                        max_body_bytes=options.response_body_limit_bytes,
                        error_body_bytes=min(MAX_ERROR_BYTES, options.response_body_limit_bytes),
                    )
                )
                if not answer.is_success:
                    error_body = await answer.read_error_body()
                    raise refusal(
                        call,
                        ClientResponse(
                            answer.status,
                            answer.headers,
                            error_body.data,
                            error_body.truncated,
                            answer.declared_length,
                        ),
                    )
            except ClientError as error:
                raise failure(call, error, attempt.timeout_ms) from None
            if media_type(answer.headers) != "text/event-stream":
                raise unusable(call, answer.headers, answer.status, "answered with something else than an event stream")
            return answer, resources.pop_all()
        raise AssertionError("an AsyncExitStack lets exceptions pass")

    async def _items(self, call: Call, answer: ClientStream, timeout_ms: int, events: Events[T]) -> AsyncIterator[T]:
        """What the stream brings, until its last item. Raises RayRefused, RayAnswerError and so on, also midway."""
        try:
            async for data in answer:
                for item in events.feed(data):
                    yield item
                if events.ended:
                    return
        except ClientError as error:
            raise failure(call, error, timeout_ms, request_id_of(answer.headers)) from None
        events.end()
