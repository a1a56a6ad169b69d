"""Submitting once although the request is sent twice: the `Idempotency-Key` header and what it stands for.

A key belongs to the caller who sent it, and lives as long as the record of its job. Only hashes are kept.
Source: jobs, section 17 (B3); the quoted form is a string of RFC 8941 section 3.3.3.
"""

from __future__ import annotations

import hashlib
import json

from ray.errors import RayError
from ray.jobs.record import JobIdempotency, stored_request
from ray.types import Caller, InferenceRequest

MAX_KEY_CHARS = 255


def idempotency_key(header: str) -> str:
    """The key in the header's value, bare or as a quoted string. Raises `RayError invalid_request`."""
    key = header.strip(" \t")
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = _unquoted(key[1:-1])
    if not 1 <= len(key) <= MAX_KEY_CHARS or not all("!" <= character <= "~" for character in key):
        raise _bad_key()
    return key


def _unquoted(text: str) -> str:
    """Backslash escapes a quote or a backslash, and nothing else."""
    characters = []
    pending = iter(text)
    for character in pending:
        if character == '"':
            raise _bad_key()
        if character == "\\":
            character = next(pending, "")
            if character not in ('"', "\\"):
                raise _bad_key()
        characters.append(character)
    return "".join(characters)


def _bad_key() -> RayError:
    return RayError(
        "invalid_request",
        f"Idempotency-Key must be 1 to {MAX_KEY_CHARS} visible ASCII characters, bare or as a quoted string",
        details={"field": "Idempotency-Key", "maxChars": MAX_KEY_CHARS},
    )


def fingerprint(
    header: str, caller: Caller, request: InferenceRequest, callback_url: object, result_ttl_ms: int | None
) -> JobIdempotency:
    """The hashes of a key with its caller, and of what is submitted under it. Raises `RayError invalid_request`."""
    key = idempotency_key(header)
    payload = json.dumps([stored_request(request), callback_url, result_ttl_ms], sort_keys=True, separators=(",", ":"))
    return JobIdempotency(_sha256(f"{caller.scope}\0{key}"), _sha256(payload))


def owner_of(caller: Caller) -> str:
    """What a record keeps of who submitted it: enough to recognise them, not to find out who they are."""
    return _sha256(f"owner\0{caller.scope}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class IdempotencyIndex:
    """Which job a key belongs to; None while that job is still being admitted."""

    __slots__ = ("_jobs",)

    def __init__(self) -> None:
        self._jobs: dict[str, str | None] = {}

    def job_of(self, idempotency: JobIdempotency) -> str | None:
        """The job of an earlier submission, or None for a key that is new and is promised to the caller from now on.

        Raises `RayError idempotency_in_progress` while the earlier one is being written.
        """
        if idempotency.key_hash not in self._jobs:
            self._jobs[idempotency.key_hash] = None
            return None
        job_id = self._jobs[idempotency.key_hash]
        if job_id is None:
            raise RayError(
                "idempotency_in_progress",
                "an earlier request with this Idempotency-Key is still being accepted; send this one again in a moment",
            )
        return job_id

    def keep(self, idempotency: JobIdempotency | None, job_id: str) -> None:
        """The key's job exists."""
        if idempotency is not None:
            self._jobs[idempotency.key_hash] = job_id

    def release(self, idempotency: JobIdempotency | None, job_id: str | None) -> None:
        """Forget the key, if it still stands for this job (None: for the admission that failed)."""
        if idempotency is not None and self._jobs.get(idempotency.key_hash, "") == job_id:
            del self._jobs[idempotency.key_hash]


def check_same_payload(stored: JobIdempotency | None, sent: JobIdempotency) -> None:
    """Raises `RayError idempotency_key_reused` when the key stands for another submission."""
    if stored is None or stored.payload_hash != sent.payload_hash:
        raise RayError(
            "idempotency_key_reused",
            "this Idempotency-Key was used for a different job; use a new key for a new job",
        )
