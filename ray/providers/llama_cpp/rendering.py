"""The prompt text of a conversation, and where in it the first value begins that changes per request.

The server's own template is asked through `/apply-template`. For the usual conversation, one user message with or
without a system text, the template is asked once per system text with a marker in the message's place: what stands
before and after the marker is the frame of every further request, which then needs no round trip. A frame is used only
after it has been compared once with what the server makes of a real message.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256

from ray.clock import Deadline
from ray.errors import RayError
from ray.providers.chat import chat_messages
from ray.providers.llama_cpp.capabilities import Capabilities
from ray.providers.llama_cpp.prompt_format import (
    NATIVE_TEMPLATE,
    PromptFormat,
    after_failure,
    choose_format,
    fallback_prompt,
)
from ray.providers.reading import mapping
from ray.providers.upstream import Upstream
from ray.types import Message

MAX_REMEMBERED_PROMPTS = 64
MAX_REMEMBERED_FRAMES = 256
MAX_REMEMBERED_CHARS = 262_144
# Templates trim messages and look for tags in them; such a message is rendered by the server itself.
_TAG = re.compile(r"</?[A-Za-z|_]")


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """What the backend reads for a conversation. `head`: its beginning up to the first value that changes per request,
    "" when that place is not known."""

    prompt: str
    format: PromptFormat
    head: str = ""


@dataclass(slots=True)
class Frame:
    """What the template puts around a message. `fits`: whether a real message has been found between them; None before
    the first comparison."""

    head: str
    tail: str
    fits: bool | None = None


class PromptRenderer:
    """Renders for one server. `doubt` is told what failed, `with_heads` asks for the heads."""

    def __init__(
        self, upstream: Upstream, preference: str | None, doubt: Callable[[RayError], None], *, with_heads: bool
    ) -> None:
        self._upstream = upstream
        self._preference = preference
        self._doubt = doubt
        self._with_heads = with_heads
        self._prompts = PromptMemory()
        self._frames: OrderedDict[bytes, Frame] = OrderedDict()
        self._frame_chars = 0
        # Nobody can guess it, so no message holds it.
        self._marker = f"RAY{secrets.token_hex(12)}"

    async def render(
        self, messages: tuple[Message, ...], capabilities: Capabilities, deadline: Deadline
    ) -> RenderedPrompt:
        """Raises `RayError` when the backend cannot be asked at all; one that only cannot render gets labelled text."""
        choice = choose_format(capabilities, self._preference)
        if choice.name != NATIVE_TEMPLATE:
            return await self._framed(messages, choice, self._labelled)

        async def native(conversation: tuple[Message, ...]) -> str:
            return await self._native(conversation, deadline)

        try:
            return await self._framed(messages, choice, native)
        except RayError as error:
            self._doubt(error)
            other = after_failure(error)
            if other is None:
                raise
            return await self._framed(messages, other, self._labelled)

    def forget(self) -> None:
        """The server is another one."""
        self._prompts.forget()
        self._frames.clear()
        self._frame_chars = 0

    async def _framed(
        self,
        messages: tuple[Message, ...],
        choice: PromptFormat,
        text_of: Callable[[tuple[Message, ...]], Awaitable[str]],
    ) -> RenderedPrompt:
        if not self._with_heads:
            return RenderedPrompt(await text_of(messages), choice)
        # Everything after the system text may be a customer's words, earlier turns included.
        opening = tuple(message for message in messages[:1] if message.role == "system")
        is_usual = len(messages) == len(opening) + 1 and messages[-1].role == "user"
        frame = await self._frame(opening, choice, text_of)
        given = messages[-1].content
        is_plain = is_usual and given == given.strip() and given != "" and not _TAG.search(given)
        if frame.fits and is_plain:
            return RenderedPrompt(frame.head + given + frame.tail, choice, frame.head)
        prompt = await text_of(messages)
        if frame.fits is None and is_plain:
            frame.fits = prompt == frame.head + given + frame.tail
        return RenderedPrompt(prompt, choice, frame.head if prompt.startswith(frame.head) else "")

    async def _frame(
        self,
        opening: tuple[Message, ...],
        choice: PromptFormat,
        text_of: Callable[[tuple[Message, ...]], Awaitable[str]],
    ) -> Frame:
        key = _digest((Message("user", choice.name), *opening))
        known = self._frames.get(key)
        if known is not None:
            self._frames.move_to_end(key)
            return known
        head, found, tail = (await text_of((*opening, Message("user", self._marker)))).partition(self._marker)
        # A template that repeats the message, or drops it, has no such place.
        frame = Frame(head, tail) if found and self._marker not in tail else Frame("", "", fits=False)
        if key not in self._frames:
            self._frames[key] = frame
            self._frame_chars += len(frame.head) + len(frame.tail)
            while len(self._frames) > MAX_REMEMBERED_FRAMES or (
                self._frame_chars > MAX_REMEMBERED_CHARS and len(self._frames) > 1
            ):
                _, dropped = self._frames.popitem(last=False)
                self._frame_chars -= len(dropped.head) + len(dropped.tail)
        return self._frames[key]

    async def _labelled(self, messages: tuple[Message, ...]) -> str:
        return fallback_prompt(messages, self._preference)

    async def _native(self, messages: tuple[Message, ...], deadline: Deadline) -> str:
        known = self._prompts.get(messages)
        if known is not None:
            return known
        # A small model on a small box has no tokens to spend on thinking; templates without the switch ignore it.
        body = {"messages": chat_messages(messages), "chat_template_kwargs": {"enable_thinking": False}}
        answer = await self._upstream.call("POST", "/apply-template", body, deadline=deadline)
        prompt = mapping(answer).get("prompt")
        if not isinstance(prompt, str) or not prompt:
            raise self._upstream.invalid("/apply-template", "has no prompt")
        self._prompts.put(messages, prompt)
        return prompt


class PromptMemory:
    """Rendered prompts by conversation: least recently used out, bounded in number and characters.

    The key is a full digest of all messages: two conversations never share an entry.
    """

    def __init__(self) -> None:
        self._prompts: OrderedDict[bytes, str] = OrderedDict()
        self._chars = 0

    def get(self, messages: tuple[Message, ...]) -> str | None:
        key = _digest(messages)
        prompt = self._prompts.get(key)
        if prompt is not None:
            self._prompts.move_to_end(key)
        return prompt

    def put(self, messages: tuple[Message, ...], prompt: str) -> None:
        if len(prompt) > MAX_REMEMBERED_CHARS:
            return
        key = _digest(messages)
        self._chars += len(prompt) - len(self._prompts.get(key, ""))
        self._prompts[key] = prompt
        while len(self._prompts) > MAX_REMEMBERED_PROMPTS or self._chars > MAX_REMEMBERED_CHARS:
            _, dropped = self._prompts.popitem(last=False)
            self._chars -= len(dropped)

    def forget(self) -> None:
        self._prompts.clear()
        self._chars = 0


def _digest(messages: tuple[Message, ...]) -> bytes:
    digest = sha256()
    for message in messages:
        content = message.content.encode("utf-8", "replace")
        # Lengths keep the border between two messages: no text can imitate it.
        digest.update(f"{message.role}:{len(content)}:".encode())
        digest.update(content)
    return digest.digest()
