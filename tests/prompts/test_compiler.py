"""The compiler: tidied text, family, lane, and the figures about them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.config import config_from_mapping
from ray.prompts import Template, build_scaffold, compile_prompt, filled, marked_values, messages_of, template_values
from ray.prompts.control_tokens import count_control_tokens
from ray.types import InferenceRequest, Message, ToolCall
from tests.prompts.support import CLEANING, COMPILING, config_with, own_template, request_of, texts

RULE = "Answer in one sentence only."


def from_template(template: Template, **values: object) -> InferenceRequest:
    return filled(request_of(""), template, template_values(template, values))


def test_text_is_tidied_and_counted() -> None:
    compiled = compile_prompt(request_of(f"{RULE}\n\n\n\nhi   there", f"{RULE}  \n{RULE}"), COMPILING)

    assert compiled.request.messages == (Message("system", RULE), Message("user", "hi there"))
    found = compiled.diagnostics
    assert (found.chars_before, found.chars_after) == (len(RULE) * 3 + 16 + 1, len(RULE) + 8)
    assert found.chars_saved == found.chars_before - found.chars_after
    assert (found.family_key, found.lane, found.template_id) == (compiled.family, compiled.lane, None)


def test_indentation_and_short_lines_stay() -> None:
    code = "fix this\n    if x:\n        return 1;\n    }\n    if y:\n        return 1;\n    }"
    assert compile_prompt(request_of(code), COMPILING).request.messages[0].content == code


def test_a_raw_prompt_stays_as_it_is_and_is_a_family_of_its_own() -> None:
    request = request_of(f"a  b\n\n\n{RULE}\n{RULE} ")
    raw = replace(request, is_raw=True)
    compiled = compile_prompt(raw, COMPILING)
    assert compiled.request is raw
    assert compiled.family != compile_prompt(request, COMPILING).family


def test_what_tools_answered_and_what_was_asked_of_them_stays_as_it_is() -> None:
    turns = (
        Message("user", "a  b"),
        Message("assistant", "  ", (ToolCall("1", "f", '{"x":  1}'),)),
        Message("tool", "a  b\n\n\nc ", tool_call_id="1"),
    )
    compiled = compile_prompt(replace(request_of(""), messages=turns), COMPILING)
    assert compiled.request.messages == (Message("user", "a b"), *turns[1:])


def test_requests_with_other_tools_are_another_family() -> None:
    families = {
        compile_prompt(replace(request_of("hi"), tools=tools), COMPILING).family for tools in (None, "[]", "[1]")
    }
    assert len(families) == 3


def test_an_input_that_only_repeats_the_system_stays() -> None:
    assert compile_prompt(request_of(RULE, RULE), COMPILING).request == request_of(RULE, RULE)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"enabled": False}, f"a  b\n{RULE}\n{RULE}"),
        ({"collapseWhitespace": False}, f"a  b\n{RULE}"),
        ({"dedupeRepeatedLines": False}, f"a b\n{RULE}\n{RULE}"),
    ],
)
def test_each_switch_switches_its_part(changes: dict[str, object], text: str) -> None:
    compiled = compile_prompt(request_of(f"a  b\n{RULE}\n{RULE}"), config_with(**changes))
    assert compiled.request.messages[0].content == text


def test_switched_off_nothing_is_saved_and_family_and_lane_are_known() -> None:
    request = request_of("Order 1 \n\n\n", "s ")
    compiled = compile_prompt(request, config_with(enabled=False))
    assert compiled.request is request
    assert compiled.diagnostics.chars_saved == 0
    assert compiled.family == compile_prompt(request_of("Order 2", "s "), config_with(enabled=False)).family


def test_a_conversation_keeps_what_the_model_said() -> None:
    said = f"{RULE}  \n{RULE}"
    turns = (Message("user", "a  b"), Message("assistant", said), Message("user", "c  d"))
    compiled = compile_prompt(InferenceRequest(turns, 5), COMPILING).request
    assert compiled.messages == (Message("user", "a b"), Message("assistant", said), Message("user", "c d"))


def test_an_untouched_request_is_the_same_object() -> None:
    request = request_of("hello", "be kind")
    assert compile_prompt(request, COMPILING).request is request


def test_values_are_tidied_one_by_one_and_the_template_is_not() -> None:
    template = own_template(f"Two  blanks\n\n\n\n{RULE}\n{RULE}: {{{{ a }}}}", f"{RULE}   {{{{ b }}}}")
    compiled = compile_prompt(from_template(template, a=f" x   y\n\n\n\n{RULE} ", b="z"), COMPILING, template).request
    assert compiled.messages == (
        Message("system", f"{RULE}   z"),
        Message("user", f"Two  blanks\n\n\n\n{RULE}\n{RULE}: x y\n\n{RULE}"),
    )
    assert dict(compiled.template_values) == {"b": "z", "a": f"x y\n\n{RULE}"}


def test_a_template_is_looked_up_when_it_is_not_given() -> None:
    own = {"own.v3": {"lane": "draft", "input": "{{ a }}", "system": "S"}}
    config = config_from_mapping({"profile": "tiny", "promptCompiler": CLEANING, "templates": own})
    template = own_template("{{ a }}", "S")
    request = from_template(template, a="x  y")
    assert compile_prompt(request, config) == compile_prompt(request, config, template)


def test_a_token_that_tidying_brings_together_is_broken_as_well() -> None:
    template = own_template("say {{ a }}")
    request = from_template(template, a="<|" + " " * 80 + "x|>")
    assert compile_prompt(request, COMPILING, template).request.messages[0].content == "say < | x|>"


def test_requests_of_a_template_are_one_family_whatever_their_values() -> None:
    template = own_template("{{ a }}", "For {{ b }}.")
    one = compile_prompt(from_template(template, a="x", b="y"), COMPILING, template)
    two = compile_prompt(from_template(template, a="1", b="2"), COMPILING, template)
    other = compile_prompt(from_template(own_template("{{ a }}", "To {{ b }}."), a="x", b="y"), COMPILING)
    assert one.family == two.family != other.family
    assert one.diagnostics.template_id == "own.v3"


def test_families_differ_by_system_and_by_name() -> None:
    keys = [
        compile_prompt(request, COMPILING).family
        for request in (
            request_of("Order 7", "s"),
            request_of("Order 7", "t"),
            request_of("Order 7"),
            request_of("Order 7", "s", useCase="x"),
            request_of("Cancel 7", "s"),
        )
    ]
    assert len(set(keys)) == 5
    assert compile_prompt(request_of("order  8", "s "), COMPILING).family == keys[0]


@pytest.mark.parametrize("lane", ["short", "draft"])
def test_the_lane_of_a_template_wins(lane: str) -> None:
    template = own_template("{{ a }}", lane=lane)
    request = replace(from_template(template, a="x"), metadata={"promptLane": "draft"}, response_format="json_object")
    assert compile_prompt(request, COMPILING, template).lane == lane


@given(texts, st.none() | texts)
def test_compiling_twice_is_compiling_once_and_no_text_gets_longer(text: str, system: str | None) -> None:
    request = request_of(text, system)
    once = compile_prompt(request, COMPILING)
    again = compile_prompt(once.request, COMPILING)
    assert (again.request, again.family, again.lane) == (once.request, once.family, once.lane)
    assert again.diagnostics.chars_saved == 0
    for before, after in zip(request.messages, once.request.messages, strict=True):
        assert len(after.content) <= len(before.content)
        assert bool(after.content.strip()) == bool(before.content.strip())


@given(texts, texts)
def test_the_same_holds_for_values(first: str, second: str) -> None:
    template = own_template("A: {{ a }}\nB: {{ b }}", "S")
    # As after a cut by length: whatever stands in the values, compiling gives what a scaffold of the template gives.
    request = filled(request_of(""), template, {"a": first, "b": second})
    once = compile_prompt(request, COMPILING, template).request
    assert compile_prompt(once, COMPILING, template).request == once
    assert count_control_tokens(once.template_values["a"]) == count_control_tokens(once.template_values["b"]) == 0
    scaffold = build_scaffold(messages_of(template, marked_values(template.variables))[1].content, template.variables)
    assert scaffold.render(once.template_values) == once.messages[1].content
