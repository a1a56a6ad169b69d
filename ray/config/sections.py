"""How a dataclass declares settings: each field carries its kind, meaning, environment variables and default.

`setting(...)` stands where a dataclass default would stand. `Section` is the kind of value that a whole dataclass is,
and `OneOf` chooses among several by a tag. Readers of the declaration (loader, exporter, tests) use `settings_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import Generic, TypeVar, cast

from ray.config.kinds import Kind, Place, SettingError, found

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_REQUIRED = object()


@dataclass(frozen=True, slots=True)
class Setting:
    """One declared setting. `variables`: environment names, the first that is not blank wins."""

    name: str
    key: str
    kind: Kind[object]
    meaning: str
    variables: tuple[str, ...]
    required: bool
    optional: bool
    default: object


def setting(kind: Kind[T], meaning: str, *env: str, default: object = _REQUIRED) -> T:
    """A field that always has a value. Without `default` the key must be given by the profile or the file."""
    metadata = {"kind": kind, "meaning": meaning, "env": env, "optional": False}
    if default is _REQUIRED:
        return cast(T, field(metadata=metadata))
    return cast("T", field(default=default, metadata=metadata))


def optional(kind: Kind[T], meaning: str, *env: str) -> T | None:
    """A field that may be absent: None then, and left out of documents."""
    metadata = {"kind": kind, "meaning": meaning, "env": env, "optional": True}
    return cast("T | None", field(default=None, metadata=metadata))


def collection(kind: Kind[T], meaning: str, empty: T, secret: bool = False) -> T:
    """A list or map that may be absent: empty then, and left out of documents. A secret one stays out of `repr`."""
    metadata = {"kind": kind, "meaning": meaning, "env": (), "optional": True}
    return field(default_factory=lambda: empty, repr=not secret, metadata=metadata)


def camel_case(name: str) -> str:
    """`max_queue` → `maxQueue`; the unit in `_mib` is spelled `MiB` in files."""
    head, *rest = name.split("_")
    return head + "".join("MiB" if part == "mib" else part.capitalize() for part in rest)


@cache
def settings_of(owner: type) -> tuple[Setting, ...]:
    """The declared settings of a dataclass, in order."""
    found_settings = []
    for entry in fields(owner):
        data = entry.metadata
        required = entry.default is MISSING and entry.default_factory is MISSING
        found_settings.append(
            Setting(
                name=entry.name,
                key=camel_case(entry.name),
                kind=data["kind"],
                meaning=data["meaning"],
                variables=data["env"],
                required=required,
                optional=data["optional"],
                default=None if entry.default is MISSING else entry.default,
            )
        )
    return tuple(found_settings)


class UnknownKeyError(SettingError):
    """A key that nothing declares. `name`: as it was written; `siblings`: the keys that are known at that place."""

    def __init__(self, place: Place, name: str, siblings: tuple[str, ...], of: str = "") -> None:
        super().__init__(place.child(name).key, f"is not a known key{of}")
        self.parent = place.key
        self.name = name
        self.siblings = siblings


@dataclass(frozen=True, slots=True)
class Section(Generic[T_co]):
    """An object with declared keys, read into its dataclass."""

    owner: Callable[..., T_co]
    of: str = ""

    @property
    def settings(self) -> tuple[Setting, ...]:
        return settings_of(cast(type, self.owner))

    def read(self, value: object, place: Place) -> T_co:
        if not isinstance(value, dict):
            raise place.error(f"must be an object, not {found(value)}")
        known = {entry.key: entry for entry in self.settings}
        for key in value:
            if key not in known:
                raise UnknownKeyError(place, key, tuple(known), self.of)
        values: dict[str, object] = {}
        for key, entry in known.items():
            if key in value:
                values[entry.name] = entry.kind.read(value[key], place.child(key))
            elif entry.required:
                raise place.child(key).error("is required")
        return self.owner(**values)

    def parse(self, text: str) -> object:
        raise ValueError("cannot be given in the environment")

    def write(self, value: object) -> dict[str, object]:
        return dict(self._written(value))

    def _written(self, value: object) -> Iterator[tuple[str, object]]:
        for entry in self.settings:
            item = getattr(value, entry.name)
            absent = item is None or (isinstance(item, tuple | Mapping) and not item)
            if not (entry.optional and absent):
                yield entry.key, entry.kind.write(item)

    def allowed(self) -> str:
        return "an object"

    def json_schema(self) -> dict[str, object]:
        properties: dict[str, object] = {}
        for entry in self.settings:
            properties[entry.key] = entry.kind.json_schema() | {"description": entry.meaning}
        return {"type": "object", "additionalProperties": False, "properties": properties}


@dataclass(frozen=True, slots=True)
class OneOf(Generic[T]):
    """An object whose `tag` key says which section it is."""

    tag: str
    sections: Mapping[str, Section[T]]

    def section_of(self, value: object) -> Section[T] | None:
        """The section that this JSON value names, if it names one."""
        name = value.get(self.tag) if isinstance(value, Mapping) else None
        return self.sections.get(name) if isinstance(name, str) else None

    def read(self, value: object, place: Place) -> T:
        if not isinstance(value, dict):
            raise place.error(f"must be an object, not {found(value)}")
        section = self.section_of(value)
        if section is None:
            names = ", ".join(self.sections)
            raise place.child(self.tag).error(f"is not supported: use one of {names}", supported=list(self.sections))
        return section.read(value, place)

    def parse(self, text: str) -> object:
        raise ValueError("cannot be given in the environment")

    def write(self, value: object) -> object:
        return self.sections[getattr(value, self.tag)].write(value)

    def allowed(self) -> str:
        return f"an object whose `{self.tag}` says what it is"

    def json_schema(self) -> dict[str, object]:
        # A file gives only differences, so it may leave the tag to its profile: hence anyOf, with the tag optional.
        return {"type": "object", "anyOf": [section.json_schema() for section in self.sections.values()]}
