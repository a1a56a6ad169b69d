"""The provider for llama-server's native routes: the model's own template, exact token counts, streamed completions.

Per request: `/apply-template` and `/tokenize` (both remembered), then `/completion`. JSON answers take the same way,
held to an object by a grammar, so they share the prompt cache and the timings of all others.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from ray.clock import Deadline
from ray.config import Config, LaunchProfile, LlamaCppAdapter, SchedulerConfig
from ray.errors import RayError
from ray.prompts import catalog_of
from ray.providers.base import CallContext, PrefixObserver, Preparation, PromptPrefix
from ray.providers.embeddings import embed
from ray.providers.llama_cpp.capabilities import CapabilityReader
from ray.providers.llama_cpp.chat_call import ChatCallReader, chat_call_body, check_tool_request
from ray.providers.llama_cpp.completion import CompletionReader, completion_body
from ray.providers.llama_cpp.health import HealthProbe
from ray.providers.llama_cpp.prefixes import SharedBeginnings
from ray.providers.llama_cpp.rendering import PromptRenderer, RenderedPrompt
from ray.providers.llama_cpp.slot_actions import SlotActions
from ray.providers.llama_cpp.slots import SlotReader
from ray.providers.llama_cpp.tokens import TokenCounter
from ray.providers.llama_cpp.tool_ability import ToolAbility
from ray.providers.refusals import as_clients_fault
from ray.providers.tool_calls import wants_tools
from ray.providers.upstream import Upstream, gather_seconds, is_loading
from ray.types import Chunk, Embeddings, Finish, Health, InferenceRequest, ProviderDiagnostics

if TYPE_CHECKING:
    from ray.providers.llama_cpp.prefix_store import Placement, PrefixStore

_PROBE_THREADS = 2
# What follows a counted head is counted by its bytes up to this length.
MAX_UNCOUNTED_BYTES = 256
_EMBEDDINGS_REMEDY = (
    "start llama-server with --embeddings, and with --pooling mean if its model was not made for embeddings "
    "(model.adapter.launchProfile.extraArgs)"
)
_DOUBTS = frozenset({"provider_request_failed", "provider_timeout", "provider_upstream_error"})


def smallest_limit(scheduler: SchedulerConfig, profile: LaunchProfile | None) -> int:
    """Tokens that one request may have at most, by whichever limit is the smallest."""
    limits = [scheduler.max_inflight_tokens, scheduler.max_queued_tokens]
    if profile is not None:
        limits.append(profile.ctx_size if profile.enable_unified_kv else profile.ctx_size // profile.parallel)
    return min(limits)


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
        self._smallest_limit = smallest_limit(config.scheduler, adapter.launch_profile)
        operational = config.model.operational
        self._preference = operational.recommended_prompt_format if operational else None
        # As many generations and as many preparations side by side, one warming, and the probes.
        threads = 2 * config.scheduler.concurrency + 1 + _PROBE_THREADS
        self._upstream = Upstream(adapter, environ, threads=threads, name="ray-llama")
        self._capabilities = CapabilityReader(self._upstream, self._window, self._on_new_backend)
        self._slots = SlotReader(self._upstream, self._window, adapter.slot_snapshot_timeout_ms)
        self._tokens = TokenCounter(self._upstream)
        self._tools = ToolAbility(self._upstream)
        self._store = self._prefix_store(config, observer)
        self._beginnings = SharedBeginnings(config.prefix_store.min_tokens)
        self._renderer = PromptRenderer(
            self._upstream,
            catalog_of(config),
            self._preference,
            self._doubt_backend,
            max_scaffolds=adapter.prompt_scaffold_cache_entries,
            with_heads=self._store is not None,
        )
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
        """The backend's slots while the prefix store is in use, else None."""
        return None if self._store is None else self._store.assignable_slots

    @property
    def slots_epoch(self) -> int:
        return 0 if self._store is None else self._store.epoch

    def prefix_health(self) -> Mapping[str, object] | None:
        return None if self._store is None else self._store.health()

    async def warm(self) -> None:
        """Find out what the server can do. What cannot be found out shows in the requests that follow."""
        found = await self._capabilities.refresh()
        if self._store is not None:
            await self._store.meet(found)

    async def health(self) -> Health:
        """The truth from `/health` and `/props`, and from `/slots` where that is offered."""
        restarts = self._slots.restarts
        health = await self._probe.run()
        if self._store is not None and self._slots.restarts != restarts:
            self._store.lost()
        return health

    async def prepare(self, request: InferenceRequest, context: CallContext) -> Preparation:
        """Render the prompt and count its tokens. An unavailable template means role-labelled text, not a failure."""
        capabilities = await self._capabilities.get()
        if self._store is not None:
            await self._store.meet(capabilities)
        if wants_tools(request):
            check_tool_request(request)
            await self._tools.check(context.deadline)
        rendered = await self._renderer.render(request, capabilities, context.deadline)
        window = capabilities.context_window or self._window
        tokens = await self._counted(rendered, request.max_tokens, window, context.deadline)
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
        prefix = await self._prefix(rendered, request, context)
        return Preparation(request, rendered.prompt, tokens, window, diagnostics, prefix)

    def stream(self, preparation: Preparation, context: CallContext) -> AsyncIterator[Chunk]:
        """One streamed `/completion`. Raises `provider_…` codes, `request_context_window_exceeded` when the backend
        finds the prompt too long, and `request_timeout`."""
        return self._generate(preparation, context)

    async def embed(self, texts: tuple[str, ...], deadline: Deadline) -> Embeddings:
        """The server reads the texts in whichever slot it likes."""
        used_slots = True
        if self._store is not None:
            self._store.intruder_came()
        try:
            found = await embed(
                self._upstream, self._adapter.model_ref, texts, deadline, remedy=_EMBEDDINGS_REMEDY, is_compact=True
            )
        except RayError as error:
            used_slots = error.code != "embeddings_unsupported"
            self._doubt_backend(error)
            raise
        finally:
            if self._store is not None:
                self._store.intruder_left(used_slots=used_slots)
        return replace(found, model=self.model_id)

    async def close(self) -> None:
        # In this order: a reading under way fails with the closed client, and nobody who waits for it is cancelled.
        await self._upstream.close()
        await self._capabilities.close()
        if self._store is not None:
            await self._store.close()

    async def _generate(self, preparation: Preparation, context: CallContext) -> AsyncGenerator[Chunk, None]:
        if not preparation.prompt:
            raise RayError("provider_invalid_response", "the preparation holds no prompt", status=500)
        request = preparation.request
        slot_id = self._slot_to_name(preparation.diagnostics)
        started = time.monotonic()
        ttft_ms: float | None = None
        placement = await self._placed(preparation, context)
        if placement is not None:
            slot_id = placement.slot
            if placement.ready:
                yield Chunk()
        reader, body = self._call(request, preparation.prompt, context, slot_id)
        try:
            async with self._upstream.stream(
                reader.path, body, deadline=context.deadline, gather_seconds=lambda: gather_seconds(context)
            ) as answer:
                if not answer.is_event_stream:
                    whole = reader.take_whole(await answer.document())
                    if whole is not None:
                        yield whole
                else:
                    async for events in answer:
                        for chunk in filter(None, [reader.feed(data) for data in events]):
                            if ttft_ms is None:
                                ttft_ms = (time.monotonic() - started) * 1000
                                self._reading_over(placement)
                            yield chunk
                        if reader.is_over or reader.reported_error is not None:
                            break
                if reader.reported_error is not None:
                    raise self._upstream.reported(reader.path, reader.reported_error)
        except RayError as error:
            fault = as_clients_fault(error, request)
            if fault is error:
                self._doubt_backend(error)
            if self._store is not None and placement is not None:
                self._store.broken(placement)
            raise fault from None
        total_ms = (time.monotonic() - started) * 1000
        finish = reader.finish(preparation.diagnostics, preparation.prompt_tokens, ttft_ms, total_ms)
        if reader.tokens_evaluated is not None:
            self._tokens.learn(preparation.prompt, reader.tokens_evaluated)
        yield Chunk(finish=self._with_prefix_use(finish, placement))

    def _call(
        self, request: InferenceRequest, prompt: str, context: CallContext, slot_id: int | None
    ) -> tuple[CompletionReader | ChatCallReader, dict[str, object]]:
        """Who reads the answer, and the body to send."""
        cache_prompt = self._adapter.cache_prompt
        if wants_tools(request):
            body = chat_call_body(
                self._adapter.model_ref, request, context.request_id, cache_prompt=cache_prompt, slot_id=slot_id
            )
            return ChatCallReader(request.max_tokens), body
        body = completion_body(request, prompt, cache_prompt=cache_prompt, slot_id=slot_id)
        return CompletionReader(request.max_tokens, request.top_logprobs), body

    async def _counted(self, rendered: RenderedPrompt, max_tokens: int, window: int, deadline: Deadline) -> int:
        """Tokens of the prompt, or an upper bound where that is near and there is plenty of room.

        A short value after a head that was counted before has at most as many tokens as bytes. That saves most requests
        a round trip; the true number comes with the answer. Raises `request_timeout` only.
        """
        head = rendered.head
        if head and len(rendered.prompt) - len(head) <= MAX_UNCOUNTED_BYTES:
            rest = len(rendered.prompt[len(head) :].encode("utf-8", "replace"))
            bound = await self._tokens.count(head, deadline) + rest
            if rest <= MAX_UNCOUNTED_BYTES and 2 * (bound + max_tokens) <= min(window, self._smallest_limit):
                return bound
        return await self._tokens.count(rendered.prompt, deadline)

    # -- the prefix store

    def _prefix_store(self, config: Config, observer: PrefixObserver | None) -> PrefixStore | None:
        """None when it is off, or useless because the operator forbids reusing prompts."""
        if not config.prefix_store.enabled or not self._adapter.cache_prompt:
            return None
        # Who does not use it does not load it.
        from ray.providers.llama_cpp.prefix_store import PrefixStore

        actions = SlotActions(self._upstream)
        look = self._capabilities.refresh
        return PrefixStore(config.prefix_store, self._adapter.launch_profile, actions, look, observer)

    async def _prefix(
        self, rendered: RenderedPrompt, request: InferenceRequest, context: CallContext
    ) -> PromptPrefix | None:
        """The beginning that this prompt shares with its family: what is declared, or what has been learned if that is
        worth more. Raises `request_timeout` only."""
        store = self._store
        if store is None or store.assignable_slots is None:
            return None
        least = store.min_tokens
        head, head_tokens = rendered.head, 0
        if len(head) >= least:
            head_tokens = await self._tokens.count(head, context.deadline)
        family = f"{context.family} {sha256(head.encode('utf-8', 'replace')).hexdigest()}"
        shared = self._shared_beginning(rendered, family, request)
        if len(shared) >= len(head) + least:
            shared_tokens = await self._tokens.count(shared, context.deadline)
            if shared_tokens >= least and (head_tokens < least or shared_tokens >= head_tokens + least):
                return store.prefix(shared, shared_tokens, wanted=context.warming)
        return store.prefix(head, head_tokens, wanted=context.warming)

    def _shared_beginning(self, rendered: RenderedPrompt, family: str, request: InferenceRequest) -> str:
        """Learned from single messages only: earlier turns are one customer's words, and a raw prompt may hold some."""
        if request.is_raw:
            return ""
        spoken = [message.role for message in request.messages if message.role != "system"]
        if spoken == ["user"]:
            return self._beginnings.sight(family, rendered.prompt)
        return self._beginnings.known(family, rendered.prompt)

    async def _placed(self, preparation: Preparation, context: CallContext) -> Placement | None:
        """None while the server chooses its slots."""
        if self._store is None or context.slot is None:
            return None
        intrusions = self._store.intrusions
        placement = await self._store.place(
            context.slot,
            preparation.prefix,
            context.hot,
            context.deadline,
            context.crowding,
            continues=context.continues,
        )
        return replace(placement, continues=context.continues, intrusions=intrusions)

    def _reading_over(self, placement: Placement | None) -> None:
        if self._store is not None and placement is not None:
            self._store.reading_over(placement)

    def _with_prefix_use(self, finish: Finish, placement: Placement | None) -> Finish:
        if self._store is None or placement is None or finish.diagnostics is None:
            return finish
        self._store.reading_over(placement)
        use = self._store.over(placement, finish.diagnostics)
        return replace(finish, diagnostics=replace(finish.diagnostics, preferred_slot=placement.slot, prefix=use))

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

    def _doubt_backend(self, error: RayError) -> None:
        """After a failure that may mean another server, or none, what is known of it is read again."""
        if error.code in _DOUBTS:
            self._capabilities.drop()
            gone = error.code == "provider_request_failed" or is_loading(error)
            if gone and self._store is not None:
                self._store.lost()

    def _on_new_backend(self) -> None:
        """Prompts and counts of the old server's model mean nothing to the new one."""
        self._renderer.forget()
        self._beginnings.forget()
        self._tokens.forget()
        self._tools.forget()
        self._slots.forget()
