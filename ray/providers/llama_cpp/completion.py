"""The `/completion` protocol of llama-server without a socket: the request body, and reading the streamed answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from ray.errors import RayError
from ray.providers.logprobs import token_logprobs
from ray.providers.reading import count, mapping, parse_json, text, text_limit, timings
from ray.types import Chunk, Counts, Finish, InferenceRequest, ProviderDiagnostics

COMPLETION_PATH = "/completion"
# The last event otherwise echoes the whole prompt and some fifty settings.
RESPONSE_FIELDS = (
    "content",
    "stop",
    "id_slot",
    "tokens_evaluated",
    "tokens_predicted",
    "truncated",
    "stop_type",
    "timings",
)
PROBABILITIES = "completion_probabilities"


def completion_body(
    request: InferenceRequest, prompt: str, *, cache_prompt: bool, slot_id: int | None
) -> dict[str, object]:
    """The body of one streamed completion. `slot_id`: a slot that is known to be safe to name, else None.

    JSON mode is a grammar (`json_schema`): `/completion` has no `response_format`.
    """
    body: dict[str, object] = {
        "prompt": prompt,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "n_predict": request.max_tokens,
        "stream": True,
        "cache_prompt": cache_prompt,
        "response_fields": list(RESPONSE_FIELDS),
    }
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    if request.response_format == "json_schema" and request.json_schema is not None:
        body["json_schema"] = json.loads(request.json_schema)
    elif request.wants_json:
        body["json_schema"] = {"type": "object"}
    if request.top_logprobs is not None:
        # With 0 there would be no probabilities at all.
        body["n_probs"] = max(1, request.top_logprobs)
        body["response_fields"] = [*RESPONSE_FIELDS, PROBABILITIES]
    if slot_id is not None:
        body["id_slot"] = slot_id
    return body


class CompletionReader:
    """Gathers one answer: `feed` takes the events; after the one with `stop` true, `finish` tells how it went.

    Raises `provider_invalid_response` for what cannot be an answer and `provider_result_invalid` for one that is
    longer than its token limit allows. An error reported in mid-stream is left in `reported_error`.
    """

    path = COMPLETION_PATH

    def __init__(self, max_tokens: int, top_logprobs: int | None = None) -> None:
        self._last: Mapping[str, object] | None = None
        self._top_logprobs = top_logprobs
        self.reported_error: object = None
        self._chars = 0
        self._max_chars = text_limit(max_tokens)

    @property
    def is_over(self) -> bool:
        """Whether the last event has been read."""
        return self._last is not None

    def feed(self, data: str) -> Chunk | None:
        """What one event adds, usually a token; None when that is nothing."""
        if self._last is not None or self.reported_error is not None:
            return None
        try:
            event = mapping(parse_json(data))
        except ValueError as error:
            raise _invalid(f"an event is not JSON ({error})") from None
        return self._take(event)

    def take_whole(self, document: object) -> Chunk | None:
        """An answer that came in one piece."""
        return self._take(mapping(document))

    def _take(self, event: Mapping[str, object]) -> Chunk | None:
        if "error" in event:
            # A bare `null` must count as an error too.
            self.reported_error = event["error"] or "unspecified"
            return None
        content = event.get("content")
        if not isinstance(content, str):
            raise _invalid("an event has no content")
        self._chars += len(content)
        if self._chars > self._max_chars:
            raise RayError(
                "provider_result_invalid",
                f"the model backend's answer has more than {self._max_chars} characters",
                details={"maxChars": self._max_chars, "actualChars": self._chars},
            )
        if event.get("stop") is True:
            self._last = event
        if self._top_logprobs is None:
            return Chunk(content) if content else None
        logprobs = token_logprobs(event.get(PROBABILITIES), self._top_logprobs)
        return Chunk(content, logprobs=logprobs) if content or logprobs else None

    @property
    def tokens_evaluated(self) -> int | None:
        """Tokens of the whole prompt, whether read now or reused."""
        return count((self._last or {}).get("tokens_evaluated"))

    def finish(
        self, prepared: ProviderDiagnostics | None, prompt_tokens: int | None, ttft_ms: float | None, total_ms: float
    ) -> Finish:
        """What the last event says. `prompt_tokens`: the prepared count, used when the backend gives none."""
        if self._last is None:
            raise _invalid("it ended in the middle")
        last = self._last
        given = mapping(last.get("timings"))
        evaluated = self.tokens_evaluated
        prompt = evaluated if evaluated is not None else prompt_tokens
        completion = count(last.get("tokens_predicted"))
        if completion is None:
            completion = count(given.get("predicted_n"))
        stop_type = text(last.get("stop_type"), 32)
        truncated = last.get("truncated")
        diagnostics = replace(
            prepared or ProviderDiagnostics(),
            slot_id=count(last.get("id_slot")),
            tokens_cached=count(given.get("cache_n")),
            tokens_evaluated=evaluated,
            truncated=truncated if isinstance(truncated, bool) else None,
            stop_type=stop_type,
            timings=timings(given, ttft_ms=ttft_ms, total_ms=total_ms),
        )
        return Finish(
            "length" if stop_type == "limit" else "stop",
            tokens=Counts.of(prompt or 0, completion or 0),
            diagnostics=diagnostics,
        )


def _invalid(what: str) -> RayError:
    return RayError("provider_invalid_response", f"the model backend's completion is unusable: {what}")
