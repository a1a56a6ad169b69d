"""Templates in a config file: what they may say, and what is refused before a client ever asks."""

from __future__ import annotations

import json

import pytest

from ray.config import BUILT_IN_TEMPLATES, MARKER_HEAD, TemplateConfig, config_document, sanitised_config
from ray.config.export import json_schema
from ray.config.templates import TEMPLATES
from tests.config.support import Document, load, refusal
from tests.config.test_export import complaints

BARE: Document = {"lane": "short", "input": "Say {{ word }}."}


def read(**changes: object) -> TemplateConfig:
    return load({"templates": {"own.v1": BARE | changes}}).templates["own.v1"]


def refused(**changes: object) -> str:
    """The refusal of a template with these changes, without the place's beginning."""
    message = refusal({"templates": {"own.v1": BARE | changes}})
    assert message.startswith("templates.own.v1")
    return message.removeprefix("templates.own.v1")


def test_a_bare_template_gets_its_variables_from_its_text() -> None:
    assert read() == TemplateConfig(lane="short", input="Say {{ word }}.", variables=("word",))


def test_a_full_template_keeps_everything_and_loads_again() -> None:
    full: Document = {
        "version": "2026-11",
        "family": "desk",
        "lane": "draft",
        "input": "\n{{b}} {{ a }} {{b}}\n",
        "system": " Be {{ c_1 }}. ",
        "maxTokens": 2048,
        "responseFormat": {"type": "json_object"},
        "metadata": {"team": "a", "empty": ""},
        "variables": ["a", "b", "c_1"],
    }
    config = load({"templates": {"own": full}})
    template = config.templates["own"]
    assert template.variables == ("c_1", "b", "a")
    assert (template.input, template.system) == ("{{b}} {{ a }} {{b}}", "Be {{ c_1 }}.")
    assert load(config_document(config)) == config
    assert list(complaints(json_schema(), {"templates": {"own": full}})) == []
    assert "Be {{ c_1 }}." in json.dumps(sanitised_config(config))


def test_built_in_templates_obey_the_same_declaration() -> None:
    for template_id, template in BUILT_IN_TEMPLATES.items():
        written = TEMPLATES.each.write(template)
        assert load({"templates": {f"copy.of.{template_id}": written}}).templates[f"copy.of.{template_id}"] == template


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input": ""}, ".input must be a non-empty string"),
        ({"input": 5}, ".input must be a non-empty string, not a number"),
        ({"input": "x" * 16_385}, ".input must be at most 16384 characters"),
        ({"system": " "}, ".system must be a non-empty string"),
        ({"system": "x" * 16_385}, ".system must be at most 16384 characters"),
        ({"lane": "fast"}, ".lane value 'fast' is not supported: use one of short, draft"),
        ({"maxTokens": 2049}, ".maxTokens must be an integer from 1 to 2048"),
        ({"responseFormat": "json"}, ".responseFormat must be an object"),
        ({"metadata": {"k": 1}}, ".metadata.k must be a string"),
        ({"metadata": {str(n): "" for n in range(33)}}, ".metadata must have at most 32 entries"),
        ({"family": "a\nb"}, ".family must not contain NUL"),
        ({"text": "x"}, ".text is not a known key of a template"),
        ({"variables": []}, ".variables does not declare word, which the text uses"),
        ({"variables": ["Word"]}, ".variables does not declare word, which the text uses"),
        ({"system": "{{ tone }}", "variables": ["word"]}, ".variables does not declare tone, which the text uses"),
        ({"variables": ["word", "tone", "x"]}, ".variables declares tone, x, which the text does not use"),
        ({"variables": ["word", "word"]}, ".variables declares a name twice"),
        ({"variables": ["wo-rd"]}, ".variables[0] must be 1 to 64 letters, digits or underscores"),
        ({"input": "{{ a-b }}"}, ".input has a `{{` that begins no placeholder"),
        ({"input": "{{}}"}, ".input has a `{{` that begins no placeholder"),
        ({"input": "{{ a }"}, ".input has a `{{` that begins no placeholder"),
        ({"input": "{{ " + "a" * 65 + " }}"}, ".input has a `{{` that begins no placeholder"),
        ({"system": "{{ ä }}"}, ".system has a `{{` that begins no placeholder"),
        ({"system": f"{MARKER_HEAD}0__"}, ".system must not contain __RAY_PROMPT_VAR_"),
        ({"input": "{{ a }}" * 65}, " has 65 placeholders; at most 64 are allowed"),
        ({"input": " ".join(f"{{{{ v{n} }}}}" for n in range(33))}, " has 33 variables; at most 32 are allowed"),
    ],
)
def test_a_template_at_odds_with_itself_is_refused_by_its_place(changes: Document, words: str) -> None:
    assert refused(**changes).startswith(words)


@pytest.mark.parametrize("key", ["lane", "input"])
def test_lane_and_input_are_required(key: str) -> None:
    document = {name: value for name, value in BARE.items() if name != key}
    assert refusal({"templates": {"own.v1": document}}) == f"templates.own.v1.{key} is required"


@pytest.mark.parametrize("name", ["", " ", "a b", ".a", "-a", "ä", "a/b", "a" * 129, "constructor"])
def test_ids_are_plain_words(name: str) -> None:
    assert "templates" in refusal({"templates": {name: BARE}})


@pytest.mark.parametrize("name", ["a", "A-1_b.v2", "9", "a" * 128])
def test_plain_ids_are_fine(name: str) -> None:
    assert name in load({"templates": {name: BARE}}).templates


def test_there_are_at_most_64() -> None:
    assert len(load({"templates": {f"t{n}": BARE for n in range(64)}}).templates) == 64
    assert "must have at most 64 entries" in refusal({"templates": {f"t{n}": BARE for n in range(65)}})


@pytest.mark.parametrize("value", [None, [], "x", {"a": None}, {"a": "text"}])
def test_only_an_object_of_objects_will_do(value: object) -> None:
    assert "must be an object" in refusal({"templates": value})


def test_braces_that_are_no_placeholder_are_text() -> None:
    text = 'Answer like {"a": {"b": {{ word }}}} } }} {'
    assert read(input=text).input == text
