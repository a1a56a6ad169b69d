"""The kinds of values a field of a JSON body may have: small classes that read, refuse and describe a value.

Reading takes a JSON value or refuses it with RayError `invalid_request`, whose details name the `field` (a path such as
`messages[2].content`). Describing says what is accepted as JSON Schema 2020-12, and never refuses what reading accepts:
a number that is clamped has no bounds in its schema. Lengths are Unicode code points; `true` is no number, `11.0` is a
whole number, and `null` is of no kind.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import NoReturn, Protocol

from ray.errors import RayError, truncated

MAX_SAFE_INTEGER = 2**53 - 1  # beyond it other JSON readers lose digits

# Refusals are logged: of a text in the wrong place only so much is repeated, the note of what was cut included.
MAX_ECHOED_CHARS = 32

# A text with a character that is no white space to `str.isspace`. What JSON Schema's patterns call white space is close
# to that, and not the same (U+001F, U+0085, U+FEFF).
NOT_BLANK = r"[^\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"

_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

Schema = dict[str, object]


class Kind(Protocol):
    """What the value of a field may be."""

    def fits(self, value: object) -> bool:
        """Whether the value has the JSON type of this kind, whatever else may be wrong with it."""

    def read(self, value: object, field: str, name: str = "") -> object:
        """The checked value. Raises RayError `invalid_request`.

        `field`: where the value stands, for the error's details; `name`: what its message calls it, if not the field.
        """

    def allowed(self) -> str:
        """What is accepted, as the end of a sentence that begins with `must be`."""

    def schema(self) -> Schema:
        """The kind as JSON Schema. A fresh object: the caller may add to it."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string that UTF-8 can hold. `blank`: whether nothing but white space will do."""

    max_chars: int | None = None
    blank: bool = True
    min_chars: int = 0

    def fits(self, value: object) -> bool:
        return isinstance(value, str)

    def read(self, value: object, field: str, name: str = "") -> str:
        if not isinstance(value, str):
            refuse(f"{name or field} must be {self.allowed()}", field, value=echo(value))
        if len(value) < self.min_chars:
            refuse(f"{name or field} must be {self.allowed()}", field, minChars=self.min_chars, actualChars=len(value))
        _check_text(value, field, name or field, self.max_chars)
        if not self.blank and (not value or value.isspace()):
            refuse(f"{name or field} must not be blank", field)
        return value

    def allowed(self) -> str:
        if self.min_chars > 1:
            return f"a string of at least {self.min_chars} characters"
        return "a non-empty string" if self.min_chars or not self.blank else "a string"

    def schema(self) -> Schema:
        schema: Schema = {"type": "string"}
        if self.min_chars:
            schema["minLength"] = self.min_chars
        if self.max_chars is not None:
            schema["maxLength"] = self.max_chars
        if not self.blank:
            schema["pattern"] = NOT_BLANK
        return schema


def _check_text(text: str, field: str, name: str, max_chars: int | None) -> None:
    """JSON can spell half of a surrogate pair (`\\ud800`), which no UTF-8 text, and so no backend, can carry."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            problem = f"contains an unpaired surrogate at character {error.start}: it is not valid Unicode text"
            refuse(f"{name} {problem}", field)
    if max_chars is not None and len(text) > max_chars:
        message = f"{name} has {len(text)} characters; at most {max_chars} are allowed"
        refuse(message, field, maxChars=max_chars, actualChars=len(text))


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number. Without bounds of its own it still has to be one that every JSON reader can hold exactly."""

    low: int = -MAX_SAFE_INTEGER
    high: int = MAX_SAFE_INTEGER

    def fits(self, value: object) -> bool:
        return _is_number(value)

    def read(self, value: object, field: str, name: str = "") -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            refuse(f"{name or field} must be {self.allowed()}", field, value=echo(value))
        return value

    def allowed(self) -> str:
        return f"an integer between {_spelled(self.low)} and {_spelled(self.high)}"

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


def _spelled(bound: int) -> str:
    if abs(bound) == MAX_SAFE_INTEGER:
        return "2^53 - 1" if bound > 0 else "-(2^53 - 1)"
    return str(bound)


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number. With `clamp` one beyond the bounds becomes the bound, else it is refused.

    Reading gives a float where both bounds are known, else the number as it is, which may be an integer of any size.
    """

    low: float | None = None
    high: float | None = None
    clamp: bool = False

    def fits(self, value: object) -> bool:
        return _is_number(value)

    def read(self, value: object, field: str, name: str = "") -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            refuse(f"{name or field} must be a number", field, value=echo(value))
        if isinstance(value, float) and not math.isfinite(value):
            refuse(f"{name or field} must be a finite number", field, value=value)
        low, high = self.low, self.high
        if low is None and high is None:
            return value
        bounded = value
        if low is not None and bounded < low:
            bounded = low
        if high is not None and bounded > high:
            bounded = high
        if bounded != value and not self.clamp:
            refuse(f"{name or field} must be {self.allowed()}", field, value=echo(value))
        return bounded if low is None or high is None else float(bounded)

    def allowed(self) -> str:
        if self.low is not None and self.high is not None:
            return f"a number between {self.low:g} and {self.high:g}"
        if self.low is not None:
            return f"a number of at least {self.low:g}"
        return "a number" if self.high is None else f"a number of at most {self.high:g}"

    def schema(self) -> Schema:
        schema: Schema = {"type": "number"}
        if not self.clamp:
            schema |= {
                key: bound for key, bound in (("minimum", self.low), ("maximum", self.high)) if bound is not None
            }
        return schema


def _is_number(value: object) -> bool:
    """`bool` is an `int` only to Python, not to JSON."""
    return isinstance(value, int | float) and not isinstance(value, bool)


class Flag:
    """JSON true or false, and nothing that is merely truthy."""

    __slots__ = ()

    def fits(self, value: object) -> bool:
        return isinstance(value, bool)

    def read(self, value: object, field: str, name: str = "") -> bool:
        if not isinstance(value, bool):
            refuse(f"{name or field} must be true or false", field, value=echo(value))
        return value

    def allowed(self) -> str:
        return "true or false"

    def schema(self) -> Schema:
        return {"type": "boolean"}


class OneOf:
    """One of a few values: words, or whole numbers, or true or false."""

    __slots__ = ("choices",)

    def __init__(self, *choices: str | int | bool) -> None:
        self.choices = choices

    def fits(self, value: object) -> bool:
        return isinstance(value, tuple({type(choice) for choice in self.choices}))

    def read(self, value: object, field: str, name: str = "") -> str | int | bool:
        for choice in self.choices:
            # `1 == True` in Python, not in JSON, where on the other hand `1.0` is the number 1.
            if value == choice and isinstance(value, bool) == isinstance(choice, bool):
                break
        else:
            refuse(f"{name or field} must be {self.allowed()}", field, value=echo(value), supported=list(self.choices))
        return choice

    def allowed(self) -> str:
        words = [choice if isinstance(choice, str) else json.dumps(choice) for choice in self.choices]
        return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"

    def schema(self) -> Schema:
        return {"enum": list(self.choices)}


@dataclass(frozen=True, slots=True)
class ListOf:
    """An array of one kind of entries. `entry`: what messages call one of them; their errors then name the array as the
    field. Without it they name the entry's own place."""

    kind: Kind
    min_items: int = 0
    max_items: int | None = None
    entry: str = ""

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


@dataclass(frozen=True, slots=True)
class StringMap:
    """An object of strings, whose keys are not blank."""

    max_entries: int
    max_key_chars: int
    max_value_chars: int

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
                _check_text(key, field, f"a {name} key", self.max_key_chars)
            if not isinstance(item, str):
                refuse(f"{name} value of {key!r} must be a string", field, key=key, value=echo(item))
            if not item.isascii() or len(item) > self.max_value_chars:
                _check_text(item, field, f"{name} value of {key!r}", self.max_value_chars)
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


@dataclass(frozen=True, slots=True)
class JsonObject:
    """Any JSON object of bounded size, such as a JSON Schema. `max_bytes`: of its compact UTF-8 form; `max_depth`: of
    arrays and objects inside each other, the object itself being the first."""

    max_bytes: int
    max_depth: int

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


def echo(value: object) -> object:
    """What a refusal may repeat of a wrong value: its shape, never the contents of a text or a container."""
    if isinstance(value, dict):
        return "[object]"
    if isinstance(value, list):
        return "[array]"
    if isinstance(value, str):
        return truncated(value, MAX_ECHOED_CHARS)
    return value


def refuse(message: str, field: str, **details: object) -> NoReturn:
    """Raise RayError `invalid_request` about this field."""
    raise RayError("invalid_request", message, details={"field": field, **details})
