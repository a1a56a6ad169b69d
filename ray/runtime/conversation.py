"""Which conversation a slot of the backend ends with, and which one a request goes on with.

A client sends the whole conversation with every turn. When the slot that answered the last turn is still as it was, the
backend has to read only what is new: so a slot is remembered by a digest of the turns it holds, the answer included,
and the next request by the digest of the turns it begins with. Nothing is promised by a digest that fits but that the
same turns were read there: the backend compares the tokens itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from ray.types import InferenceRequest, Message, ToolCall

_encode = json.JSONEncoder(separators=(",", ":")).encode


def earlier_turns(messages: Sequence[Message]) -> Sequence[Message]:
    """The turns up to the model's last answer; empty for a first turn. New is what the user says now, or what the tools
    answered, together with the beginning of an answer that the client may have put after it."""
    end = len(messages)
    while end > 0 and messages[end - 1].role == "assistant":
        end -= 1
    while end > 0 and messages[end - 1].role != "assistant":
        end -= 1
    return messages[:end]


def continued_turns(request: InferenceRequest) -> str | None:
    """The key of the turns that `request` goes on with, None for a first turn."""
    earlier = earlier_turns(request.messages)
    return _key(request, earlier) if earlier else None


def reached_turns(request: InferenceRequest, output: str, tool_calls: tuple[ToolCall, ...]) -> str:
    """The key of the conversation once `request` has been answered."""
    return _key(request, (*request.messages, Message("assistant", output, tool_calls)))


def _key(request: InferenceRequest, messages: Sequence[Message]) -> str:
    """Blanks around a text are left out, as chat templates do, and so are the names that tie a tool's answer to its
    call: a client may send either back in its own way. Tools stand at the beginning of the prompt."""
    turns = [
        (message.role, message.content.strip(), [(call.name, call.arguments) for call in message.tool_calls])
        for message in messages
    ]
    text = _encode((request.is_raw, request.tools, turns))
    return "turns:" + hashlib.sha256(text.encode("ascii")).hexdigest()
