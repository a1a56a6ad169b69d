"""The fields of a JSON body, declared once: the declaration both reads a body and describes it.

A table is a sequence of `Field`s; `read_fields` checks a body in the table's order, and `object_schema` is the same
table as JSON Schema. Keys that a table does not name are ignored, and `null` is a value like any other, unless a field
or the table says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray.errors import truncated
from ray.runtime.kinds import Kind, Schema, echo, refuse

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an object. `nullable`: `null` is a value it may have. `default`: what its absence means, for readers
    of the schema only; None for nothing to say."""

    name: str
    kind: Kind
    doc: str
    required: bool = False
    nullable: bool = False
    default: object = None


def read_fields(
    body: Mapping[str, object], fields: Sequence[Field], *, null_is_absent: bool = False, within: str = ""
) -> dict[str, object]:
    """The fields that are present, by name, checked in the order of the table. Other keys of `body` are ignored.

    `within`: the path of `body` itself, for errors. Raises RayError `invalid_request`.
    """
    found: dict[str, object] = {}
    for field in fields:
        name = field.name
        value = body.get(name, _ABSENT)
        if value is _ABSENT or (value is None and null_is_absent):
            if field.required:
                path = f"{within}.{name}" if within else name
                refuse(f"{path} is required", path)
        elif value is None and field.nullable:
            found[name] = None
        else:
            found[name] = field.kind.read(value, f"{within}.{name}" if within else name)
    return found


def object_schema(fields: Sequence[Field], *, null_is_absent: bool = False) -> Schema:
    """The JSON Schema of an object with these fields; others may be present."""
    properties: dict[str, object] = {}
    for field in fields:
        entry = field.kind.schema()
        if field.nullable or (null_is_absent and not field.required):
            entry = _or_null(entry)
        entry["description"] = field.doc
        if field.default is not None:
            entry["default"] = field.default
        properties[field.name] = entry
    schema: Schema = {"type": "object", "properties": properties}
    required = [field.name for field in fields if field.required]
    if required:
        schema["required"] = required
    return schema


def _or_null(schema: Schema) -> Schema:
    kind = schema.get("type")
    if kind == "null":
        return schema
    if isinstance(kind, str) and "enum" not in schema:
        return {**schema, "type": [kind, "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


class Object:
    """An object with declared fields. `open`: other keys are ignored, else they are refused."""

    __slots__ = ("fields", "null_is_absent", "open")

    def __init__(self, fields: tuple[Field, ...], open: bool = True, null_is_absent: bool = False) -> None:
        self.fields = fields
        self.open = open
        self.null_is_absent = null_is_absent

    def fits(self, value: object) -> bool:
        return isinstance(value, dict)

    def read(self, value: object, field: str, name: str = "") -> dict[str, object]:
        if not isinstance(value, dict):
            refuse(f"{name or field} must be {self.allowed()}", field, value=echo(value))
        if not self.open:
            known = [entry.name for entry in self.fields]
            for key in value:
                if key not in known:
                    refuse(f"{name or field} has an unknown key", f"{field}.{truncated(key, 64)}", supportedKeys=known)
        return read_fields(value, self.fields, null_is_absent=self.null_is_absent, within=field)

    def allowed(self) -> str:
        required = [entry.name for entry in self.fields if entry.required]
        return f"an object with {' and '.join(required)}" if required else "an object"

    def schema(self) -> Schema:
        schema = object_schema(self.fields, null_is_absent=self.null_is_absent)
        if not self.open:
            schema["additionalProperties"] = False
        return schema
