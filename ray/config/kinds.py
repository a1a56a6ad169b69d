"""What a setting's value may be: one small class per kind of value.

A kind knows four things: how to read a JSON value (and refuse a bad one), how to turn the text of an environment
variable into such a value, how to give the value back as JSON, and how to say what is allowed (in words for people,
as JSON Schema for tools). Everything else about configuration is built from these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

T_co = TypeVar("T_co", covariant=True)
Choice_co = TypeVar("Choice_co", bound=str, covariant=True)

LARGEST_INTEGER = 2**53 - 1  # beyond it other JSON readers lose digits

# `int()` and `float()` also take non-ASCII digits, underscores, "nan" and "inf": the grammar here does not.
_INTEGER_TEXT = re.compile(r"-?[0-9]{1,32}")
_NUMBER_TEXT = re.compile(r"[+-]?(?:[0-9]{1,32}(?:\.[0-9]{0,32})?|\.[0-9]{1,32})(?:[eE][+-]?[0-9]{1,3})?")
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


TIMEOUT_MS = Integer(1, 120_000)  # the one upper limit for every wait: two minutes


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
class Choice(Generic[Choice_co]):
    """One of a few exact, case-sensitive words."""

    members: tuple[Choice_co, ...]

    def read(self, value: object, place: Place) -> Choice_co:
        for member in self.members:
            if value == member:
                return member
        names = ", ".join(self.members)
        if not isinstance(value, str):
            raise place.error(f"must be one of {names}, not {found(value)}", supported=list(self.members))
        shown = f" {value!r}" if len(value) <= 64 else ""
        raise place.error(f"value{shown} is not supported: use one of {names}", supported=list(self.members))

    def parse(self, text: str) -> object:
        return text

    def write(self, value: object) -> object:
        return value

    def allowed(self) -> str:
        return " or ".join(f"`{member}`" for member in self.members)

    def json_schema(self) -> dict[str, object]:
        return {"enum": list(self.members)} if len(self.members) > 1 else {"const": self.members[0]}
