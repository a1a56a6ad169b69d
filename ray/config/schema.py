"""Every setting of Ray, declared once: key, kind and range, meaning, environment variables, default.

Keys are the camelCase form of the field names. The defaults here are those of the default profile, `sub1b`; the other
profiles are differences (`profiles.py`). All classes are frozen; a `Config` is only made by `ray.config.load`, which
checks every value and every rule between values, so holders of a `Config` need not check anything again.
"""

# ruff: noqa: RUF009 - setting(), optional() and collection() return dataclass fields, not shared default values

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from ray.config.adapters import ADAPTER, Adapter
from ray.config.async_queue import DAY_MS, AsyncQueueConfig
from ray.config.containers import MapOf, TextList
from ray.config.hosts import web_origin_problem
from ray.config.kinds import TIMEOUT_MS, Boolean, Choice, Integer
from ray.config.names import ENVIRONMENT_NAME_PATTERN, environment_name_problem, host_problem
from ray.config.sections import Section, collection, optional, setting
from ray.config.templates import TEMPLATES, TemplateConfig
from ray.config.texts import Text
from ray.config.tuning import (
    OUTPUT_TOKENS,
    AdaptiveTuningConfig,
    GracefulDegradationConfig,
    PrefixStoreConfig,
    PromptCompilerConfig,
)

ProfileName = Literal["tiny", "sub1b", "sub1b-cax11", "1b", "1b-8gb", "vps", "balanced"]
Quantization = Literal["q4_0", "q4_k_m", "q5_k_m", "q8_0", "fp16", "unknown"]
PromptFormat = Literal["native-template", "openai-chat", "plain-completion"]
CacheKeyStrategy = Literal["input", "input+params"]
RateLimitKeyStrategy = Literal["ip", "api-key", "ip+api-key"]
LogLevel = Literal["debug", "info", "warn", "error"]
PROFILE_NAMES: tuple[ProfileName, ...] = get_args(ProfileName)
PROMPT_FORMATS: tuple[PromptFormat, ...] = get_args(PromptFormat)
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)
CACHE_KEY_STRATEGIES: tuple[CacheKeyStrategy, ...] = get_args(CacheKeyStrategy)
RATE_LIMIT_KEY_STRATEGIES: tuple[RateLimitKeyStrategy, ...] = get_args(RateLimitKeyStrategy)
LOG_LEVELS: tuple[LogLevel, ...] = get_args(LogLevel)
DEFAULT_PROFILE: ProfileName = "sub1b"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where the gateway listens."""

    host: str = setting(
        Text(253, one_line=True, check=host_problem), "Address to listen on.", "RAY_HOST", default="127.0.0.1"
    )
    port: int = setting(Integer(1, 65_535), "Port to listen on.", "RAY_PORT", default=3000)
    request_body_limit_bytes: int = setting(
        Integer(1, 1_048_576), "Largest request body in bytes.", "RAY_REQUEST_BODY_LIMIT_BYTES", default=48_000
    )
    cors_allowed_origins: tuple[str, ...] = setting(
        TextList(
            32, 512, check=web_origin_problem, rule="exact origins such as `https://chat.example.org`, without a path"
        ),
        "Web pages that may use this gateway from a browser; none by default.",
        "RAY_CORS_ALLOWED_ORIGINS",
        default=(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationalConfig:
    """What is known of the model beforehand, for `/v1/config`. If the section is there, all six keys are."""

    recommended_prompt_format: PromptFormat = setting(
        Choice(PROMPT_FORMATS),
        "How prompts are written; all but `plain-completion` use the backend's chat template, if it has one.",
    )
    supports_json_mode: bool = setting(Boolean(), "The model gives usable JSON; a hint for clients.")
    tokens_per_second_target: int = setting(
        Integer(1, 1000),
        "Expected generation speed in tokens per second; a hint for clients.",
        "RAY_MODEL_TOKENS_PER_SECOND_TARGET",
    )
    memory_class_mib: int = setting(
        Integer(1, 65_536), "Memory of the machine this is sized for, in MiB; a label.", "RAY_MODEL_MEMORY_CLASS_MIB"
    )
    preferred_ctx_size: int = setting(
        Integer(1, 32_768),
        "Tokens for prompt and answer, where neither backend nor launchProfile says (at most model.contextWindow).",
        "RAY_MODEL_PREFERRED_CTX_SIZE",
    )
    chat_template_known: bool = setting(Boolean(), "The GGUF carries a chat template: without it health is `degraded`.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The model, and the backend that runs it."""

    id: str = setting(Text(256), "The model's name in answers.", "RAY_MODEL_ID", default="qwen2.5-0.5b-instruct-q4_k_m")
    family: str = setting(Text(256), "The model's family; a label.", "RAY_MODEL_FAMILY", default="qwen2.5")
    quantization: Quantization = setting(
        Choice(QUANTIZATIONS),
        "The weights' quantization; a label.",
        "RAY_MODEL_QUANTIZATION",
        default="q4_k_m",
    )
    context_window: int = setting(
        Integer(1, 32_768), "The model's context in tokens.", "RAY_MODEL_CONTEXT_WINDOW", default=8192
    )
    max_output_tokens: int = setting(
        OUTPUT_TOKENS,
        "Most completion tokens of one answer (at most contextWindow).",
        "RAY_MODEL_MAX_OUTPUT_TOKENS",
        default=256,
    )
    warm_on_boot: bool = setting(
        Boolean(),
        "Send warm-up requests before being ready; `/readyz` says 503 until they are answered.",
        "RAY_MODEL_WARM_ON_BOOT",
        default=True,
    )
    operational: OperationalConfig | None = optional(Section(OperationalConfig), "Planning figures.")
    adapter: Adapter = setting(ADAPTER, "The backend.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """How many requests run and wait, and for how long."""

    concurrency: int = setting(
        Integer(1, 8),
        "Requests generated side by side; best as many as the backend has slots.",
        "RAY_SCHEDULER_CONCURRENCY",
        default=2,
    )
    max_queue: int = setting(
        Integer(1, 512),
        "Most requests waiting; the next one gets 503 and `Retry-After`.",
        "RAY_SCHEDULER_MAX_QUEUE",
        default=64,
    )
    max_queued_tokens: int = setting(
        Integer(1, 262_144),
        "Most tokens waiting, prompts and answers together (more than model.maxOutputTokens).",
        "RAY_SCHEDULER_MAX_QUEUED_TOKENS",
        default=24_000,
    )
    max_inflight_tokens: int = setting(
        Integer(1, 65_536),
        "Most tokens in flight, prompts and answers together (more than model.maxOutputTokens, at most launchProfile "
        "ctxSize times parallel).",
        "RAY_SCHEDULER_MAX_INFLIGHT_TOKENS",
        default=4096,
    )
    request_timeout_ms: int = setting(
        TIMEOUT_MS,
        "Deadline of a request in milliseconds, waiting included.",
        "RAY_SCHEDULER_REQUEST_TIMEOUT_MS",
        default=20_000,
    )
    dedupe_inflight: bool = setting(
        Boolean(), "Equal requests in flight share one answer.", "RAY_SCHEDULER_DEDUPE_INFLIGHT", default=True
    )
    batch_window_ms: int = setting(
        Integer(0, 1000),
        "Milliseconds an idle gateway waits for company of the first request (less than requestTimeoutMs); 0 is off.",
        "RAY_SCHEDULER_BATCH_WINDOW_MS",
        default=10,
    )
    affinity_lookahead: int = setting(
        Integer(1, 512),
        "How many waiting requests of each lane are looked through for the next one (at most maxQueue).",
        "RAY_SCHEDULER_AFFINITY_LOOKAHEAD",
        default=24,
    )
    short_job_max_tokens: int = setting(
        OUTPUT_TOKENS,
        "Requests up to this many completion tokens use the short lane (at most model.maxOutputTokens).",
        "RAY_SCHEDULER_SHORT_JOB_MAX_TOKENS",
        default=96,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """The cache of whole answers."""

    enabled: bool = setting(Boolean(), "Keep answers.", "RAY_CACHE_ENABLED", default=True)
    max_entries: int = setting(Integer(1, 4096), "Most answers kept.", "RAY_CACHE_MAX_ENTRIES", default=256)
    max_bytes: int = setting(Integer(1, 268_435_456), "Most bytes kept.", "RAY_CACHE_MAX_BYTES", default=2_097_152)
    ttl_ms: int = setting(
        Integer(1, DAY_MS), "How long an answer is kept, in milliseconds.", "RAY_CACHE_TTL_MS", default=90_000
    )
    key_strategy: CacheKeyStrategy = setting(
        Choice(CACHE_KEY_STRATEGIES),
        "What makes two requests equal: `input` leaves out maxTokens, temperature and topP.",
        "RAY_CACHE_KEY_STRATEGY",
        default="input+params",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryConfig:
    """Logs and metrics."""

    service_name: str = setting(
        Text(128), "Name of this service in log lines.", "RAY_TELEMETRY_SERVICE_NAME", default="ray-gateway"
    )
    log_level: LogLevel = setting(
        Choice(LOG_LEVELS),
        "Least severe level that is logged; `debug` has a line for every request.",
        "RAY_LOG_LEVEL",
        default="info",
    )
    include_debug_metrics: bool = setting(
        Boolean(),
        "Add the figures of the last request (`recent`) to the JSON metrics.",
        "RAY_TELEMETRY_INCLUDE_DEBUG_METRICS",
        default=True,
    )
    slow_request_threshold_ms: int = setting(
        TIMEOUT_MS,
        "Requests slower than this are logged as slow.",
        "RAY_TELEMETRY_SLOW_REQUEST_THRESHOLD_MS",
        default=1200,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthConfig:
    """API keys of clients. The keys themselves are never in a file: only the variable's name is."""

    enabled: bool = setting(Boolean(), "Ask for an API key.", "RAY_AUTH_ENABLED", default=False)
    api_key_env: str = setting(
        Text(
            128,
            check=environment_name_problem,
            rule="an environment variable's name",
            pattern=ENVIRONMENT_NAME_PATTERN,
        ),
        "Name of the variable that holds the keys.",
        "RAY_AUTH_API_KEY_ENV",
        default="RAY_API_KEYS",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitConfig:
    """Requests allowed per client and time window."""

    enabled: bool = setting(Boolean(), "Limit requests.", "RAY_RATE_LIMIT_ENABLED", default=True)
    window_ms: int = setting(
        Integer(1, 3_600_000), "Length of the window in milliseconds.", "RAY_RATE_LIMIT_WINDOW_MS", default=60_000
    )
    max_requests: int = setting(
        Integer(1, 10_000), "Requests per client and window.", "RAY_RATE_LIMIT_MAX_REQUESTS", default=120
    )
    max_keys: int = setting(Integer(1, 16_384), "Clients remembered at most.", "RAY_RATE_LIMIT_MAX_KEYS", default=4096)
    key_strategy: RateLimitKeyStrategy = setting(
        Choice(RATE_LIMIT_KEY_STRATEGIES),
        "What tells clients apart. Without a key, `api-key` means the address, too.",
        "RAY_RATE_LIMIT_KEY_STRATEGY",
        default="ip",
    )
    trust_proxy_headers: bool = setting(
        Boolean(),
        "Take the client's address from `X-Forwarded-For` when the connection comes from a private one.",
        "RAY_RATE_LIMIT_TRUST_PROXY_HEADERS",
        default=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration of one gateway."""

    profile: ProfileName = setting(Choice(PROFILE_NAMES), "The set of defaults this config starts from.", "RAY_PROFILE")
    server: ServerConfig = setting(Section(ServerConfig), "Where the gateway listens.")
    model: ModelConfig = setting(Section(ModelConfig), "The model and its backend.")
    scheduler: SchedulerConfig = setting(Section(SchedulerConfig), "Running and waiting requests.")
    async_queue: AsyncQueueConfig = setting(Section(AsyncQueueConfig), "Durable jobs.")
    cache: CacheConfig = setting(Section(CacheConfig), "The response cache.")
    telemetry: TelemetryConfig = setting(Section(TelemetryConfig), "Logs and metrics.")
    graceful_degradation: GracefulDegradationConfig = setting(
        Section(GracefulDegradationConfig), "Shorter answers under pressure."
    )
    prompt_compiler: PromptCompilerConfig = setting(Section(PromptCompilerConfig), "Tidying of prompts.")
    prefix_store: PrefixStoreConfig = setting(Section(PrefixStoreConfig), "Prompt prefixes kept on disk.")
    adaptive_tuning: AdaptiveTuningConfig = setting(Section(AdaptiveTuningConfig), "Output caps that adapt.")
    auth: AuthConfig = setting(Section(AuthConfig), "API keys of clients.")
    rate_limit: RateLimitConfig = setting(Section(RateLimitConfig), "Requests per client.")
    tags: Mapping[str, str] = setting(
        MapOf(Text(4096, blank=True), 64), "Labels for people and tools; Ray shows them in `/v1/config`."
    )
    templates: Mapping[str, TemplateConfig] = collection(
        TEMPLATES, "Prompt templates of your own, by id.", empty=MappingProxyType({})
    )


CONFIG: Section[Config] = Section(Config)
