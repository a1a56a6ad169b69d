"""The OpenAI chat protocol without a socket, and the older completions protocol for prompts that need no template: the
request bodies, and reading answers, streamed or whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ray.errors import RayError
from ray.providers.logprobs import choice_logprobs
from ray.providers.reading import count, mapping, openai_usage, parse_json, text_limit
from ray.providers.tool_calls import ToolCallReader, calls_of, tool_fields
from ray.types import Chunk, Counts, FinishReason, InferenceRequest, Message, TokenLogprob

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"
DONE = "[DONE]"
MAX_CONTENT_PARTS = 512


def chat_body(model_ref: str, request: InferenceRequest, request_id: str) -> dict[str, object]:
    """The body of one chat call: always streamed, with usage in the last event."""
    body = {
        **_sampling(model_ref, request, request_id),
        "messages": chat_messages(request.messages),
        **tool_fields(request),
    }
    if request.response_format is not None:
        body["response_format"] = _response_format(request)
    if request.top_logprobs is not None:
        body["logprobs"] = True
        body["top_logprobs"] = request.top_logprobs
    return body


def completions_body(model_ref: str, request: InferenceRequest, request_id: str) -> dict[str, object]:
    """The body of one call with a prompt that is to be read as it is."""
    body = {**_sampling(model_ref, request, request_id), "prompt": request.messages[-1].content}
    if request.top_logprobs is not None:
        # The older protocol has one number for both; 0 means the token alone, which few servers know.
        body["logprobs"] = max(1, request.top_logprobs)
    return body


def chat_messages(messages: Sequence[Message]) -> list[dict[str, object]]:
    """The conversation as the protocol writes it. An empty system message says nothing and is left out."""
    return [_chat_message(message) for message in messages if message.content or message.role != "system"]


def _chat_message(message: Message) -> dict[str, object]:
    written: dict[str, object] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        written["content"] = message.content or None
        written["tool_calls"] = calls_of(message.tool_calls)
    if message.tool_call_id is not None:
        written["tool_call_id"] = message.tool_call_id
    return written


def _sampling(model_ref: str, request: InferenceRequest, request_id: str) -> dict[str, object]:
    body: dict[str, object] = {
        "model": model_ref,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
        "user": request_id,
    }
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    return body


def _response_format(request: InferenceRequest) -> dict[str, object]:
    if request.response_format != "json_schema" or request.json_schema is None:
        return {"type": request.response_format}
    # The protocol insists on a name, and nobody reads it.
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(request.json_schema)}}


class ChatReader:
    """Gathers one answer. `feed` takes the events of a stream, `take_whole` a document; then look at the fields.

    Raises `provider_invalid_response` for what cannot be an answer. An error that the backend reports in mid-stream is
    left in `reported_error`, and nothing after it counts.
    """

    def __init__(self, max_tokens: int, top_logprobs: int | None = None) -> None:
        """`top_logprobs`: as in the request; None passes no probabilities on."""
        self.usage: Counts | None = None
        self.tokens_cached: int | None = None
        self.timings: object = None
        self.reported_error: object = None
        self.done = False
        self._reason: str | None = None
        self._chars = 0
        self._max_chars = text_limit(max_tokens)
        self._top_logprobs = top_logprobs
        self._calls = ToolCallReader()
        self._has_reasoning = False

    @property
    def finish_reason(self) -> FinishReason | None:
        """None while the answer goes on. Some servers call an answer that ends with tool calls an ordinary one."""
        if self._reason == "length":
            return "length"
        if self._reason is None and not self.done:
            return None
        return "tool_calls" if self._calls.has_calls else "stop"

    def feed(self, data: str) -> Chunk | None:
        """What one event adds, usually a token; None when that is nothing."""
        if self.done or self.reported_error is not None:
            return None
        if data.strip() == DONE:
            self.done = True
            return None
        try:
            event = mapping(parse_json(data))
        except ValueError as error:
            raise _invalid(f"an event of the answer is not JSON ({error})") from None
        if "error" in event:
            # A bare `null` must count as an error too.
            self.reported_error = event["error"] or "unspecified"
            return None
        self._take_figures(event)
        choice = _first_choice(event)
        delta = mapping(choice.get("delta"))
        return self._chunk(choice, delta, _text_of(choice.get("text"), delta.get("content")))

    def take_whole(self, document: object) -> Chunk | None:
        """An answer that came in one piece. A list of content parts is joined and trimmed."""
        answer = mapping(document)
        self._take_figures(answer)
        choice = _first_choice(answer)
        if not choice:
            raise _invalid("the answer has no choices")
        message = mapping(choice.get("message"))
        content = message.get("content")
        found = _text_of(choice.get("text"), content)
        if isinstance(content, list) and not choice.get("text"):
            found = found.strip()
        self.done = True
        return self._chunk(choice, message, found)

    def check_complete(self) -> None:
        """At the end of the answer: was it one, and did it say anything?"""
        self.check_ended()
        if self._chars == 0 and not self._calls.has_calls:
            hint = ": the model only reasoned; start the backend with `--reasoning off`" if self._has_reasoning else ""
            raise _invalid(f"the answer holds no text{hint}")

    def check_ended(self) -> None:
        """At the end of the answer: was it one?"""
        if not self.done and self._reason is None:
            raise _invalid("the answer ended in the middle")

    def _chunk(self, choice: Mapping[str, object], said: Mapping[str, object], found: str) -> Chunk | None:
        """`said`: the choice's delta or message; `found`: its text."""
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self._reason = reason
        if said.get("reasoning_content"):
            self._has_reasoning = True
        try:
            calls = self._calls.take(said["tool_calls"]) if said.get("tool_calls") else ()
        except ValueError as error:
            raise _invalid(str(error)) from None
        logprobs: tuple[TokenLogprob, ...] = ()
        if self._top_logprobs is not None and choice.get("logprobs"):
            logprobs = choice_logprobs(choice["logprobs"], self._top_logprobs)
        self._limit(len(found) + sum(len(call.arguments) for call in calls))
        return Chunk(found, tool_calls=calls, logprobs=logprobs) if found or calls or logprobs else None

    def _take_figures(self, event: Mapping[str, object]) -> None:
        if event.get("usage") is not None:
            self.usage = openai_usage(event["usage"]) or self.usage
            details = mapping(mapping(event["usage"]).get("prompt_tokens_details"))
            self.tokens_cached = count(details.get("cached_tokens"))
        if event.get("timings") is not None:
            self.timings = event["timings"]

    def _limit(self, chars: int) -> None:
        self._chars += chars
        if self._chars > self._max_chars:
            raise _invalid(
                f"the answer has more than {self._max_chars} characters",
                {"maxChars": self._max_chars, "actualChars": self._chars},
            )


def _first_choice(document: Mapping[str, object]) -> Mapping[str, object]:
    choices = document.get("choices")
    return mapping(choices[0]) if isinstance(choices, list) and choices else {}


def _text_of(text: object, content: object) -> str:
    """The text of a choice: `text` if there is some, else `content`, a string or a list of parts."""
    if isinstance(text, str) and text:
        return text
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    if len(content) > MAX_CONTENT_PARTS:
        raise _invalid(
            f"the answer has more than {MAX_CONTENT_PARTS} content parts",
            {"maxParts": MAX_CONTENT_PARTS, "actualParts": len(content)},
        )
    parts = (mapping(part).get("text") for part in content)
    return "".join(part for part in parts if isinstance(part, str))


def _invalid(what: str, details: Mapping[str, object] | None = None) -> RayError:
    return RayError(
        "provider_invalid_response", f"the model backend's chat answer is unusable: {what}", details=details
    )
