"""What a setting's value may be: one small class per kind of value.

A kind knows four things: how to read a JSON value (and refuse a bad one), how to turn the text of an environment
variable into such a value, how to give the value back as JSON, and how to say what is allowed (in words for people,
as JSON Schema for tools). Everything else about configuration is built from these.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Choice_co = TypeVar("Choice_co", bound=str, covariant=True)

LARGEST_INTEGER = 2**53 - 1  # beyond it other JSON readers lose digits
MAX_PATH_CHARS = 4096
Check = Callable[[str], str | None]  # the problem with a text ("must …"), or None

# `int()` and `float()` also take non-ASCII digits, underscores, "nan" and "inf": the grammar here does not.
_INTEGER_TEXT = re.compile(r"-?[0-9]{1,32}")
_NUMBER_TEXT = re.compile(r"[+-]?(?:[0-9]{1,32}(?:\.[0-9]{0,32})?|\.[0-9]{1,32})(?:[eE][+-]?[0-9]{1,3})?")
_BREAKS = re.compile(r"[\0\r\n]")
_BOOLEAN_TEXT = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


class SettingError(Exception):
    """A refused value. `key`: dotted path; `problem`: the rest of the sentence; `related`: other keys it depends on."""

    def __init__(
        self,
        key: str,
        problem: str,
        *,
        related: tuple[str, ...] = (),
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(f"{key} {problem}")
        self.key = key
        self.problem = problem
        self.related = related
        self.details = dict(details or {})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: its dotted key, and the directory that relative paths start from."""

    key: str
    cwd: str

    def child(self, name: str) -> Place:
        return Place(f"{self.key}.{name}" if self.key else name, self.cwd)

    def item(self, index: int) -> Place:
        return Place(f"{self.key}[{index}]", self.cwd)

    def error(self, problem: str, **details: object) -> SettingError:
        return SettingError(self.key, problem, details=details)


class Kind(Protocol[T_co]):
    """The contract of every kind of value."""

    def read(self, value: object, place: Place) -> T_co:
        """The checked value. Raises `SettingError`."""

    def parse(self, text: str) -> object:
        """A trimmed, non-blank environment text as a JSON value; `read` judges it. Raises ValueError on a bad form."""

    def write(self, value: object) -> object:
        """The value as plain JSON data."""

    def allowed(self) -> str:
        """What is accepted, in a few words."""

    def json_schema(self) -> dict[str, object]: ...


def found(value: object) -> str:
    """The JSON type of a value, for messages (the value itself may be a secret)."""
    if value is None:
        return "null"
    for kinds, name in _TYPE_NAMES:
        if isinstance(value, kinds):
            return name
    return type(value).__name__


_TYPE_NAMES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "a boolean"),
    ((int, float), "a number"),
    (str, "a string"),
    (dict, "an object"),
    ((list, tuple), "an array"),
)


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number within bounds. JSON `3000.0` counts, `true` does not."""

    minimum: int
    maximum: int

    def read(self, value: object, place: Place) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise place.error(f"must be {self.allowed()}, not {_number_or_type(value)}")
        if not self.minimum <= value <= self.maximum:
            limits = {"minimum": self.minimum, "maximum": self.maximum}
            raise place.error(f"must be {self.allowed()}, not {_number_or_type(value)}", **limits)
        return value

    def parse(self, text: str) -> object:
        if not _INTEGER_TEXT.fullmatch(text):
            raise ValueError(f"must be {self.allowed()}")
        return int(text)

    def write(self, value: object) -> object:
        return value

    def allowed(self) -> str:
        return f"an integer from {self.minimum} to {self.maximum}"

    def json_schema(self) -> dict[str, object]:
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


def _number_or_type(value: object) -> str:
    """A number itself if it is short, else its JSON type."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return found(value)
    return str(value) if abs(value) <= LARGEST_INTEGER else "a number beyond 2^53"


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number in [minimum, maximum], or in (minimum, maximum] when the lower end is open."""

    minimum: float
    maximum: float
    above_minimum: bool = False

    def read(self, value: object, place: Place) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise place.error(f"must be {self.allowed()}, not {found(value)}")
        fits_below = value > self.minimum if self.above_minimum else value >= self.minimum
        if not (fits_below and value <= self.maximum):  # NaN and infinity fail here too
            raise place.error(f"must be {self.allowed()}, not {_number_or_type(value)}")
        return value

    def parse(self, text: str) -> object:
        if not _NUMBER_TEXT.fullmatch(text):
            raise ValueError(f"must be {self.allowed()}")
        number = float(text)
        return int(number) if number.is_integer() else number

    def write(self, value: object) -> object:
        return value

    def allowed(self) -> str:
        if self.above_minimum:
            return f"a number above {self.minimum:g} and at most {self.maximum:g}"
        return f"a number from {self.minimum:g} to {self.maximum:g}"

    def json_schema(self) -> dict[str, object]:
        lower = "exclusiveMinimum" if self.above_minimum else "minimum"
        return {"type": "number", lower: self.minimum, "maximum": self.maximum}


@dataclass(frozen=True, slots=True)
class Boolean:
    """JSON true or false. Only the environment coerces (`1 true yes on`, `0 false no off`)."""

    def read(self, value: object, place: Place) -> bool:
        if not isinstance(value, bool):
            raise place.error(f"must be a boolean (true or false), not {found(value)}")
        return value

    def parse(self, text: str) -> object:
        value = _BOOLEAN_TEXT.get(text.lower())
        if value is None:
            raise ValueError("must be a boolean: 1, true, yes, on or 0, false, no, off")
        return value

    def write(self, value: object) -> object:
        return value

    def allowed(self) -> str:
        return "true or false"

    def json_schema(self) -> dict[str, object]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Text:
    """A string of at most `max_chars` characters.

    `blank`: may be empty or blank. `one_line`: NUL, CR and LF are refused, for values that reach a command line or a
    unit file. `check` adds a rule of its own, `rule` says it in words, `pattern` says it in JSON Schema.
    """

    max_chars: int
    blank: bool = False
    one_line: bool = False
    check: Check | None = None
    rule: str = ""
    pattern: str | None = None

    def read(self, value: object, place: Place) -> str:
        if not isinstance(value, str):
            raise place.error(f"must be a {'' if self.blank else 'non-empty '}string, not {found(value)}")
        if not self.blank and not value.strip():
            raise place.error("must be a non-empty string")
        if len(value) > self.max_chars:
            raise place.error(
                f"must be at most {self.max_chars} characters, not {len(value)}",
                actualChars=len(value),
                maxChars=self.max_chars,
            )
        if self.one_line and _BREAKS.search(value):
            raise place.error("must not contain NUL, carriage return or line feed")
        problem = self.check(value) if self.check else None
        if problem:
            raise place.error(problem)
        return value

    def parse(self, text: str) -> object:
        return text

    def write(self, value: object) -> object:
        return value

    def allowed(self) -> str:
        size = f"text, {'0' if self.blank else '1'} to {self.max_chars} characters"
        return f"{size}; {self.rule}" if self.rule else size

    def json_schema(self) -> dict[str, object]:
        schema: dict[str, object] = {"type": "string", "maxLength": self.max_chars}
        if not self.blank:
            schema["minLength"] = 1
        pattern = self.pattern or (None if self.blank else r"\S")
        return schema | ({"pattern": pattern} if pattern else {})


@dataclass(frozen=True, slots=True)
class Choice(Generic[Choice_co]):
    """One of a few exact, case-sensitive words."""

    members: tuple[Choice_co, ...]

    def read(self, value: object, place: Place) -> Choice_co:
        for member in self.members:
            if value == member:
                return member
        shown = f" {value!r}" if isinstance(value, str) and len(value) <= 64 else ""
        names = ", ".join(self.members)
        raise place.error(f"value{shown} is not supported: use one of {names}", supported=list(self.members))

    def parse(self, text: str) -> object:
        return text

    def write(self, value: object) -> object:
        return value

    def allowed(self) -> str:
        return " or ".join(f"`{member}`" for member in self.members)

    def json_schema(self) -> dict[str, object]:
        return {"enum": list(self.members)} if len(self.members) > 1 else {"const": self.members[0]}


def path_problem(value: str) -> str | None:
    """The rule for every path: no NUL, CR, LF, no outer whitespace, at most 4096 characters."""
    if not value:
        return "must be a non-empty path"
    if _BREAKS.search(value):
        return "must not contain NUL, carriage return or line feed"
    if value != value.strip():
        return "must not begin or end with whitespace"
    if len(value) > MAX_PATH_CHARS:
        return f"must be at most {MAX_PATH_CHARS} characters, not {len(value)}"
    return None


@dataclass(frozen=True, slots=True)
class FilePath:
    """A path, made absolute against the working directory and normalised. Existence is not checked.

    `program`: a name without a slash is not a path here, so it is refused instead of resolved: systemd units and
    process starts get no PATH lookup.
    """

    program: bool = False

    def read(self, value: object, place: Place) -> str:
        if not isinstance(value, str):
            raise place.error(f"must be a non-empty path, not {found(value)}")
        problem = path_problem(value)
        if problem:
            raise place.error(problem)
        if self.program and "/" not in value:
            raise place.error("must be an absolute path: a bare program name is not looked up in PATH")
        absolute = os.path.normpath(os.path.join(place.cwd, value))
        if len(absolute) > MAX_PATH_CHARS:
            raise place.error(f"must be at most {MAX_PATH_CHARS} characters once made absolute")
        return absolute

    def parse(self, text: str) -> object:
        return text

    def write(self, value: object) -> object:
        return value

    def allowed(self) -> str:
        rest = "absolute or containing a slash" if self.program else "relative ones start at the working directory"
        return f"a path of at most {MAX_PATH_CHARS} characters; {rest}"

    def json_schema(self) -> dict[str, object]:
        return {"type": "string", "minLength": 1, "maxLength": MAX_PATH_CHARS}


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
