"""One durable job as a value, and the one form in which it is written and read.

A record is one JSON document with a closed set of keys and a version `v`. `encode` and `decode` check the same form, so
that every record that can be written is accepted again; limits of submission (how many metadata entries, today's
`maxOutputTokens`) are no part of it. Timestamps are texts, `2026-11-21T17:20:01.482Z`: `ray.clock.parse_iso` and
`iso_timestamp` lead to Unix seconds and back. Documents inside a record (`request`, `result`) are never changed in
place.

A `light` record is what the index in memory holds: everything but the prompt and the answer, which stay on disk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from ray.errors import MAX_MESSAGE_CHARS, RayError, bounded, truncated
from ray.jobs.form import (
    Kind,
    MalformedRecord,
    boolean,
    fields,
    hex_digest,
    number,
    one_of,
    plain,
    plain_object,
    text,
    timestamp,
    whole,
)
from ray.jobs.job import (
    MAX_ID_CHARS,
    TERMINAL,
    CallbackStatus,
    JobCallback,
    JobError,
    JobIdempotency,
    JobRecord,
    JobStatus,
    is_job_id,
    light,
)
from ray.jobs.stored_request import REQUEST, inference_request, stored_request, without_prompt

__all__ = [
    "ADMISSION_HEADROOM_BYTES",
    "CALLBACK_HEADROOM_BYTES",
    "MAX_RECORD_BYTES",
    "RECORD_VERSION",
    "TERMINAL",
    "CallbackStatus",
    "JobCallback",
    "JobError",
    "JobIdempotency",
    "JobRecord",
    "JobStatus",
    "MalformedRecord",
    "NewerRecord",
    "decode",
    "encode",
    "inference_request",
    "is_job_id",
    "job_error",
    "light",
    "public_document",
    "stored_request",
    "summary",
    "without_prompt",
]

RECORD_VERSION = 1
MAX_RECORD_BYTES = 2 * 1024 * 1024
# What a record may still grow by without an answer: error, callback error, timestamps. A job is admitted only if its
# failure can be written down, too.
ADMISSION_HEADROOM_BYTES = 384 * 1024
# And by how much once there is an outcome, of which only the callback is still to be noted.
CALLBACK_HEADROOM_BYTES = 128 * 1024
MAX_ATTEMPTS = 100
MAX_CODE_CHARS = 128
MAX_LAST_ERROR_CHARS = 8_192
MAX_URL_CHARS = 8_192
MAX_OWNER_CHARS = 256
MAX_TTL_MS = 604_800_000
# Of an error's details; well within the headroom.
MAX_DETAILS_BYTES = 65_536


class NewerRecord(Exception):
    """Written by a later Ray, which knows more keys. It is left as it is: only that Ray may judge it."""

    def __init__(self, version: int) -> None:
        super().__init__(f"the record has version {version}; this Ray reads up to {RECORD_VERSION}")
        self.version = version


def job_error(error: BaseException) -> JobError:
    """What a record says of a failure. The text of an unforeseen exception may hold anything, a prompt or a path, so
    only its kind is told; the log has the rest."""
    if isinstance(error, RayError):
        details = error.details if isinstance(error.details, dict) else None
        return JobError(error.message, error.code, _storable_details(details) if details else None)
    return JobError(f"the gateway failed while it ran the job ({type(error).__name__})")


def encode(record: JobRecord) -> bytes:
    """The bytes of the record's file: ASCII-only JSON, indented to be read with `cat`.

    Raises `RayError async_job_record_too_large` above 2 MiB; a record that was never changed must leave 384 KiB of
    that for its failure, and one whose callback was never tried 128 KiB for what comes of that. Raises
    `MalformedRecord` for a record that breaks its own form, which is a fault in Ray.
    """
    document: dict[str, object] = {"v": RECORD_VERSION, **_document(record)}
    _check(document, record.id)
    try:
        data = json.dumps(document, indent=2, allow_nan=False).encode("ascii")
    except (ValueError, TypeError, RecursionError) as error:
        raise MalformedRecord(f"the record is not JSON: {error}") from None
    limit = MAX_RECORD_BYTES - _headroom(record)
    if len(data) > limit:
        raise RayError(
            "async_job_record_too_large",
            f"the job's record would take {len(data)} bytes; at most {limit} can be stored",
            details={"jobId": record.id, "bytes": len(data), "maxBytes": limit},
        )
    return data


def _headroom(record: JobRecord) -> int:
    """The bytes that the record must leave free for what will still be added to it."""
    if record.attempts == 0 and record.created_at == record.updated_at:
        return ADMISSION_HEADROOM_BYTES
    untried = record.callback is not None and record.callback.status == "pending" and record.callback.attempts == 0
    return CALLBACK_HEADROOM_BYTES if record.is_terminal and untried else 0


def decode(data: bytes, job_id: str) -> JobRecord:
    """The record in `data`, the contents of the file of `job_id`.

    Raises `MalformedRecord` for what no Ray wrote, and `NewerRecord` for what a later one did.
    """
    if len(data) > MAX_RECORD_BYTES:
        raise MalformedRecord(f"the file is larger than {MAX_RECORD_BYTES} bytes")
    try:
        document = json.loads(data.decode("utf-8"))
    except RecursionError:
        raise MalformedRecord("the file is nested too deeply") from None
    except ValueError as error:
        # UnicodeDecodeError repeats the whole input; the others name a position.
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else f"not JSON: {str(error)[:200]}"
        raise MalformedRecord(f"the file is {reason}") from None
    if not isinstance(document, dict):
        raise MalformedRecord("the file is not a JSON object")
    version = document.get("v")
    if isinstance(version, int) and not isinstance(version, bool) and version > RECORD_VERSION:
        raise NewerRecord(version)
    _check(document, job_id)
    return _record(document)


def public_document(record: JobRecord) -> dict[str, object]:
    """What the owner of the job sees, over HTTP and in the callback: without owner, idempotency and version."""
    document = _document(record)
    document.pop("owner", None)
    document.pop("idempotency", None)
    return document


def summary(record: JobRecord) -> dict[str, object]:
    """One line of a list of jobs: neither prompt nor answer."""
    document: dict[str, object] = {
        "id": record.id,
        "status": record.status,
        "createdAt": record.created_at,
        "updatedAt": record.updated_at,
        "attempts": record.attempts,
    }
    if record.callback is not None:
        document["callbackStatus"] = record.callback.status
    return document


# The form

_DIGITS = whole(0, MAX_ATTEMPTS)


def _details(value: object, where: str) -> None:
    plain_object(value, where)
    if _has_stack(value):
        raise MalformedRecord(f"{where} holds a stack")


def _has_stack(value: object) -> bool:
    if isinstance(value, dict):
        return any(key.lower() == "stack" or _has_stack(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_stack(item) for item in value)


_DETAILS: Kind = _details
_ERROR = fields({"message": text(MAX_MESSAGE_CHARS)}, {"code": text(MAX_CODE_CHARS, blank=False), "details": _DETAILS})
_CALLBACK = fields(
    {"url": text(MAX_URL_CHARS, blank=False), "status": one_of("pending", "delivered", "failed"), "attempts": _DIGITS},
    {
        "nextAttemptAt": timestamp,
        "lastAttemptAt": timestamp,
        "deliveredAt": timestamp,
        "lastError": text(MAX_LAST_ERROR_CHARS),
    },
)
# The answer is kept as it was given. Its further keys (finishReason, diagnostics) are for people: nothing here
# decides by them, so a diagnostic that is new, or wider than usual, must not cost anyone an answer.
_RESULT = fields(
    {
        "id": text(),
        "model": text(),
        "output": text(),
        "usage": plain_object,
        "cached": boolean,
        "deduplicated": boolean,
        "queueTimeMs": number,
        "latencyMs": number,
        "degraded": boolean,
        "createdAt": timestamp,
    },
    {"diagnostics": plain_object},
    others=plain,
)
_RECORD = fields(
    {
        "v": whole(RECORD_VERSION, RECORD_VERSION),
        "id": text(MAX_ID_CHARS),
        "status": one_of("queued", "running", "succeeded", "failed", "cancelled"),
        "request": REQUEST,
        "createdAt": timestamp,
        "updatedAt": timestamp,
        "attempts": _DIGITS,
        "maxAttempts": whole(1, MAX_ATTEMPTS),
        "deadlineAt": timestamp,
    },
    {
        "nextAttemptAt": timestamp,
        "startedAt": timestamp,
        "completedAt": timestamp,
        "expiresAt": timestamp,
        "resultTtlMs": whole(1, MAX_TTL_MS),
        "result": _RESULT,
        "error": _ERROR,
        "callback": _CALLBACK,
        "owner": text(MAX_OWNER_CHARS),
        "idempotency": fields({"keyHash": hex_digest, "payloadHash": hex_digest}, {}),
        "cancelRequested": boolean,
    },
)


def _check(document: dict[str, object], job_id: str) -> None:
    """The form of the keys, then what they mean together."""
    _RECORD(document, "record")
    if document["id"] != job_id or not is_job_id(job_id):
        raise MalformedRecord("record.id is not the name of the file")
    record = _record(document)
    for broken, reason in (
        (record.attempts > record.max_attempts, "attempts is above maxAttempts"),
        (
            record.is_terminal != (record.completed_at is not None),
            "completedAt belongs to finished jobs, and only there",
        ),
        (record.expires_at is not None and not record.is_terminal, "expiresAt belongs to finished jobs"),
        ((record.status == "succeeded") != (record.result is not None), "result belongs to succeeded jobs"),
        (record.error is None and record.status == "failed", "a failed job has no error"),
        (record.error is not None and record.status in ("running", "succeeded"), "error beside a running or good end"),
        (record.next_attempt_at is not None and record.status != "queued", "nextAttemptAt belongs to queued jobs"),
        (not record.is_terminal and not _has_prompt(record.request), "the prompt of an unfinished job is missing"),
        (record.callback is not None and _callback_is_odd(record.callback), "callback contradicts itself"),
    ):
        if broken:
            raise MalformedRecord(f"record: {reason}")


def _has_prompt(request: Mapping[str, object]) -> bool:
    return bool(request.get("input") or request.get("messages"))


def _callback_is_odd(callback: JobCallback) -> bool:
    if callback.status == "delivered":
        return callback.delivered_at is None or callback.last_error is not None
    return callback.delivered_at is not None or (
        callback.status == "failed" and not (callback.last_error or "").strip()
    )


# Between the document and the value. By hand, in the order in which a person reads the file.


def _document(record: JobRecord) -> dict[str, object]:
    error, callback, idempotency = record.error, record.callback, record.idempotency
    pairs: tuple[tuple[str, object], ...] = (
        ("id", record.id),
        ("status", record.status),
        ("request", record.request),
        ("createdAt", record.created_at),
        ("updatedAt", record.updated_at),
        ("attempts", record.attempts),
        ("maxAttempts", record.max_attempts),
        ("deadlineAt", record.deadline_at),
        ("nextAttemptAt", record.next_attempt_at),
        ("startedAt", record.started_at),
        ("completedAt", record.completed_at),
        ("expiresAt", record.expires_at),
        ("resultTtlMs", record.result_ttl_ms),
        ("cancelRequested", record.cancel_requested or None),
        ("result", record.result),
        ("error", error and _error_document(error)),
        ("callback", callback and _callback_document(callback)),
        ("owner", record.owner),
        ("idempotency", idempotency and {"keyHash": idempotency.key_hash, "payloadHash": idempotency.payload_hash}),
    )
    return _present(*pairs)


def _callback_document(callback: JobCallback) -> dict[str, object]:
    return _present(
        ("url", callback.url),
        ("status", callback.status),
        ("attempts", callback.attempts),
        ("nextAttemptAt", callback.next_attempt_at),
        ("lastAttemptAt", callback.last_attempt_at),
        ("deliveredAt", callback.delivered_at),
        ("lastError", callback.last_error and _storable(callback.last_error, MAX_LAST_ERROR_CHARS)),
    )


def _error_document(error: JobError) -> dict[str, object]:
    return _present(
        ("message", _storable(error.message, MAX_MESSAGE_CHARS)),
        ("code", error.code and _storable(error.code, MAX_CODE_CHARS)),
        ("details", error.details and _storable_details(error.details)),
    )


def _storable(message: str, limit: int) -> str:
    return truncated(message.encode("utf-8", "replace").decode("utf-8"), limit)


def _storable_details(details: Mapping[str, object]) -> dict[str, object]:
    """Details that the form accepts, together not above 64 KiB of JSON: an error must never cost its own record."""
    try:
        _details(details, "details")
        copied: object = details
        size = len(json.dumps(copied, allow_nan=False))
    except (MalformedRecord, RecursionError, ValueError, TypeError):
        copied = bounded(details)
        size = len(json.dumps(copied))
    if size > MAX_DETAILS_BYTES or not isinstance(copied, dict):
        return {"omitted": f"{size} bytes of details; at most {MAX_DETAILS_BYTES} are kept"}
    return copied


def _present(*pairs: tuple[str, object]) -> dict[str, object]:
    return {key: value for key, value in pairs if value is not None}


def _record(document: Mapping[str, object]) -> JobRecord:
    """Of a document whose form was checked: here the kinds are known."""
    known = cast("Mapping[str, Any]", document)
    error, callback, idempotency = known.get("error"), known.get("callback"), known.get("idempotency")
    return JobRecord(
        id=known["id"],
        status=known["status"],
        request=known["request"],
        created_at=known["createdAt"],
        updated_at=known["updatedAt"],
        attempts=known["attempts"],
        max_attempts=known["maxAttempts"],
        deadline_at=known["deadlineAt"],
        next_attempt_at=known.get("nextAttemptAt"),
        started_at=known.get("startedAt"),
        completed_at=known.get("completedAt"),
        expires_at=known.get("expiresAt"),
        result_ttl_ms=known.get("resultTtlMs"),
        result=known.get("result"),
        error=JobError(error["message"], error.get("code"), error.get("details")) if error else None,
        callback=_callback(callback) if callback else None,
        owner=known.get("owner"),
        idempotency=JobIdempotency(idempotency["keyHash"], idempotency["payloadHash"]) if idempotency else None,
        cancel_requested=known.get("cancelRequested", False),
    )


def _callback(known: Mapping[str, Any]) -> JobCallback:
    return JobCallback(
        url=known["url"],
        status=known["status"],
        attempts=known["attempts"],
        next_attempt_at=known.get("nextAttemptAt"),
        last_attempt_at=known.get("lastAttemptAt"),
        delivered_at=known.get("deliveredAt"),
        last_error=known.get("lastError"),
    )
