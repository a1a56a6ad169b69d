"""A gateway asked by the program that holds it: the same questions, checks and answers as over HTTP, without a socket.

Who calls is the program itself, so there is no key, no rate limit and no limit on a body's bytes; every field of a
body is checked as on the routes. Source: http-api, sections 4, 5 and 6.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from ray.clock import new_id
from ray.errors import RayError
from ray.gateway.app import Gateway
from ray.gateway.job_request import job_options
from ray.gateway.routes.infer import wants_stream
from ray.gateway.routes.jobs import acknowledgement, queue_of
from ray.gateway.routes.operations import health_document, readiness_document
from ray.runtime import Reader, normalise_request
from ray.types import Caller

if TYPE_CHECKING:
    # A gateway without durable jobs never loads the code for them.
    from ray.jobs import JobRecord

# No client has this address, so what the program keeps here (jobs, dedupe keys) is nobody else's.
CALLER = Caller(None, "in-process")


class InProcess:
    """The door of one gateway for the program around it. Used from the gateway's event loop."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._readers: set[Reader] = set()

    async def generate(self, body: Mapping[str, object], *, streamed: bool) -> Reader:
        """A reader of the answer to `body` (`POST /v1/infer`), to be handed to `forget` once it is done with.

        Raises RayError: `invalid_request`, `gateway_draining`; everything later is raised by the reader.
        """
        with self._counting():
            self._check_open()
            document = as_json_object(body)
            if wants_stream(document) and not streamed:
                _refuse("an answer that is streamed comes from stream(): leave stream out here", "stream")
            request = normalise_request(document, self._gateway.config)
        runtime = self._gateway.services.runtime
        reader = await runtime.generate(request, CALLER, runtime.new_deadline(), new_id("req"))
        self._readers.add(reader)
        return reader

    def forget(self, reader: Reader) -> None:
        """Leave: nobody here waits for this answer any more. May be called again."""
        reader.leave()
        self._readers.discard(reader)

    async def drain(self, timeout_s: float) -> None:
        """Wait until every answer that is read here is complete, for up to `timeout_s` seconds.

        Not until it was taken: a stream that its program no longer reads must not hold up the end.
        """
        if not self._readers:
            return
        waiting = [asyncio.ensure_future(reader.result()) for reader in self._readers]
        try:
            await asyncio.wait(waiting, timeout=timeout_s)
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def submit_job(self, body: Mapping[str, object], idempotency_key: str | None) -> dict[str, object]:
        """The body of the 202 (`POST /v1/jobs`). Raises RayError as that route."""
        with self._counting():
            queue = queue_of(self._gateway.services)
            self._check_open()
            document = as_json_object(body)
            question = normalise_request(document, self._gateway.config)
            options = job_options(document)
            submission = await queue.submit(
                question, CALLER, options.callback_url, idempotency_key, options.result_ttl_ms
            )
        return acknowledgement(submission.record)

    async def job(self, identifier: str, wait_s: float) -> dict[str, object]:
        """The whole record (`GET /v1/jobs/{id}`), after up to `wait_s` seconds once it has ended. Raises RayError as
        that route."""
        with self._counting():
            return _shown(await queue_of(self._gateway.services).wait(identifier, CALLER, wait_s))

    async def cancel_job(self, identifier: str) -> dict[str, object]:
        """The record as it stands after `POST /v1/jobs/{id}/cancel`. Raises RayError as that route."""
        with self._counting():
            record, _ = await queue_of(self._gateway.services).cancel(identifier, CALLER)
            return _shown(record)

    async def health(self) -> dict[str, object]:
        """The body of `/health`."""
        return await health_document(self._gateway.services)

    async def readiness(self) -> tuple[int, dict[str, object]]:
        """Status and body of `/readyz`."""
        return await readiness_document(self._gateway.services)

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Refusals are counted as those of the routes; what happens to an answer is counted by the runtime."""
        try:
            yield
        except RayError as error:
            self._gateway.metrics.increment("requests.rejected", code=error.code)
            raise

    def _check_open(self) -> None:
        if self._gateway.draining:
            raise RayError("gateway_draining", "this gateway is shutting down: it takes no new requests")


def as_json_object(body: Mapping[str, object]) -> dict[str, object]:
    """A copy of `body` as it would arrive over HTTP. Raises RayError `invalid_request` for what JSON cannot hold."""
    if not isinstance(body, Mapping):
        _refuse("the request body must be a mapping", "body")
    try:
        document = json.loads(json.dumps(dict(body), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        _refuse(f"the request body holds something that JSON cannot hold: {error}", "body")
    assert isinstance(document, dict)  # what json writes from a dict
    return document


def _shown(record: JobRecord) -> dict[str, object]:
    from ray.jobs import public_document

    return public_document(record)


def _refuse(message: str, field: str) -> NoReturn:
    raise RayError("invalid_request", message, details={"field": field})
