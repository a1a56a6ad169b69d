"""A conversation in which even a very small model calls a tool: it has done so before, twice."""

from __future__ import annotations

import json
from pathlib import Path

from ray.types import Message, ToolCall

TEMPLATE = Path(__file__).parent / "tool_template.jinja"
# For a model whose own chat template knows no tools.
TEMPLATE_FLAGS = ("--jinja", "--chat-template-file", str(TEMPLATE))
TOOLS: list[dict[str, object]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 12}},
                "required": ["city"],
            },
        },
    }
]
QUESTION = "What is the weather in Rome?"
ANSWER_PART = "Rome"


def called(city: str, id: str) -> Message:
    """The assistant's turn that asks for the weather."""
    return Message("assistant", "", (ToolCall(id, "get_weather", json.dumps({"city": city})),))


def asked_and_answered(city: str, id: str) -> tuple[Message, ...]:
    return (
        Message("user", f"What is the weather in {city}?"),
        called(city, id),
        Message("tool", "sunny", tool_call_id=id),
        Message("assistant", f"It is sunny in {city}."),
    )


CONVERSATION: tuple[Message, ...] = (
    *asked_and_answered("Paris", "call_1"),
    *asked_and_answered("Berlin", "call_2"),
    Message("user", QUESTION),
)
