"""The three backends a model can have, and the launch profile of a local llama-server, as declared settings."""

# ruff: noqa: RUF009 - setting(), optional() and collection() return dataclass fields, not shared default values

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from ray.config.containers import ListOf, MapOf, TextList
from ray.config.hosts import base_url_problem
from ray.config.kinds import LARGEST_INTEGER, TIMEOUT_MS, Boolean, Choice, Integer, Kind, Place, found
from ray.config.names import (
    ENVIRONMENT_NAME_PATTERN,
    environment_name_problem,
    extra_argument_problem,
    header_name_problem,
    header_value_problem,
    host_problem,
)
from ray.config.sections import OneOf, Section, UnknownKeyError, collection, optional, setting, settings_of
from ray.config.texts import FilePath, Text

ResponseFormatName = Literal["text", "json_object"]
LaunchPreset = Literal[
    "single-vps-sub1b",
    "single-vps-sub1b-cx23",
    "single-vps-sub1b-cax11",
    "single-vps-1b-cx23",
    "single-vps-1b-8gb",
    "single-vps-balanced",
]
RESPONSE_FORMATS: tuple[ResponseFormatName, ...] = get_args(ResponseFormatName)
LAUNCH_PRESETS: tuple[LaunchPreset, ...] = get_args(LaunchPreset)
MOCK: Literal["mock"] = "mock"
OPENAI_COMPATIBLE: Literal["openai-compatible"] = "openai-compatible"
LLAMA_CPP: Literal["llama.cpp"] = "llama.cpp"
HTTP_KINDS: tuple[Literal["openai-compatible", "llama.cpp"], ...] = (OPENAI_COMPATIBLE, LLAMA_CPP)


@dataclass(frozen=True, slots=True)
class ResponseFormatKind:
    """`{"type": "text" | "json_object"}` in files, the bare word in memory."""

    def read(self, value: object, place: Place) -> ResponseFormatName:
        if not isinstance(value, dict):
            raise place.error(f"must be an object, not {found(value)}")
        for key in value:
            if key != "type":
                raise UnknownKeyError(place, key, ("type",))
        if "type" not in value:
            raise place.child("type").error("is required")
        return self._words.read(value["type"], place.child("type"))

    @property
    def _words(self) -> Choice[ResponseFormatName]:
        return Choice(RESPONSE_FORMATS)

    def parse(self, text: str) -> object:
        raise ValueError("cannot be given in the environment")

    def write(self, value: object) -> object:
        return {"type": value}

    def allowed(self) -> str:
        return '`{"type": "text"}` or `{"type": "json_object"}`'

    def json_schema(self) -> dict[str, object]:
        types = self._words.json_schema()
        return {"type": "object", "additionalProperties": False, "required": ["type"], "properties": {"type": types}}


@dataclass(frozen=True, slots=True)
class ScalarKind:
    """A template variable: a string, number or boolean whose text has at most 16384 characters."""

    max_chars: int = 16_384

    def read(self, value: object, place: Place) -> str | int | float | bool:
        if not isinstance(value, str | int | float):
            raise place.error(f"must be a string, number or boolean, not {found(value)}")
        if isinstance(value, float) and value - value != 0:
            raise place.error("must be a finite number")
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise place.error("must be a number within ±(2^53 - 1)")
        if isinstance(value, str) and len(value) > self.max_chars:
            raise place.error(f"must be at most {self.max_chars} characters, not {len(value)}")
        return value

    def parse(self, text: str) -> object:
        raise ValueError("cannot be given in the environment")

    def write(self, value: object) -> object:
        return value

    def allowed(self) -> str:
        return f"a string of at most {self.max_chars} characters, a number or a boolean"

    def json_schema(self) -> dict[str, object]:
        return {"type": ["string", "number", "boolean"], "maxLength": self.max_chars}


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupRequest:
    """One request sent to the backend before the gateway calls itself ready."""

    input: str | None = optional(Text(8192), "Prompt text; needed when there is no templateId.")
    system: str | None = optional(Text(8192), "System text.")
    max_tokens: int | None = optional(Integer(1, 2048), "Completion tokens (at most model.maxOutputTokens).")
    seed: int | None = optional(Integer(-LARGEST_INTEGER, LARGEST_INTEGER), "Sampling seed.")
    stop: tuple[str, ...] = collection(TextList(16, 256, min_items=1), "Strings at which the answer ends.", empty=())
    response_format: ResponseFormatName | None = optional(ResponseFormatKind(), "Shape of the answer.")
    template_id: str | None = optional(
        Text(128), "Prompt template in place of `input`; until there are templates, its variables' text is sent."
    )
    template_variables: Mapping[str, str | int | float | bool] = collection(
        MapOf(ScalarKind(), max_entries=32), "Values for the template's variables.", empty=MappingProxyType({})
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchProfile:
    """The llama-server beside this gateway. Ray does not start it: `--check` prints the command for its unit file."""

    preset: LaunchPreset = setting(Choice(LAUNCH_PRESETS), "Sizing preset this launch profile belongs to.")
    binary_path: str = setting(FilePath(program=True), "The llama-server program.", "RAY_LLAMA_CPP_BINARY_PATH")
    model_path: str = setting(FilePath(), "The GGUF file.", "RAY_MODEL_PATH", "RAY_LLAMA_CPP_MODEL_PATH")
    host: str = setting(
        Text(253, one_line=True, check=host_problem), "Loopback address llama-server listens on.", "RAY_LLAMA_CPP_HOST"
    )
    port: int = setting(Integer(1, 65_535), "Port llama-server listens on.", "RAY_LLAMA_CPP_PORT")
    alias: str | None = optional(
        Text(256, blank=True, one_line=True), "Model name that llama-server reports.", "RAY_LLAMA_CPP_ALIAS"
    )
    ctx_size: int = setting(
        Integer(1, 32_768), "Context size in tokens, shared by all slots.", "RAY_LLAMA_CPP_CTX_SIZE"
    )
    parallel: int = setting(Integer(1, 8), "Slots: answers generated side by side.", "RAY_LLAMA_CPP_PARALLEL")
    threads: int = setting(Integer(1, 32), "Threads for generating tokens.", "RAY_LLAMA_CPP_THREADS")
    threads_batch: int | None = optional(
        Integer(1, 32), "Threads for reading prompts; absent: as many as `threads`.", "RAY_LLAMA_CPP_THREADS_BATCH"
    )
    threads_http: int = setting(
        Integer(1, 16),
        "llama-server's HTTP threads; the command has at least `parallel` plus 4, so that probes get through.",
        "RAY_LLAMA_CPP_THREADS_HTTP",
    )
    batch_size: int = setting(Integer(1, 4096), "Logical batch in tokens.", "RAY_LLAMA_CPP_BATCH_SIZE")
    ubatch_size: int = setting(
        Integer(1, 4096), "Physical batch in tokens (at most batchSize).", "RAY_LLAMA_CPP_UBATCH_SIZE"
    )
    cache_prompt: bool = setting(Boolean(), "Reuse the prompt prefix in a slot.", "RAY_LLAMA_CPP_CACHE_PROMPT")
    cache_reuse: int = setting(
        Integer(0, 32_768),
        "Smallest chunk in tokens reused by shifting the KV cache; 0 is off.",
        "RAY_LLAMA_CPP_CACHE_REUSE",
    )
    cache_ram_mib: int | None = optional(
        Integer(-1, 8192),
        "RAM for cached prompts in MiB; -1 no limit, 0 or absent: off.",
        "RAY_LLAMA_CPP_CACHE_RAM_MIB",
    )
    continuous_batching: bool = setting(
        Boolean(), "Let requests join a running batch.", "RAY_LLAMA_CPP_CONTINUOUS_BATCHING"
    )
    enable_metrics: bool = setting(Boolean(), "Offer llama-server's /metrics.", "RAY_LLAMA_CPP_ENABLE_METRICS")
    expose_slots: bool = setting(Boolean(), "Offer llama-server's /slots.", "RAY_LLAMA_CPP_EXPOSE_SLOTS")
    warmup: bool = setting(Boolean(), "Run llama-server's own empty warm-up.", "RAY_LLAMA_CPP_WARMUP")
    enable_unified_kv: bool = setting(Boolean(), "One KV cache shared by all slots.", "RAY_LLAMA_CPP_ENABLE_UNIFIED_KV")
    cache_idle_slots: bool = setting(
        Boolean(), "Save idle slots to the prompt cache.", "RAY_LLAMA_CPP_CACHE_IDLE_SLOTS"
    )
    context_shift: bool = setting(
        Boolean(),
        "At a full context drop the oldest tokens silently; off: the answer ends there.",
        "RAY_LLAMA_CPP_CONTEXT_SHIFT",
    )
    extra_args: tuple[str, ...] = collection(
        TextList(
            64,
            4096,
            one_line=True,
            check=extra_argument_problem,
            rule="flags that Ray manages or that carry a secret are refused",
        ),
        "Further llama-server arguments, passed as they are.",
        empty=(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MockAdapter:
    """No backend: answers are made up, for smoke tests and development."""

    kind: Literal["mock"] = setting(Choice((MOCK,)), "The kind of backend.", default=MOCK)
    latency_ms: int = setting(TIMEOUT_MS, "How long an answer takes.")
    seed: str = setting(Text(512, blank=True), "Makes answers repeatable.", default="ray")


@dataclass(frozen=True, slots=True, kw_only=True)
class _HttpAdapter:
    """What both HTTP kinds have in common."""

    kind: Literal["openai-compatible", "llama.cpp"] = setting(Choice(HTTP_KINDS), "The kind of backend.")
    base_url: str = setting(
        Text(2048, check=base_url_problem, rule="http(s) URL without credentials, query or fragment"),
        "Where the backend answers.",
        "RAY_MODEL_BASE_URL",
        "RAY_LLAMA_CPP_BASE_URL",
    )
    model_ref: str = setting(Text(256), "The model's name at the backend.", "RAY_MODEL_REF", "RAY_LLAMA_CPP_MODEL_REF")
    timeout_ms: int = setting(TIMEOUT_MS, "Longest backend call in milliseconds.", "RAY_MODEL_TIMEOUT_MS")
    api_key_env: str | None = optional(
        Text(
            128, check=environment_name_problem, rule="an environment variable's name", pattern=ENVIRONMENT_NAME_PATTERN
        ),
        "Name of the variable that holds the backend's API key; sent as a Bearer token.",
        "RAY_MODEL_API_KEY_ENV",
    )
    headers: Mapping[str, str] = collection(
        MapOf(
            Text(4096, blank=True, check=header_value_problem),
            64,
            unique=True,
            check=header_name_problem,
            rule="framing and hop-by-hop header names are refused",
        ),
        "Further headers for every backend call; their values never leave the process.",
        empty=MappingProxyType({}),
        secret=True,
    )
    warmup_requests: tuple[WarmupRequest, ...] = collection(
        ListOf(Section(WarmupRequest), 8),
        "Requests sent before the gateway is ready; absent: one short `ping`.",
        empty=(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAICompatibleAdapter(_HttpAdapter):
    """Any server with the OpenAI chat completions route."""

    kind: Literal["openai-compatible"] = setting(
        Choice((OPENAI_COMPATIBLE,)), "The kind of backend.", default=OPENAI_COMPATIBLE
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaCppAdapter(_HttpAdapter):
    """A llama.cpp server, used with its native routes."""

    kind: Literal["llama.cpp"] = setting(Choice((LLAMA_CPP,)), "The kind of backend.", default=LLAMA_CPP)
    cache_prompt: bool = setting(Boolean(), "Ask for prompt prefix reuse.", "RAY_LLAMA_CPP_CACHE_PROMPT", default=True)
    slot_id: int | None = optional(
        Integer(0, 1_000_000_000),
        "Pin every request to this slot; ignored when the backend has fewer.",
        "RAY_LLAMA_CPP_SLOT_ID",
    )
    slot_state_ttl_ms: int = setting(
        TIMEOUT_MS, "How long a slot snapshot is reused.", "RAY_LLAMA_CPP_SLOT_STATE_TTL_MS", default=250
    )
    slot_snapshot_timeout_ms: int = setting(
        TIMEOUT_MS,
        "Longest wait for a slot snapshot (at most timeoutMs).",
        "RAY_LLAMA_CPP_SLOT_SNAPSHOT_TIMEOUT_MS",
        default=250,
    )
    prompt_scaffold_cache_entries: int = setting(
        Integer(1, 4096),
        "Prompt scaffolds kept in memory.",
        "RAY_LLAMA_CPP_PROMPT_SCAFFOLD_CACHE_ENTRIES",
        default=128,
    )
    launch_profile: LaunchProfile | None = optional(Section(LaunchProfile), "The llama-server on this machine.")


Adapter = MockAdapter | OpenAICompatibleAdapter | LlamaCppAdapter
HTTP_KEYS = frozenset(entry.key for entry in settings_of(_HttpAdapter)) - {"kind"}  # shared by both HTTP kinds

ADAPTER: Kind[Adapter] = OneOf(
    "kind",
    {
        MOCK: Section(MockAdapter, f" of a {MOCK} adapter"),
        OPENAI_COMPATIBLE: Section(OpenAICompatibleAdapter, f" of an {OPENAI_COMPATIBLE} adapter"),
        LLAMA_CPP: Section(LlamaCppAdapter, f" of a {LLAMA_CPP} adapter"),
    },
)
