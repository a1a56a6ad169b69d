"""The kinds of values that are made of others: lists, objects, and one of several kinds. See `kinds.py`."""

from __future__ import annotations

import json

from ray.runtime.kinds import Kind, Schema, Text, check_text, echo, refuse

_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class ListOf:
    """An array of one kind of entries. `entry`: what messages call one of them; their errors then name the array as the
    field. Without it they name the entry's own place."""

    __slots__ = ("entry", "kind", "max_items", "min_items")

    def __init__(self, kind: Kind, min_items: int = 0, max_items: int | None = None, entry: str = "") -> None:
        self.kind = kind
        self.min_items = min_items
        self.max_items = max_items
        self.entry = entry

    def fits(self, value: object) -> bool:
        return isinstance(value, list)

    def read(self, value: object, field: str, name: str = "") -> list[object]:
        if not isinstance(value, list) or (not value and self.min_items):
            refuse(f"{name or field} must be {self.allowed()}", field, value=echo(value))
        count = len(value)
        if self.max_items is not None and count > self.max_items:
            message = f"{name or field} has {count} entries; at most {self.max_items} are allowed"
            refuse(message, field, maxEntries=self.max_items, actualEntries=count)
        if count < self.min_items:
            message = f"{name or field} has {count} entries; at least {self.min_items} are needed"
            refuse(message, field, minEntries=self.min_items, actualEntries=count)
        if self.entry:
            return [self.kind.read(item, field, self.entry) for item in value]
        return [self.kind.read(item, f"{field}[{index}]") for index, item in enumerate(value)]

    def allowed(self) -> str:
        array = "a non-empty array" if self.min_items else "an array"
        return f"{array} of strings" if isinstance(self.kind, Text) else array

    def schema(self) -> Schema:
        schema: Schema = {"type": "array", "items": self.kind.schema()}
        if self.min_items:
            schema["minItems"] = self.min_items
        if self.max_items is not None:
            schema["maxItems"] = self.max_items
        return schema


class StringMap:
    """An object of strings, whose keys are not blank."""

    __slots__ = ("max_entries", "max_key_chars", "max_value_chars")

    def __init__(self, max_entries: int, max_key_chars: int, max_value_chars: int) -> None:
        self.max_entries = max_entries
        self.max_key_chars = max_key_chars
        self.max_value_chars = max_value_chars

    def fits(self, value: object) -> bool:
        return isinstance(value, dict)

    def read(self, value: object, field: str, name: str = "") -> dict[str, str]:
        name = name or field
        if not isinstance(value, dict):
            refuse(f"{name} must be {self.allowed()}", field, value=echo(value))
        if len(value) > self.max_entries:
            message = f"{name} has {len(value)} entries; at most {self.max_entries} are allowed"
            refuse(message, field, maxEntries=self.max_entries, actualEntries=len(value))
        for key, item in value.items():
            if not isinstance(key, str) or not key.strip():
                refuse(f"{name} keys must not be blank", field)
            if not key.isascii() or len(key) > self.max_key_chars:
                check_text(key, field, f"a {name} key", self.max_key_chars)
            if not isinstance(item, str):
                refuse(f"{name} value of {key!r} must be a string", field, key=key, value=echo(item))
            if not item.isascii() or len(item) > self.max_value_chars:
                check_text(item, field, f"{name} value of {key!r}", self.max_value_chars)
        return dict(value)

    def allowed(self) -> str:
        return "an object of strings"

    def schema(self) -> Schema:
        return {
            "type": "object",
            "maxProperties": self.max_entries,
            "propertyNames": Text(self.max_key_chars, blank=False).schema(),
            "additionalProperties": Text(self.max_value_chars).schema(),
        }


class JsonObject:
    """Any JSON object of bounded size, such as a JSON Schema. `max_bytes`: of its compact UTF-8 form; `max_depth`: of
    arrays and objects inside each other, the object itself being the first."""

    __slots__ = ("max_bytes", "max_depth")

    def __init__(self, max_bytes: int, max_depth: int) -> None:
        self.max_bytes = max_bytes
        self.max_depth = max_depth

    def fits(self, value: object) -> bool:
        return isinstance(value, dict)

    def read(self, value: object, field: str, name: str = "") -> dict[str, object]:
        name = name or field
        if not isinstance(value, dict):
            refuse(f"{name} must be {self.allowed()}", field, value=echo(value))
        try:
            size = len(compact_json(value).encode("utf-8"))
        except RecursionError:
            refuse(f"{name} is nested too deeply; at most {self.max_depth} levels", field, maxDepth=self.max_depth)
        except UnicodeEncodeError:
            refuse(f"{name} contains an unpaired surrogate: it is not valid Unicode text", field)
        except ValueError:
            refuse(f"{name} contains a number that is not finite", field)
        if size > self.max_bytes:
            message = f"{name} has {size} bytes; at most {self.max_bytes} are allowed"
            refuse(message, field, maxBytes=self.max_bytes, actualBytes=size)
        if _is_deeper(value, self.max_depth):
            refuse(f"{name} is nested too deeply; at most {self.max_depth} levels", field, maxDepth=self.max_depth)
        return value

    def allowed(self) -> str:
        return "an object"

    def schema(self) -> Schema:
        return {"type": "object"}


def compact_json(value: object) -> str:
    """`value` as JSON text without spaces. Raises ValueError when it holds a number that is not finite."""
    return _COMPACT(value)


def _is_deeper(value: object, depth: int) -> bool:
    level: list[object] = [value]
    for _ in range(depth):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        level = [item for item in inner if isinstance(item, dict | list)]
        if not level:
            return False
    return True


class Anything:
    """Any JSON value, handed on as it is: whoever needs it judges it."""

    __slots__ = ()

    def fits(self, value: object) -> bool:
        return True

    def read(self, value: object, field: str, name: str = "") -> object:
        return value

    def allowed(self) -> str:
        return "anything"

    def schema(self) -> Schema:
        return {}


class Either:
    """One of several kinds that differ in their JSON type: the type decides, so that errors are about one of them.

    `message`: what else is said, as the end of a sentence that begins with the field's name.
    """

    __slots__ = ("kinds", "message")

    def __init__(self, *kinds: Kind, message: str = "") -> None:
        self.kinds = kinds
        self.message = message

    def fits(self, value: object) -> bool:
        return any(kind.fits(value) for kind in self.kinds)

    def read(self, value: object, field: str, name: str = "") -> object:
        kind = next((one for one in self.kinds if one.fits(value)), None)
        if kind is None:
            refuse(f"{name or field} {self.message or f'must be {self.allowed()}'}", field, value=echo(value))
        return kind.read(value, field, name)

    def allowed(self) -> str:
        return " or ".join(kind.allowed() for kind in self.kinds)

    def schema(self) -> Schema:
        return {"anyOf": [kind.schema() for kind in self.kinds]}
