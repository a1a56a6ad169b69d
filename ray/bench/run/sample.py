"""What a run measures: one request, and one look at the queue."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One request of the measured part; warm-up requests are not in here.

    `number`: place in the order of sending; `item`: place of its item in the workload, from 0; `started_ms`: since the
    measured part began (in an open loop its planned arrival); `latency_ms` and `ttft_ms`: at the client, from
    `started_ms` to the last and the first piece of text; `code`: None for an answer, otherwise the error's code.
    The gateway's own words: `cached`, `deduplicated`, `degraded`, `queue_ms`, `gateway_ms` (its `latencyMs`), token
    counts, `cached_tokens` (of the prompt, found in the KV cache), `prefix` (state of the prefix), `prompt_format` (how
    the prompt was written), and from the backend's timings `provider_ttft_ms` and `tokens_per_second`.
    `quality_score`: 0 to 100; `valid_json`: None when the item asks for no JSON.
    """

    number: int
    item: int
    started_ms: float
    latency_ms: float
    ttft_ms: float | None = None
    code: str | None = None
    cached: bool = False
    deduplicated: bool = False
    degraded: bool = False
    queue_ms: float | None = None
    gateway_ms: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    prefix: str | None = None
    prompt_format: str | None = None
    provider_ttft_ms: float | None = None
    tokens_per_second: float | None = None
    quality_score: float | None = None
    quality_failures: tuple[str, ...] = ()
    valid_json: bool | None = None

    @property
    def answered(self) -> bool:
        return self.code is None

    @property
    def cold(self) -> bool:
        """Answered by the model for this request alone: neither by the response cache nor with a twin."""
        return self.answered and not self.cached and not self.deduplicated


@dataclass(frozen=True, slots=True)
class QueuePoint:
    """The gateway's queue at one moment, `at_ms` after the measured part began."""

    at_ms: float
    depth: int
    in_flight: int
