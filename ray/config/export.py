"""What the declaration of the settings says to others: JSON Schema, the page of documentation, a complete example.

`python -m ray.config.export [DIRECTORY]` writes `docs/configuration.md` and `docs/ray.schema.json` below the directory
(the current one by default). Nothing here is loaded when the gateway starts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ray.config.adapters import LLAMA_CPP
from ray.config.environment import PROFILE_VARIABLE, variables_of
from ray.config.load import SCHEMA_KEY
from ray.config.markdown import configuration_markdown
from ray.config.pending import MARK, is_pending
from ray.config.profiles import profile_document
from ray.config.schema import CONFIG, DEFAULT_PROFILE, PROFILE_NAMES
from ray.config.sections import OneOf, Section, Setting

__all__ = ["configuration_markdown", "json_schema", "main", "reference_config", "schema_text"]

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
Document = dict[str, object]


def reference_config(profile: str = DEFAULT_PROFILE) -> Document:
    """A config document with every key that the profile sets, paths as they are written in a file."""
    return profile_document(profile)


def json_schema() -> Document:
    """The JSON Schema (draft 2020-12) of a config file: every key optional, because a file holds only differences.

    Types, ranges and known keys are complete. Rules between two keys cannot be said in JSON Schema: the loader checks
    them.
    """
    schema = CONFIG.json_schema()
    _annotate(schema, CONFIG, ())
    properties = schema["properties"]
    assert isinstance(properties, dict)  # of a section
    schema["properties"] = {SCHEMA_KEY: {"type": "string", "description": "Where this schema lies, for editors."}} | (
        properties
    )
    return {
        "$schema": SCHEMA_DIALECT,
        "title": "Ray config file",
        "description": "Differences from a profile. Environment variables named RAY_* override what is written here.",
        **schema,
    }


def _annotate(schema: object, section: Section[object], path: tuple[str, ...], kind: str = LLAMA_CPP) -> None:
    """Add to each key's description its variable and whether it has no effect yet; its default where profiles agree."""
    properties = schema["properties"] if isinstance(schema, dict) else {}
    for entry in section.settings:
        below = (*path, entry.key)
        if isinstance(entry.kind, Section):
            _annotate(properties[entry.key], entry.kind, below, kind)
        elif isinstance(entry.kind, OneOf):
            for (name, inner), variant in zip(entry.kind.sections.items(), properties[entry.key]["anyOf"], strict=True):
                _annotate(variant, inner, below, name)
        else:
            properties[entry.key] |= _notes(entry, below, kind)


def _notes(entry: Setting, path: tuple[str, ...], kind: str) -> Document:
    variables = [PROFILE_VARIABLE] if path == ("profile",) else list(variables_of(entry, kind))
    source = f" Variable: {', '.join(variables)}." if variables else ""
    mark = f" {MARK.capitalize()}." if is_pending(path) else ""
    notes: Document = {"description": entry.meaning + mark + source}
    values = [value_at(reference_config(name), path) for name in PROFILE_NAMES]
    if path[:2] != ("model", "adapter") and values[0] is not None and values.count(values[0]) == len(values):
        notes["default"] = values[0]
    return notes


def value_at(document: object, path: tuple[str, ...]) -> object:
    """The value at a dotted path, or None."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def schema_text() -> str:
    """The schema as it stands in docs/ray.schema.json."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write both generated files. One optional argument: the directory that holds `docs`."""
    if len(arguments) > 1:
        print("usage: python -m ray.config.export [DIRECTORY]", file=sys.stderr)
        return 2
    docs = Path(arguments[0] if arguments else ".") / "docs"
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "configuration.md").write_text(configuration_markdown(), encoding="utf-8")
    (docs / "ray.schema.json").write_text(schema_text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
