"""Tools and forms of the answer: what a chat request may ask the model to call, and what its answer has to look like.

Both hold JSON Schemas, which the backend turns into a grammar. That costs it time and memory, so their size and depth
are bounded here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ray.gateway.openai.neutral import unsupported
from ray.runtime import Either, Field, Flag, JsonObject, ListOf, Object, OneOf, Text, compact_json, refuse
from ray.types import ResponseFormat

MAX_TOOLS = 128
MAX_TOOLS_BYTES = 262_144
MAX_SCHEMA_BYTES = 65_536
MAX_SCHEMA_DEPTH = 32
MAX_DESCRIPTION_CHARS = 16_384
MAX_NAME_CHARS = 64

_NAME_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a function or a schema: 1 to 64 letters, digits, `_` and `-`."""

    def fits(self, value: object) -> bool:
        return isinstance(value, str)

    def read(self, value: object, field: str, name: str = "") -> str:
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME_CHARS or not _NAME_CHARS.issuperset(value):
            refuse(f"{name or field} must be {self.allowed()}", field)
        return value

    def allowed(self) -> str:
        return f"1 to {MAX_NAME_CHARS} letters, digits, underscores and hyphens"

    def schema(self) -> dict[str, object]:
        return {"type": "string", "pattern": f"^[A-Za-z0-9_-]{{1,{MAX_NAME_CHARS}}}$"}


_SCHEMA = JsonObject(MAX_SCHEMA_BYTES, MAX_SCHEMA_DEPTH)
_FUNCTION = (
    Field("name", Name(), "What the model calls it.", required=True),
    Field("description", Text(MAX_DESCRIPTION_CHARS), "When to call it."),
    Field("parameters", _SCHEMA, "JSON Schema of its arguments."),
    Field("strict", Flag(), "Passed on to the backend."),
)
_TOOL = (
    Field("type", OneOf("function"), "Only functions.", required=True),
    Field("function", Object(_FUNCTION, null_is_absent=True), "What the model may call.", required=True),
)
TOOLS = ListOf(Object(_TOOL), 0, MAX_TOOLS)

_CHOSEN = (
    Field("type", OneOf("function"), "Only functions.", required=True),
    Field("function", Object((Field("name", Name(), "Of one of the tools.", required=True),)), "Which.", required=True),
)
TOOL_CHOICE = Either(OneOf("none", "auto", "required"), Object(_CHOSEN))

_JSON_SCHEMA = (
    Field("name", Name(), "Accepted, and of no effect."),
    Field("description", Text(MAX_DESCRIPTION_CHARS), "Accepted, and of no effect."),
    Field("schema", _SCHEMA, "What the answer conforms to.", required=True),
    Field("strict", Flag(), "Accepted: the answer always conforms."),
)
RESPONSE_FORMAT = Object(
    (
        Field("type", OneOf("text", "json_object", "json_schema"), "The form of the answer.", required=True),
        Field("json_schema", Object(_JSON_SCHEMA, null_is_absent=True), "With type json_schema."),
        unsupported("schema"),
    ),
    null_is_absent=True,
)


def check_tools(tools: Sequence[object]) -> None:
    """Every name once, and not too much of it all, of what `TOOLS` has read. Raises RayError `invalid_request`."""
    names = set()
    for index, name in enumerate(_tool_names(tools)):
        if name in names:
            field = f"tools[{index}].function.name"
            refuse(f"{field} is the name of another tool", field)
        names.add(name)
    size = len(compact_json(tools).encode("utf-8"))
    if size > MAX_TOOLS_BYTES:
        message = f"tools have {size} bytes; at most {MAX_TOOLS_BYTES} are allowed"
        refuse(message, "tools", maxBytes=MAX_TOOLS_BYTES, actualBytes=size)


def chosen(tools: Sequence[object], choice: object) -> tuple[Sequence[object], str | None]:
    """The tools that may be called, and the choice as compact JSON text, from what `TOOLS` and `TOOL_CHOICE` have read.

    A function that is named is the only tool, and required: that is the same wish in words that every backend knows.
    llama-server takes the name for `auto`. Without tools there is nothing to choose.
    """
    if isinstance(choice, dict):
        name = choice["function"]["name"]
        named = [tool for tool, known in zip(tools, _tool_names(tools), strict=True) if known == name]
        if not named:
            field = "tool_choice.function.name"
            refuse(f"{field} is not the name of one of the tools", field)
        return named, '"required"'
    if tools or choice is None:
        return tools, None if choice is None else compact_json(choice)
    if choice == "required":
        refuse("tool_choice can only be required when there are tools", "tool_choice")
    return tools, None


def _tool_names(tools: Sequence[object]) -> list[str]:
    return [cast("dict[str, dict[str, str]]", tool)["function"]["name"] for tool in tools]


def answer_form(given: Mapping[str, object] | None) -> tuple[ResponseFormat | None, str | None]:
    """The response format and the schema as compact JSON text, from what `RESPONSE_FORMAT` has read."""
    if given is None:
        return None, None
    kind = cast("ResponseFormat", given["type"])
    described = given.get("json_schema")
    if kind != "json_schema":
        if described is not None:
            field = "response_format.json_schema"
            refuse(f"{field} needs the type json_schema", field)
        return kind, None
    if not isinstance(described, dict):
        refuse("response_format.json_schema is required with the type json_schema", "response_format.json_schema")
    return kind, compact_json(described["schema"])
