"""Tool calls as the chat protocol writes them, in requests and in answers."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ray.errors import RayError
from ray.providers.reading import count, mapping, text
from ray.types import InferenceRequest, Message, ToolCall, ToolCallPart

MAX_CALLS = 128
MAX_NAME_CHARS = 256
MAX_ID_CHARS = 256


def wants_tools(request: InferenceRequest) -> bool:
    """Whether the request, or an earlier turn of it, has to do with tools."""
    return request.tools is not None or has_tool_turns(request.messages)


def has_tool_turns(messages: Sequence[Message]) -> bool:
    return any(message.tool_calls or message.role == "tool" for message in messages)


def refusal(remedy: str) -> RayError:
    """`invalid_request`: this backend cannot do tools."""
    return RayError("invalid_request", f"tools cannot be used here: {remedy}", details={"field": "tools"})


def tool_fields(request: InferenceRequest) -> dict[str, object]:
    """The fields of a body that are about tools; none without tools."""
    if request.tools is None:
        return {}
    body: dict[str, object] = {"tools": json.loads(request.tools)}
    if request.tool_choice is not None:
        body["tool_choice"] = json.loads(request.tool_choice)
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    return body


def tool_texts(request: InferenceRequest) -> tuple[str | None, ...]:
    """The same as texts, for whoever has to tell requests apart."""
    is_parallel = request.parallel_tool_calls
    return (request.tools, request.tool_choice, None if is_parallel is None else str(is_parallel))


def calls_of(calls: Sequence[ToolCall]) -> list[dict[str, object]]:
    """What an assistant's turn asked for. A call without arguments is written with an empty object: some models and
    clients leave it out, and llama-server refuses what is no JSON."""
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments if call.arguments.strip() else "{}"},
        }
        for call in calls
    ]


class ToolCallReader:
    """The pieces of the calls of one answer. Raises ValueError, with what is wrong, for what cannot be one."""

    def __init__(self) -> None:
        self._begun: set[int] = set()

    @property
    def has_calls(self) -> bool:
        return bool(self._begun)

    def take(self, value: object) -> tuple[ToolCallPart, ...]:
        """From the `tool_calls` of a delta, or of a whole message."""
        entries = value if isinstance(value, list) else []
        return tuple(self._part(position, entry) for position, entry in enumerate(entries))

    def _part(self, position: int, entry: object) -> ToolCallPart:
        given = mapping(entry)
        function = mapping(given.get("function"))
        index = count(given.get("index"))
        if index is None:
            index = position
        arguments = function.get("arguments")
        if isinstance(arguments, dict):
            # Some servers give the object itself.
            arguments = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
        if not isinstance(arguments, str):
            arguments = ""
        if index in self._begun:
            return ToolCallPart(index, arguments=arguments)
        name = text(function.get("name"), MAX_NAME_CHARS)
        if name is None:
            raise ValueError("a tool call has no name")
        if index >= MAX_CALLS:
            raise ValueError(f"it has more than {MAX_CALLS} tool calls")
        self._begun.add(index)
        return ToolCallPart(index, text(given.get("id"), MAX_ID_CHARS) or _made_up_id(), name, arguments)


def _made_up_id() -> str:
    # Few servers forget the id, and the module is not small.
    import secrets

    return f"call_{secrets.token_hex(12)}"
