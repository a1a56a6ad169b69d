"""`RayError` and the one table of codes: HTTP status, `Retry-After`, and whether the refusal is expected.

Every failure that leaves Ray is a `RayError` with a code from `CODES`. "Expected" failures are the ones a healthy
gateway produces under load or on bad input: they are logged as warnings without a stack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAX_MESSAGE_CHARS = 8_192
MAX_DETAIL_DEPTH = 6
MAX_DETAIL_KEYS = 64
MAX_DETAIL_ITEMS = 64
MAX_DETAIL_VALUES = 2_048
MAX_DETAIL_KEY_CHARS = 128
MAX_DETAIL_STRING_CHARS = 8_192


@dataclass(frozen=True, slots=True)
class CodeRule:
    """What a code means on the wire. `retry_after`: seconds, or None for no header."""

    status: int
    retry_after: int | None = None
    expected: bool | None = None

    @property
    def is_expected(self) -> bool:
        return self.status < 500 if self.expected is None else self.expected


CODES: Mapping[str, CodeRule] = {
    # The request as HTTP
    "invalid_http_request": CodeRule(400),
    "http_request_timeout": CodeRule(408),
    "request_headers_too_large": CodeRule(431),
    "request_target_too_large": CodeRule(414),
    "unsupported_expectation": CodeRule(417),
    "unsupported_media_type": CodeRule(415),
    "unsupported_content_encoding": CodeRule(415),
    "length_required": CodeRule(411),
    "body_too_large": CodeRule(413),
    "method_not_allowed": CodeRule(405),
    "not_found": CodeRule(404),
    # Who may ask, and how often
    "unauthorized": CodeRule(401),
    "rate_limited": CodeRule(429),
    # The request as a question to the model
    "invalid_json": CodeRule(400),
    "invalid_request": CodeRule(400),
    "model_not_found": CodeRule(404),
    "embeddings_unsupported": CodeRule(501, expected=True),
    "request_context_window_exceeded": CodeRule(413),
    "request_token_budget_exceeded": CodeRule(413),
    "queue_full": CodeRule(503, retry_after=1, expected=True),
    "request_timeout": CodeRule(504, retry_after=5, expected=True),
    "request_aborted": CodeRule(504, expected=True),
    "gateway_draining": CodeRule(503, retry_after=1, expected=True),
    # The backend
    "provider_unsupported": CodeRule(500),
    "provider_timeout": CodeRule(504, retry_after=5, expected=True),
    "provider_upstream_error": CodeRule(502),
    "provider_request_failed": CodeRule(502),
    "provider_invalid_response": CodeRule(502),
    "provider_result_invalid": CodeRule(502),
    "provider_preparation_invalid": CodeRule(502),
    "provider_response_too_large": CodeRule(502),
    "provider_request_too_large": CodeRule(413),
    "provider_request_body_unbounded": CodeRule(413),
    "provider_health_invalid": CodeRule(502),
    # Durable jobs
    "async_queue_disabled": CodeRule(503, expected=True),
    "async_queue_full": CodeRule(503, retry_after=1, expected=True),
    "async_queue_storage_low": CodeRule(503, retry_after=30, expected=True),
    "async_queue_storage_error": CodeRule(503, retry_after=30),
    "async_job_record_too_large": CodeRule(413),
    "async_queue_recovery_limit_exceeded": CodeRule(500),
    "async_queue_locked": CodeRule(500),
    "idempotency_key_reused": CodeRule(422),
    "idempotency_in_progress": CodeRule(409, retry_after=1),
    "job_not_found": CodeRule(404),
    "job_expired": CodeRule(410),
    "job_not_settled": CodeRule(409),
    # What a job's record says happened to it; no answer has one of these as its own code
    "job_recovered": CodeRule(500),
    "job_recovery_attempts_exhausted": CodeRule(500),
    "job_deadline_exceeded": CodeRule(504),
    # Boot, and the unforeseen
    "config_parse_error": CodeRule(500),
    "config_validation_error": CodeRule(500),
    "listen_failed": CodeRule(500),
    "gateway_error": CodeRule(500),
    "response_serialization_failed": CodeRule(500),
}


class RayError(Exception):
    """A failure with a code from `CODES`.

    `details` is copied and bounded at once (see `bounded`), so it is safe to send and to log.
    `status` and `retry_after` (seconds) override the table for the rare case in which the backend knows better,
    for example a loading model: 503 with a hint.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        details: Mapping[str, object] | None = None,
        status: int | None = None,
        retry_after: int | None = None,
    ) -> None:
        rule = CODES[code]
        super().__init__(message)
        self.code = code
        self.message = message if len(message) <= MAX_MESSAGE_CHARS else message[:MAX_MESSAGE_CHARS]
        self.status = rule.status if status is None else status
        self.retry_after = rule.retry_after if retry_after is None else retry_after
        self.expected = rule.is_expected or self.status < 500
        self.details = None if details is None else bounded(details)

    def envelope(self) -> dict[str, object]:
        """The JSON body of this error: `{"error": {"code", "message", "details"?}}`."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.details:
            error["details"] = self.details
        return {"error": error}


def truncated(text: str, limit: int) -> str:
    """`text` cut to exactly `limit` characters, the tail saying how many were dropped."""
    if len(text) <= limit:
        return text
    # The marker holds the number of dropped characters, whose digits change the marker's own length.
    head = limit
    while True:
        marker = f"...[truncated {len(text) - head} chars]"
        if head + len(marker) <= limit or head == 0:
            return (text[:head] + marker)[:limit]
        head = max(0, limit - len(marker)) if head == limit else head - 1


def bounded(value: object) -> object:
    """A JSON-ready copy of `value` that is safe to send and to log.

    Depth 6, 64 keys, 64 items, 2048 values in all, keys 128 characters, strings 8192 characters; every key named
    `stack` is removed, exceptions become `{name, message}`, non-finite numbers become text, cycles become `[Circular]`,
    lone surrogates are replaced. It never raises: a value that cannot be read is replaced by the reason.
    """
    return _BoundedCopy().of(value, 0, ())


class _BoundedCopy:
    """One copy in the making, with what is left of its budget: width at every level multiplies."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAX_DETAIL_VALUES

    def of(self, value: object, depth: int, ancestors: tuple[int, ...]) -> object:
        if value is None or isinstance(value, bool):
            return value
        self._left -= 1
        if self._left < 0:
            return "[Truncated]"
        if isinstance(value, int):
            # Past 2**63 a JSON reader may lose digits, and past 4300 digits Python itself refuses to print.
            return value if -(2**63) <= value < 2**63 else "[integer too large]"
        if isinstance(value, float):
            return value if value - value == 0 else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
        if isinstance(value, str):
            return _bounded_text(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return f"[{type(value).__name__} {len(value)} bytes]"
        if isinstance(value, BaseException):
            return {"name": type(value).__name__, "message": _bounded_text(_text_of(value))}
        if id(value) in ancestors:
            return "[Circular]"
        if depth >= MAX_DETAIL_DEPTH:
            return "[Truncated]"
        try:
            return self._container(value, depth, (*ancestors, id(value)))
        except Exception as error:  # noqa: BLE001 - a value that breaks while it is read must not hide what it explains
            return f"[Unreadable: {type(error).__name__}]"

    def _container(self, value: object, depth: int, ancestors: tuple[int, ...]) -> object:
        if isinstance(value, Mapping):
            return self._mapping(value, depth, ancestors)
        if isinstance(value, Sequence | set | frozenset):
            items = list(value)
            copied = [self.of(item, depth + 1, ancestors) for item in items[:MAX_DETAIL_ITEMS]]
            if len(items) > MAX_DETAIL_ITEMS:
                copied.append(f"[Truncated {len(items) - MAX_DETAIL_ITEMS} items]")
            return copied
        return _bounded_text(_text_of(value))

    def _mapping(self, value: Mapping[object, object], depth: int, ancestors: tuple[int, ...]) -> dict[str, object]:
        copied: dict[str, object] = {}
        dropped = 0
        for key, item in value.items():
            name = _text_of(key)
            if name.lower() == "stack":
                continue
            if len(copied) >= MAX_DETAIL_KEYS:
                dropped += 1
                continue
            copied[_clean(truncated(name, MAX_DETAIL_KEY_CHARS))] = self.of(item, depth + 1, ancestors)
        if dropped:
            copied["__truncatedKeys"] = dropped
        return copied


def _bounded_text(text: str) -> str:
    if len(text) > MAX_DETAIL_STRING_CHARS:
        text = f"{text[:MAX_DETAIL_STRING_CHARS]}...[truncated {len(text) - MAX_DETAIL_STRING_CHARS} chars]"
    return _clean(text)


def _clean(text: str) -> str:
    """Lone surrogates cannot be written as UTF-8: they become the replacement character."""
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a broken __str__ must not hide the error being reported
        return f"[Thrown: {type(error).__name__}]"
