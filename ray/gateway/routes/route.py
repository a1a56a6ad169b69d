"""What a route is: its name, its guards, the function that answers, and how it is described to others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ray.gateway.exchange import Exchange
from ray.gateway.services import Services
from ray.http import Response
from ray.runtime import Field

ErrorStyle = Literal["ray", "openai"]

# What can go wrong once a question is on its way to the model.
BACKEND_CODES = (
    "queue_full",
    "request_context_window_exceeded",
    "request_token_budget_exceeded",
    "request_timeout",
    "request_aborted",
    "provider_timeout",
    "provider_upstream_error",
    "provider_request_failed",
    "provider_invalid_response",
    "provider_result_invalid",
    "provider_preparation_invalid",
    "provider_response_too_large",
    "provider_request_too_large",
    "provider_request_body_unbounded",
)


@dataclass(frozen=True, slots=True)
class Route:
    """`name`: the path with its parameters as written in the documentation; it labels metrics and access lines.

    `protected`: needs an API key when auth is on. `limited`: takes from the caller's request budget.
    `require`: what has to be there at all; asked before the budget is touched, raises RayError.
    `error_style`: whose shape the errors of this route have, also those from before its own code.

    The rest describes the route in `/openapi.json`. `doc`: one line. `request`: the fields of its JSON body, None when
    it reads none; `null_is_absent`: how they are read; `rules`: what holds between them, as JSON Schema keywords.
    `path`, `query`, `headers`: its parameters. `responses`: by status, the names of answers (`openapi/answers.py`);
    `answer_headers`: what these may carry besides the headers that all answers have. `codes`: the error codes of the
    route's own code; those of its guards and of reading a body are added.
    """

    method: str
    name: str
    answer: Callable[[Services, Exchange], Awaitable[Response]]
    protected: bool = True
    limited: bool = False
    require: Callable[[Services], None] | None = None
    error_style: ErrorStyle = "ray"
    doc: str = ""
    request: tuple[Field, ...] | None = None
    null_is_absent: bool = False
    rules: Mapping[str, object] = field(default_factory=dict)
    query: tuple[Field, ...] = ()
    path: tuple[Field, ...] = ()
    headers: tuple[Field, ...] = ()
    answer_headers: tuple[str, ...] = ()
    responses: Mapping[int, str] = field(default_factory=dict)
    codes: tuple[str, ...] = ()
