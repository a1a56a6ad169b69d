"""Template values: what a client may send, what becomes of it, and what refusals say."""

from __future__ import annotations

import math

import pytest

from ray.errors import RayError
from ray.prompts import Template, template_values
from tests.prompts.support import own_template

TWO = own_template("{{ a }} and {{ b }}")


def refusal(given: object, template: Template = TWO) -> RayError:
    with pytest.raises(RayError) as caught:
        template_values(template, given)
    assert caught.value.code == "invalid_request"
    assert isinstance(caught.value.details, dict)
    assert caught.value.details["field"] == "templateVariables"
    caught.value.message.encode("utf-8")
    return caught.value


def details_of(given: object, template: Template = TWO) -> dict[str, object]:
    details = refusal(given, template).details
    assert isinstance(details, dict)
    return details


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"), (" x \n", "x"), ("", ""), ("   ", ""), (True, "true"), (False, "false"), (3, "3"), (-3, "-3"),
        (3.0, "3"), (-0.5, "-0.5"), (1e21, "1e+21"), (10**300, "1" + "0" * 300), (2**53 + 1, "9007199254740993"),
        ("<|im_end|>", "< |im_end|>"), ("{{ b }}", "{{ b }}"), ("x" * 16_384, "x" * 16_384),
    ],
)  # fmt: skip
def test_a_value_becomes_text(value: object, text: str) -> None:
    assert template_values(TWO, {"a": value, "b": "y"})["a"] == text


def test_values_come_in_the_order_of_the_text() -> None:
    assert list(template_values(TWO, {"b": 1, "a": 2})) == ["a", "b"]


@pytest.mark.parametrize("given", [None, [], "a", 3, True])
def test_anything_but_an_object_is_refused(given: object) -> None:
    assert "must be an object" in refusal(given).message


@pytest.mark.parametrize(
    "value",
    [None, [], {}, math.nan, math.inf, pytest.param(10**5000, id="5001 digits"), "\ud800", "x" * 16_385, " " * 16_385],
)
def test_a_value_of_the_wrong_kind_or_size_is_refused_by_name(value: object) -> None:
    assert "template variable b" in refusal({"a": "x", "b": value}).message


def test_sizes_are_named() -> None:
    too_long = details_of({"a": "x" * 16_385, "b": ""})
    assert (too_long["maxChars"], too_long["actualChars"]) == (16_384, 16_385)
    too_many = details_of({str(n): "" for n in range(33)})
    assert (too_many["maxEntries"], too_many["actualEntries"]) == (32, 33)
    long_name = details_of({"k" * 129: ""})
    assert (long_name["maxChars"], long_name["actualChars"]) == (128, 129)


@pytest.mark.parametrize("name", ["", "  ", "\ud800", 5])
def test_a_name_that_is_none_is_refused(name: object) -> None:
    refusal({name: "x"})


def test_unknown_names_come_with_the_known_ones() -> None:
    details = details_of({"a": "x", "c": "y", "constructor": "z"})
    assert (details["templateId"], details["unsupportedKeys"], details["supportedKeys"]) == (
        "own.v3",
        ["c", "constructor"],
        ["a", "b"],
    )


def test_missing_names_are_listed() -> None:
    assert details_of({"b": "x"})["missingVariables"] == ["a"]
    assert "needs a value for a, b" in refusal({}).message


def test_a_template_without_variables_takes_none() -> None:
    plain = own_template("Say hello.")
    assert dict(template_values(plain, {})) == {}
    assert "takes no variables" in refusal({"a": "x"}, plain).message


def test_a_prompt_without_words_is_refused_and_one_with_a_blank_value_is_not() -> None:
    bare = own_template("{{ a }}")
    assert "no text with these values" in refusal({"a": " "}, bare).message
    assert dict(template_values(TWO, {"a": "", "b": " "})) == {"a": "", "b": ""}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("{{ a }}{{ b }}", {"a": "<|im_", "b": "end|>"}),
        ("{{ a }}_{{ b }}", {"a": "<start", "b": "of_turn>"}),
        ("<{{ a }}>", {"a": "|im_end|"}),
        ("[{{ a }}]", {"a": "/INST"}),
    ],
)
def test_values_that_form_a_token_where_they_meet_are_refused(text: str, values: dict[str, str]) -> None:
    assert "form a control token" in refusal(values, own_template(text)).message


def test_a_token_that_the_operator_wrote_is_the_operators_business() -> None:
    template = own_template("<|tool|> {{ a }}", "[INST]")
    assert template_values(template, {"a": "x"}) == {"a": "x"}


def test_a_refusal_never_repeats_a_value() -> None:
    secret = "the patient said " * 2000
    for given in ({"a": secret, "b": ""}, {"a": [secret], "b": ""}, {"a": {"x": secret}, "b": ""}):
        assert "patient" not in str(refusal(given).envelope())
