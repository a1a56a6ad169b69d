"""`/v1/jobs`: work that is kept until it is done. Submit, look, wait, list, cancel, delete.

The queue knows everything; here its answers become HTTP. A job belongs to the API key that made it: to every other
caller it does not exist. Source: jobs, sections 3 and 14, and B3, B4 of section 17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.errors import RayError
from ray.gateway.exchange import Exchange
from ray.gateway.job_request import (
    ID_PATH,
    JOB_FIELDS,
    JOBS_PATH,
    MAX_KEY_CHARS,
    PAGE_QUERY,
    WAIT_QUERY,
    job_id,
    job_options,
    page_query,
    wait_seconds,
)
from ray.gateway.json_request import read_json
from ray.gateway.responses import NO_STORE, Header, json_response
from ray.gateway.routes.route import Route
from ray.gateway.services import Services
from ray.http import Response
from ray.runtime import INFER_RULES, Field, Text, normalise_request

if TYPE_CHECKING:
    # A gateway without durable jobs never loads the code for them.
    from ray.jobs import JobQueue, JobRecord


def queue_of(services: Services) -> JobQueue:
    """The queue. Raises RayError `async_queue_disabled` when there is none."""
    if services.jobs is None:
        raise RayError(
            "async_queue_disabled",
            "durable jobs are switched off on this gateway: set asyncQueue.enabled, or use POST /v1/infer",
        )
    return services.jobs


def require_queue(services: Services) -> None:
    """What is asked of a queue that is off is answered before the caller's budget is touched."""
    queue_of(services)


async def submit(services: Services, exchange: Exchange) -> Response:
    """202 once the job is on disk; from then on it ends in exactly one visible state.

    Raises RayError: the codes of reading and normalising a body, and those of `JobQueue.submit`.
    """
    queue, request = queue_of(services), exchange.request
    body = await read_json(request, services.config.server.request_body_limit_bytes)
    question = normalise_request(body, services.config)
    options = job_options(body if isinstance(body, dict) else {})
    key = request.headers.get("idempotency-key")
    submission = await queue.submit(question, exchange.caller, options.callback_url, key, options.result_ttl_ms)
    headers: list[Header] = [("location", location(submission.record.id)), *exchange.headers]
    if submission.replayed:
        headers.insert(0, ("idempotent-replayed", "true"))
    return json_response(202, acknowledgement(submission.record), headers)


def location(identifier: str) -> str:
    """Where a job is found."""
    return f"{JOBS_PATH}/{identifier}"


def acknowledgement(record: JobRecord) -> dict[str, object]:
    """The body of a 202. It always says `queued`, whatever has become of the job since: a repetition is the same."""
    return {
        "id": record.id,
        "status": "queued",
        "createdAt": record.created_at,
        "location": location(record.id),
    }


async def status(services: Services, exchange: Exchange) -> Response:
    """The whole record. With `?wait=`, as soon as the job has settled, or as it stands when the time is up."""
    queue = queue_of(services)
    identifier = job_id(exchange.request.path)
    seconds = wait_seconds(exchange.request.query)
    if seconds:
        return shown(200, await queue.wait(identifier, exchange.caller, seconds), exchange)
    return shown(200, await queue.find(identifier, exchange.caller), exchange)


async def listing(services: Services, exchange: Exchange) -> Response:
    """The caller's jobs, newest first, without prompts and outputs."""
    from ray.jobs import summary

    wanted = page_query(exchange.request.query)
    page = queue_of(services).page(exchange.caller, wanted.status, wanted.limit, wanted.cursor)
    document: dict[str, object] = {"jobs": [summary(record) for record in page.records]}
    if page.next_cursor is not None:
        document["nextCursor"] = page.next_cursor
    return json_response(200, document, exchange.headers)


async def cancel(services: Services, exchange: Exchange) -> Response:
    """200 when the job has ended, now or before; 202 when its work under way is being stopped."""
    record, accepted = await queue_of(services).cancel(job_id(exchange.request.path), exchange.caller)
    return shown(202 if accepted else 200, record, exchange)


async def delete(services: Services, exchange: Exchange) -> Response:
    """204 once the record is gone from the disk. Raises RayError `job_not_settled` while there is work left."""
    await queue_of(services).delete(job_id(exchange.request.path), exchange.caller)
    return Response(204, [NO_STORE, *exchange.headers])


def shown(code: int, record: JobRecord, exchange: Exchange) -> Response:
    """An answer with the record as its owner may see it, in full length."""
    from ray.jobs import public_document

    return json_response(code, public_document(record), exchange.headers)


_ONE = f"{JOBS_PATH}/{{id}}"
_KEY = Field(
    "Idempotency-Key",
    Text(MAX_KEY_CHARS, min_chars=1),
    "Visible ASCII. The same key with the same body is the same job, however often it is sent.",
)
_FIND_CODES = ("async_queue_disabled", "invalid_request", "job_not_found", "job_expired")
JOB_SUBMIT = Route(
    "POST",
    JOBS_PATH,
    submit,
    limited=True,
    doc="Submit a durable job.",
    request=JOB_FIELDS,
    rules=INFER_RULES,
    headers=(_KEY,),
    responses={202: "JobAcknowledgement"},
    answer_headers=("location", "idempotent-replayed"),
    codes=(
        "async_queue_disabled",
        "async_queue_full",
        "async_queue_storage_low",
        "async_queue_storage_error",
        "async_job_record_too_large",
        "idempotency_key_reused",
        "idempotency_in_progress",
    ),
)
JOB_LIST = Route(
    "GET",
    JOBS_PATH,
    listing,
    limited=True,
    require=require_queue,
    doc="The caller's jobs, newest first.",
    query=PAGE_QUERY,
    responses={200: "JobList"},
    codes=("async_queue_disabled",),
)
JOB_STATUS = Route(
    "GET",
    _ONE,
    status,
    limited=True,
    require=require_queue,
    doc="One job; with `wait`, once it has ended.",
    path=ID_PATH,
    query=WAIT_QUERY,
    responses={200: "Job"},
    codes=_FIND_CODES,
)
JOB_DELETE = Route(
    "DELETE",
    _ONE,
    delete,
    limited=True,
    require=require_queue,
    doc="Remove a job that has ended.",
    path=ID_PATH,
    responses={204: "Nothing"},
    codes=(*_FIND_CODES, "job_not_settled", "async_queue_storage_error"),
)
JOB_CANCEL = Route(
    "POST",
    f"{_ONE}/cancel",
    cancel,
    limited=True,
    require=require_queue,
    doc="End a job.",
    path=ID_PATH,
    responses={200: "Job", 202: "Job"},
    codes=(*_FIND_CODES, "async_queue_storage_error"),
)
