"""The gateway driven by its own description: what schemathesis makes of `/openapi.json`, good or bad, is answered as
the document says. No 500, no status and no header that is not in it, no body that does not fit its schema.
"""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from ray.embed import ServerThread, serve_in_thread
from ray.gateway.routes import Route, all_routes

schemathesis = pytest.importorskip("schemathesis")

from schemathesis import Case, GenerationMode  # noqa: E402 - only where it is installed
from schemathesis.core.jsonschema.types import JsonValue  # noqa: E402
from schemathesis.schemas import BaseSchema  # noqa: E402
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection, positive_data_acceptance  # noqa: E402

KEY = "alpha"
HEADERS = {"authorization": f"Bearer {KEY}"}
EXAMPLES = 20
# Here a body or a query can be well formed and still mean nothing: an unknown template, a turn that answers no call, a
# cursor that no list gave.
JUDGED_BY_MEANING = {"/v1/infer", "/v1/jobs", "/v1/chat/completions"}
ROUTES = all_routes()
WITH_INPUT = [route for route in ROUTES if route.request or route.query or route.path or route.headers]
Body = dict[str, JsonValue]
CONVERSATION: JsonValue = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "What is a slot?"},
]
OF_ONE_JOB = [route for route in ROUTES if route.name.startswith("/v1/jobs/{id}")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    config = {
        "profile": "tiny",
        "server": {"requestBodyLimitBytes": 1_048_576},
        "model": {"adapter": {"kind": "mock", "latencyMs": 1}, "warmOnBoot": True},
        "auth": {"enabled": True},
        "rateLimit": {"enabled": True, "maxRequests": 10_000},
        "asyncQueue": {
            "enabled": True,
            "storageDir": str(tmp_path_factory.mktemp("jobs") / "store"),
            "minFreeStorageMiB": 1,
            "minFreeInodes": 1,
        },
    }
    with serve_in_thread(config, environ={"RAY_API_KEYS": KEY}, log=io.StringIO()) as running:
        yield running


@pytest.fixture(scope="module")
def schema(server: ServerThread) -> BaseSchema:
    loaded: BaseSchema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    loaded.config.generation.update(allow_extra_parameters=False)  # they are ignored, which is no fault
    return loaded


@pytest.fixture
def job(server: ServerThread) -> str:
    """The id of a job that there is."""
    status, body = ask(server, "POST", "/v1/jobs", HEADERS, json.dumps({"input": "hi"}))
    assert status == 202
    return str(json.loads(body)["id"])


def ask(
    server: ServerThread, method: str, path: str, headers: Mapping[str, str], body: str | None = None
) -> tuple[int, bytes]:
    """Status and body of one request."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request(method, path, body, {"content-type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, response.read()


def names(route: Route) -> str:
    return f"{route.method} {route.name}"


def drive(
    schema: BaseSchema,
    route: Route,
    mode: GenerationMode,
    path: dict[str, str] | None = None,
    body: Body | None = None,
) -> None:
    """Ask many things of one route and check each answer against the document.

    `path`: its parameters, where they have to name something that is there; `body`: keys that have to make sense.
    """
    # schemathesis cannot take a key away that it was not told of in its own way; the first test below does.
    excluded = [ignored_auth]
    if route.name in JUDGED_BY_MEANING:
        excluded.append(positive_data_acceptance)
    if route.query:
        excluded.append(negative_data_rejection)  # an empty parameter counts as absent, whatever its kind

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[route.name][route.method].as_strategy(mode, path_parameters=path))
    def keep_to_it(case: Case) -> None:  # type: ignore[type-arg]  # its parameters are its own affair
        if body is not None:
            assert isinstance(case.body, dict)
            case.body.update(body)
        case.call_and_validate(headers=HEADERS, excluded_checks=excluded)

    keep_to_it()


def test_given_the_description_when_judged_by_the_schema_of_openapi_then_it_is_one(schema: BaseSchema) -> None:
    assert schema.raw_schema["openapi"] == "3.1.0"
    schema.validate()


@pytest.mark.parametrize("route", ROUTES, ids=names)
def test_given_a_route_when_asked_without_a_key_or_with_a_wrong_one_then_it_is_closed_as_described(
    server: ServerThread, schema: BaseSchema, route: Route
) -> None:
    needs_key = "security" in schema[route.name][route.method].definition.raw
    for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": KEY}):
        status, _ = ask(server, route.method, route.name.replace("{id}", "x"), headers)
        assert (status == 401) == needs_key == route.protected


@pytest.mark.parametrize("route", ROUTES, ids=names)
def test_given_the_description_when_it_is_kept_to_then_answers_are_as_described(
    schema: BaseSchema, route: Route
) -> None:
    drive(schema, route, GenerationMode.POSITIVE)


@pytest.mark.parametrize("path", ["/v1/infer", "/v1/jobs"])
def test_given_a_template_that_there_is_when_the_description_is_kept_to_then_answers_are_as_described(
    schema: BaseSchema, path: str
) -> None:
    route = next(route for route in ROUTES if (route.method, route.name) == ("POST", path))
    asked: Body = {"templateId": "email.reply_classification.v1", "templateVariables": {"replyText": "no"}}
    drive(schema, route, GenerationMode.POSITIVE, body=asked)


def test_given_a_conversation_that_makes_sense_when_the_description_is_kept_to_then_answers_are_as_described(
    schema: BaseSchema,
) -> None:
    route = next(route for route in ROUTES if route.name == "/v1/chat/completions")
    sane: Body = {"messages": CONVERSATION, "model": None, "tools": None, "tool_choice": None, "stream_options": None}
    for stream in (False, True):
        drive(schema, route, GenerationMode.POSITIVE, body={**sane, "stream": stream, "response_format": None})


@pytest.mark.parametrize("identifier", ["tiny-dev", "tiny%2Ddev"])
def test_given_a_model_that_there_is_when_asked_about_then_the_answer_is_as_described(
    schema: BaseSchema, identifier: str
) -> None:
    route = next(route for route in ROUTES if route.name == "/v1/models/{id}")
    drive(schema, route, GenerationMode.POSITIVE, {"id": identifier})


@pytest.mark.parametrize("route", OF_ONE_JOB, ids=names)
def test_given_a_job_when_the_description_is_kept_to_then_answers_are_as_described(
    schema: BaseSchema, route: Route, job: str
) -> None:
    drive(schema, route, GenerationMode.POSITIVE, {"id": job})


@pytest.mark.parametrize("route", WITH_INPUT, ids=names)
def test_given_the_description_when_it_is_broken_then_it_is_refused_as_described(
    schema: BaseSchema, route: Route
) -> None:
    drive(schema, route, GenerationMode.NEGATIVE)
