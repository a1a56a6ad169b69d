"""Schemas of Ray's own nouns, read off their dataclasses: what `ray.types.as_json` writes is what these describe.

A field with a default may be absent, `None` is never written, and names are in camel case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

Schema = dict[str, object]

_PLAIN: Mapping[object, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def reference(name: str) -> Schema:
    """A component schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def json_text(schema: Schema) -> Schema:
    """A string that holds JSON of this schema."""
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}


def schemas_of(*nouns: type) -> dict[str, Schema]:
    """The component schemas of these dataclasses and of all that they are made of, by class name."""
    found: dict[str, Schema] = {}
    for noun in nouns:
        _collect(noun, found)
    return found


def _collect(noun: type, found: dict[str, Schema]) -> None:
    if noun.__name__ in found:
        return
    schema = found[noun.__name__] = {}  # before its parts: a noun may be made of itself
    hints = get_type_hints(noun)
    properties: Schema = {}
    required = []
    for entry in fields(noun):
        name = _camel_case(entry.name)
        properties[name] = _schema(hints[entry.name], found)
        if entry.default is MISSING and entry.default_factory is MISSING:
            required.append(name)
    schema |= {"type": "object", "properties": properties}
    if required:
        schema["required"] = required


def _schema(hint: object, found: dict[str, Schema]) -> Schema:
    plain = _PLAIN.get(hint)
    if plain is not None:
        return {"type": plain}
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not NoneType)
        return _schema(inner, found)
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0], found)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object"}
    if isinstance(hint, type) and is_dataclass(hint):
        _collect(hint, found)
        return reference(hint.__name__)
    raise TypeError(f"{hint!r} has no schema: say here what it looks like as JSON")


def _camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
