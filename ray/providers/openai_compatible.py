"""A backend with the OpenAI chat route: asked to stream, gathered where the whole text must be judged first."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace

from ray.clock import Deadline, iso_now
from ray.config import Config, OpenAICompatibleAdapter
from ray.errors import RayError
from ray.providers.base import CallContext, Preparation
from ray.providers.chat import CHAT_PATH, COMPLETIONS_PATH, ChatReader, chat_body, completions_body
from ray.providers.embeddings import embed
from ray.providers.reading import is_json, is_json_object, mapping, timings
from ray.providers.refusals import as_clients_fault
from ray.providers.upstream import Upstream, gather_seconds, is_loading, upstream_status
from ray.types import (
    Chunk,
    Counts,
    Embeddings,
    Finish,
    Health,
    InferenceRequest,
    Message,
    ProviderDiagnostics,
    ProviderStatus,
)

PROBE_TIMEOUT_MS = 5_000
MAX_SCANNED_MODELS = 4_096
MAX_KEPT_MODELS = 64
MAX_LISTED_MODELS = 10
MAX_MODEL_ID_CHARS = 256
MIN_REPAIR_TOKENS = 32
MAX_REPAIR_TOKENS = 128
_EMBEDDINGS_REMEDY = "point model.adapter.baseUrl and modelRef at a server and a model that offer /v1/embeddings"
_REPAIR_SYSTEM = "You repair JSON. Answer with one compact JSON object and nothing else: no explanation, no code fence."


class OpenAICompatibleProvider:
    """Any server with `/v1/chat/completions`. Prompts are rendered and counted by the server."""

    kind = "openai-compatible"

    def __init__(self, config: Config, adapter: OpenAICompatibleAdapter, environ: Mapping[str, str]) -> None:
        self.model_id = config.model.id[:512]
        self._adapter = adapter
        # One thread per generation, two for the probes, one for warming.
        threads = config.scheduler.concurrency + 3
        self._upstream = Upstream(adapter, environ, threads=threads, name="ray-openai")

    @property
    def assignable_slots(self) -> int | None:
        """The protocol knows no slots."""
        return None

    @property
    def slots_epoch(self) -> int:
        """What the backend keeps is not known, so nothing is known to be lost."""
        return 0

    def prefix_health(self) -> Mapping[str, object] | None:
        """There is no prefix store."""
        return None

    async def warm(self) -> None:
        """There is nothing to prime but what the first requests prime themselves."""

    async def prepare(self, request: InferenceRequest, context: CallContext) -> Preparation:
        """The request as it is; the backend renders and counts."""
        return Preparation(request)

    async def stream(self, preparation: Preparation, context: CallContext) -> AsyncIterator[Chunk]:
        """Text as it arrives; a JSON answer in one piece, after it was found to be JSON or repaired once."""
        request = preparation.request
        started = time.monotonic()
        first: float | None = None
        gathered: list[Chunk] = []
        reader = ChatReader(request.max_tokens, request.top_logprobs)
        # Closed with this generator, not by the garbage collector: that is what frees the backend's slot at once.
        try:
            async with aclosing(self._call(request, context, reader)) as arriving:
                async for chunk in arriving:
                    if first is None:
                        first = time.monotonic()
                    if request.wants_json and not chunk.tool_calls:
                        gathered.append(chunk)
                    else:
                        yield chunk
        except RayError as error:
            raise as_clients_fault(error, request) from None
        reader.check_complete()
        finish = _finish("openai-completions" if request.is_raw else "openai-chat", reader, started, first)
        if gathered:
            answer, finish = await self._as_json(_joined(gathered), finish, request, context)
            yield answer
        yield Chunk(finish=finish)

    async def health(self) -> Health:
        """`GET /v1/models`, and `GET /health` if that did not settle it."""
        started = time.monotonic()
        status, details = await self._probe()
        latency_ms = round((time.monotonic() - started) * 1000, 3)
        return Health(status, checked_at=iso_now(), latency_ms=latency_ms, details=details)

    async def embed(self, texts: tuple[str, ...], deadline: Deadline) -> Embeddings:
        found = await embed(
            self._upstream, self._adapter.model_ref, texts, deadline, remedy=_EMBEDDINGS_REMEDY, is_compact=False
        )
        return replace(found, model=self.model_id)

    async def close(self) -> None:
        await self._upstream.close()

    async def _call(
        self, request: InferenceRequest, context: CallContext, reader: ChatReader
    ) -> AsyncGenerator[Chunk, None]:
        """One generation: yields what it says, piece by piece."""
        path, body_of = (COMPLETIONS_PATH, completions_body) if request.is_raw else (CHAT_PATH, chat_body)
        body = body_of(self._adapter.model_ref, request, context.request_id)
        async with self._upstream.stream(
            path, body, deadline=context.deadline, gather_seconds=lambda: gather_seconds(context)
        ) as answer:
            if not answer.is_event_stream:
                whole = reader.take_whole(await answer.document())
                if whole is not None:
                    yield whole
                return
            async for events in answer:
                for chunk in filter(None, [reader.feed(data) for data in events]):
                    yield chunk
                if reader.reported_error is not None:
                    raise self._upstream.reported(path, reader.reported_error)
                if reader.done:
                    return

    async def _as_json(
        self, answer: Chunk, finish: Finish, request: InferenceRequest, context: CallContext
    ) -> tuple[Chunk, Finish]:
        """The answer if it is JSON, else what one repair call makes of it.

        An answer cut at its token limit is left alone: `finish` says so, and a short repair cannot complete it; so is
        one that calls tools. If the repair does not give JSON either, the first answer stands; the diagnostics say that
        it failed. Whether the JSON conforms to a schema is the backend's business.
        """
        is_good = is_json if request.response_format == "json_schema" else is_json_object
        if finish.reason != "stop" or is_good(answer.text):
            return answer, finish
        repair = _repair_request(request, answer.text)
        reader = ChatReader(repair.max_tokens)
        repaired = "".join([chunk.text async for chunk in self._call(repair, context, reader)])
        reader.check_complete()
        succeeded = is_good(repaired)
        diagnostics = finish.diagnostics or ProviderDiagnostics()
        finish = replace(
            finish,
            tokens=_sum(finish.tokens, reader.usage),
            diagnostics=replace(diagnostics, json_repair_attempted=True, json_repair_succeeded=succeeded),
        )
        # The probabilities are those of the faulty answer.
        return (Chunk(repaired) if succeeded else answer), finish

    async def _probe(self) -> tuple[ProviderStatus, dict[str, object]]:
        try:
            models = await self._get("/v1/models")
        except RayError as error:
            if upstream_status(error) in (401, 403):
                return "unavailable", self._refused_details("/v1/models", error)
            if is_loading(error):
                return "warming", {"probe": "/v1/models", "message": error.message}
        else:
            verdict = self._judge_models(models)
            if verdict is not None:
                return verdict
        try:
            await self._get("/health")
        except RayError as error:
            if is_loading(error):
                return "warming", {"probe": "/health", "message": error.message}
            details: dict[str, object] = {"probe": "/v1/models + /health", "message": error.message}
            if self._upstream.base_path:
                details["baseUrlPath"] = self._upstream.base_path
            return "unavailable", details
        return "ready", {"probe": "/health"}

    async def _get(self, path: str) -> object:
        return await self._upstream.call("GET", path, timeout_ms=PROBE_TIMEOUT_MS)

    def _judge_models(self, document: object) -> tuple[ProviderStatus, dict[str, object]] | None:
        """What the list of models says about this model; None when it says nothing."""
        data = mapping(document).get("data")
        if not isinstance(data, list):
            return None
        model_ref = self._adapter.model_ref
        names: list[str] = []
        for entry in data[:MAX_SCANNED_MODELS]:
            name = mapping(entry).get("id")
            if name == model_ref:
                return "ready", {"probe": "/v1/models", "modelRef": model_ref}
            if isinstance(name, str) and 1 <= len(name) <= MAX_MODEL_ID_CHARS and len(names) < MAX_KEPT_MODELS:
                names.append(name)
        if not names or len(data) > MAX_SCANNED_MODELS:
            return None
        details: dict[str, object] = {
            "probe": "/v1/models",
            "message": f"the backend does not offer the model {model_ref}: set model.adapter.modelRef to one it lists",
            "availableModels": names[:MAX_LISTED_MODELS],
        }
        if len(names) > MAX_LISTED_MODELS:
            details["availableModelsTruncated"] = True
        return "unavailable", details

    def _refused_details(self, probe: str, error: RayError) -> dict[str, object]:
        return {
            "probe": probe,
            "message": f"{error.message}: set model.adapter.apiKeyEnv to the variable that holds the backend's API key",
        }


def _finish(shape: str, reader: ChatReader, started: float, first: float | None) -> Finish:
    now = time.monotonic()
    diagnostics = ProviderDiagnostics(
        request_shape=shape,
        tokens_cached=reader.tokens_cached,
        timings=timings(
            reader.timings,
            ttft_ms=None if first is None else (first - started) * 1000,
            total_ms=(now - started) * 1000,
        ),
    )
    return Finish(reader.finish_reason or "stop", tokens=reader.usage, diagnostics=diagnostics)


def _repair_request(request: InferenceRequest, answer: str) -> InferenceRequest:
    return replace(
        request,
        messages=(
            Message("system", _REPAIR_SYSTEM),
            Message("user", f"Request:\n{request.messages[-1].content}\n\nFaulty answer:\n{answer}"),
        ),
        max_tokens=max(MIN_REPAIR_TOKENS, min(request.max_tokens, MAX_REPAIR_TOKENS)),
        temperature=0.0,
        top_p=1.0,
        seed=None,
        stop=(),
        tools=None,
        tool_choice=None,
        parallel_tool_calls=None,
        top_logprobs=None,
        is_raw=False,
    )


def _joined(chunks: list[Chunk]) -> Chunk:
    return Chunk(
        "".join(chunk.text for chunk in chunks),
        logprobs=tuple(logprob for chunk in chunks for logprob in chunk.logprobs),
    )


def _sum(first: Counts | None, second: Counts | None) -> Counts | None:
    if first is None or second is None:
        return first or second
    return Counts(first.prompt + second.prompt, first.completion + second.completion, first.total + second.total)
