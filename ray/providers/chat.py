"""The OpenAI chat protocol without a socket: the request body, and reading answers, streamed or whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ray.errors import RayError
from ray.providers.reading import count, mapping, openai_usage, parse_json, text_limit
from ray.types import Counts, FinishReason, InferenceRequest, Message

CHAT_PATH = "/v1/chat/completions"
DONE = "[DONE]"
MAX_CONTENT_PARTS = 512


def chat_body(model_ref: str, request: InferenceRequest, request_id: str) -> dict[str, object]:
    """The body of one chat call: always streamed, with usage in the last event."""
    body: dict[str, object] = {
        "model": model_ref,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
        "messages": chat_messages(request.messages),
        "user": request_id,
    }
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    if request.response_format is not None:
        body["response_format"] = {"type": request.response_format}
    return body


def chat_messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The conversation as the protocol writes it. An empty system message says nothing and is left out."""
    return [
        {"role": message.role, "content": message.content}
        for message in messages
        if message.content or message.role != "system"
    ]


class ChatReader:
    """Gathers one answer. `feed` takes the events of a stream, `take_whole` a document; then look at the fields.

    Raises `provider_invalid_response` for what cannot be an answer. An error that the backend reports in mid-stream is
    left in `reported_error`, and nothing after it counts.
    """

    def __init__(self, max_tokens: int) -> None:
        self.finish_reason: FinishReason | None = None
        self.usage: Counts | None = None
        self.tokens_cached: int | None = None
        self.timings: object = None
        self.reported_error: object = None
        self.done = False
        self._chars = 0
        self._max_chars = text_limit(max_tokens)
        self._has_reasoning = False

    def feed(self, data: str) -> str:
        """The text that one event adds, usually a token."""
        if self.done or self.reported_error is not None:
            return ""
        if data.strip() == DONE:
            self.done = True
            return ""
        try:
            event = mapping(parse_json(data))
        except ValueError as error:
            raise _invalid(f"an event of the answer is not JSON ({error})") from None
        if "error" in event:
            # A bare `null` must count as an error too.
            self.reported_error = event["error"] or "unspecified"
            return ""
        self._take_figures(event)
        choice = _first_choice(event)
        self._take_reason(choice)
        delta = mapping(choice.get("delta"))
        self._has_reasoning = self._has_reasoning or bool(delta.get("reasoning_content"))
        return self._limited(_text_of(choice.get("text"), delta.get("content")))

    def take_whole(self, document: object) -> str:
        """The text of an answer that came in one piece. A list of content parts is joined and trimmed."""
        answer = mapping(document)
        self._take_figures(answer)
        choice = _first_choice(answer)
        if not choice:
            raise _invalid("the answer has no choices")
        self._take_reason(choice)
        message = mapping(choice.get("message"))
        self._has_reasoning = bool(message.get("reasoning_content"))
        content = message.get("content")
        found = _text_of(choice.get("text"), content)
        if isinstance(content, list) and not choice.get("text"):
            found = found.strip()
        self.done = True
        return self._limited(found)

    def check_complete(self) -> None:
        """At the end of the answer: was it one, and did it say anything?"""
        if not self.done and self.finish_reason is None:
            raise _invalid("the answer ended in the middle")
        if self._chars == 0:
            hint = ": the model only reasoned; start the backend with `--reasoning off`" if self._has_reasoning else ""
            raise _invalid(f"the answer holds no text{hint}")

    def _take_figures(self, event: Mapping[str, object]) -> None:
        if event.get("usage") is not None:
            self.usage = openai_usage(event["usage"]) or self.usage
            details = mapping(mapping(event["usage"]).get("prompt_tokens_details"))
            self.tokens_cached = count(details.get("cached_tokens"))
        if event.get("timings") is not None:
            self.timings = event["timings"]

    def _take_reason(self, choice: Mapping[str, object]) -> None:
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self.finish_reason = "length" if reason == "length" else "stop"

    def _limited(self, found: str) -> str:
        self._chars += len(found)
        if self._chars > self._max_chars:
            raise _invalid(
                f"the answer has more than {self._max_chars} characters",
                {"maxChars": self._max_chars, "actualChars": self._chars},
            )
        return found


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
