"""Kinds of value that hold others: arrays, and objects with free keys. Both are frozen when read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar

from ray.config.kinds import Integer, Kind, Place, found
from ray.config.texts import Check, Text

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TextList:
    """An array of non-blank strings; `check` may add a rule for each."""

    max_items: int
    max_chars: int
    min_items: int = 0
    one_line: bool = False
    check: Check | None = None
    rule: str = ""

    def read(self, value: object, place: Place) -> tuple[str, ...]:
        items = _array(value, place, self.min_items, self.max_items)
        each = Text(self.max_chars, one_line=self.one_line, check=self.check)
        return tuple(each.read(item, place.item(index)) for index, item in enumerate(items))

    def parse(self, text: str) -> object:
        longest = self.max_items * self.max_chars + self.max_items - 1  # before splitting: hostile size stops here
        if len(text) > longest:
            raise ValueError(f"must be at most {longest} characters")
        parts = [part.strip() for part in text.split(",")]
        if not all(parts):
            raise ValueError("must be a comma-separated list without empty entries")
        return parts

    def write(self, value: object) -> object:
        return list(value) if isinstance(value, tuple) else value

    def allowed(self) -> str:
        size = f"{self.min_items} to {self.max_items} strings of 1 to {self.max_chars} characters"
        return f"{size}; {self.rule}" if self.rule else size

    def json_schema(self) -> dict[str, object]:
        return {
            "type": "array",
            "minItems": self.min_items,
            "maxItems": self.max_items,
            "items": Text(self.max_chars).json_schema(),
        }


def _array(value: object, place: Place, min_items: int, max_items: int) -> Sequence[object]:
    if not isinstance(value, list):
        raise place.error(f"must be an array, not {found(value)}")
    if len(value) > max_items:
        raise place.error(f"must have at most {max_items} entries, not {len(value)}")
    if len(value) < min_items:
        raise place.error(f"must have at least {min_items} entries")
    return value


@dataclass(frozen=True, slots=True)
class IntegerList:
    """An array of whole numbers."""

    each: Integer
    max_items: int

    def read(self, value: object, place: Place) -> tuple[int, ...]:
        items = _array(value, place, 0, self.max_items)
        return tuple(self.each.read(item, place.item(index)) for index, item in enumerate(items))

    def parse(self, text: str) -> object:
        if text.count(",") >= self.max_items:  # before splitting: hostile size stops here
            raise ValueError(f"must have at most {self.max_items} entries")
        try:
            return [self.each.parse(part.strip()) for part in text.split(",")]
        except ValueError:
            raise ValueError("must be a comma-separated list of whole numbers") from None

    def write(self, value: object) -> object:
        return list(value) if isinstance(value, tuple) else value

    def allowed(self) -> str:
        return f"at most {self.max_items} integers from {self.each.minimum} to {self.each.maximum}"

    def json_schema(self) -> dict[str, object]:
        return {"type": "array", "minItems": 0, "maxItems": self.max_items, "items": self.each.json_schema()}


@dataclass(frozen=True, slots=True)
class ListOf(Generic[T]):
    """An array whose entries are of another kind."""

    each: Kind[T]
    max_items: int

    def read(self, value: object, place: Place) -> tuple[T, ...]:
        items = _array(value, place, 0, self.max_items)
        return tuple(self.each.read(item, place.item(index)) for index, item in enumerate(items))

    def parse(self, text: str) -> object:
        raise ValueError("cannot be given in the environment")

    def write(self, value: object) -> object:
        return [self.each.write(item) for item in value] if isinstance(value, tuple) else value

    def allowed(self) -> str:
        return f"at most {self.max_items} entries"

    def json_schema(self) -> dict[str, object]:
        return {"type": "array", "maxItems": self.max_items, "items": self.each.json_schema()}


@dataclass(frozen=True, slots=True)
class MapOf(Generic[T]):
    """An object from free keys to values of one kind. `check` judges each key, `unique` compares keys ignoring case."""

    each: Kind[T]
    max_entries: int
    max_key_chars: int = 128
    unique: bool = False
    check: Check | None = None
    rule: str = ""

    def read(self, value: object, place: Place) -> Mapping[str, T]:
        if not isinstance(value, dict):
            raise place.error(f"must be an object, not {found(value)}")
        if len(value) > self.max_entries:
            raise place.error(f"must have at most {self.max_entries} entries, not {len(value)}")
        key_kind = Text(self.max_key_chars, check=self.check)
        seen: set[str] = set()
        for key in value:
            key_kind.read(key, Place(f"{place.key} key", place.cwd))
            if self.unique and key.lower() in seen:
                raise place.error(f"names {key!r} twice (upper and lower case are the same name)")
            seen.add(key.lower())
        return MappingProxyType({key: self.each.read(item, place.child(key)) for key, item in value.items()})

    def parse(self, text: str) -> object:
        raise ValueError("cannot be given in the environment")

    def write(self, value: object) -> object:
        return {key: self.each.write(item) for key, item in value.items()} if isinstance(value, Mapping) else value

    def allowed(self) -> str:
        size = f"at most {self.max_entries} entries, keys of 1 to {self.max_key_chars} characters"
        return f"{size}; {self.rule}" if self.rule else size

    def json_schema(self) -> dict[str, object]:
        return {
            "type": "object",
            "maxProperties": self.max_entries,
            "propertyNames": Text(self.max_key_chars).json_schema(),
            "additionalProperties": self.each.json_schema(),
        }
