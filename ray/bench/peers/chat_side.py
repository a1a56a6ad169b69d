"""One side of `peers`: an OpenAI-compatible base URL, asked one streamed chat after the other.

What a server does not say (token counts, what was cached, how long the request waited) stays unknown; only the text and
the end of the stream have to be there. Errors become samples with a code.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from ray.bench.processes.process import MeasurementError
from ray.bench.run.quality import judge
from ray.bench.run.sample import Sample
from ray.bench.run.workload_file import Item
from ray.clock import Deadline
from ray.errors import RayError
from ray.http import ClientConnectionError, ClientError, ClientTimeout, ClientUnreachable, HttpClient, SseDecoder
from ray.prompts import Template, built_in_templates, messages_of, template_values

_CHAT = "/chat/completions"
_SAME_NAMES = ("temperature", "seed", "stop")


@dataclass(frozen=True, slots=True)
class Asked:
    """Where a side is and how it is asked. `url`: with the path that OpenAI clients take, for example `/v1`; `is_ray`:
    its response cache is left out, so that every answer is the model's."""

    name: str
    url: str
    model: str | None = None
    key: str | None = None
    is_ray: bool = False


def base_url(url: str) -> str:
    """The URL with `/v1` where it has no path, without a slash at its end."""
    plain = url.rstrip("/")
    return f"{plain}/v1" if not urlsplit(plain).path else plain


def chat_body(item: Item, model: str | None) -> dict[str, object]:
    """The streamed chat for an item of a workload: templates are filled in here, so that every server gets the same
    text. Raises `MeasurementError` for a template that Ray does not bring along."""
    fields = item.fields
    body: dict[str, object] = {"messages": _messages(fields), "stream": True, "stream_options": {"include_usage": True}}
    if model is not None:
        body["model"] = model
    template = _template(fields)
    tokens = fields.get("maxTokens", template and template.max_tokens)
    form = fields.get("responseFormat", template and template.response_format and {"type": template.response_format})
    for key, value in (("max_tokens", tokens), ("top_p", fields.get("topP")), ("response_format", form)):
        if value is not None:
            body[key] = value
    return body | {key: fields[key] for key in _SAME_NAMES if key in fields}


def _template(fields: Mapping[str, object]) -> Template | None:
    named = fields.get("templateId")
    if named is None:
        return None
    for template in built_in_templates():
        if template.id == named:
            return template
    raise MeasurementError(f"peers knows only Ray's own templates, and {named} is none of them: send input instead")


def _messages(fields: Mapping[str, object]) -> list[dict[str, str]]:
    template = _template(fields)
    if template is None:
        texts = [(role, fields.get(key)) for role, key in (("system", "system"), ("user", "input"))]
        return [{"role": role, "content": str(text)} for role, text in texts if text is not None]
    try:
        values = template_values(template, fields.get("templateVariables", {}))
    except RayError as error:
        raise MeasurementError(f"the template {template.id}: {error}") from error
    return [{"role": one.role, "content": one.content} for one in messages_of(template, values)]


@dataclass(slots=True)
class ChatAnswer:
    """One streamed chat, event by event."""

    pieces: list[str] = field(default_factory=list)
    usage: Mapping[str, object] = field(default_factory=dict)
    timings: Mapping[str, object] = field(default_factory=dict)
    about: Mapping[str, object] = field(default_factory=dict)
    finished: bool = False
    code: str | None = None

    def feed(self, data: str) -> bool:
        """Take one event; True when it brought text."""
        if data == "[DONE]":
            self.finished = True
            return False
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            self.code = self.code or "invalid_answer"
            return False
        if document.get("error") is not None:
            self.code = self.code or code_of(document, "error_in_stream")
            return False
        self.usage = _part(document, "usage") or self.usage
        self.timings = _part(document, "timings") or self.timings
        self.about = _part(document, "ray") or self.about
        return self._take(document.get("choices"))

    def _take(self, choices: object) -> bool:
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return False
        self.finished = self.finished or choice.get("finish_reason") is not None
        piece = _part(choice, "delta").get("content")
        if not isinstance(piece, str) or not piece:
            return False
        self.pieces.append(piece)
        return True

    def into(self, sample: Sample, item: Item) -> Sample:
        """The sample with what the stream has said."""
        code = self.code or (None if self.finished else "unfinished")
        if code is not None:
            return replace(sample, code=code)
        cached = _count(_part(self.usage, "prompt_tokens_details"), "cached_tokens")
        prefix, verdict = _part(self.about, "prefix").get("state"), judge("".join(self.pieces), item.expected)
        return replace(
            sample,
            cached=self.about.get("cached") is True,
            deduplicated=self.about.get("deduplicated") is True,
            degraded=self.about.get("degraded") is True,
            queue_ms=_number(self.about, "queueTimeMs"),
            prompt_tokens=_count(self.usage, "prompt_tokens"),
            completion_tokens=_count(self.usage, "completion_tokens"),
            cached_tokens=cached if cached is not None else _count(self.timings, "cache_n"),
            prefix=prefix if isinstance(prefix, str) else None,
            tokens_per_second=_number(self.timings, "predicted_per_second"),
            quality_score=verdict.score,
            quality_failures=verdict.failures,
            valid_json=verdict.valid_json,
        )


class ChatSide:
    """An open side; to be closed. `refused`: status and words of the last answer that was no success."""

    def __init__(self, asked: Asked, clients: int, timeout_ms: int) -> None:
        self.asked = asked
        self.refused: tuple[int, str] | None = None
        self._timeout_ms = timeout_ms
        self._http = HttpClient(asked.url, threads=clients, name=f"peers-{asked.name}")
        self._headers = [("content-type", "application/json")]
        if asked.key is not None:
            self._headers.append(("authorization", f"Bearer {asked.key}"))

    async def close(self) -> None:
        await self._http.close()

    async def ask(self, item: Item, number: int, place: int, started_ms: float) -> Sample:
        """One chat, timed from its sending on. `started_ms` goes into the sample as it is."""
        body = chat_body(item, self.asked.model)
        if self.asked.is_ray:
            body["cache"] = False
        answer, decoder = ChatAnswer(), SseDecoder()
        self.refused = None
        first: float | None = None
        began = time.perf_counter()
        try:
            async with self._http.stream(
                "POST",
                _CHAT,
                headers=self._headers,
                body=json.dumps(body).encode(),
                deadline=Deadline.after_ms(self._timeout_ms),
            ) as stream:
                if not stream.is_success:
                    answer.code, words = _refusal(stream.status, (await stream.read_error_body()).data)
                    self.refused = stream.status, words
                else:
                    async for data in stream:
                        # Every event of the piece has to be fed, so no short-circuiting here.
                        brought = [answer.feed(text) for _, text in decoder.feed(data)]
                        if first is None and any(brought):
                            first = (time.perf_counter() - began) * 1000
        except (ClientError, ValueError) as error:
            answer.code = answer.code or _code_of_failure(error)
        latency = (time.perf_counter() - began) * 1000
        return answer.into(Sample(number, place, started_ms, latency, ttft_ms=first), item)


def code_of(document: Mapping[str, object], otherwise: str) -> str:
    """The code of an error as OpenAI's protocol has it; some servers put a number or only a type there."""
    error = _part(document, "error")
    for key in ("code", "type"):
        if isinstance(error.get(key), str) and error[key]:
            return str(error[key])[:64]
    return otherwise


def _refusal(status: int, body: bytes) -> tuple[str, str]:
    """Code and words of an answer that is no success."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return f"http_{status}", ""
    words = _part(document, "error").get("message")
    # On one line, and not a page of it.
    return code_of(document, f"http_{status}"), " ".join(words.split())[:300] if isinstance(words, str) else ""


def _code_of_failure(error: ClientError | ValueError) -> str:
    if isinstance(error, ClientUnreachable):
        return "unreachable"
    if isinstance(error, ClientConnectionError):
        return "connection_lost"
    return "timeout" if isinstance(error, ClientTimeout) else "invalid_answer"


def _part(document: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}


def _number(document: Mapping[str, object], key: str) -> float | None:
    value = document.get(key)
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    return value if known and isinstance(value, int | float) else None


def _count(document: Mapping[str, object], key: str) -> int | None:
    value = _number(document, key)
    return None if value is None else int(value)
