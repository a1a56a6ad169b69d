"""What a callback carries: the same bytes at every attempt, also after a restart.

So nothing that changes between attempts is in it (the callback's own state, `updatedAt`), and the keys are sorted.
Source: jobs, section 17 (B5, B10).
"""

from __future__ import annotations

import json

from ray.config import CallbackPayload
from ray.jobs.record import JobRecord, public_document

# What is settled once a job has ended.
_KEYS = (
    "id",
    "status",
    "request",
    "createdAt",
    "startedAt",
    "completedAt",
    "expiresAt",
    "attempts",
    "maxAttempts",
    "result",
    "error",
)
_THIN_KEYS = ("id", "status")


def callback_body(record: JobRecord, payload: CallbackPayload) -> bytes:
    """The body for a job that has ended: `type` (`job.succeeded`, `job.failed`, `job.cancelled`), `timestamp` of its
    end and `data.job`; `thin`: only its id and status, for a receiver that fetches the rest."""
    document = public_document(record)
    keys = _KEYS if payload == "full" else _THIN_KEYS
    message = {
        "type": f"job.{record.status}",
        "timestamp": document.get("completedAt"),
        "data": {"job": {key: document[key] for key in keys if key in document}},
    }
    # ASCII escapes carry lone surrogates, which a model or a client may have produced.
    return json.dumps(message, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
