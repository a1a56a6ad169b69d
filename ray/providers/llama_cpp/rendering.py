"""The prompt text of a request, and where in it the first value begins that changes per request.

The server's own template is asked through `/apply-template`. A request from a prompt template, and the usual
conversation of one user message with or without a system text, are rendered once with markers in place of their values.
What the server puts around the markers, a scaffold, then makes every further prompt of that kind without a round trip.
A scaffold is used only after its text for one real request has been compared with the server's own, or two others that
differ in the system text only have been.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from ray.clock import Deadline
from ray.errors import RayError
from ray.prompts import Scaffold, TemplateCatalog, build_scaffold, marked_values, messages_of
from ray.providers.chat import chat_messages
from ray.providers.llama_cpp.capabilities import Capabilities
from ray.providers.llama_cpp.chat_call import NO_THINKING
from ray.providers.llama_cpp.outline import Outline, is_plain
from ray.providers.llama_cpp.prompt_format import (
    NATIVE_TEMPLATE,
    PROMPT_SCAFFOLD,
    RAW,
    PromptFormat,
    after_failure,
    choose_format,
    fallback_prompt,
)
from ray.providers.reading import mapping
from ray.providers.refusals import TOOLS_REMEDY, as_clients_fault
from ray.providers.tool_calls import refusal, tool_fields, tool_texts, wants_tools
from ray.providers.upstream import Upstream
from ray.types import InferenceRequest, Message

MAX_REMEMBERED_PROMPTS = 64
MAX_REMEMBERED_CHARS = 262_144
INPUT = "input"

TextOf = Callable[[tuple[Message, ...]], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """What the backend reads for a request. `head`: its beginning up to the first value that changes per request, ""
    when that place is not known."""

    prompt: str
    format: PromptFormat
    head: str = ""


@dataclass(frozen=True, slots=True)
class Gaps:
    """Where a request's values are: its messages with a marker in place of each, how to cut at the markers, and the
    values themselves. `key`: the same for requests that differ in their values only. `opening`: the system text of a
    conversation that the server's own template frames without anything else."""

    key: bytes
    marked: tuple[Message, ...]
    cut: Callable[[str], Scaffold | None]
    values: Mapping[str, str]
    format: PromptFormat
    opening: str | None = None


@dataclass(slots=True)
class Frame:
    """`scaffold`: None when the server's text has no such gaps. `fits`: whether it makes what the server makes of a
    real request; None before the first comparison."""

    scaffold: Scaffold | None
    fits: bool | None = None

    @property
    def chars(self) -> int:
        return 0 if self.scaffold is None else sum(map(len, self.scaffold.segments))


class PromptRenderer:
    """Renders for one server."""

    def __init__(
        self,
        upstream: Upstream,
        templates: TemplateCatalog,
        preference: str | None,
        doubt: Callable[[RayError], None],
        *,
        max_scaffolds: int,
        with_heads: bool,
    ) -> None:
        """`doubt` is told what failed. `with_heads`: conversations without a prompt template get scaffolds, too."""
        self._upstream = upstream
        self._templates = templates
        self._preference = preference
        self._doubt = doubt
        self._with_heads = with_heads
        self._prompts = PromptMemory()
        self._frames = FrameMemory(max_scaffolds)
        self._outline = Outline()
        # Nobody can guess it, so no message holds it.
        self._marker = f"RAY{secrets.token_hex(12)}"

    async def render(self, request: InferenceRequest, capabilities: Capabilities, deadline: Deadline) -> RenderedPrompt:
        """Raises `RayError` when the backend cannot be asked at all; one that only cannot render gets labelled text."""
        if request.is_raw:
            return RenderedPrompt(request.messages[-1].content, RAW)
        choice = choose_format(capabilities, self._preference)
        if choice.name != NATIVE_TEMPLATE:
            if wants_tools(request):
                raise refusal(TOOLS_REMEDY)
            return await self._framed(request, choice, self._labelled)

        async def native(conversation: tuple[Message, ...]) -> str:
            return await self._native(conversation, request, deadline)

        try:
            return await self._framed(request, choice, native)
        except RayError as error:
            fault = as_clients_fault(error, request)
            if fault is not error:
                raise fault from None
            self._doubt(error)
            other = after_failure(error)
            if other is None:
                raise
            if wants_tools(request):
                # Tools were seen in a prompt of this server's, so it is this conversation that cannot be rendered.
                raise refusal("the model's chat template refuses this conversation with them") from None
            return await self._framed(request, other, self._labelled)

    def forget(self) -> None:
        """The server is another one."""
        self._prompts.forget()
        self._frames.forget()
        self._outline.forget()

    async def _framed(self, request: InferenceRequest, choice: PromptFormat, text_of: TextOf) -> RenderedPrompt:
        gaps = self._template_gaps(request, choice) or self._conversation_gaps(request, choice)
        if gaps is None:
            return RenderedPrompt(await self._remembered(request, choice, text_of), choice)
        frame = self._frames.get(gaps.key)
        if frame is None:
            frame = self._outlined(gaps) or Frame(gaps.cut(await text_of(gaps.marked)))
            self._frames.put(gaps.key, frame)
        if frame.scaffold is None:
            return RenderedPrompt(await self._remembered(request, choice, text_of), choice)
        head = frame.scaffold.fixed_head
        is_whole = len(gaps.marked) == len(request.messages)
        may_fill = is_whole and all(map(is_plain, gaps.values.values()))
        if frame.fits and may_fill:
            return RenderedPrompt(frame.scaffold.render(gaps.values), gaps.format, head)
        prompt = await self._remembered(request, choice, text_of)
        if frame.fits is None and may_fill:
            frame.fits = prompt == frame.scaffold.render(gaps.values)
            if frame.fits and gaps.opening is not None:
                self._outline.learn(gaps.opening, *frame.scaffold.segments)
        return RenderedPrompt(prompt, choice, head if prompt.startswith(head) else "")

    def _outlined(self, gaps: Gaps) -> Frame | None:
        """The frame of a conversation whose system text is new, where the server's template is known well enough."""
        around = None if gaps.opening is None else self._outline.around_message(gaps.opening)
        return None if around is None else Frame(Scaffold(around, (INPUT,)), fits=True)

    def _template_gaps(self, request: InferenceRequest, choice: PromptFormat) -> Gaps | None:
        """The gaps of a request's prompt template; None without one, or when its messages are no longer just that."""
        template = self._templates.get(request.template_id) if request.template_id is not None else None
        if template is None or any(name not in request.template_values for name in template.variables):
            return None
        if messages_of(template, request.template_values) != request.messages:
            return None
        marked = messages_of(template, marked_values(template.variables))

        def cut(rendered: str) -> Scaffold | None:
            try:
                return build_scaffold(rendered, template.variables)
            except RayError:
                return None

        is_native = choice.name == NATIVE_TEMPLATE
        shown = PromptFormat(PROMPT_SCAFFOLD, "the prompt template's scaffold") if is_native else choice
        key = _digest(marked, choice.name, *tool_texts(request))
        return Gaps(key, marked, cut, request.template_values, shown)

    def _conversation_gaps(self, request: InferenceRequest, choice: PromptFormat) -> Gaps | None:
        """The gap of a conversation: all that follows the system text. Earlier turns are a customer's words as well."""
        if not self._with_heads:
            return None
        opening = tuple(message for message in request.messages[:1] if message.role == "system")
        marked = (*opening, Message("user", self._marker))

        def cut(rendered: str) -> Scaffold | None:
            head, found, tail = rendered.partition(self._marker)
            # A chat template that repeats the message, or drops it, has no such place.
            return Scaffold((head, tail), (INPUT,)) if found and self._marker not in tail else None

        values = {INPUT: request.messages[-1].content}
        key = _digest(marked, choice.name, *tool_texts(request))
        is_bare = opening and choice.name == NATIVE_TEMPLATE and not wants_tools(request)
        return Gaps(key, marked, cut, values, choice, opening[0].content if is_bare else None)

    async def _remembered(self, request: InferenceRequest, choice: PromptFormat, text_of: TextOf) -> str:
        if choice.name != NATIVE_TEMPLATE:
            return await text_of(request.messages)
        key = _digest(request.messages, *tool_texts(request))
        known = self._prompts.get(key)
        if known is None:
            known = await text_of(request.messages)
            self._prompts.put(key, known)
        return known

    async def _labelled(self, messages: tuple[Message, ...]) -> str:
        return fallback_prompt(messages, self._preference)

    async def _native(self, messages: tuple[Message, ...], request: InferenceRequest, deadline: Deadline) -> str:
        body = {
            "messages": chat_messages(messages),
            "chat_template_kwargs": NO_THINKING,
            **tool_fields(request),
        }
        answer = await self._upstream.call("POST", "/apply-template", body, deadline=deadline)
        prompt = mapping(answer).get("prompt")
        if not isinstance(prompt, str) or not prompt:
            raise self._upstream.invalid("/apply-template", "has no prompt")
        return prompt


class FrameMemory:
    """Frames by key: least recently used out, bounded in number and characters."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._frames: OrderedDict[bytes, Frame] = OrderedDict()
        self._chars = 0

    def get(self, key: bytes) -> Frame | None:
        frame = self._frames.get(key)
        if frame is not None:
            self._frames.move_to_end(key)
        return frame

    def put(self, key: bytes, frame: Frame) -> None:
        replaced = self._frames.pop(key, None)
        self._chars += frame.chars - (0 if replaced is None else replaced.chars)
        self._frames[key] = frame
        while len(self._frames) > self._max_entries or self._chars > MAX_REMEMBERED_CHARS:
            _, dropped = self._frames.popitem(last=False)
            self._chars -= dropped.chars

    def forget(self) -> None:
        self._frames.clear()
        self._chars = 0


class PromptMemory:
    """Rendered prompts by conversation: least recently used out, bounded in number and characters.

    The key is a full digest of all messages and tools: two conversations never share an entry.
    """

    def __init__(self) -> None:
        self._prompts: OrderedDict[bytes, str] = OrderedDict()
        self._chars = 0

    def get(self, key: bytes) -> str | None:
        prompt = self._prompts.get(key)
        if prompt is not None:
            self._prompts.move_to_end(key)
        return prompt

    def put(self, key: bytes, prompt: str) -> None:
        if len(prompt) > MAX_REMEMBERED_CHARS:
            return
        self._chars += len(prompt) - len(self._prompts.get(key, ""))
        self._prompts[key] = prompt
        while len(self._prompts) > MAX_REMEMBERED_PROMPTS or self._chars > MAX_REMEMBERED_CHARS:
            _, dropped = self._prompts.popitem(last=False)
            self._chars -= len(dropped)

    def forget(self) -> None:
        self._prompts.clear()
        self._chars = 0


def _digest(messages: tuple[Message, ...], *more: str | None) -> bytes:
    digest = sha256()

    def add(mark: str, text: str) -> None:
        content = text.encode("utf-8", "replace")
        # Lengths keep the border between two messages: no text can imitate it.
        digest.update(f"{mark}:{len(content)}:".encode())
        digest.update(content)

    for message in messages:
        add(message.role, message.content)
        for call in message.tool_calls:
            add("call", call.id)
            add("name", call.name)
            add("arguments", call.arguments)
        if message.tool_call_id is not None:
            add("answers", message.tool_call_id)
    for text in more:
        add("none" if text is None else "more", text or "")
    return digest.digest()
