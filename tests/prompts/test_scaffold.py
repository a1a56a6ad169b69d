"""Scaffolds: a prompt put together from segments equals the prompt that rendering gives."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.errors import RayError
from ray.prompts import (
    Scaffold,
    Template,
    build_scaffold,
    built_in_templates,
    compile_prompt,
    filled,
    marked_values,
    marker,
    messages_of,
    template_values,
)
from ray.prompts.scaffold import MAX_GAPS, MAX_RENDERED_CHARS
from ray.types import Message
from tests.prompts.support import COMPILING, own_template, request_of, texts


def chat(messages: Sequence[Message]) -> str:
    """A chat template as models have them."""
    turns = "".join(f"<|im_start|>{message.role}\n{message.content}<|im_end|>\n" for message in messages)
    return f"{turns}<|im_start|>assistant\n"


def scaffold_of(template: Template) -> Scaffold:
    return build_scaffold(chat(messages_of(template, marked_values(template.variables))), template.variables)


@pytest.mark.parametrize("template", built_in_templates(), ids=lambda template: template.id)
def test_every_built_in_template_builds_one(template: Template) -> None:
    scaffold = scaffold_of(template)
    values = {name: f"value of {name}" for name in template.variables}

    assert scaffold.variables == template.variables
    assert scaffold.render(values) == chat(messages_of(template, values))
    assert scaffold.render(values).startswith(scaffold.fixed_head)
    assert scaffold.fixed_head.startswith("<|im_start|>system\nYou ")


def test_order_repetition_and_absence_come_from_the_text() -> None:
    scaffold = build_scaffold(f"x{marker(2)}y{marker(0)}{marker(2)}", ("a", "b", "c"))
    assert scaffold == Scaffold(("x", "y", "", ""), ("c", "a", "c"))
    assert scaffold.render({"a": "1", "b": "2", "c": "3"}) == "x3y13"
    assert build_scaffold("nothing", ("a",)) == Scaffold(("nothing",), ())


def test_a_marker_is_found_beside_text_that_looks_like_one() -> None:
    rendered = f"__RAY_PROMPT_VAR_{marker(0)}0__{marker(10)}1__"
    names = tuple(f"v{n}" for n in range(11))
    assert build_scaffold(rendered, names) == Scaffold(("__RAY_PROMPT_VAR_", "0__", "1__"), ("v0", "v10"))


def test_values_are_not_looked_at() -> None:
    scaffold = build_scaffold(f"{marker(0)}-{marker(1)}", ("a", "b"))
    assert scaffold.render({"a": marker(1), "b": "{{ a }}"}) == f"{marker(1)}-{{{{ a }}}}"


def test_a_missing_value_is_named() -> None:
    with pytest.raises(RayError, match="a value for b") as caught:
        build_scaffold(f"{marker(0)}{marker(1)}{marker(1)}", ("a", "b")).render({"a": ""})
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize(
    "rendered",
    [marker(1), marker(0) * (MAX_GAPS + 1), "x" * (MAX_RENDERED_CHARS + 1)],
    ids=["stranger", "many", "long"],
)
def test_what_cannot_be_a_prompt_is_refused(rendered: str) -> None:
    with pytest.raises(RayError) as caught:
        build_scaffold(rendered, ("a",))
    assert caught.value.code == "provider_invalid_response"


words = st.text(st.characters(exclude_characters="{", exclude_categories=["Cs"]), max_size=12).filter(
    lambda text: "__RAY" not in text
)
names = st.sampled_from(["a", "b", "c9", "_x"])
template_texts = st.lists(words | names.map("{{{{ {} }}}}".format), min_size=1, max_size=8).map("".join)


@given(template_texts, st.none() | template_texts, st.data())
def test_given_any_template_and_values_when_compiled_then_the_scaffold_gives_the_same_prompt(
    text: str, system: str | None, data: st.DataObject
) -> None:
    template = own_template(f"I {text}", f"S {system}" if system else None)
    sent = {name: data.draw(texts) for name in template.variables}
    try:
        values = template_values(template, sent)
    except RayError as error:
        assert "form a control token" in error.message or "surrogate" in error.message  # noqa: PT017
        return
    scaffold = scaffold_of(template)
    request = filled(request_of(""), template, values)
    assert scaffold.render(values) == chat(request.messages)

    compiled = compile_prompt(request, COMPILING, template).request
    assert scaffold.render(compiled.template_values) == chat(compiled.messages)
