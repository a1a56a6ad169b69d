"""Whatever JSON comes in, it is a request or one refusal that names a field."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from ray.errors import RayError
from ray.gateway.openai.errors import error_document
from ray.gateway.openai.fields import CHAT_FIELDS, COMPLETION_FIELDS, EMBEDDING_FIELDS
from ray.gateway.openai.requests import chat_request, completion_request, embedding_request
from tests.gateway.openai.test_requests import CONFIG

WORDS = st.sampled_from(
    ["system", "user", "assistant", "tool", "text", "image_url", "function", "json_schema", "json_object", "auto", "a"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | WORDS
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", 10**400, 1e300])
)
KEYS = st.sampled_from(
    ["role", "content", "type", "text", "tool_calls", "tool_call_id", "id", "function", "name", "arguments", "schema"]
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=5),
    max_leaves=16,
)
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"])},
        optional={
            "content": st.text(max_size=6) | st.none() | JSON,
            "tool_calls": st.none()
            | st.lists(
                st.fixed_dictionaries(
                    {
                        "id": st.sampled_from(["a", "b"]),
                        "function": st.just({"name": "f", "arguments": "{"}),
                    }
                ),
                max_size=2,
            ),
            "tool_call_id": st.sampled_from(["a", "b", None]),
            "name": st.sampled_from(["a", None]),
        },
    ),
    max_size=6,
)


def body_of(names: list[str]) -> st.SearchStrategy[dict[str, object]]:
    return st.dictionaries(st.sampled_from(names), JSON, max_size=5)


CHATS = st.builds(
    lambda fields, turns: {**fields, "messages": turns}, body_of([f.name for f in CHAT_FIELDS]), TURNS | JSON
)


@settings(max_examples=300, deadline=None)
@given(CHATS)
def test_a_chat_is_read_or_refused_by_name(body: dict[str, object]) -> None:
    try:
        request = chat_request(body, CONFIG).request
    except RayError as error:
        check_refusal(error)
        return
    roles = [message.role for message in request.messages]
    assert roles[-1] in ("user", "tool")
    assert "user" in roles
    assert "system" not in roles[1:]
    assert 1 <= request.max_tokens <= CONFIG.model.max_output_tokens
    for text in (request.tools, request.tool_choice, request.json_schema):
        assert text is None or json.loads(text)


@settings(max_examples=150, deadline=None)
@given(body_of([f.name for f in COMPLETION_FIELDS]), body_of([f.name for f in EMBEDDING_FIELDS]))
def test_a_completion_and_an_embedding_are_read_or_refused_by_name(
    completion: dict[str, object], embedding: dict[str, object]
) -> None:
    try:
        assert completion_request(completion, CONFIG).request.is_raw
    except RayError as error:
        check_refusal(error)
    try:
        assert embedding_request(embedding).texts
    except RayError as error:
        check_refusal(error)


def check_refusal(error: RayError) -> None:
    assert error.code == "invalid_request"
    document = error_document(error)["error"]
    assert isinstance(document, dict)
    assert document["param"]
    json.dumps(document, ensure_ascii=False).encode("utf-8")
