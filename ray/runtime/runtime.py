"""`Runtime`: one model's pipeline, from a normalised request to a reader of its answer.

Every stage takes the value of the one before and returns the next; none reaches back. `generate` decides where the
answer comes from (the cache, a generation in flight, a new one); `_produce` is the new one's way through the house.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from ray.clock import Deadline
from ray.config import Config
from ray.errors import RayError, truncated
from ray.providers import CallContext, Provider
from ray.runtime.books import Books
from ray.runtime.cache import ResponseCache
from ray.runtime.conversation import reached_turns
from ray.runtime.embedding import Embedder
from ray.runtime.figures import SchedulerSnapshot
from ray.runtime.gathering import Gathering
from ray.runtime.generation import Answer, Generation, Reader, Source
from ray.runtime.health import BackendWatch, WarmState
from ray.runtime.keys import cache_key, twin_key
from ray.runtime.preparation import PreparationGate
from ray.runtime.pressure import HostPressure
from ray.runtime.report import (
    RuntimeHealth,
    health_document,
    preparation_is_degraded,
    queue_is_degraded,
    service_status,
)
from ray.runtime.result import MAX_MODEL_ID_CHARS, answer_size
from ray.runtime.scheduler import Admission, Scheduler
from ray.runtime.shaping import ShapedRequest, Shaper
from ray.runtime.ticketing import in_slot, ticket_for
from ray.runtime.warming import WARMUP_REQUEST_ID, warmup_prompts
from ray.telemetry import Logger, Metrics
from ray.types import Caller, Chunk, Embeddings, Health, InferenceRequest, Lane

# What the gate, the context check and the scheduler refuse a request with.
REFUSALS = frozenset({"queue_full", "request_token_budget_exceeded", "request_context_window_exceeded"})

# How long `close` waits for cancelled generations to let go of their backend.
CLOSE_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Order:
    """What `generate` hands to a new generation. `key`: where its answer goes in the cache, or None; `family`: key of
    the prompt family, or None; `degraded`: pressure made it ask for less than the client did; `warming`: nobody asked,
    it is a warm-up of the configuration."""

    request: InferenceRequest
    lane: Lane
    key: str | None
    request_id: str
    started_at: float
    family: str | None = None
    degraded: bool = False
    warming: bool = False


class Runtime:
    """Serves one model through one provider. Everything happens on the event loop it is used from."""

    def __init__(
        self, config: Config, provider: Provider, logger: Logger, metrics: Metrics, host: HostPressure | None = None
    ) -> None:
        """`host`: how this machine is read; its own files unless given."""
        self._config = config
        self._provider = provider
        self._logger = logger
        self._model_id = truncated(provider.model_id or config.model.id, MAX_MODEL_ID_CHARS)
        self._books = Books(config, self._model_id, logger, metrics)
        self._shaper = Shaper(config, host or HostPressure())
        self._cache: ResponseCache[Answer] = ResponseCache(config.cache)
        self._gate = PreparationGate(config.scheduler.concurrency, config.scheduler.max_queue)
        self._scheduler = Scheduler(config, slots=lambda: provider.assignable_slots, epoch=lambda: provider.slots_epoch)
        self._watch = BackendWatch(
            provider,
            self._prime,
            warm_on_boot=config.model.warm_on_boot,
            model_id=self._model_id,
            logger=logger,
            metrics=metrics,
        )
        self._embedder = Embedder(
            config, provider, self._scheduler, self._books, alive=self._watch.alive, noted=self._take_note
        )
        self._twins: dict[str, Generation] = {}  # who may still be joined, by twin key
        self._tasks: set[asyncio.Task[Answer] | asyncio.Task[Embeddings]] = set()
        self._born_at = time.monotonic()
        self._closed = False

    # -- answering

    def new_deadline(self) -> Deadline:
        """The one clock of a request: `scheduler.requestTimeoutMs` from now, for preparation, queue and generation."""
        return Deadline.after_ms(self._config.scheduler.request_timeout_ms)

    async def generate(self, request: InferenceRequest, caller: Caller, deadline: Deadline, request_id: str) -> Reader:
        """A reader of the answer to `request`; `request_id` becomes the id of the result.

        Returns at once. What goes wrong (refusals too) is raised by the reader: `started`, iteration or `result`.
        Raises `RayError gateway_draining` itself after `close`.
        """
        self._refuse_when_closed(request_id)
        started_at = time.monotonic()
        shaped = self._shaper.shape(request, self._scheduler.queue_depth)
        self._books.shaped(shaped)
        request = shaped.request

        def read(generation: Generation, source: Source) -> Reader:
            return self._reader(generation, source, shaped, deadline, request_id, started_at)

        key = self._cache_key(request)
        answer = self._look_up(key)
        if answer is not None:
            return read(Generation.finished(answer, deadline), "cache")

        twin = twin_key(request, caller, key) if self._config.scheduler.dedupe_inflight else None
        under_way = self._twins.get(twin) if twin is not None else None
        if under_way is not None:
            self._books.joined()
            return read(under_way, "dedupe")

        order = Order(request, shaped.lane, key, request_id, started_at, shaped.family, shaped.degraded)
        return read(self._start(order, deadline, twin), "provider")

    async def embed(self, texts: tuple[str, ...], caller: Caller, deadline: Deadline, request_id: str) -> Embeddings:
        """One vector for each text, in their order. Cancelling gives back the place in line and stops the backend.

        Raises `RayError`, which is logged and counted already: refusals of the scheduler, `embeddings_unsupported`,
        `provider_…`, `request_timeout`; `request_aborted` when the runtime is closed meanwhile.
        """
        self._refuse_when_closed(request_id)
        task = asyncio.get_running_loop().create_task(
            self._embedder.embed(texts, deadline, request_id), name="embedding"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await task
        except asyncio.CancelledError:
            asking = asyncio.current_task()
            if asking is not None and asking.cancelling():
                raise
            aborted = RayError("request_aborted", "the work was stopped before it was finished")
            self._books.unanswered(request_id, aborted)
            raise aborted from None

    def _refuse_when_closed(self, request_id: str) -> None:
        if self._closed:
            refusal = RayError("gateway_draining", "the gateway is shutting down; send the request again in a moment")
            self._books.unanswered(request_id, refusal)
            raise refusal

    def _cache_key(self, request: InferenceRequest) -> str | None:
        """None when caching does not apply to this request."""
        if not (self._config.cache.enabled and request.cache):
            return None
        return cache_key(request, self._config.model.id, self._config.cache.key_strategy)

    def _look_up(self, key: str | None) -> Answer | None:
        if key is None:
            return None
        answer = self._cache.get(key)
        self._books.looked_up(hit=answer is not None)
        return answer

    def _start(self, order: Order, deadline: Deadline, twin: str | None) -> Generation:
        # A deadline of its own: extending it for a follower must not extend the leader's.
        generation = Generation(Deadline(deadline.at))
        if twin is not None:
            self._twins[twin] = generation

        def over() -> None:
            if twin is not None:
                del self._twins[twin]

        task = generation.start(self._produce(generation, order), over)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return generation

    def _reader(
        self,
        generation: Generation,
        source: Source,
        shaped: ShapedRequest,
        deadline: Deadline,
        request_id: str,
        started_at: float,
    ) -> Reader:
        return Reader(
            generation,
            request_id=request_id,
            started_at=started_at,
            deadline=deadline,
            timeout_ms=self._config.scheduler.request_timeout_ms,
            source=source,
            observer=self._books,
            diagnostics=shaped.diagnostics(),
            degraded=shaped.degraded,
        )

    # -- one generation, stage by stage

    async def _produce(self, generation: Generation, order: Order) -> Answer:
        """Prepare, admit, generate, check, store. Runs as the generation's task; cancelling it undoes everything."""
        context = CallContext(
            order.request_id,
            generation.deadline,
            order.lane,
            family=order.family,
            warming=order.warming,
            is_watched=lambda: generation.is_watched,
        )
        try:
            async with self._gate:
                preparation = await self._provider.prepare(order.request, context)
            ticket = ticket_for(preparation, context, self._config)
            generation.phase = "queue"
            async with self._scheduler.admit(ticket) as admission:
                generation.phase = "generate"
                if not order.warming:
                    self._books.admitted(order.lane, admission.queue_time_ms)
                gathering = Gathering(preparation, order.request_id)
                chunks = self._provider.stream(preparation, in_slot(context, admission, preparation))
                await self._stream(generation, gathering, chunks, admission, order)
                answer = gathering.answer(self._model_id, int(admission.queue_time_ms), degraded=order.degraded)
                self._learn(admission, preparation.request, answer)
        except RayError as error:
            self._take_note(error, counted=not order.warming)
            raise
        if not order.warming:
            self._store(order.key, answer)
            self._books.generated(answer)
            self._shaper.learn(order.family, answer)
        return answer

    def _learn(self, admission: Admission, request: InferenceRequest, answer: Answer) -> None:
        """Tell the scheduler what the whole answer says about the slot it came from."""
        held = answer.usage.tokens.total if answer.usage.tokens is not None else None
        turns = reached_turns(request, answer.output, answer.tool_calls) if admission.slot is not None else None
        admission.learned(answer.diagnostics.slot_id if answer.diagnostics is not None else None, held, turns)

    async def _stream(
        self,
        generation: Generation,
        gathering: Gathering,
        chunks: AsyncIterator[Chunk],
        admission: Admission,
        order: Order,
    ) -> None:
        """Pass the provider's chunks on to the readers and gather them."""
        try:
            async for chunk in chunks:
                self._watch.alive()
                admission.prefix_ready()
                had_begun = gathering.has_begun
                shown = gathering.add(chunk)
                if gathering.has_begun and not had_begun and not order.warming:
                    self._books.first_token(order.started_at)
                if shown is not None:
                    generation.publish(shown)
        finally:
            # Leaving early (a limit, a cancellation) must close the stream now, not when it is garbage collected.
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    def _store(self, key: str | None, answer: Answer) -> None:
        """Keep the answer for the next one who asks. A degraded answer is not what they would ask for."""
        if key is not None and not answer.degraded:
            self._cache.put(key, answer, answer_size(key, answer))

    def _take_note(self, error: RayError, *, counted: bool = True) -> None:
        """A refusal is counted; a failed call is news about the backend, which no older health answer may hide."""
        if error.code in REFUSALS:
            if counted:
                self._books.refused(error)
        elif error.code == "provider_request_failed":
            self._watch.suspect()
        elif error.code.startswith("provider_"):
            self._watch.forget()

    # -- warming

    async def _prime(self) -> None:
        """Warm the backend: what the provider needs to know, then each warm-up request as a generation that nobody
        asked for. Raises `RayError` for the first one that failed.

        Slots are given to warm-ups as to any request, so they never get in the way of one.
        """
        await self._provider.warm()
        for prompt in warmup_prompts(self._config):
            order = Order(
                prompt.request, "short", None, WARMUP_REQUEST_ID, time.monotonic(), prompt.family, warming=True
            )
            try:
                await self._produce(Generation(Deadline(math.inf)), order)
            except RayError as error:
                if error.code == "queue_full":
                    return  # the backend answers, and so many requests wait for it that they will warm it
                if error.code != "provider_invalid_response":  # what a warm-up answers does not matter
                    raise

    # -- warm state, health, figures

    @property
    def model_id(self) -> str:
        """What answers report as `model`: the provider's name for it, at most 512 characters."""
        return self._model_id

    @property
    def warm_state(self) -> WarmState:
        return self._watch.warm_state

    async def warm(self) -> None:
        """Prime the backend; concurrent callers share one attempt. Raises `RayError` when it failed."""
        await self._watch.warm()

    async def needs_warming(self) -> bool:
        """Should `warm` be called now? See `BackendWatch.needs_warming`. Never raises."""
        return await self._watch.needs_warming()

    async def backend_answers(self) -> bool:
        """Whether the backend itself says that it can be used, at most a second ago. Never raises."""
        return await self._watch.answers()

    async def provider_health(self) -> Health:
        """The backend's health, at most a second old, warm state included. Never raises."""
        return await self._watch.health()

    async def health(self) -> RuntimeHealth:
        """The whole runtime's health: backend, queue, preparation, cache."""
        provider = await self.provider_health()
        queue = self._scheduler.snapshot()
        gate = self._gate.snapshot()
        queue_degraded = queue_is_degraded(queue, self._config)
        preparation_degraded = preparation_is_degraded(gate)
        pressure = self._shaper.pressure()
        return RuntimeHealth(
            status=service_status(
                provider,
                under_pressure=queue_degraded or preparation_degraded or pressure.memory or pressure.cpu,
            ),
            uptime_ms=int((time.monotonic() - self._born_at) * 1000),
            model_id=self._model_id,
            provider=provider,
            queue=queue,
            queue_degraded=queue_degraded,
            preparation=gate,
            preparation_degraded=preparation_degraded,
            cache=self._cache.stats(),
            pressure=pressure,
        )

    async def health_document(self) -> dict[str, object]:
        """The runtime's part of the `/health` body."""
        document = health_document(await self.health(), self._config)
        prefix_store = self._provider.prefix_health()
        if prefix_store is not None:
            document["prefixStore"] = dict(prefix_store)
        return document

    def queue_snapshot(self) -> SchedulerSnapshot:
        return self._scheduler.snapshot()

    def refresh_gauges(self) -> None:
        """Bring the level gauges up to date; call before metrics are read."""
        self._books.set_gauges(
            self._scheduler.snapshot(), self._gate.snapshot(), self._cache.stats(), self._config.cache
        )
        self._books.set_shaping_gauges()
        self._books.set_pressure_gauges(self._shaper.pressure(), self._config.graceful_degradation)

    async def close(self) -> None:
        """Refuse new requests, stop what is under way (its readers get `request_aborted`), close the provider."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_GRACE_S)
        await self._watch.close()
        await self._provider.close()
