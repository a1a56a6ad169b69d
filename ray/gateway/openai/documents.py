"""Answers as OpenAI clients read them: completions whole and in chunks, usage, probabilities, models, embeddings.

What Ray has to say beyond the protocol stands in one object of its own, `ray`, which such clients pass over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ray.types import Embeddings, InferenceResult, TokenLogprob, ToolCall, ToolCallPart

Document = dict[str, object]

CHAT = "chat.completion"
CHAT_CHUNK = "chat.completion.chunk"
COMPLETION = "text_completion"


@dataclass(frozen=True, slots=True)
class Identity:
    """What every document of one answer repeats. `created`: Unix seconds."""

    id: str
    model: str
    created: int

    def document(self, kind: str) -> Document:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def chat_completion(identity: Identity, result: InferenceResult) -> Document:
    """The whole answer to a chat. `content` is null when the model only called tools."""
    message: Document = {"role": "assistant", "content": result.output, "refusal": None}
    if result.tool_calls:
        message["content"] = result.output or None
        message["tool_calls"] = [_tool_call(call) for call in result.tool_calls]
    choice = _choice("message", message, chat_logprobs(result.logprobs), result.finish_reason)
    return _answer(identity.document(CHAT), choice, result)


def completion(identity: Identity, result: InferenceResult) -> Document:
    """The whole continuation of a prompt."""
    choice = _choice("text", result.output, completion_logprobs(result.logprobs, 0), result.finish_reason)
    return _answer(identity.document(COMPLETION), choice, result)


def _answer(document: Document, choice: Document, result: InferenceResult) -> Document:
    document["choices"] = [choice]
    usage = usage_document(result)
    if usage is not None:
        document["usage"] = usage
    document["ray"] = ray_document(result)
    return document


def _choice(key: str, value: object, logprobs: Document | None, finish_reason: str | None) -> Document:
    return {"index": 0, key: value, "logprobs": logprobs, "finish_reason": finish_reason}


def chat_chunk(
    identity: Identity, delta: Document, logprobs: Sequence[TokenLogprob] = (), finish_reason: str | None = None
) -> Document:
    """A piece of the answer to a chat."""
    document = identity.document(CHAT_CHUNK)
    document["choices"] = [_choice("delta", delta, chat_logprobs(logprobs), finish_reason)]
    return document


def completion_chunk(
    identity: Identity, text: str, logprobs: Document | None = None, finish_reason: str | None = None
) -> Document:
    """A piece of the continuation of a prompt."""
    document = identity.document(COMPLETION)
    document["choices"] = [_choice("text", text, logprobs, finish_reason)]
    return document


def tool_call_delta(part: ToolCallPart) -> Document:
    """A piece of a tool call. Id, type and name come with the first one."""
    function: Document = {"arguments": part.arguments}
    document: Document = {"index": part.index}
    if part.id is not None:
        document |= {"id": part.id, "type": "function"}
    if part.name is not None:
        function = {"name": part.name, **function}
    document["function"] = function
    return document


def _tool_call(call: ToolCall) -> Document:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def usage_document(result: InferenceResult) -> Document | None:
    """Tokens as the backend reported them; None when nobody counted, for a made-up figure would be worse.

    `cached_tokens`: prompt tokens that the backend did not have to read again.
    """
    tokens = result.usage.tokens
    if tokens is None:
        return None
    usage: Document = {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.total,
    }
    provider = result.diagnostics.provider
    if provider is not None and provider.tokens_cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": provider.tokens_cached}
    return usage


def ray_document(result: InferenceResult) -> Document:
    """How this answer came about: whether and why it was shortened, where it came from, its wait, what was reused."""
    document: Document = {
        "degraded": result.degraded,
        "reasons": _reasons(result),
        "cached": result.cached,
        "deduplicated": result.deduplicated,
        "queueTimeMs": result.queue_time_ms,
    }
    provider = result.diagnostics.provider
    if provider is not None and provider.prefix is not None:
        document["prefix"] = {"state": provider.prefix.state, "tokensReused": provider.prefix.tokens_reused}
    return document


def _reasons(result: InferenceResult) -> list[str]:
    reasons = (result.diagnostics.degradation or {}).get("reasons", ())
    return [str(reason) for reason in reasons] if isinstance(reasons, list | tuple) else []


def chat_logprobs(logprobs: Sequence[TokenLogprob]) -> Document | None:
    """Each token with its probability and its alternatives."""
    if not logprobs:
        return None
    content = [{**_logprob(entry), "top_logprobs": [_logprob(other) for other in entry.top]} for entry in logprobs]
    return {"content": content, "refusal": None}


def _logprob(entry: TokenLogprob) -> Document:
    # A replacement character stands for bytes that are not known any more.
    known = "\ufffd" not in entry.token
    return {
        "token": entry.token,
        "logprob": entry.logprob,
        "bytes": list(entry.token.encode("utf-8", "replace")) if known else None,
    }


def completion_logprobs(logprobs: Sequence[TokenLogprob], offset: int) -> Document | None:
    """The same in the older form: lists side by side. `offset`: where in the answer's text the first token begins."""
    if not logprobs:
        return None
    offsets = []
    for entry in logprobs:
        offsets.append(offset)
        offset += len(entry.token)
    return {
        "tokens": [entry.token for entry in logprobs],
        "token_logprobs": [entry.logprob for entry in logprobs],
        "top_logprobs": [{other.token: other.logprob for other in entry.top} for entry in logprobs],
        "text_offset": offsets,
    }


def model_document(identifier: str, created: int, facts: Document) -> Document:
    """One model. `facts`: what Ray knows of it."""
    return {"id": identifier, "object": "model", "created": created, "owned_by": "ray", "ray": facts}


def embeddings_document(embeddings: Embeddings, *, as_base64: bool) -> Document:
    """The vectors in the order of the texts."""
    document: Document = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if as_base64 else list(vector)}
            for index, vector in enumerate(embeddings.vectors)
        ],
        "model": embeddings.model,
    }
    if embeddings.tokens is not None:
        document["usage"] = {"prompt_tokens": embeddings.tokens, "total_tokens": embeddings.tokens}
    return document


def _packed(vector: Sequence[float]) -> str:
    """32-bit floats, little endian, in base64: what OpenAI's own client asks for."""
    import struct  # with base64, of use to this one answer only
    from base64 import b64encode

    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
