"""What a kind of values is, and the plain ones a field of a JSON body may have: texts, numbers, flags, choices.

Reading takes a JSON value or refuses it with RayError `invalid_request`, whose details name the `field` (a path such as
`messages[2].content`). Describing says what is accepted as JSON Schema 2020-12, and never refuses what reading accepts:
a number that is clamped has no bounds in its schema. Lengths are Unicode code points; `true` is no number, `11.0` is a
whole number, and `null` is of no kind. Kinds made of kinds: `containers.py`.
They are no data classes because generating the methods of one costs a gateway that boots half a millisecond.
"""

from __future__ import annotations

import json
import math
from typing import NoReturn, Protocol

from ray.errors import RayError, truncated

MAX_SAFE_INTEGER = 2**53 - 1  # beyond it other JSON readers lose digits

# Refusals are logged: of a text in the wrong place only so much is repeated, the note of what was cut included.
MAX_ECHOED_CHARS = 32

# A text with a character that is no white space to `str.isspace`. What JSON Schema's patterns call white space is close
# to that, and not the same (U+001F, U+0085, U+FEFF).
NOT_BLANK = r"[^\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"

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


class Text:
    """A string that UTF-8 can hold. `blank`: whether nothing but white space will do."""

    __slots__ = ("blank", "max_chars", "min_chars")

    def __init__(self, max_chars: int | None = None, blank: bool = True, min_chars: int = 0) -> None:
        self.max_chars = max_chars
        self.blank = blank
        self.min_chars = min_chars

    def fits(self, value: object) -> bool:
        return isinstance(value, str)

    def read(self, value: object, field: str, name: str = "") -> str:
        if not isinstance(value, str):
            refuse(f"{name or field} must be {self.allowed()}", field, value=echo(value))
        if len(value) < self.min_chars:
            refuse(f"{name or field} must be {self.allowed()}", field, minChars=self.min_chars, actualChars=len(value))
        check_text(value, field, name or field, self.max_chars)
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


def check_text(text: str, field: str, name: str, max_chars: int | None) -> None:
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


class Whole:
    """A whole number. Without bounds of its own it still has to be one that every JSON reader can hold exactly."""

    __slots__ = ("high", "low")

    def __init__(self, low: int = -MAX_SAFE_INTEGER, high: int = MAX_SAFE_INTEGER) -> None:
        self.low = low
        self.high = high

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


class Number:
    """A finite number. With `clamp` one beyond the bounds becomes the bound, else it is refused.

    Reading gives a float where both bounds are known, else the number as it is, which may be an integer of any size.
    """

    __slots__ = ("clamp", "high", "low")

    def __init__(self, low: float | None = None, high: float | None = None, clamp: bool = False) -> None:
        self.low = low
        self.high = high
        self.clamp = clamp

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
