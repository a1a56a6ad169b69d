"""Fields of a JSON body: what each kind takes, what it refuses and how, and that its schema says the same."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.errors import RayError
from ray.runtime.containers import Either, JsonObject, ListOf, StringMap
from ray.runtime.fields import Field, Object, object_schema, read_fields
from ray.runtime.kinds import MAX_SAFE_INTEGER, NOT_BLANK, Flag, Kind, Number, OneOf, Text, Whole

NAMES = StringMap(max_entries=2, max_key_chars=3, max_value_chars=4)
PART = Object((Field("type", OneOf("text"), "kind", required=True), Field("text", Text(), "text", required=True)))
CONTENT = Either(Text(), ListOf(PART, min_items=1), message="must be a string or an array of text parts")
CLOSED = Object((Field("a", Flag(), "a"),), open=False)
SMALL = JsonObject(max_bytes=20, max_depth=3)


def refusal(kind: Kind, value: object) -> tuple[str, dict[str, object]]:
    with pytest.raises(RayError) as caught:
        kind.read(value, "x")
    assert caught.value.code == "invalid_request"
    assert isinstance(caught.value.details, dict)
    return caught.value.message, caught.value.details


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Text(), "", ""),
        (Text(max_chars=1), "😀", "😀"),
        (Text(min_chars=1), " ", " "),
        (Text(blank=False), " a ", " a "),
        (Whole(0, 5), 5, 5),
        (Whole(), 11.0, 11),
        (Whole(), -MAX_SAFE_INTEGER, -MAX_SAFE_INTEGER),
        (Number(), 10**400, 10**400),
        (Number(0, 2), 1, 1.0),
        (Number(0, 2, clamp=True), 10**400, 2.0),
        (Number(0, 2, clamp=True), -0.5, 0.0),
        (Number(low=1), 7, 7),
        (Flag(), False, False),
        (OneOf("auto", "none"), "none", "none"),
        (OneOf(1), 1.0, 1),
        (ListOf(Whole(), max_items=2), [1, 2], [1, 2]),
        (ListOf(Text()), [], []),
        (NAMES, {"abc": "abcd", "d": ""}, {"abc": "abcd", "d": ""}),
        (PART, {"type": "text", "text": "a", "other": 1}, {"type": "text", "text": "a"}),
        (CLOSED, {}, {}),
        (SMALL, {"a": [[1]]}, {"a": [[1]]}),
        (CONTENT, "hi", "hi"),
        (CONTENT, [{"type": "text", "text": "a"}], [{"type": "text", "text": "a"}]),
    ],
)
def test_given_a_good_value_when_read_then_it_is_taken(kind: Kind, value: object, expected: object) -> None:
    taken = kind.read(value, "x")
    assert taken == expected
    assert type(taken) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value", "message", "details"),
    [
        (Text(), None, "x must be a string", {"field": "x", "value": None}),
        (Text(min_chars=1), "", "x must be a non-empty string", {"field": "x", "minChars": 1, "actualChars": 0}),
        (Text(max_chars=1), "ab", "x has 2 characters; at most 1 are allowed",
         {"field": "x", "maxChars": 1, "actualChars": 2}),
        (Text(blank=False), " \n", "x must not be blank", {"field": "x"}),
        (Text(), "a\ud800", "x contains an unpaired surrogate at character 1: it is not valid Unicode text",
         {"field": "x"}),
        (Whole(0, 20), 21, "x must be an integer between 0 and 20", {"field": "x", "value": 21}),
        (Whole(), True, "x must be an integer between -(2^53 - 1) and 2^53 - 1", {"field": "x", "value": True}),
        (Whole(), 1.5, "x must be an integer between -(2^53 - 1) and 2^53 - 1", {"field": "x", "value": 1.5}),
        (Number(), "1", "x must be a number", {"field": "x", "value": "1"}),
        (Number(clamp=True), True, "x must be a number", {"field": "x", "value": True}),
        (Number(0, 2), 2.5, "x must be a number between 0 and 2", {"field": "x", "value": 2.5}),
        (Number(low=0), -1, "x must be a number of at least 0", {"field": "x", "value": -1}),
        (Flag(), 1, "x must be true or false", {"field": "x", "value": 1}),
        (OneOf("a", "b", "c"), "d", "x must be a, b or c",
         {"field": "x", "value": "d", "supported": ["a", "b", "c"]}),
        (OneOf(1), True, "x must be 1", {"field": "x", "value": True, "supported": [1]}),
        (ListOf(Text()), "a", "x must be an array of strings", {"field": "x", "value": "a"}),
        (ListOf(Whole(), min_items=1), [], "x must be a non-empty array", {"field": "x", "value": "[array]"}),
        (ListOf(Whole(), min_items=2), [1], "x has 1 entries; at least 2 are needed",
         {"field": "x", "minEntries": 2, "actualEntries": 1}),
        (ListOf(Whole(), max_items=1), [1, 2], "x has 2 entries; at most 1 are allowed",
         {"field": "x", "maxEntries": 1, "actualEntries": 2}),
        (ListOf(Text()), ["a", 1], "x[1] must be a string", {"field": "x[1]", "value": 1}),
        (ListOf(Text(), entry="an x entry"), ["a", 1], "an x entry must be a string", {"field": "x", "value": 1}),
        (NAMES, [], "x must be an object of strings", {"field": "x", "value": "[array]"}),
        (NAMES, {"a": 1}, "x value of 'a' must be a string", {"field": "x", "key": "a", "value": 1}),
        (NAMES, {" ": ""}, "x keys must not be blank", {"field": "x"}),
        (NAMES, {"a": "", "b": "", "c": ""}, "x has 3 entries; at most 2 are allowed",
         {"field": "x", "maxEntries": 2, "actualEntries": 3}),
        (PART, [], "x must be an object with type and text", {"field": "x", "value": "[array]"}),
        (PART, {"type": "text"}, "x.text is required", {"field": "x.text"}),
        (PART, {"type": "image_url"}, "x.type must be text",
         {"field": "x.type", "value": "image_url", "supported": ["text"]}),
        (CLOSED, {"b": 1}, "x has an unknown key", {"field": "x.b", "supportedKeys": ["a"]}),
        (SMALL, {"a": "x" * 20}, "x has 28 bytes; at most 20 are allowed",
         {"field": "x", "maxBytes": 20, "actualBytes": 28}),
        (SMALL, {"a": [[[]]]}, "x is nested too deeply; at most 3 levels", {"field": "x", "maxDepth": 3}),
        (SMALL, {"a": math.inf}, "x contains a number that is not finite", {"field": "x"}),
        (SMALL, {"\ud800": 1}, "x contains an unpaired surrogate: it is not valid Unicode text", {"field": "x"}),
        (CONTENT, 1, "x must be a string or an array of text parts", {"field": "x", "value": 1}),
        (CONTENT, [{"type": "text", "text": 1}], "x[0].text must be a string", {"field": "x[0].text", "value": 1}),
    ],
)  # fmt: skip
def test_given_a_bad_value_when_read_then_the_refusal_names_the_place_and_what_is_allowed(
    kind: Kind, value: object, message: str, details: dict[str, object]
) -> None:
    assert refusal(kind, value) == (message, details)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [Number(), Number(0, 1, clamp=True), Whole()])
def test_given_a_number_that_is_not_finite_when_read_then_it_is_refused(kind: Kind, value: float) -> None:
    assert refusal(kind, value)[1]["field"] == "x"


def test_given_an_object_nested_beyond_every_recursion_when_read_then_it_is_refused() -> None:
    deep: dict[str, object] = {}
    for _ in range(50_000):
        deep = {"a": deep}
    assert refusal(JsonObject(max_bytes=1_000_000, max_depth=64), deep)[1]["maxDepth"] == 64
    while deep:  # taken apart by hand, as its own destructor would recurse
        inner = deep.pop("a", {})
        assert isinstance(inner, dict)
        deep = inner


TABLE = (
    Field("first", Text(), "one", required=True),
    Field("second", Whole(1, 2), "two", nullable=True),
    Field("third", Flag(), "three", default=True),
)


def test_given_a_table_when_a_body_is_read_then_only_what_is_declared_and_present_is_found() -> None:
    assert read_fields({"first": "a", "other": 1}, TABLE) == {"first": "a"}
    assert read_fields({"first": "a", "second": None, "third": False}, TABLE) == {
        "first": "a",
        "second": None,
        "third": False,
    }


def test_given_null_when_it_means_absent_then_it_is_left_out_and_does_not_satisfy_a_required_field() -> None:
    assert read_fields({"first": "a", "second": None, "third": None}, TABLE, null_is_absent=True) == {"first": "a"}
    with pytest.raises(RayError, match="first is required"):
        read_fields({"first": None}, TABLE, null_is_absent=True)


def test_given_null_when_it_is_a_value_then_a_field_that_is_not_nullable_refuses_it() -> None:
    with pytest.raises(RayError, match="third must be true or false"):
        read_fields({"first": "a", "third": None}, TABLE)


def test_given_several_faults_when_read_then_the_first_in_the_table_is_refused() -> None:
    with pytest.raises(RayError, match="first is required"):
        read_fields({"third": 1}, TABLE)


def test_given_a_table_when_described_then_the_schema_has_its_names_rules_and_words() -> None:
    assert object_schema(TABLE) == {
        "type": "object",
        "properties": {
            "first": {"type": "string", "description": "one"},
            "second": {"type": ["integer", "null"], "minimum": 1, "maximum": 2, "description": "two"},
            "third": {"type": "boolean", "description": "three", "default": True},
        },
        "required": ["first"],
    }
    third = object_schema(TABLE, null_is_absent=True)["properties"]
    assert isinstance(third, dict)
    assert third["third"]["type"] == ["boolean", "null"]
    assert third["first"]["type"] == "string"


KINDS: list[Kind] = [
    Text(max_chars=3, min_chars=1), Text(blank=False), Whole(-2, 2), Number(0, 1), Number(0, 1, clamp=True), Flag(),
    OneOf("a", "b"), OneOf(1), OneOf(True), ListOf(Text(), 1, 2), NAMES, PART, CLOSED, JsonObject(1_000, 10), CONTENT,
]  # fmt: skip

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-4, 4)
    | st.floats(-2, 2)
    | st.sampled_from(["", " ", "a", "b", "text", "abcd"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "type", "text", " ", "abcd"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from(KINDS), anything)
def test_what_a_kind_takes_its_schema_allows_and_what_it_refuses_its_schema_refuses(kind: Kind, value: object) -> None:
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    valid = jsonschema_rs.Draft202012Validator(kind.schema()).is_valid(value)
    try:
        kind.read(value, "x")
    except RayError:
        assert not valid
    else:
        assert valid


def test_given_any_character_when_alone_then_the_schema_finds_it_blank_just_when_reading_does() -> None:
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    is_valid = jsonschema_rs.Draft202012Validator({"type": "string", "pattern": NOT_BLANK}).is_valid
    for code in (*range(0xD800), *range(0xE000, 0x11000)):
        assert is_valid(chr(code)) == (not chr(code).isspace()), hex(code)
    assert re.search(NOT_BLANK, " \u0085") is None
