"""From the table of routes to one OpenAPI 3.1 document.

Everything in it comes from where it is used: requests from the fields that read them, guards and error codes from the
routes, statuses from the table of codes. Source: OpenAPI 3.1.1, sections 4.8 and 4.9; JSON Schema 2020-12.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from ray.errors import CODES
from ray.gateway.openapi.answers import JSON, component_schemas, media_of
from ray.gateway.openapi.nouns import Schema, reference
from ray.gateway.routes.route import Route
from ray.runtime import Field, object_schema
from ray.version import VERSION

# What can happen to any request before its route is looked at, and to any answer on its way out.
TRANSPORT_CODES = (
    "invalid_http_request",
    "invalid_request",
    "http_request_timeout",
    "request_target_too_large",
    "unsupported_expectation",
    "request_headers_too_large",
    "gateway_error",
    "response_serialization_failed",
)
BODY_CODES = (
    "unsupported_media_type",
    "unsupported_content_encoding",
    "length_required",
    "body_too_large",
    "invalid_json",
)
_ERROR_SCHEMAS = {"ray": "Error", "openai": "OpenAIError"}
_STATUS_WORDS = {200: "Done.", 202: "Accepted.", 204: "Done; nothing more to say."}
_TEXT_SCHEMA: Schema = {"type": "string"}
_RATE_LIMIT_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
_HEADERS: dict[str, object] = {
    "x-request-id": {"description": "The request's id, also in the log.", "required": True, "schema": _TEXT_SCHEMA},
    "retry-after": {"description": "Seconds.", "schema": {"type": "integer"}},
    "www-authenticate": {"description": "How to send a key.", "required": True, "schema": _TEXT_SCHEMA},
    "location": {"description": "Where the job is found.", "required": True, "schema": _TEXT_SCHEMA},
    "idempotent-replayed": {"description": "This repeats an earlier answer.", "schema": {"const": "true"}},
    "x-ray-degraded": {"description": "Why Ray has shortened the request.", "schema": _TEXT_SCHEMA},
    "x-should-retry": {"description": "Tells OpenAI's clients not to repeat this.", "schema": {"const": "false"}},
    "x-ratelimit-limit": {"description": "Requests per window.", "schema": {"type": "integer"}},
    "x-ratelimit-remaining": {"description": "Requests left in it.", "schema": {"type": "integer"}},
    "x-ratelimit-reset": {"description": "When it ends, Unix seconds.", "schema": {"type": "integer"}},
}
_SECURITY_SCHEME = "apiKey"


def openapi_document(routes: Sequence[Route], *, auth_enabled: bool) -> dict[str, object]:
    """The description of these routes. `auth_enabled`: whether the protected ones ask for a key."""
    schemas: dict[str, object] = {**component_schemas()}
    errors = ErrorResponses()
    paths: dict[str, dict[str, object]] = {}
    for route in routes:
        operation = _operation(route, auth_enabled, schemas, errors)
        paths.setdefault(route.name, {})[route.method.lower()] = operation
    components: dict[str, object] = {
        "schemas": schemas,
        "responses": errors.components(),
        "headers": _HEADERS,
    }
    if auth_enabled:
        scheme = {"type": "http", "scheme": "bearer", "description": "An API key of this gateway."}
        components["securitySchemes"] = {_SECURITY_SCHEME: scheme}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ray",
            "version": VERSION,
            "description": "A gateway in front of a local language model. Explained in docs/http-api.md.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": components,
    }


def _operation(
    route: Route, auth_enabled: bool, schemas: dict[str, object], errors: ErrorResponses
) -> dict[str, object]:
    name = operation_id(route)
    operation: dict[str, object] = {"operationId": name, "summary": route.doc, "tags": [_tag(route)]}
    parameters = [
        *(_parameter(field, "path") for field in route.path),
        *(_parameter(field, "query") for field in route.query),
        *(_parameter(field, "header") for field in route.headers),
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.request is not None:
        component = f"{name[0].upper()}{name[1:]}Request"
        schemas[component] = object_schema(route.request, null_is_absent=route.null_is_absent) | dict(route.rules)
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": reference(component)}}}
    operation["responses"] = {
        **{str(status): _answer(route, status, answer) for status, answer in sorted(route.responses.items())},
        **errors.of(route, _codes_by_status(_codes(route, auth_enabled))),
    }
    if auth_enabled and route.protected:
        operation["security"] = [{_SECURITY_SCHEME: []}]
    return operation


def operation_id(route: Route) -> str:
    """A name for generated clients: `POST /v1/jobs/{id}/cancel` is `postJobsIdCancel`."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", route.name) if word and word != "v1"]
    return route.method.lower() + ("".join(word[0].upper() + word[1:] for word in words) or "Root")


def _tag(route: Route) -> str:
    if route.error_style == "openai":
        return "openai"
    if route.name.startswith("/v1/jobs"):
        return "jobs"
    return "inference" if route.name in ("/v1/infer", "/v1/templates") else "operations"


def _parameter(field: Field, place: str) -> dict[str, object]:
    schema = field.kind.schema()
    if field.default is not None:
        schema["default"] = field.default
    required = field.required or place == "path"
    return {"name": field.name, "in": place, "description": field.doc, "required": required, "schema": schema}


def _answer(route: Route, status: int, answer: str) -> dict[str, object]:
    described: dict[str, object] = {
        "description": _STATUS_WORDS.get(status, "The same, while it is not as it should be."),
        "headers": _headers("x-request-id", *route.answer_headers, *(_RATE_LIMIT_HEADERS if route.limited else ())),
    }
    content = {media: {"schema": schema} for media, schema in media_of(answer).items()}
    if content:
        described["content"] = content
    return described


class ErrorResponses:
    """The responses for errors, shared by all routes whose errors look alike: one for each shape and status."""

    def __init__(self) -> None:
        self._schemas: dict[str, Mapping[str, object]] = {}
        self._statuses: dict[str, int] = {}
        self._codes: dict[str, dict[str, None]] = {}

    def of(self, route: Route, codes_by_status: Mapping[int, Sequence[str]]) -> dict[str, object]:
        """References to the responses for these codes, by status. A status that the route also answers with on purpose
        (503 of `/readyz`) takes either form."""
        found: dict[str, object] = {}
        for status, codes in codes_by_status.items():
            error = _ERROR_SCHEMAS[route.error_style]
            own = route.responses.get(status)
            name = f"{error}{status}" if own is None else f"{own}Or{error}{status}"
            self._schemas[name] = reference(error) if own is None else {"anyOf": [reference(own), reference(error)]}
            self._statuses[name] = status
            self._codes.setdefault(name, {}).update(dict.fromkeys(codes))
            found[str(status)] = {"$ref": f"#/components/responses/{name}"}
        return found

    def components(self) -> dict[str, object]:
        """The responses that were referred to, by name. Each names all codes that it has anywhere."""
        return {name: self._component(name) for name in sorted(self._schemas)}

    def _component(self, name: str) -> dict[str, object]:
        return {
            "description": ", ".join(f"`{code}`" for code in self._codes[name]),
            "headers": _headers(*_error_headers(self._statuses[name])),
            "content": {JSON: {"schema": self._schemas[name]}},
        }


def _error_headers(status: int) -> tuple[str, ...]:
    if status == 401:
        return ("x-request-id", "www-authenticate")
    if status == 429:
        return ("x-request-id", "retry-after", *_RATE_LIMIT_HEADERS)
    if status == 501:
        return ("x-request-id", "x-should-retry")
    return ("x-request-id", "retry-after") if status in (409, 503, 504) else ("x-request-id",)


def _codes(route: Route, auth_enabled: bool) -> Iterable[str]:
    yield from TRANSPORT_CODES
    if route.name != "/livez":
        yield "gateway_draining"
    if auth_enabled and route.protected:
        yield "unauthorized"
    if route.limited:
        yield "rate_limited"
    if route.request is not None:
        yield from BODY_CODES
    yield from route.codes


def _codes_by_status(codes: Iterable[str]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        found.setdefault(CODES[code].status, []).append(code)
    return dict(sorted(found.items()))


def _headers(*names: str) -> dict[str, object]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
