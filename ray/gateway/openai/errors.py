"""Errors in the shape that OpenAI clients read: `{"error": {"message", "type", "param", "code"}}`, always four keys.

`code` is Ray's own code (http-api, section 7), `param` the field that was wrong, as a path such as
`messages[2].content`. Clients decide by status and `code`; `type` is a coarse word for people.
"""

from __future__ import annotations

from ray.errors import RayError

_FIELDS_BY_CODE = {"model_not_found": "model"}


def error_document(error: RayError) -> dict[str, object]:
    """The body of an error on these routes, and of the event that ends a stream that failed."""
    return {
        "error": {
            "message": error.message,
            "type": error_type(error.status),
            "param": _field_of(error),
            "code": error.code,
        }
    }


def error_type(status: int) -> str:
    """The word for a status."""
    if status == 401:
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def _field_of(error: RayError) -> str | None:
    details = error.details
    field = details.get("field") if isinstance(details, dict) else None
    return field if isinstance(field, str) else _FIELDS_BY_CODE.get(error.code)
