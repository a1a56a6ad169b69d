"""Answers that may call tools: llama-server's own `/v1/chat/completions`, because only there is the model's text parsed
into calls.

The prompt is the one that `/apply-template` makes of the same messages and tools, so tokens, context window and prefix
are those of the preparation, and slot and prompt cache are used as by any other completion.
"""

from __future__ import annotations

from dataclasses import replace

from ray.providers.chat import CHAT_PATH, ChatReader, chat_body
from ray.providers.reading import count, mapping, timings
from ray.providers.tool_calls import refusal
from ray.types import Chunk, Counts, Finish, InferenceRequest, ProviderDiagnostics

# A small model on a small box has no tokens to spend on thinking; templates without the switch ignore it.
NO_THINKING = {"enable_thinking": False}


def check_tool_request(request: InferenceRequest) -> None:
    """Raises `invalid_request` for what llama-server refuses along with tools."""
    if request.top_logprobs is not None:
        raise refusal("the backend gives no probabilities of tokens along with tools: leave out one of the two")


def chat_call_body(
    model_ref: str, request: InferenceRequest, request_id: str, *, cache_prompt: bool, slot_id: int | None
) -> dict[str, object]:
    """The body of one streamed chat call. `slot_id`: a slot that is known to be safe to name, else None."""
    body = chat_body(model_ref, request, request_id)
    body["cache_prompt"] = cache_prompt
    body["chat_template_kwargs"] = NO_THINKING
    if slot_id is not None:
        body["id_slot"] = slot_id
    return body


class ChatCallReader:
    """Gathers one answer, as `CompletionReader` does, from the events of the chat protocol."""

    path = CHAT_PATH

    def __init__(self, max_tokens: int) -> None:
        self._chat = ChatReader(max_tokens)

    @property
    def is_over(self) -> bool:
        return self._chat.done

    @property
    def reported_error(self) -> object:
        return self._chat.reported_error

    @property
    def tokens_evaluated(self) -> int | None:
        """Tokens of the whole prompt, whether read now or reused."""
        return self._chat.usage.prompt if self._chat.usage is not None else None

    def feed(self, data: str) -> Chunk | None:
        return self._chat.feed(data)

    def take_whole(self, document: object) -> Chunk | None:
        return self._chat.take_whole(document)

    def finish(
        self, prepared: ProviderDiagnostics | None, prompt_tokens: int | None, ttft_ms: float | None, total_ms: float
    ) -> Finish:
        """As `CompletionReader.finish`. The protocol does not tell which slot was used."""
        self._chat.check_ended()
        given = mapping(self._chat.timings)
        cached = count(given.get("cache_n"))
        reason = self._chat.finish_reason or "stop"
        diagnostics = replace(
            prepared or ProviderDiagnostics(),
            request_shape="llama.cpp-chat",
            tokens_cached=self._chat.tokens_cached if cached is None else cached,
            tokens_evaluated=self.tokens_evaluated,
            stop_type="limit" if reason == "length" else None,
            timings=timings(given, ttft_ms=ttft_ms, total_ms=total_ms),
        )
        completion = count(given.get("predicted_n")) or 0
        tokens = self._chat.usage or Counts.of(prompt_tokens or 0, completion)
        return Finish(reason, tokens=tokens, diagnostics=diagnostics)
