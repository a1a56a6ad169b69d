"""From an answer, or from the exception in its place, to a `Sample`. No sockets, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ray.bench.run.provider_tally import figure
from ray.bench.run.quality import judge
from ray.bench.run.sample import Sample
from ray.bench.run.workload_file import Item
from ray.client import (
    RayAnswerError,
    RayClientError,
    RayConnectionError,
    RayRefused,
    RayTimeout,
    RayUnreachable,
)

MAX_GATEWAY_MS = 600_000
MAX_REPORTED_TOKENS = 1_000_000

# Codes of what never was an answer of the gateway. The others are the gateway's own.
UNREACHABLE = "unreachable"
CONNECTION_LOST = "connection_lost"
TIMEOUT = "timeout"
INVALID_ANSWER = "invalid_answer"
SATURATED = "client_saturated"
UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Times:
    """Of one request at the client, in milliseconds: `started` since the measured part began, `first` (None: no text
    came) and `latency` since `started`."""

    started: float
    first: float | None
    latency: float


def error_code(error: RayClientError) -> str:
    """The code an error is counted under."""
    if isinstance(error, RayRefused):
        return error.code or f"http_{error.status}"
    if isinstance(error, RayUnreachable):
        return UNREACHABLE
    if isinstance(error, RayConnectionError):
        return CONNECTION_LOST
    if isinstance(error, RayTimeout):
        return TIMEOUT
    if isinstance(error, RayAnswerError):
        return INVALID_ANSWER
    raise error


def failed_sample(number: int, place: int, times: Times, code: str) -> Sample:
    """The sample of a request that brought no answer."""
    return Sample(number, place, times.started, times.latency, times.first, code)


def answered_sample(number: int, place: int, times: Times, answer: Mapping[str, object], item: Item) -> Sample:
    """The sample of an answer; one with the code `invalid_answer` when it lacks what every answer has."""
    flags = [answer.get(key) for key in ("cached", "deduplicated", "degraded")]
    queue, latency = figure(answer, "queueTimeMs"), figure(answer, "latencyMs")
    output, tokens = answer.get("output"), part(part(answer, "usage"), "tokens")
    counts = [tokens.get(key) for key in ("prompt", "completion", "total")]
    sound = (
        bool(answer.get("id"))
        and isinstance(answer.get("id"), str)
        and isinstance(output, str)
        and all(isinstance(flag, bool) for flag in flags)
        and all(time is not None and time <= MAX_GATEWAY_MS for time in (queue, latency))
        and isinstance(answer.get("usage"), Mapping)
        and (not tokens or all(_is_count(count) for count in counts))
    )
    if not sound:
        return failed_sample(number, place, times, INVALID_ANSWER)
    provider = provider_of(answer)
    timings, state = part(provider, "timings"), part(provider, "prefix").get("state")
    cached = figure(provider, "tokensCached")
    verdict = judge(str(output), item.expected)
    return Sample(
        number=number,
        item=place,
        started_ms=times.started,
        latency_ms=times.latency,
        ttft_ms=times.first,
        cached=flags[0] is True,
        deduplicated=flags[1] is True,
        degraded=flags[2] is True,
        queue_ms=queue,
        gateway_ms=latency,
        prompt_tokens=_count(tokens, "prompt"),
        completion_tokens=_count(tokens, "completion"),
        cached_tokens=None if cached is None else int(cached),
        prefix=state if isinstance(state, str) else None,
        prompt_format=_text(provider, "promptFormat"),
        provider_ttft_ms=figure(timings, "ttftMs"),
        tokens_per_second=figure(timings, "completionTokensPerSecond"),
        quality_score=verdict.score,
        quality_failures=verdict.failures,
        valid_json=verdict.valid_json,
    )


def provider_of(answer: Mapping[str, object]) -> Mapping[str, object]:
    """The backend's diagnostics in an answer; empty where there are none."""
    return part(part(answer, "diagnostics"), "provider")


def part(document: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}


def _text(document: Mapping[str, object], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) and value else None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_REPORTED_TOKENS


def _count(tokens: Mapping[str, object], key: str) -> int | None:
    value = tokens.get(key)
    return value if isinstance(value, int) else None
