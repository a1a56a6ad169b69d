"""The books of a runtime: what is counted, measured and logged for each request, and the gauges of a scrape.

One log line per failed request, with its request id. A failure that `Runtime.generate` or a `Reader` raises stands in
the books already, so routes neither log nor count it again.
"""

from __future__ import annotations

import time

from ray.clock import iso_now
from ray.config import CacheConfig, Config, GracefulDegradationConfig
from ray.errors import RayError
from ray.runtime.cache import CacheStats
from ray.runtime.figures import SchedulerSnapshot
from ray.runtime.generation import Answer, Reader
from ray.runtime.preparation import GateSnapshot
from ray.runtime.pressure import Pressure
from ray.runtime.pressure_gauges import pressure_gauges
from ray.runtime.shaping import ShapedRequest
from ray.telemetry import Logger, Metrics, error_fields
from ray.types import (
    AdaptiveTuningDiagnostics,
    InferenceResult,
    Lane,
    LearnedOutputCapDiagnostics,
    PromptCompilerDiagnostics,
    ProviderDiagnostics,
)

ShapingDiagnostics = tuple[PromptCompilerDiagnostics, LearnedOutputCapDiagnostics, AdaptiveTuningDiagnostics]


class Books:
    """Writes metrics and log lines. Observes every reader (`ReaderObserver`)."""

    def __init__(self, config: Config, model_id: str, logger: Logger, metrics: Metrics) -> None:
        self._slow_ms = config.telemetry.slow_request_threshold_ms
        self._model_id = model_id
        self._logger = logger
        self._metrics = metrics
        self._last_shaped: ShapingDiagnostics | None = None

    def answered(self, reader: Reader, result: InferenceResult) -> None:
        """One reader has its answer."""
        metrics = self._metrics
        metrics.increment("requests.total", source=reader.source)
        metrics.observe("inference.duration", time.monotonic() - reader.started_at, source=reader.source)
        if result.degraded:
            metrics.increment("requests.degraded")
            metrics.note("lastDegradedAt", result.created_at)
        metrics.note("lastLatencyMs", result.latency_ms)
        metrics.note("lastRequestAt", result.created_at)
        if result.cached:
            metrics.note("lastCacheHitAt", result.created_at)
        elif result.latency_ms >= self._slow_ms:
            self._logger.warn(
                "slow inference request",
                event="slow_request",
                request_id=reader.request_id,
                latencyMs=result.latency_ms,
                queueTimeMs=result.queue_time_ms,
                modelId=self._model_id,
            )

    def failed(self, reader: Reader, error: RayError) -> None:
        """One reader has its error."""
        if error.code == "request_timeout" and reader.generation.phase != "generate":
            self.refused(error)  # it was never let in
        self.unanswered(reader.request_id, error)

    def unanswered(self, request_id: str, error: RayError) -> None:
        """The one line and the one count of a request that failed."""
        self._metrics.increment("requests.errors", code=error.code)
        self._metrics.note("lastErrorAt", iso_now())
        if error.expected:
            self._logger.warn(
                "inference rejected",
                event="inference_rejected",
                request_id=request_id,
                error=without_body(error_fields(error, stack=False)),
            )
        else:
            # An unforeseen exception is wrapped for the client; the log shows where it really came from.
            cause = error.__cause__ if error.code == "gateway_error" and error.__cause__ is not None else error
            self._logger.error(
                "inference failed",
                event="inference_failed",
                request_id=request_id,
                error=without_body({**error_fields(cause, stack=True), "code": error.code, "status": error.status}),
            )

    def shaped(self, shaped: ShapedRequest) -> None:
        """What was cut from a request before anybody looked for its answer. Shown when somebody looks at the gauges."""
        self._last_shaped = shaped.compiler, shaped.learned_cap, shaped.tuning
        if shaped.compiler.chars_saved:
            self._metrics.increment("prompt.compiler.saved_chars", shaped.compiler.chars_saved)

    def looked_up(self, *, hit: bool) -> None:
        """The cache was really asked."""
        self._metrics.increment("cache.hits" if hit else "cache.misses")

    def joined(self) -> None:
        """A follower joined a generation in flight."""
        self._metrics.increment("scheduler.deduplicated")

    def refused(self, error: RayError) -> None:
        """A request did not get as far as the model: refused, or out of time while it waited."""
        self._metrics.increment("scheduler.rejections", code=error.code)

    def admitted(self, lane: Lane, queue_time_ms: float) -> None:
        self._metrics.observe("queue.wait", queue_time_ms / 1000, lane=lane)

    def first_token(self, started_at: float) -> None:
        self._metrics.observe("inference.ttft", time.monotonic() - started_at)

    def generated(self, answer: Answer) -> None:
        """A generation is complete: what the backend said about it, once, whoever reads it."""
        self._metrics.set("queue.last_delay_ms", answer.queue_time_ms)
        prompt_tokens = 0
        if answer.usage.tokens is not None:
            prompt_tokens = answer.usage.tokens.prompt
            self._metrics.increment("provider.prompt_tokens", prompt_tokens)
            self._metrics.increment("provider.completion_tokens", answer.usage.tokens.completion)
        if answer.diagnostics is None:
            return
        self._prompt_cache(answer.diagnostics, prompt_tokens)
        timings = answer.diagnostics.timings
        if timings is not None and timings.completion_tokens_per_second is not None:
            self._metrics.set("provider.completion_tps", timings.completion_tokens_per_second)
            self._metrics.observe("provider.completion_rate", timings.completion_tokens_per_second)
        if answer.diagnostics.slot_id is not None:
            self._metrics.increment("provider.slot.assignments")
            self._metrics.set("provider.slot.last_id", answer.diagnostics.slot_id)
            self._metrics.note("lastSlotId", answer.diagnostics.slot_id)

    def embedded(self, seconds: float, tokens: int | None) -> None:
        """One request for embeddings has its vectors."""
        self._metrics.increment("requests.total", source="provider")
        self._metrics.observe("inference.duration", seconds, source="provider")
        self._metrics.note("lastLatencyMs", int(seconds * 1000))
        self._metrics.note("lastRequestAt", iso_now())
        if tokens is not None:
            self._metrics.increment("provider.prompt_tokens", tokens)

    def _prompt_cache(self, diagnostics: ProviderDiagnostics, prompt_tokens: int) -> None:
        cached = diagnostics.tokens_cached
        if cached is None:
            return
        self._metrics.increment("provider.prompt_cache.hits" if cached > 0 else "provider.prompt_cache.misses")
        self._metrics.increment("provider.prompt_cached_tokens", cached)
        self._metrics.set("provider.prompt_cache.tokens_cached", cached)
        self._metrics.note("lastPromptCacheTokens", cached)
        if prompt_tokens > 0:
            self._metrics.set("provider.prompt_cache.reuse_ratio", cached / prompt_tokens)
            self._metrics.note("lastPromptCacheReuseRatio", cached / prompt_tokens)

    def set_gauges(self, queue: SchedulerSnapshot, gate: GateSnapshot, cache: CacheStats, limits: CacheConfig) -> None:
        """The levels of this moment, written when somebody is about to read them."""
        gauges: dict[str, float] = {
            "queue.depth": queue.queue_depth,
            "queue.short_depth": queue.short_queue_depth,
            "queue.draft_depth": queue.draft_queue_depth,
            "queue.max_depth": queue.max_queue,
            "queue.depth_ratio": queue.queue_depth / queue.max_queue,
            "queue.tokens": queue.queued_tokens,
            "queue.max_tokens": queue.max_queued_tokens,
            "queue.tokens_ratio": queue.queued_tokens / queue.max_queued_tokens,
            "inference.in_flight": queue.in_flight,
            "inference.concurrency": queue.concurrency,
            "inference.in_flight_ratio": queue.in_flight / queue.concurrency,
            "inference.in_flight_tokens": queue.in_flight_tokens,
            "inference.max_inflight_tokens": queue.max_inflight_tokens,
            "inference.in_flight_tokens_ratio": queue.in_flight_tokens / queue.max_inflight_tokens,
            "preparation.active": gate.active,
            "preparation.concurrency": gate.concurrency,
            "preparation.active_ratio": gate.active / gate.concurrency,
            "preparation.queued": gate.queued,
            "preparation.max_queue": gate.max_queue,
            "preparation.queued_ratio": gate.queued / gate.max_queue,
            "cache.entries": cache.entries,
            "cache.max_entries": limits.max_entries,
            "cache.entries_ratio": cache.entries / limits.max_entries,
            "cache.bytes": cache.bytes,
            "cache.max_bytes": limits.max_bytes,
            "cache.bytes_ratio": cache.bytes / limits.max_bytes,
            "cache.evictions_total": cache.evictions,
            "cache.expirations_total": cache.expirations,
            "cache.dropped_oversized_entries_total": cache.dropped_oversized_entries,
            "cache.dropped_unmeasurable_entries_total": 0,  # every answer can be measured
        }
        for name, value in gauges.items():
            self._metrics.set(name, value)

    def set_shaping_gauges(self) -> None:
        """What was cut from the last request; nothing before the first one."""
        if self._last_shaped is None:
            return
        compiler, learned, tuned = self._last_shaped
        self._metrics.set("prompt.compiler.chars_saved", compiler.chars_saved)
        self._metrics.set(
            "learned_output_cap.max_tokens_ratio", learned.applied_max_tokens / learned.requested_max_tokens
        )
        self._metrics.set("adaptive.max_tokens_ratio", tuned.applied_max_tokens / tuned.requested_max_tokens)

    def set_pressure_gauges(self, pressure: Pressure, limits: GracefulDegradationConfig) -> None:
        """The machine's figures; what can no longer be measured vanishes."""
        for name, value in pressure_gauges(pressure, limits):
            self._metrics.set(name, value)


def without_body(described: dict[str, object]) -> dict[str, object]:
    """An error for the log, without what a backend wrote about it: that may quote the prompt."""
    details = described.get("details")
    if not isinstance(details, dict) or "body" not in details:
        return described
    return {**described, "details": {name: value for name, value in details.items() if name != "body"}}
