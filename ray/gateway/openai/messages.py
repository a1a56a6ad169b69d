"""The `messages` of a chat request: what a message may be, and in which order they may stand.

A conversation is a leading system text, then turns of user, assistant and tool. It ends with what the model has to
answer: a user turn, or the results of the tools it asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, cast

from ray.gateway.openai.neutral import unsupported
from ray.runtime import Either, Field, ListOf, Object, OneOf, Text, refuse
from ray.types import Message, ToolCall

MAX_MESSAGES = 2_048
MAX_PARTS = 256
MAX_TOOL_CALLS = 128
MAX_ID_CHARS = 256

_SYSTEM_ROLES = ("system", "developer")
_OTHER_PARTS = {
    "image_url": "images",
    "input_audio": "audio",
    "file": "files",
    "refusal": "refusals",
}


@dataclass(frozen=True, slots=True)
class TextPart:
    """`{"type": "text", "text": "…"}`. Reading gives the text."""

    def fits(self, value: object) -> bool:
        return isinstance(value, dict)

    def read(self, value: object, field: str, name: str = "") -> str:
        if not isinstance(value, dict):
            refuse(f"{name or field} must be {self.allowed()}", field)
        kind = value.get("type")
        if kind != "text":
            what = _OTHER_PARTS.get(kind) if isinstance(kind, str) else None
            problem = f"{what} are not supported by this gateway: send text" if what else "must be text"
            refuse(f"{field}.type: {problem}" if what else f"{field}.type {problem}", f"{field}.type")
        return Text().read(value.get("text"), f"{field}.text")

    def allowed(self) -> str:
        return "an object with type and text"

    def schema(self) -> dict[str, object]:
        return {
            "type": "object",
            "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
            "required": ["type", "text"],
        }


_FUNCTION_CALL = (
    Field("name", Text(MAX_ID_CHARS, blank=False), "The function's name.", required=True),
    Field("arguments", Text(), "JSON text, as the model wrote it.", required=True),
)
_TOOL_CALL = (
    Field("id", Text(MAX_ID_CHARS, blank=False), "What the tool's answer refers to.", required=True),
    Field("type", OneOf("function"), "Only functions can be called."),
    Field("function", Object(_FUNCTION_CALL), "What was called.", required=True),
)
_MESSAGE = (
    Field("role", OneOf("system", "developer", "user", "assistant", "tool"), "Whose turn it is.", required=True),
    Field(
        "content",
        Either(Text(), ListOf(TextPart(), 1, MAX_PARTS), message="must be a string or an array of text parts"),
        "The text, or parts of type text, which are joined with line breaks.",
    ),
    Field("tool_calls", ListOf(Object(_TOOL_CALL, null_is_absent=True), 0, MAX_TOOL_CALLS), "Of an assistant's turn."),
    Field("tool_call_id", Text(MAX_ID_CHARS, blank=False), "Of a tool's turn: which call it answers."),
    Field("name", Text(MAX_ID_CHARS), "Of a tool's turn only; the call's id says it already."),
    unsupported("function_call"),
    unsupported("audio"),
    unsupported("refusal", ""),
)
MESSAGES = ListOf(Object(_MESSAGE, null_is_absent=True), 1, MAX_MESSAGES)


def conversation(turns: Sequence[Mapping[str, object]]) -> tuple[Message, ...]:
    """The messages as the runtime takes them, from what `MESSAGES` has read.

    Leading system texts become one, joined by a blank line; blank ones are dropped. Raises RayError `invalid_request`
    for a turn that lacks what its role needs or stands where it cannot.
    """
    messages: list[Message] = []
    system: list[str] = []
    pending: dict[str, None] = {}  # ids of tool calls that were not answered yet
    for index, turn in enumerate(turns):
        place = f"messages[{index}]"
        role = turn["role"]
        if role in _SYSTEM_ROLES:
            if messages:
                refuse(f"{place}.role: a {role} message must stand before all others", f"{place}.role")
            _refuse_foreign(turn, place, str(role))
            system.append(_text(turn, place))
            continue
        message = _turn(turn, place)
        _check_order(message, messages, pending, place)
        messages.append(message)
    if not any(message.role == "user" for message in messages):
        refuse("messages must hold a user message", "messages")
    last = f"messages[{len(turns) - 1}]"
    if pending:
        _refuse_unanswered(pending, last)
    if messages[-1].role == "assistant":
        refuse(f"{last}.role: the last message must be a user's or a tool's; nothing is left to answer", f"{last}.role")
    instructions = "\n\n".join(text for text in system if text.strip())
    return (Message("system", instructions), *messages) if instructions else tuple(messages)


def _turn(turn: Mapping[str, object], place: str) -> Message:
    role = turn["role"]
    if role == "assistant":
        _refuse_foreign(turn, place, "assistant", allowed="tool_calls")
        calls = _tool_calls(turn, place)
        return Message("assistant", "" if calls and "content" not in turn else _text(turn, place), calls)
    if role == "tool":
        _refuse_foreign(turn, place, "tool", allowed="tool_call_id")
        identifier = turn.get("tool_call_id")
        if not isinstance(identifier, str):
            refuse(f"{place}.tool_call_id is required: which call does this answer?", f"{place}.tool_call_id")
        return Message("tool", _text(turn, place), tool_call_id=identifier)
    _refuse_foreign(turn, place, "user")
    text = _text(turn, place)
    if not text.strip():
        refuse(f"{place}.content must not be blank", f"{place}.content")
    return Message("user", text)


def _refuse_foreign(turn: Mapping[str, object], place: str, role: str, allowed: str = "") -> None:
    """What belongs to another role must not be dropped silently."""
    for name in ("tool_calls", "tool_call_id"):
        if name != allowed and turn.get(name):
            refuse(f"{place}.{name} does not belong into a message of the role {role}", f"{place}.{name}")
    if role != "tool" and turn.get("name"):
        refuse(f"{place}.name is not supported by this gateway: write the name into the content", f"{place}.name")


def _text(turn: Mapping[str, object], place: str) -> str:
    content = turn.get("content")
    if content is None:
        refuse(f"{place}.content is required", f"{place}.content")
    return content if isinstance(content, str) else "\n".join(cast("list[str]", content))


def _tool_calls(turn: Mapping[str, object], place: str) -> tuple[ToolCall, ...]:
    calls: dict[str, ToolCall] = {}
    for index, given in enumerate(cast("list[dict[str, object]]", turn.get("tool_calls", ()))):
        function = cast("dict[str, str]", given["function"])
        call = ToolCall(str(given["id"]), function["name"], function["arguments"])
        if call.id in calls:
            field = f"{place}.tool_calls[{index}].id"
            refuse(f"{field} is the id of another call of the same message", field)
        calls[call.id] = call
    return tuple(calls.values())


def _check_order(message: Message, before: Sequence[Message], pending: dict[str, None], place: str) -> None:
    """Every tool call is answered right after it was made, once; `pending` is kept up to date."""
    if message.role == "tool":
        if message.tool_call_id not in pending:
            field = f"{place}.tool_call_id"
            problem = "is not the id of a call" if before else "has no call before it"
            refuse(f"{field} {problem} that waits for its answer", field)
        del pending[message.tool_call_id]
        return
    if pending:
        _refuse_unanswered(pending, place)
    pending.update((call.id, None) for call in message.tool_calls)


def _refuse_unanswered(pending: Mapping[str, None], place: str) -> NoReturn:
    refuse(
        f"{place}: {len(pending)} tool call(s) of the assistant before it have no answer: a tool message must follow "
        "for each",
        place,
    )
