"""The description of the interface: complete, well formed, made late, and true of real answers."""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from ray.errors import CODES
from ray.gateway.openapi import openapi_document
from ray.gateway.openapi.document import operation_id
from ray.gateway.routes import Route, all_routes
from ray.types import InferenceResult
from tests.gateway.harness import Reply, running
from tests.gateway.routes.test_jobs import ended, queueing, submitted

DOCUMENT = openapi_document(all_routes(), auth_enabled=True)
ROUTES = all_routes()


def names(route: Route) -> str:
    return f"{route.method} {route.name}"


def operation(route: Route, document: Mapping[str, object] = DOCUMENT) -> dict[str, object]:
    found = at(document, "paths", route.name, route.method.lower())
    assert isinstance(found, dict)
    return found


def at(document: object, *keys: str) -> object:
    for key in keys:
        assert isinstance(document, Mapping)
        document = document[key]
    return document


def references(node: object) -> Iterator[str]:
    if isinstance(node, Mapping):
        target = node.get("$ref")
        if isinstance(target, str):
            yield target
        for item in node.values():
            yield from references(item)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


@pytest.mark.parametrize("route", ROUTES, ids=names)
def test_given_a_route_when_described_then_it_says_what_it_is_for_and_what_it_answers(route: Route) -> None:
    described = operation(route)
    assert route.doc
    assert route.doc.endswith((".", "?"))
    responses = described["responses"]
    assert isinstance(responses, dict)
    assert any(status.startswith("2") for status in responses)
    assert set(route.codes) <= set(CODES)
    assert {str(CODES[code].status) for code in route.codes} <= set(responses)
    assert ("401" in responses) == ("security" in described) == route.protected
    assert ("429" in responses) == route.limited
    assert ("415" in responses) == ("requestBody" in described) == (route.request is not None)
    assert ("503" in responses) == (route.name != "/livez")


@pytest.mark.parametrize("route", ROUTES, ids=names)
def test_given_a_path_with_parameters_when_described_then_each_is_declared(route: Route) -> None:
    assert [f"{{{field.name}}}" in route.name for field in route.path] == [True] * route.name.count("{")


def test_given_the_document_then_names_are_unique_and_every_reference_leads_to_a_component_that_is_used() -> None:
    assert len({operation_id(route) for route in ROUTES}) == len(ROUTES)
    targets = set(references(DOCUMENT))
    for target in targets:
        at(DOCUMENT, *target.removeprefix("#/").split("/"))
    components = DOCUMENT["components"]
    assert isinstance(components, dict)
    defined = {
        f"#/components/{kind}/{name}" for kind in ("schemas", "responses", "headers") for name in components[kind]
    }
    assert defined == targets


def test_given_the_refusal_of_embeddings_when_described_then_its_advice_to_clients_is_too() -> None:
    headers = at(DOCUMENT, "components", "responses", "OpenAIError501", "headers")
    assert isinstance(headers, dict)
    assert "x-should-retry" in headers


def test_given_a_gateway_without_keys_when_described_then_no_key_is_asked_for() -> None:
    document = openapi_document(ROUTES, auth_enabled=False)
    assert "security" not in json.dumps(document)
    assert all("401" not in str(operation(route, document)["responses"]) for route in ROUTES)


def test_given_a_schema_when_judged_by_a_validator_then_it_is_a_schema() -> None:
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    schemas = at(DOCUMENT, "components", "schemas")
    assert isinstance(schemas, dict)
    for schema in schemas.values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_given_a_gateway_that_nobody_asks_when_it_is_imported_then_the_description_is_not_loaded() -> None:
    script = "import sys, ray.gateway; print([name for name in sys.modules if 'gateway.openapi' in name])"
    root = Path(__file__).resolve().parents[2]
    printed = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


def test_given_a_request_for_the_document_when_keys_are_needed_then_it_needs_none_and_is_the_same_each_time() -> None:
    async def main() -> None:
        settings = {"auth": {"enabled": True}}
        async with running(settings, environ={"RAY_API_KEYS": "alpha"}) as ray:
            first, second = await ray.ask("GET", "/openapi.json"), await ray.ask("GET", "/openapi.json")
            assert first.status == 200
            assert first.headers["content-type"] == "application/json; charset=utf-8"
            assert first.body == second.body
            assert first.json() == json.loads(json.dumps(DOCUMENT))
            head = await ray.ask("HEAD", "/openapi.json")
            assert int(head.headers["content-length"]) == len(first.body)

    asyncio.run(main())


def closed(node: object) -> object:
    """The same schema, but objects have no keys beyond those it declares."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    schema = {key: closed(item) for key, item in node.items()}
    if isinstance(node.get("properties"), dict) and node.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return schema


OPEN = {"Config", "OpenApi"}  # every setting; the document itself


def check(document: object, name: str) -> None:
    """This is what the schema says, and has no key that the schema does not know."""
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    schemas = at(DOCUMENT, "components", "schemas")
    assert isinstance(schemas, dict)
    strict = {key: schema if key in OPEN else closed(copy.deepcopy(schema)) for key, schema in schemas.items()}
    whole = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": strict}}
    jsonschema_rs.Draft202012Validator(whole).validate(document)


def check_reply(reply: Reply, route: str, method: str = "get") -> None:
    """The body is what the description says of this route and status."""
    response = at(DOCUMENT, "paths", route, method, "responses", str(reply.status))
    if isinstance(response, dict) and "$ref" in response:
        response = at(DOCUMENT, *str(response["$ref"]).removeprefix("#/").split("/"))
    schema = at(response, "content", "application/json", "schema")
    check(reply.json(), str(at(schema, "$ref")).rpartition("/")[2])


GETS = ["/", "/livez", "/readyz", "/health", "/metrics", "/v1/config", "/v1/templates", "/v1/models", "/openapi.json"]
FULL = {
    "input": "Tell me about slots.", "system": "Be brief.", "maxTokens": 8, "temperature": 0, "topP": 1, "seed": 1,
    "stop": ["x"], "responseFormat": {"type": "json_object"}, "cache": False, "dedupeKey": "d", "metadata": {"a": "b"},
}  # fmt: skip
CHAT = {"messages": [{"role": "user", "content": "hi"}], "logprobs": True, "top_logprobs": 2, "max_tokens": 5}


def test_given_real_answers_when_compared_with_the_schemas_then_they_fit_without_a_key_too_many() -> None:
    async def main() -> None:
        settings = {"telemetry": {"includeDebugMetrics": True}, "rateLimit": {"enabled": True}}
        async with running(settings) as ray:
            for body in (FULL, {"input": "hi"}, {"input": "hi"}):
                check_reply(await ray.post("/v1/infer", body), "/v1/infer", "post")
            events = (await ray.post("/v1/infer", {"input": "stream", "stream": True})).events()
            check(events[-1][1], "InferenceResult")
            for path in GETS:
                check_reply(await ray.ask("GET", path), path)
            check_reply(await ray.post("/v1/chat/completions", CHAT), "/v1/chat/completions", "post")
            check_reply(await ray.post("/v1/completions", {"prompt": "a", "logprobs": 1}), "/v1/completions", "post")
            for form in ("float", "base64"):
                asked = {"input": ["a", "b"], "encoding_format": form}
                check_reply(await ray.post("/v1/embeddings", asked), "/v1/embeddings", "post")
            check_reply(await ray.ask("GET", f"/v1/models/{ray.gateway.config.model.id}"), "/v1/models/{id}")

    asyncio.run(main())


def test_given_real_refusals_when_compared_with_the_schemas_then_they_fit() -> None:
    async def main() -> None:
        async with running() as ray:
            check_reply(await ray.post("/v1/infer", {}), "/v1/infer", "post")
            check_reply(await ray.ask("POST", "/v1/infer", body=b"{"), "/v1/infer", "post")
            check_reply(await ray.post("/v1/jobs", {"input": "hi"}), "/v1/jobs", "post")
            check_reply(await ray.post("/v1/chat/completions", {}), "/v1/chat/completions", "post")
            check_reply(await ray.ask("GET", "/v1/models/nobody"), "/v1/models/{id}")

    asyncio.run(main())


def test_given_jobs_when_compared_with_the_schemas_then_they_fit(tmp_path: Path) -> None:
    async def main() -> None:
        async with queueing(tmp_path) as ray:
            check_reply(await ray.post("/v1/jobs", FULL), "/v1/jobs", "post")
            identifier = await submitted(ray)
            check_reply(await ended(ray, identifier), "/v1/jobs/{id}")
            check_reply(await ray.ask("GET", "/v1/jobs?limit=1"), "/v1/jobs")
            check_reply(await ray.ask("POST", f"/v1/jobs/{identifier}/cancel"), "/v1/jobs/{id}/cancel", "post")
            check_reply(await ray.ask("GET", "/v1/jobs/job_unknown"), "/v1/jobs/{id}")
            check_reply(await ray.ask("GET", "/health"), "/health")

    asyncio.run(main())


def test_given_the_nouns_of_answers_when_described_then_what_has_no_default_is_required() -> None:
    schema = at(DOCUMENT, "components", "schemas", InferenceResult.__name__)
    required = at(schema, "required")
    assert isinstance(required, list)
    assert "finishReason" in required
    assert "toolCalls" not in required


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        ({"input": "hi"}, True),
        ({"input": "hi", "temperature": 99, "maxTokens": -3}, True),
        ({"input": "hi", "unknown": None, "templateVariables": 7}, True),
        ({"input": "hi", "templateId": ""}, True),
        ({"templateId": "email.follow_up.v1", "templateVariables": {"a": 1}}, True),
        ({}, False),
        ({"input": " "}, False),
        ({"input": None}, False),
        ({"input": "hi", "templateId": "x"}, False),
        ({"templateId": "x", "system": "y"}, False),
        ({"templateId": "x", "templateVariables": []}, False),
        ({"input": "hi", "stop": []}, False),
        ({"input": "hi", "responseFormat": {"type": "xml"}}, False),
    ],
)
def test_given_a_body_when_judged_by_the_schema_then_it_says_what_the_gateway_says(body: object, allowed: bool) -> None:
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    schema = at(DOCUMENT, "components", "schemas", "PostInferRequest")
    is_valid: Callable[[object], bool] = jsonschema_rs.Draft202012Validator(schema).is_valid
    assert is_valid(body) is allowed
