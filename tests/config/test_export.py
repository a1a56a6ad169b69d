"""The generated page and schema: complete, and no older than the declaration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray.config import PROFILE_NAMES, config_document
from ray.config.export import configuration_markdown, json_schema, main, reference_config, schema_text
from ray.config.nearest import known_keys
from ray.config.schema import CONFIG
from tests.config.support import load, profile_fixture
from tests.config.test_environment import rows as variable_rows
from tests.config.test_schema import INTEGERS, rows

ROOT = Path(__file__).parents[2]


def test_generated_files_are_up_to_date() -> None:
    remedy = "run `make docs` (python -m ray.config.export)"
    assert (ROOT / "docs/configuration.md").read_text("utf-8") == configuration_markdown(), remedy
    assert (ROOT / "docs/ray.schema.json").read_text("utf-8") == schema_text(), remedy


def test_generator_writes_both_files(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    assert (tmp_path / "docs/configuration.md").read_text("utf-8") == configuration_markdown()
    assert json.loads((tmp_path / "docs/ray.schema.json").read_text("utf-8")) == json_schema()


def test_generator_refuses_a_second_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a", "b"]) == 2
    assert "usage" in capsys.readouterr().err


def test_page_has_every_key_every_variable_and_every_profile() -> None:
    page = configuration_markdown()
    for key in known_keys(CONFIG, ""):
        assert key.rpartition(".")[2] in page
    for variable, _, _, _ in variable_rows():
        assert f"`{variable}`" in page
    for name in PROFILE_NAMES:
        assert f"`{name}`" in page


def test_page_states_ranges_and_defaults_by_profile() -> None:
    page = configuration_markdown()
    assert "| an integer from 1 to 512 | by profile | `RAY_SCHEDULER_MAX_QUEUE` |" in page
    assert "| `maxQueue` | `32` | `64` | `48` | `40` | `96` | `96` | `160` |" in page
    assert "| `port` | Port to listen on. | an integer from 1 to 65535 | `3000` | `RAY_PORT` |" in page


def test_page_tables_are_well_formed() -> None:
    width = 0
    for line in configuration_markdown().splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        cells = line.replace("\\|", "").count("|")
        width = width or cells
        assert cells == width, line


# --- JSON Schema: a small validator for the words this schema uses, so that examples can be tried against it


def complaints(schema: object, value: object, path: str = "$") -> Iterator[str]:
    assert isinstance(schema, dict)
    known = {"$schema", "title", "description", "default", "type", "enum", "const", "anyOf", "properties", "required"}
    known |= {"additionalProperties", "propertyNames", "maxProperties", "items", "minItems", "maxItems"}
    known |= {"minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength", "pattern"}
    assert set(schema) <= known
    names = schema.get("type", [])
    if names and not any(_is(value, name) for name in ([names] if isinstance(names, str) else names)):
        yield f"{path}: not {names}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: not in enum"
    if "const" in schema and value != schema["const"]:
        yield f"{path}: not the constant"
    if "anyOf" in schema and all(list(complaints(variant, value, path)) for variant in schema["anyOf"]):
        yield f"{path}: fits no variant"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            yield f"{path}: out of range"
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            yield f"{path}: out of range"
    if isinstance(value, str) and not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        yield f"{path}: bad length"
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{path}: bad number of items"
        for index, item in enumerate(value):
            yield from complaints(schema["items"], item, f"{path}[{index}]")
    if isinstance(value, dict):
        yield from _object_complaints(schema, value, path)


def _object_complaints(schema: dict[str, object], value: dict[str, object], path: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    assert isinstance(properties, dict)
    required = schema.get("required", [])
    assert isinstance(required, list)
    for name in required:
        if name not in value:
            yield f"{path}.{name}: missing"
    for name, item in value.items():
        if name in properties:
            yield from complaints(properties[name], item, f"{path}.{name}")
        elif schema.get("additionalProperties") is False:
            yield f"{path}.{name}: unknown"
        elif isinstance(schema.get("additionalProperties"), dict):
            yield from complaints(schema["additionalProperties"], item, f"{path}.{name}")


def _is(value: object, name: str) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return {
        "object": isinstance(value, dict),
        "array": isinstance(value, list),
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "number": number,
        "integer": number and (isinstance(value, int) or (isinstance(value, float) and value.is_integer())),
    }[name]


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_schema_accepts_every_profile_and_every_effective_config(name: str) -> None:
    assert list(complaints(json_schema(), profile_fixture(name))) == []
    assert list(complaints(json_schema(), config_document(load({"profile": name})))) == []


def test_schema_accepts_a_file_that_names_it() -> None:
    assert list(complaints(json_schema(), {"$schema": "ray.schema.json"})) == []
    assert list(complaints(json_schema(), {"$schema": 5}))


def test_schema_accepts_every_example() -> None:
    for path in sorted((ROOT / "examples/config").glob("*.json")):
        assert list(complaints(json_schema(), json.loads(path.read_text("utf-8")))) == []


@pytest.mark.parametrize(
    "document",
    [
        {"unknown": 1},
        {"server": {"hots": "x"}},
        {"server": {"port": 0}},
        {"server": {"port": "3000"}},
        {"profile": "cluster"},
        {"model": {"adapter": {"kind": "nope"}}},
        {"model": {"adapter": {"kind": "mock", "baseUrl": "http://127.0.0.1"}}},
        {"model": {"adapter": {"warmupRequests": [{"inputs": "x"}]}}},
        {"cache": {"enabled": "true"}},
        {"tags": {"a": 1}},
    ],
)
def test_schema_refuses_what_the_loader_refuses(document: dict[str, object]) -> None:
    assert list(complaints(json_schema(), document))


def test_schema_carries_ranges_variables_and_defaults() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False
    port = lookup(schema, "server.port")
    assert port == {
        "type": "integer",
        "minimum": 1,
        "maximum": 65_535,
        "description": "Port to listen on. Variable: RAY_PORT.",
        "default": 3000,
    }
    assert "default" not in lookup(schema, "scheduler.maxQueue")  # differs by profile
    for key, least, greatest in rows(INTEGERS):
        node = lookup(schema, key)
        assert (node["minimum"], node["maximum"]) == (int(least), int(greatest))


def lookup(schema: dict[str, object], key: str) -> dict[str, object]:
    node: object = schema
    for part in key.split("."):
        assert isinstance(node, dict)
        variant = node["anyOf"][-1] if "anyOf" in node else node  # the last kind of adapter is llama.cpp
        node = variant["properties"][part]
    assert isinstance(node, dict)
    return node


def test_every_key_is_described() -> None:
    def undescribed(node: object, path: str) -> Iterator[str]:
        assert isinstance(node, dict)
        for variant in node.get("anyOf", []):
            yield from undescribed(variant, path)
        for name, inner in node.get("properties", {}).items():
            if not inner.get("description") and name != "type":
                yield f"{path}.{name}"
            yield from undescribed(inner, f"{path}.{name}")

    assert list(undescribed(json_schema(), "")) == []


def test_reference_config_is_a_file_that_loads() -> None:
    assert load(reference_config()) == load({})
    assert reference_config("tiny")["asyncQueue"] == {
        **profile_section("tiny", "asyncQueue"),
        "storageDir": ".ray/async-queue",
    }


def profile_section(name: str, section: str) -> dict[str, object]:
    found = profile_fixture(name)[section]
    assert isinstance(found, dict)
    return found
