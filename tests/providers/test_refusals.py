"""Refusals that are about what the client sent."""

from __future__ import annotations

import json

import pytest

from ray.errors import RayError
from ray.providers.refusals import as_clients_fault
from ray.types import InferenceRequest, Message

PLAIN = InferenceRequest((Message("user", "secret words"),), 8)
WITH_SCHEMA = InferenceRequest(PLAIN.messages, 8, response_format="json_schema", json_schema="{}")
WITH_TOOLS = InferenceRequest(PLAIN.messages, 8, tools="[]")
SCHEMA_SAID = (
    "Field 'json_schema': \"json_schema\": JSON schema conversion failed:\n"
    "JSON schema error at #: unrecognized type strnig"
)


def refused(status: int, message: str, code: str = "provider_upstream_error") -> RayError:
    body = json.dumps({"error": {"code": status, "message": message, "type": "x"}})
    return RayError(code, "refused", details={"upstreamStatus": status, "body": body})


@pytest.mark.parametrize(
    ("request_", "error", "field", "says"),
    [
        (WITH_SCHEMA, refused(400, SCHEMA_SAID), "response_format.json_schema", "at #: unrecognized type strnig"),
        (
            WITH_SCHEMA,
            refused(400, "Failed to initialize samplers: failed to parse grammar"),
            "response_format.json_schema",
            "failed to parse grammar",
        ),
        (
            WITH_TOOLS,
            refused(500, "Failed to parse tool call arguments as JSON: unexpected end of input"),
            "messages",
            "which the backend needs: mend them",
        ),
        (WITH_TOOLS, refused(500, "tools param requires --jinja flag"), "tools", "Start llama-server with --jinja"),
        (WITH_TOOLS, refused(400, "Automatic parser generation failed: at #: no"), "tools", "at #: no"),
        (WITH_TOOLS, refused(500, 'Failed to parse tools: none; tools = [\n{"a":1}\n]'), "tools", "tools: none)"),
        (WITH_TOOLS, refused(400, ""), "tools", "without a reason"),
    ],
)
def test_given_a_refusal_of_what_the_client_sent_when_judged_then_the_client_learns_the_field_and_the_reason(
    request_: InferenceRequest, error: RayError, field: str, says: str
) -> None:
    found = as_clients_fault(error, request_)
    assert (found.code, found.status) == ("invalid_request", 400)
    assert isinstance(found.details, dict)
    assert found.details["field"] == field
    assert says in found.message
    assert '{"a":1}' not in found.message


@pytest.mark.parametrize(
    "said",
    [
        "Failed to parse tool call arguments as JSON: [json.exception.parse_error.101] parse error at line 1, column 39"
        ": syntax error while parsing value - invalid string: missing closing quote; last read: '\"secret words'",
        'Failed to parse messages: parse error at line 1, column 39; messages = [\n"secret words"]',
        "Failed to parse tools: parse error at line 1, column 39; last read: 'secret words'",
    ],
)
def test_given_a_reason_that_quotes_the_request_when_judged_then_the_place_is_told_and_the_quote_is_not(
    said: str,
) -> None:
    found = as_clients_fault(refused(500, said), WITH_TOOLS)
    assert found.code == "invalid_request"
    assert "line 1, column 39" in found.message
    assert "secret" not in f"{found.message} {found.details}"


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (PLAIN, refused(400, SCHEMA_SAID)),
        (WITH_SCHEMA, refused(400, "no such model")),
        (WITH_SCHEMA, refused(500, "JSON schema broke me")),
        (WITH_TOOLS, refused(500, "out of memory")),
        (WITH_TOOLS, refused(401, "who are you")),
        (WITH_TOOLS, refused(503, "Loading model")),
        (WITH_TOOLS, RayError("provider_timeout", "late", details={})),
        (WITH_TOOLS, refused(400, "too long", "request_context_window_exceeded")),
        (WITH_SCHEMA, RayError("provider_upstream_error", "x", details={"upstreamStatus": 400, "body": "<html>"})),
        (WITH_SCHEMA, RayError("provider_upstream_error", "x", details={"upstreamStatus": 400, "body": {"a": 1}})),
    ],
)
def test_given_any_other_failure_when_judged_then_it_stays_what_it_is(
    request_: InferenceRequest, error: RayError
) -> None:
    assert as_clients_fault(error, request_) is error
