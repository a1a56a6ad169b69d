"""The nouns everything is made of. Values only: no HTTP, no config, no behaviour beyond their own arithmetic.

JSON names are the camelCase form of the field names (`as_json`); fields that are None are left out, never `null`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]
Lane = Literal["short", "draft"]
ResponseFormat = Literal["text", "json_object", "json_schema"]
FinishReason = Literal["stop", "length", "tool_calls"]
ProviderStatus = Literal["unknown", "ready", "warming", "degraded", "unavailable"]
ServiceStatus = Literal["ok", "degraded", "unavailable"]
TaskKind = Literal["classification", "rewrite", "draft", "unknown"]
PrefixState = Literal["hot", "restored", "evaluated", "none"]
Availability = Literal["available", "unavailable", "unknown"]

# What is JSON as it stands. Every answer is made of a few dozen of these.
_PLAIN = frozenset({str, int, float, bool})

_NO_METADATA: Mapping[str, str] = MappingProxyType({})

MIB = 1_048_576  # bytes


def ceil_mib(size_bytes: int) -> int:
    """Bytes as MiB, rounded up."""
    return -(-size_bytes // MIB)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants called. `arguments`: JSON text as the model wrote it, which may be faulty."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation that is sent to the model.

    `tool_calls`: what an assistant's turn asked for; its `content` may then be "". `tool_call_id`: which of them a
    `tool` turn answers.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `key_hash`: SHA-256 hex of the API key, or None when anonymous; `address`: the client's IP."""

    key_hash: str | None
    address: str

    @property
    def scope(self) -> str:
        """What separates one caller's dedupe keys and jobs from another's."""
        return f"key:{self.key_hash}" if self.key_hash else f"address:{self.address}"


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A normalised request: every field checked and clamped (spec: runtime.md section 3).

    `messages` holds at least one user message; `input` with `system` is the two-message case.
    `max_tokens`: completion tokens, 1 or more. `stop`: up to 16 strings, kept verbatim. `template_id` with the values
    of its variables: where the messages came from, if they were rendered from a template.

    `json_schema`: what the answer has to conform to, as compact JSON text, when the response format is `json_schema`.
    `tools` and `tool_choice`: compact JSON text, as the chat protocol spells them; None without tools.
    `parallel_tool_calls`: whether one answer may call several tools; None leaves it to the backend.
    `top_logprobs`: how many alternatives of each token are wanted with its probability, 0 for the token alone, None for
    no probabilities. `is_raw`: the one user message is the whole prompt, to be read without a chat template.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.2
    top_p: float = 0.95
    seed: int | None = None
    stop: tuple[str, ...] = ()
    response_format: ResponseFormat | None = None
    cache: bool = True
    dedupe_key: str | None = None
    metadata: Mapping[str, str] = field(default_factory=lambda: _NO_METADATA)
    template_id: str | None = None
    template_values: Mapping[str, str] = field(default_factory=lambda: _NO_METADATA)
    json_schema: str | None = None
    tools: str | None = None
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None
    top_logprobs: int | None = None
    is_raw: bool = False

    @property
    def prompt_chars(self) -> int:
        """Characters of all messages together."""
        return sum(len(message.content) for message in self.messages)

    @property
    def system(self) -> str | None:
        """The text of the leading system message, if there is one."""
        first = self.messages[0]
        return first.content if first.role == "system" else None

    @property
    def wants_json(self) -> bool:
        return self.response_format in ("json_object", "json_schema")


@dataclass(frozen=True, slots=True)
class Counts:
    """How much went in and came out; the unit (characters or tokens) is the place it stands in."""

    prompt: int
    completion: int
    total: int

    @classmethod
    def of(cls, prompt: int, completion: int) -> Counts:
        return cls(prompt, completion, prompt + completion)


@dataclass(frozen=True, slots=True)
class Usage:
    """Characters always; tokens only when the backend or its tokenizer reported them."""

    chars: Counts
    tokens: Counts | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """What the backend says about one generation: milliseconds and tokens per second."""

    ttft_ms: float | None = None
    total_ms: float | None = None
    prompt_ms: float | None = None
    completion_ms: float | None = None
    prompt_tokens_per_second: float | None = None
    completion_tokens_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class PrefixUse:
    """How the prompt's prefix came into the KV cache, and how many of its tokens were not read again. When it lay there
    (`hot`), all tokens that were not: earlier turns of the same conversation count as well."""

    state: PrefixState
    tokens_reused: int


@dataclass(frozen=True, slots=True)
class ProviderDiagnostics:
    """What the provider did for one answer (spec: http-api.md section 4.2, `diagnostics.provider`).

    `tokens_cached`: prompt tokens reused from the KV cache; `tokens_evaluated`: the whole prompt.
    """

    request_shape: str | None = None
    prompt_format: str | None = None
    prompt_format_reason: str | None = None
    json_repair_attempted: bool | None = None
    json_repair_succeeded: bool | None = None
    model_ref: str | None = None
    backend_model: str | None = None
    launch_preset: str | None = None
    total_slots: int | None = None
    slot_id: int | None = None
    preferred_slot: int | None = None
    tokens_cached: int | None = None
    tokens_evaluated: int | None = None
    truncated: bool | None = None
    stop_type: str | None = None
    context_window: int | None = None
    slot_route_reason: str | None = None
    prefix: PrefixUse | None = None
    timings: Timings | None = None


@dataclass(frozen=True, slots=True)
class PromptCompilerDiagnostics:
    """What tidying did to the prompt; characters. `family_key`: 16 hex digits."""

    family_key: str
    lane: Lane
    chars_before: int
    chars_after: int
    chars_saved: int
    template_id: str | None = None


@dataclass(frozen=True, slots=True)
class LearnedOutputCapDiagnostics:
    """What the family's earlier answers say about the length of this one; tokens."""

    applied: bool
    family_key: str
    lane: Lane
    requested_max_tokens: int
    applied_max_tokens: int
    sample_count: int
    percentile: float
    learned_cap_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class AdaptiveTuningDiagnostics:
    """What recent queue times and speeds did to the output allowance; tokens."""

    reduced: bool
    requested_max_tokens: int
    applied_max_tokens: int
    reduction_ratio: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class TaskRoutingDiagnostics:
    """Which kind of model would suit the task. Informational."""

    task_kind: TaskKind
    recommended_model_role: str
    matched_active_role: bool
    active_model_role: str | None = None


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """How this answer came about. Each stage of the pipeline adds its own block; `degradation` is JSON already."""

    degradation: Mapping[str, object] | None = None
    prompt_compiler: PromptCompilerDiagnostics | None = None
    learned_output_cap: LearnedOutputCapDiagnostics | None = None
    adaptive_tuning: AdaptiveTuningDiagnostics | None = None
    task_routing: TaskRoutingDiagnostics | None = None
    provider: ProviderDiagnostics | None = None

    def with_provider(self, provider: ProviderDiagnostics | None) -> Diagnostics:
        """These, and the block of the answer's provider. Every answer pays for it, so it is written out."""
        return Diagnostics(
            self.degradation,
            self.prompt_compiler,
            self.learned_output_cap,
            self.adaptive_tuning,
            self.task_routing,
            provider,
        )


@dataclass(frozen=True, slots=True)
class Finish:
    """What the last chunk of an answer carries."""

    reason: FinishReason
    tokens: Counts | None = None
    diagnostics: ProviderDiagnostics | None = None


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A piece of a tool call as it is being written. `index`: which call; `id` and `name` come with its first piece;
    the `arguments` of all pieces, one after the other, are the call's."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How probable the model found a token: `logprob` is the natural logarithm. `top`: the likeliest tokens in its
    place, themselves without alternatives."""

    token: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer. Exactly one chunk, the last, has `finish`."""

    text: str = ""
    finish: Finish | None = None
    tool_calls: tuple[ToolCallPart, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector for each text, all of the same length. `tokens`: of all texts together, None when nobody counted."""

    model: str
    vectors: tuple[tuple[float, ...], ...]
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class InferenceResult:
    """One answer to one reader (spec: http-api.md section 4.2). Times in milliseconds."""

    id: str
    model: str
    output: str
    usage: Usage
    cached: bool
    deduplicated: bool
    queue_time_ms: int
    latency_ms: int
    degraded: bool
    finish_reason: FinishReason
    diagnostics: Diagnostics
    created_at: str
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class DetectedCapabilities:
    """What the provider found out about its backend."""

    apply_template: Availability = "unknown"
    chat_template: Availability = "unknown"
    json_mode: Availability = "unknown"
    model_ref: str | None = None
    backend_model: str | None = None
    launch_preset: str | None = None
    context_window: int | None = None
    total_slots: int | None = None
    prompt_format_preference: str | None = None
    errors: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """A provider's health at one moment. `checked_at`: ISO timestamp; `latency_ms`: of the probe; `restarts`: how often
    the backend was seen to have begun anew since the gateway started, None where that cannot be seen."""

    status: ProviderStatus
    checked_at: str
    latency_ms: float | None = None
    detected_capabilities: DetectedCapabilities | None = None
    details: Mapping[str, object] | None = None
    restarts: int | None = None


@cache
def _json_names(kind: type) -> tuple[tuple[str, str], ...]:
    """The (field, JSON key) pairs of a dataclass, in declaration order."""
    names = []
    for entry in fields(kind):
        head, *rest = entry.name.split("_")
        names.append((entry.name, head + "".join(part.capitalize() for part in rest)))
    return tuple(names)


def as_json(value: object) -> object:
    """A noun as plain JSON data: camelCase keys, None left out, tuples as lists."""
    if value is None or isinstance(value, str | int | float):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        copied: dict[str, object] = {}
        for name, key in _json_names(type(value)):
            item = getattr(value, name)
            if item is not None:
                copied[key] = item if type(item) in _PLAIN else as_json(item)
        return copied
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return str(value)
