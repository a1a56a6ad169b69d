"""Fields of the protocol that Ray cannot honour: accepted only with the value that asks for nothing.

Clients send many fields with their neutral value (`presence_penalty: 0`, `logit_bias: {}`), which changes nothing and
is no reason to refuse them. Any other value would be ignored silently if it were accepted, so it is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray.runtime import Field, compact_json, refuse


@dataclass(frozen=True, slots=True, init=False)
class Neutral:
    """A kind of field with nothing but neutral values; none at all when even its presence asks for something."""

    values: tuple[object, ...]

    def __init__(self, *values: object) -> None:
        object.__setattr__(self, "values", values)

    def fits(self, value: object) -> bool:
        return any(_same(value, neutral) for neutral in self.values)

    def read(self, value: object, field: str, name: str = "") -> object:
        if not self.fits(value):
            remedy = f"leave it out or send {self.allowed()}" if self.values else "leave it out"
            refuse(f"{name or field} is not supported by this gateway: {remedy}", field)
        return value

    def allowed(self) -> str:
        return " or ".join(compact_json(value) for value in self.values) or "absent"

    def schema(self) -> dict[str, object]:
        return {"enum": list(self.values)} if self.values else {"type": "null"}


def unsupported(name: str, *values: object) -> Field:
    """A field that is refused unless it has one of `values`."""
    return Field(name, Neutral(*values), "Not supported.")


def _same(value: object, neutral: object) -> bool:
    """Equal in JSON, where `0` is not `false`."""
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)
