"""What the stand-in for llama-server says on its chat, completions and embeddings routes: documents and events only."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Mapping, Sequence

# A call that the stand-in's model makes: its name, and its arguments in the pieces they are written in.
Call = tuple[str, list[str]]


def rendered(body: Mapping[str, object], knows_tools: bool) -> str:
    """The chat template: tools stand in front of the first turn that is not the system's."""
    messages = body["messages"]
    assert isinstance(messages, list)
    tools = f"<tools>{json.dumps(body['tools'])}</tools>\n" if knows_tools and body.get("tools") else ""
    prompt = ""
    for message in messages:
        if tools and message["role"] != "system":
            prompt, tools = prompt + tools, ""
        called = json.dumps(message["tool_calls"]) if message.get("tool_calls") else ""
        prompt += f"<{message['role']}>{message['content'] or ''}{called}\n"
    return prompt + "<assistant>"


def chat_events(
    pieces: Sequence[str],
    calls: Sequence[Call],
    reason: str,
    usage: Mapping[str, object],
    timings: Mapping[str, object],
) -> Iterator[dict[str, object]]:
    """The events of one streamed answer, as today's server spells them."""
    yield _delta({"role": "assistant", "content": None})
    for piece in pieces if not calls else ():
        yield _delta({"content": piece})
    for index, (name, arguments) in enumerate(calls):
        function = {"name": name, "arguments": arguments[0]}
        yield _delta({"tool_calls": [{"index": index, "id": f"id{index}", "type": "function", "function": function}]})
        for piece in arguments[1:]:
            yield _delta({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield _delta({}, "tool_calls" if calls and reason == "stop" else reason)
    yield {"choices": [], "usage": dict(usage), "timings": dict(timings)}


def _delta(delta: Mapping[str, object], reason: str | None = None) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": dict(delta), "finish_reason": reason}]}


def probabilities(piece: str, top: int) -> list[dict[str, object]]:
    """A token and what could have stood in its place, less and less likely."""
    others = [
        {"token": piece if not number else f"{piece}{number}", "logprob": -0.25 - number} for number in range(top)
    ]
    return [{"id": 7, "token": piece, "bytes": [], "logprob": -0.25, "top_logprobs": others}]


def vectors(texts: Sequence[str], encoding: object) -> dict[str, object]:
    """Two dimensions: the length of the text, and a half."""
    data: list[dict[str, object]] = []
    for index, text in enumerate(texts):
        numbers = (float(len(text)), 0.5)
        packed = base64.b64encode(struct.pack("<2f", *numbers)).decode()
        data.append({"index": index, "embedding": packed if encoding == "base64" else list(numbers)})
    words = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": words, "total_tokens": words}
    return {"object": "list", "model": "fake-model", "data": data, "usage": usage}
