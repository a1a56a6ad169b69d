"""What the bodies of the OpenAI-compatible routes ask for, and which of them are refused."""

from __future__ import annotations

import json

import pytest

from ray.config import config_from_mapping
from ray.errors import RayError
from ray.gateway.openai.fields import CHAT_FIELDS, COMPLETION_FIELDS, EMBEDDING_FIELDS
from ray.gateway.openai.requests import Asked, chat_request, completion_request, embedding_request
from ray.runtime import object_schema
from ray.types import Message

CONFIG = config_from_mapping({"profile": "tiny", "model": {"adapter": {"kind": "mock", "latencyMs": 1}}})
CEILING = CONFIG.model.max_output_tokens
USER = {"role": "user", "content": "Hello?"}
SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


def chat(**fields: object) -> Asked:
    return chat_request({"model": "m", "messages": [USER], **fields}, CONFIG)


def complete(**fields: object) -> Asked:
    return completion_request({"model": "m", "prompt": "Once", **fields}, CONFIG)


def field_of(error: RayError) -> object:
    assert error.code == "invalid_request"
    assert isinstance(error.details, dict)
    return error.details["field"]


def test_given_the_least_that_can_be_asked_when_read_then_the_rest_is_as_on_v1_infer() -> None:
    asked = chat()
    request = asked.request
    assert (asked.model, asked.streamed, asked.include_usage) == ("m", False, False)
    assert (request.messages, request.max_tokens) == ((Message("user", "Hello?"),), CEILING)
    assert (request.temperature, request.top_p, request.seed, request.stop) == (0.2, 0.95, None, ())
    assert (request.response_format, request.tools, request.tool_choice, request.top_logprobs) == (None,) * 4
    assert (request.cache, request.is_raw, dict(request.metadata)) == (True, False, {})


def test_given_every_field_when_read_then_each_arrives() -> None:
    asked = chat(
        max_completion_tokens=7,
        temperature=2,
        top_p=0.05,
        seed=-5,
        stop="END",
        stream=True,
        stream_options={"include_usage": True},
        n=1,
        user="ada",
        metadata={"team": "x"},
        cache=False,
        logprobs=True,
        top_logprobs=3,
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}},
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "weather"}},
    )
    request = asked.request
    assert (asked.streamed, asked.include_usage) == (True, True)
    assert (request.max_tokens, request.temperature, request.top_p, request.seed) == (7, 2.0, 0.05, -5)
    assert (request.stop, request.cache, request.top_logprobs) == (("END",), False, 3)
    assert dict(request.metadata) == {"team": "x", "user": "ada"}
    assert (request.response_format, request.json_schema) == ("json_schema", json.dumps(SCHEMA, separators=(",", ":")))
    assert json.loads(request.tools or "") == [TOOL]
    assert request.tool_choice == '"required"'


@pytest.mark.parametrize("name", sorted({field.name for field in CHAT_FIELDS if not field.required}))
def test_given_null_for_any_field_of_a_chat_when_read_then_it_is_as_if_absent(name: str) -> None:
    assert chat(**{name: None}).request == chat().request


@pytest.mark.parametrize(
    "neutral",
    [
        {"frequency_penalty": 0, "presence_penalty": 0.0},
        {"logit_bias": {}, "store": False, "modalities": ["text"], "service_tier": "auto"},
        {"parallel_tool_calls": True, "tools": [], "stop": [], "tool_choice": "auto"},
        {"parallel_tool_calls": False},
        {"logprobs": False, "top_logprobs": 0, "stream_options": {}},
        {"response_format": {"type": "text"}, "stream": False},
        {"nobody_knows_this": [1, 2, 3]},
    ],
)
def test_given_fields_that_ask_for_nothing_when_read_then_they_change_nothing(neutral: dict[str, object]) -> None:
    request = chat(**neutral).request
    assert (request.messages, request.stop, request.tools) == (chat().request.messages, (), None)
    assert (request.tool_choice, request.top_logprobs, request.parallel_tool_calls) == (None, None, None)


@pytest.mark.parametrize("wish", [True, False, None])
def test_given_tools_when_read_then_whether_several_may_be_called_is_kept(wish: bool | None) -> None:
    assert chat(tools=[TOOL], parallel_tool_calls=wish).request.parallel_tool_calls is wish


def test_given_more_tokens_than_the_model_gives_when_read_then_its_ceiling_holds() -> None:
    assert chat(max_tokens=10**9).request.max_tokens == CEILING
    assert chat(max_tokens=5, max_completion_tokens=5).request.max_tokens == 5
    assert complete(max_tokens=10**9).request.max_tokens == CEILING


def test_given_a_named_function_when_read_then_it_is_the_only_tool_and_required() -> None:
    other = {"type": "function", "function": {"name": "news"}}
    choice = {"type": "function", "function": {"name": "news"}}
    request = chat(tools=[TOOL, other], tool_choice=choice).request
    assert (json.loads(request.tools or ""), request.tool_choice) == ([other], '"required"')
    for word in ("none", "auto", "required"):
        request = chat(tools=[TOOL, other], tool_choice=word).request
        assert (json.loads(request.tools or ""), request.tool_choice) == ([TOOL, other], f'"{word}"')


def deep(levels: int) -> dict[str, object]:
    document: dict[str, object] = {}
    for _ in range(levels):
        document = {"items": document}
    return document


def schema_format(**fields: object) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": "a", **fields}}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": 5}, "model"),
        ({"model": "x" * 513}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": {}}, "messages"),
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 1e300}, "max_tokens"),
        ({"max_tokens": 10**400}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"seed": 2**53}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"stop": 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", 5]}, "stop[1]"),
        ({"stop": [""]}, "stop[0]"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": "x" * 257}, "stop"),
        ({"stream": "true"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"user": 5}, "user"),
        ({"user": "x" * 1025}, "user"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": []}, "metadata"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, "response_format.schema"),
        ({"response_format": {"type": "text", "json_schema": {"schema": SCHEMA}}}, "response_format.json_schema"),
        ({"response_format": schema_format()}, "response_format.json_schema.schema"),
        ({"response_format": schema_format(schema="x")}, "response_format.json_schema.schema"),
        ({"response_format": schema_format(schema=deep(40))}, "response_format.json_schema.schema"),
        ({"response_format": schema_format(schema={"x": "y" * 66_000})}, "response_format.json_schema.schema"),
        ({"response_format": schema_format(schema={"x": float("inf")})}, "response_format.json_schema.schema"),
        ({"response_format": schema_format(name="a b", schema=SCHEMA)}, "response_format.json_schema.name"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice.function"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}},
            "tool_choice.function.name",
        ),
        ({"tools": [TOOL], "parallel_tool_calls": 0}, "parallel_tool_calls"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": -1}, "presence_penalty"),
        ({"presence_penalty": False}, "presence_penalty"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"store": True}, "store"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"functions": []}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"verbosity": "low"}, "verbosity"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"cache": "no"}, "cache"),
    ],
)
def test_given_a_chat_that_is_wrong_or_cannot_be_honoured_when_read_then_the_field_is_named(
    fields: dict[str, object], field: str
) -> None:
    with pytest.raises(RayError) as caught:
        chat(**fields)
    assert field_of(caught.value) == field


def test_given_many_tools_that_are_too_large_together_when_read_then_tools_are_named() -> None:
    tools = [{"type": "function", "function": {"name": f"f{i}", "description": "x" * 16_000}} for i in range(20)]
    with pytest.raises(RayError, match="at most 262144") as caught:
        chat(tools=tools)
    assert field_of(caught.value) == "tools"


@pytest.mark.parametrize("body", [[], "text", None, 5, True])
def test_given_a_body_that_is_no_object_when_read_then_it_is_refused(body: object) -> None:
    for read in (chat_request, completion_request):
        with pytest.raises(RayError) as caught:
            read(body, CONFIG)
        assert field_of(caught.value) == "body"
    with pytest.raises(RayError) as caught:
        embedding_request(body)
    assert field_of(caught.value) == "body"


def test_given_a_prompt_when_read_then_it_is_raw_and_verbatim() -> None:
    request = complete(prompt="  Once upon", logprobs=2, stop=["\n"]).request
    assert (request.messages, request.is_raw) == ((Message("user", "  Once upon"),), True)
    assert (request.top_logprobs, request.stop, request.tools) == (2, ("\n",), None)
    assert complete(prompt=["Once"]).request == complete().request
    assert complete(best_of=1, echo=False, suffix="").request == complete().request


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [7]}, "prompt[0]"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": 6}, "logprobs"),
        ({"best_of": 3}, "best_of"),
        ({"echo": True}, "echo"),
        ({"suffix": "end"}, "suffix"),
        ({"n": 2}, "n"),
        ({"presence_penalty": 1}, "presence_penalty"),
    ],
)
def test_given_a_completion_that_is_wrong_when_read_then_the_field_is_named(
    fields: dict[str, object], field: str
) -> None:
    with pytest.raises(RayError) as caught:
        complete(**fields)
    assert field_of(caught.value) == field


def test_given_texts_to_embed_when_read_then_one_or_several_come_as_a_tuple() -> None:
    one = embedding_request({"input": "a", "model": "m", "user": "u"})
    assert (one.texts, one.model, one.as_base64) == (("a",), "m", False)
    assert embedding_request({"input": ["a", "b"], "encoding_format": "base64"}).as_base64
    assert embedding_request({"input": ["a", "b"]}).texts == ("a", "b")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [1, 2, 3]}, "input[0]"),
        ({"input": [[1, 2]]}, "input[0]"),
        ({"input": ["x"] * 257}, "input"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "dimensions": 64}, "dimensions"),
    ],
)
def test_given_texts_that_cannot_be_embedded_when_read_then_the_field_is_named(
    fields: dict[str, object], field: str
) -> None:
    with pytest.raises(RayError) as caught:
        embedding_request(fields)
    assert field_of(caught.value) == field


@pytest.mark.parametrize("fields", [CHAT_FIELDS, COMPLETION_FIELDS, EMBEDDING_FIELDS])
def test_given_the_tables_when_described_then_they_are_json(fields: tuple[object, ...]) -> None:
    schema = object_schema(fields, null_is_absent=True)  # type: ignore[arg-type]  # a tuple of fields
    assert json.loads(json.dumps(schema)) == schema
