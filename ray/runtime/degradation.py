"""Graceful degradation: under pressure prompts and answers get shorter instead of failing, and the answer says so.

Four reasons, in this order: the prompt is too long, the queue is deep, memory presses, CPU presses. The last three cut
the same allowance, so at most one of them is named for a request. All functions are pure; with
`gracefulDegradation.enabled` off none of them changes anything.
Source: runtime specification, section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from ray.config import GracefulDegradationConfig
from ray.prompts import Template, filled
from ray.runtime.pressure import Pressure
from ray.runtime.result import call_chars
from ray.types import InferenceRequest, Message

Reason = Literal["prompt_length", "queue_depth", "memory_pressure", "cpu_pressure"]


class Degradation(NamedTuple):
    """What was cut, and why; completion tokens before and after."""

    reasons: tuple[Reason, ...]
    requested_max_tokens: int
    applied_max_tokens: int

    @property
    def applied(self) -> bool:
        return bool(self.reasons)


def degrade_tokens(
    max_tokens: int, queue_depth: int, pressure: Pressure, limits: GracefulDegradationConfig, *, prompt_was_cut: bool
) -> Degradation:
    """The allowance under the present load. `queue_depth`: requests that wait, this one not included.

    A request that asks for no more than `degradeToMaxTokens` is left alone.
    """
    reasons: tuple[Reason, ...] = ("prompt_length",) if prompt_was_cut else ()
    pressing = _pressing(queue_depth, pressure, limits)
    if pressing is None or max_tokens <= limits.degrade_to_max_tokens:
        return Degradation(reasons, max_tokens, max_tokens)
    return Degradation((*reasons, pressing), max_tokens, limits.degrade_to_max_tokens)


def _pressing(queue_depth: int, pressure: Pressure, limits: GracefulDegradationConfig) -> Reason | None:
    if not limits.enabled:
        return None
    if queue_depth >= limits.queue_depth_threshold:
        return "queue_depth"
    if pressure.memory:
        return "memory_pressure"
    return "cpu_pressure" if pressure.cpu else None


def degradation_document(
    degradation: Degradation, queue_depth: int, pressure: Pressure, limits: GracefulDegradationConfig
) -> dict[str, object]:
    """`diagnostics.degradation` of an answer: what was done, and all figures it was decided on."""
    document: dict[str, object] = {
        "applied": degradation.applied,
        "reasons": list(degradation.reasons),
        "requestedMaxTokens": degradation.requested_max_tokens,
        "appliedMaxTokens": degradation.applied_max_tokens,
        "queueDepth": queue_depth,
        "queueDepthThreshold": limits.queue_depth_threshold,
    }
    if pressure.memory_sources:
        document["memoryPressureSources"] = list(pressure.memory_sources)
    document.update(pressure.memory_figures)
    document.update(pressure.cpu_figures)
    return document


# The length of the prompt


def degrade_prompt_length(
    request: InferenceRequest, limits: GracefulDegradationConfig, template: Template | None = None
) -> tuple[InferenceRequest, bool]:
    """`request` with a prompt of at most `maxPromptChars` characters, and whether anything was cut.

    What the question is asked with stays, what it is asked about loses its end: the last user message loses its tail,
    as do the answers of tools that came after it; older turns go as a whole, calls of tools together with their
    answers; and the system text is cut only where it takes more than half of the room. A raw prompt loses its
    beginning instead: its end is what the model goes on with.

    `template`: what the messages were rendered from, if they were. Then the longest values lose their tails and the
    messages are rendered anew, so that values and messages keep saying the same. The template's own text is never cut:
    it is what all its requests share.
    """
    room = limits.max_prompt_chars
    if not limits.enabled or sum(map(length, request.messages)) <= room:
        return request, False
    if request.is_raw:
        return replace(request, messages=tuple(_tail(message, room) for message in request.messages)), True
    if template is not None:
        shorter = _with_shorter_values(request, room, template)
        return shorter, shorter is not request
    messages = shorter_messages(request.messages, room)
    return (replace(request, messages=messages), True) if messages != request.messages else (request, False)


def shorter_messages(messages: Sequence[Message], room: int) -> tuple[Message, ...]:
    """`messages` cut down to `room` characters; the last user message keeps at least one.

    Calls of tools since that message are never cut. Where they take too much, the question and the tools' answers keep
    a quarter of the room all the same.
    """
    question_at, whole = _question(messages), room
    system = messages[0] if messages[0].role == "system" and question_at > 0 else None
    history = messages[1 if system else 0 : question_at]
    present = messages[question_at:]

    others = sum(map(length, (*history, *present)))
    system_text = _head(system.content, max(room // 2, room - others)) if system else ""
    room -= len(system_text) + sum(length(message) for message in present[1:] if message.role != "tool")
    asked = [len(message.content) for message in present if message is present[0] or message.role == "tool"]
    history = _newest_turns(history, max(room // 2, room - sum(asked)))
    room -= sum(map(length, history))
    if len(asked) > 1:
        room = max(room, whole // 4)
    level = max(asked) if sum(asked) <= room else longest_allowed(asked, sum(asked) - room)
    question = replace(present[0], content=_head(present[0].content, level) or present[0].content[:1])
    return (
        *((Message("system", system_text),) if system_text else ()),
        *history,
        question,
        *(
            replace(message, content=_head(message.content, level)) if message.role == "tool" else message
            for message in present[1:]
        ),
    )


def length(message: Message) -> int:
    """Characters of a turn, the calls of tools in it included."""
    return len(message.content) + (call_chars(message.tool_calls) if message.tool_calls else 0)


def _question(messages: Sequence[Message]) -> int:
    """Where the last user message stands; the last message if there is no user at all."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == "user":
            return index
    return len(messages) - 1


def _newest_turns(history: Sequence[Message], room: int) -> Sequence[Message]:
    """The youngest messages that fit. An answer whose question went goes too, and so does what a tool said to a call
    that went: chat templates want turns in pairs."""
    first = len(history)
    while first > 0 and length(history[first - 1]) <= room:
        first -= 1
        room -= length(history[first])
    while 0 < first < len(history) and history[first].role != "user":
        first += 1
    return history[first:]


def _with_shorter_values(request: InferenceRequest, room: int, template: Template) -> InferenceRequest:
    """The same template with its longest values cut. Values keep half of the room however long the template is."""
    values = dict(request.template_values)
    fixed = filled(request, template, dict.fromkeys(values, "")).prompt_chars
    room = max(room, fixed + room // 2)
    while (excess := request.prompt_chars - room) > 0 and any(values.values()):
        level = longest_allowed([len(value) for value in values.values()], excess)
        values = {name: _head(value, level) for name, value in values.items()}
        request = filled(request, template, values)
    return request


def longest_allowed(lengths: Sequence[int], excess: int) -> int:
    """To which length all must be cut to save `excess` characters together: the longest give first."""
    longest_first = sorted(lengths, reverse=True)
    together = 0
    for count, length in enumerate(longest_first, 1):
        together += length
        following = longest_first[count] if count < len(longest_first) else 0
        if together - following * count >= excess:
            return (together - excess) // count
    return 0


def _head(text: str, room: int) -> str:
    """The first `room` characters, without the blanks the cut leaves at the end. A text that fits stays as it is."""
    return text if len(text) <= room else text[: max(0, room)].rstrip()


def _tail(message: Message, room: int) -> Message:
    """The last `room` characters of a text, at least one."""
    return replace(message, content=message.content[-max(1, room) :])
