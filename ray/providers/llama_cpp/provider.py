"""The provider for llama-server's native routes: the model's own template, exact token counts, streamed completions.

Per request: `/apply-template` and `/tokenize` (both remembered), then `/completion`. JSON answers take the same way,
held to an object by a grammar, so they share the prompt cache and the timings of all others.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

from ray.clock import Deadline
from ray.config import Config, LlamaCppAdapter
from ray.errors import RayError
from ray.providers.base import CallContext, PrefixObserver, Preparation
from ray.providers.chat import chat_messages
from ray.providers.llama_cpp.capabilities import Capabilities, CapabilityReader
from ray.providers.llama_cpp.completion import COMPLETION_PATH, CompletionReader, completion_body
from ray.providers.llama_cpp.health import HealthProbe
from ray.providers.llama_cpp.prompt_format import (
    NATIVE_TEMPLATE,
    PromptFormat,
    after_failure,
    choose_format,
    fallback_prompt,
)
from ray.providers.llama_cpp.slots import SlotReader
from ray.providers.llama_cpp.tokens import TokenCounter
from ray.providers.reading import mapping
from ray.providers.upstream import Upstream, gather_seconds
from ray.types import Chunk, Health, InferenceRequest, Message, ProviderDiagnostics

MAX_REMEMBERED_PROMPTS = 64
MAX_REMEMBERED_PROMPT_CHARS = 262_144
_PROBE_THREADS = 2
_DOUBTS = frozenset({"provider_request_failed", "provider_timeout", "provider_upstream_error"})


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """What the backend reads for a conversation."""

    prompt: str
    format: PromptFormat


class LlamaCppProvider:
    """One llama-server with one model."""

    kind = "llama.cpp"

    def __init__(
        self,
        config: Config,
        adapter: LlamaCppAdapter,
        environ: Mapping[str, str],
        observer: PrefixObserver | None = None,
    ) -> None:
        self.model_id = config.model.id[:512]
        self._adapter = adapter
        self._window = config.model.context_window
        operational = config.model.operational
        self._preference = operational.recommended_prompt_format if operational else None
        # As many generations and as many preparations side by side, one warming, and the probes.
        threads = 2 * config.scheduler.concurrency + 1 + _PROBE_THREADS
        self._upstream = Upstream(adapter, environ, threads=threads, name="ray-llama")
        self._capabilities = CapabilityReader(self._upstream, self._window, self._on_new_backend)
        self._slots = SlotReader(self._upstream, self._window, adapter.slot_snapshot_timeout_ms)
        self._tokens = TokenCounter(self._upstream)
        self._prompts = PromptMemory()
        self._probe = HealthProbe(
            self._upstream,
            self._capabilities,
            self._slots,
            adapter,
            preference=self._preference,
            template_expected=operational is not None and operational.chat_template_known,
        )

    @property
    def assignable_slots(self) -> int | None:
        """The backend chooses its slots."""
        return None

    @property
    def slots_epoch(self) -> int:
        return 0

    def prefix_health(self) -> Mapping[str, object] | None:
        return None

    async def warm(self) -> None:
        """Find out what the server can do. What cannot be found out shows in the requests that follow."""
        await self._capabilities.refresh()

    async def health(self) -> Health:
        """The truth from `/health` and `/props`, and from `/slots` where that is offered."""
        return await self._probe.run()

    async def prepare(self, request: InferenceRequest, context: CallContext) -> Preparation:
        """Render the prompt and count its tokens. An unavailable template means role-labelled text, not a failure."""
        capabilities = await self._capabilities.get()
        rendered = await self._rendered(request.messages, capabilities, context.deadline)
        tokens = await self._tokens.count(rendered.prompt, context.deadline)
        window = capabilities.context_window or self._window
        profile = self._adapter.launch_profile
        diagnostics = ProviderDiagnostics(
            request_shape="llama.cpp-completion",
            prompt_format=rendered.format.name,
            prompt_format_reason=rendered.format.reason,
            model_ref=self._adapter.model_ref,
            backend_model=capabilities.backend_model,
            launch_preset=profile.preset if profile else None,
            total_slots=capabilities.total_slots,
            context_window=window,
        )
        return Preparation(request, rendered.prompt, tokens, window, diagnostics)

    def stream(self, preparation: Preparation, context: CallContext) -> AsyncIterator[Chunk]:
        """One streamed `/completion`. Raises `provider_…` codes, `request_context_window_exceeded` when the backend
        finds the prompt too long, and `request_timeout`."""
        return self._generate(preparation, context)

    async def close(self) -> None:
        # In this order: a reading under way fails with the closed client, and nobody who waits for it is cancelled.
        await self._upstream.close()
        await self._capabilities.close()

    async def _generate(self, preparation: Preparation, context: CallContext) -> AsyncGenerator[Chunk, None]:
        if not preparation.prompt:
            raise RayError("provider_invalid_response", "the preparation holds no prompt", status=500)
        request = preparation.request
        reader = CompletionReader(request.max_tokens)
        slot_id = self._slot_to_name(preparation.diagnostics)
        body = completion_body(request, preparation.prompt, cache_prompt=self._adapter.cache_prompt, slot_id=slot_id)
        started = time.monotonic()
        ttft_ms: float | None = None
        try:
            async with self._upstream.stream(
                COMPLETION_PATH, body, deadline=context.deadline, gather_seconds=lambda: gather_seconds(context)
            ) as answer:
                if not answer.is_event_stream:
                    piece = reader.take(mapping(await answer.document()))
                    if piece:
                        yield Chunk(piece)
                else:
                    async for events in answer:
                        piece = "".join([reader.feed(data) for data in events])
                        if piece:
                            if ttft_ms is None:
                                ttft_ms = (time.monotonic() - started) * 1000
                            yield Chunk(piece)
                        if reader.last is not None or reader.reported_error is not None:
                            break
                if reader.reported_error is not None:
                    raise self._upstream.reported(COMPLETION_PATH, reader.reported_error)
        except RayError as error:
            self._doubt_backend(error)
            raise
        total_ms = (time.monotonic() - started) * 1000
        finish = reader.finish(preparation.diagnostics, preparation.prompt_tokens, ttft_ms, total_ms)
        if reader.tokens_evaluated is not None:
            self._tokens.learn(preparation.prompt, reader.tokens_evaluated)
        yield Chunk(finish=finish)

    def _slot_to_name(self, prepared: ProviderDiagnostics | None) -> int | None:
        """The slot to pin a request to, or None to let the server choose.

        Only the operator's `slotId` is named: a pinned request skips the server's lookup in its prompt cache and waits
        for that slot even while others are idle. An id past the slot count would silently mean another slot.
        """
        slot = self._adapter.slot_id
        total = prepared.total_slots if prepared else None
        if slot is None or (total is not None and slot >= total):
            return None
        return slot

    async def _rendered(
        self, messages: tuple[Message, ...], capabilities: Capabilities, deadline: Deadline
    ) -> RenderedPrompt:
        choice = choose_format(capabilities, self._preference)
        if choice.name != NATIVE_TEMPLATE:
            return RenderedPrompt(fallback_prompt(messages, self._preference), choice)
        known = self._prompts.get(messages)
        if known is not None:
            return RenderedPrompt(known, choice)
        try:
            prompt = await self._apply_template(messages, deadline)
        except RayError as error:
            self._doubt_backend(error)
            other = after_failure(error)
            if other is None:
                raise
            return RenderedPrompt(fallback_prompt(messages, self._preference), other)
        self._prompts.put(messages, prompt)
        return RenderedPrompt(prompt, choice)

    async def _apply_template(self, messages: tuple[Message, ...], deadline: Deadline) -> str:
        # A small model on a small box has no tokens to spend on thinking; templates without the switch ignore it.
        body = {"messages": chat_messages(messages), "chat_template_kwargs": {"enable_thinking": False}}
        answer = await self._upstream.call("POST", "/apply-template", body, deadline=deadline)
        prompt = mapping(answer).get("prompt")
        if not isinstance(prompt, str) or not prompt:
            raise self._upstream.invalid("/apply-template", "has no prompt")
        return prompt

    def _doubt_backend(self, error: RayError) -> None:
        """After a failure that may mean another server, or none, what is known of it is read again."""
        if error.code in _DOUBTS:
            self._capabilities.drop()

    def _on_new_backend(self) -> None:
        """Prompts and counts of the old server's model mean nothing to the new one."""
        self._prompts.forget()
        self._tokens.forget()
        self._slots.forget()


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
        if len(prompt) > MAX_REMEMBERED_PROMPT_CHARS:
            return
        key = _digest(messages)
        self._chars += len(prompt) - len(self._prompts.get(key, ""))
        self._prompts[key] = prompt
        while len(self._prompts) > MAX_REMEMBERED_PROMPTS or self._chars > MAX_REMEMBERED_PROMPT_CHARS:
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
