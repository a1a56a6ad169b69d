"""The catalogue, the built-in templates, and rendering."""

from __future__ import annotations

import pytest

from ray.config import PLACEHOLDER, config_from_mapping
from ray.prompts import TemplateCatalog, built_in_templates, catalog_of, filled, messages_of, render
from ray.types import Message
from tests.prompts.support import TINY, own_template, request_of

BUILT_IN = {
    "email.cold_outreach.v1": ("draft", 140, None, ("recipientRole", "topic", "valueProp", "companyContext")),
    "email.follow_up.v1": ("draft", 120, None, ("recipientRole", "previousTopic", "reasonToReply")),
    "email.reply_classification.v1": ("short", 80, "json_object", ("replyText",)),
    "email.reply_rewrite.v1": ("short", 120, None, ("rewriteGoal", "replyText")),
}


def test_the_four_built_in_templates() -> None:
    found = {t.id: (t.lane, t.max_tokens, t.response_format, t.variables) for t in built_in_templates()}
    assert found == BUILT_IN
    for template in built_in_templates():
        assert (template.version, f"{template.family}.v1") == ("v1", template.id)
        assert dict(template.metadata) == {}


@pytest.mark.parametrize("template", built_in_templates(), ids=lambda template: template.id)
def test_built_in_variables_stand_in_the_order_of_the_text(template: object) -> None:
    assert isinstance(template, type(built_in_templates()[0]))
    assert tuple(PLACEHOLDER.findall(f"{template.system} {template.input}")) == template.variables


def test_classification_names_its_three_keys() -> None:
    template = TemplateCatalog({}).get("email.reply_classification.v1")
    assert template is not None
    assert template.system is not None
    assert all(key in template.system for key in ("sentiment", "intent", "urgency"))


def test_listing_shows_no_text_and_caps_tokens_at_the_model() -> None:
    listing = catalog_of(TINY).listing(100)
    assert [entry["id"] for entry in listing] == list(BUILT_IN)
    assert listing[2] == {
        "id": "email.reply_classification.v1",
        "version": "v1",
        "family": "email.reply_classification",
        "lane": "short",
        "variables": ["replyText"],
        "maxTokens": 80,
        "responseFormat": {"type": "json_object"},
    }
    assert [entry["maxTokens"] for entry in listing] == [100, 100, 80, 100]
    assert all("responseFormat" not in entry for entry in (listing[0], listing[1], listing[3]))


def test_own_templates_follow_the_built_in_ones_and_may_leave_much_out() -> None:
    own = {"b.v12": {"lane": "short", "input": "x"}, "a": {"lane": "draft", "input": "{{ x }}", "family": "f"}}
    catalog = catalog_of(config_from_mapping({"templates": own}))
    assert [template.id for template in catalog][4:] == ["b.v12", "a"]
    assert [(entry["id"], entry["maxTokens"]) for entry in catalog.listing(256)[4:]] == [("b.v12", 256), ("a", 256)]
    first, second = catalog.get("b.v12"), catalog.get("a")
    assert first is not None
    assert second is not None
    assert (first.version, first.family, second.version, second.family) == ("v12", "b", "v1", "f")
    assert catalog.get("c") is None


def test_rendering_is_one_pass_and_keeps_values_as_they_are() -> None:
    template = own_template("{{ a }}|{{b}}|{{ a }}", "for {{ b }}", variables=["b", "a"])
    assert template.variables == ("b", "a")
    assert render(template, {"a": "{{ b }}", "b": r"\1 {{a}}"}) == (r"{{ b }}|\1 {{a}}|{{ b }}", r"for \1 {{a}}")


def test_messages_are_the_texts_untrimmed_and_complete() -> None:
    template = own_template("{{ a }}", "{{ b }}")
    assert messages_of(template, {"a": " x ", "b": ""}) == (Message("system", ""), Message("user", " x "))
    assert messages_of(own_template("{{ a }}"), {"a": "x"}) == (Message("user", "x"),)


def test_a_filled_request_keeps_everything_but_its_words() -> None:
    request = request_of("old", trace="1")
    changed = filled(request, own_template("new {{ a }}"), {"a": "words"})
    assert changed.messages == (Message("user", "new words"),)
    assert (changed.template_id, dict(changed.template_values)) == ("own.v3", {"a": "words"})
    assert (changed.metadata, changed.max_tokens) == (request.metadata, request.max_tokens)
