"""What a config that is meant for the internet must say: the policy of public examples.

It holds for files named `*.public.json` and for configs tagged `exposure: public`. Files hold only differences from a
profile, so the policy looks at the whole config that they give, profile included.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ray.config import Config, config_document
from ray.deploy.findings import Finding
from ray.deploy.reading import read_regular

MAX_BYTES = 262_144
SUFFIX = ".public.json"
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that must be so. `wanted`: in words, after "must be"."""

    key: str
    code: str
    wanted: str
    holds: Callable[[object], bool]


def text(key: str, name: str) -> Rule:
    return _explicit(key, name, "text", lambda value: isinstance(value, str) and bool(value.strip()))


def exactly(key: str, name: str, wanted: object) -> Rule:
    words = json.dumps(wanted)
    return _explicit(key, name, words, lambda value: type(value) is type(wanted) and value == wanted)


def up_to(key: str, name: str, most: int) -> Rule:
    return _explicit(
        key,
        name,
        f"a whole number from 1 to {most}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most,
    )


def number_up_to(key: str, name: str, most: float) -> Rule:
    return _explicit(
        key,
        name,
        f"a number above 0 and up to {most:g}",
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= most,
    )


def absent(key: str, name: str) -> Rule:
    return Rule(key, f"public_config_{name}_absent", "absent", lambda value: value is _ABSENT)


def _explicit(key: str, name: str, wanted: str, holds: Callable[[object], bool]) -> Rule:
    return Rule(key, f"public_config_{name}_explicit", wanted, holds)


OPERATIONAL = "model.operational."
ADAPTER = "model.adapter."
LAUNCH = "model.adapter.launchProfile."
FAMILY_KEYS = ["promptFamily", "taskTemplate", "template", "useCase"]

RULES: tuple[Rule, ...] = (
    text("profile", "profile"),
    text("tags.target", "tag_target"),
    text("tags.hosting", "tag_hosting"),
    text("tags.hardware", "tag_hardware"),
    exactly("tags.engine", "tag_engine", "llama.cpp"),
    text("tags.modelSize", "tag_model_size"),
    exactly("tags.exposure", "tag_exposure", "public"),
    exactly("server.host", "server_host", "127.0.0.1"),
    up_to("server.port", "server_port", 65_535),
    up_to("server.requestBodyLimitBytes", "request_body_limit", 64_000),
    text("model.id", "model_id"),
    text("model.family", "model_family"),
    exactly("model.quantization", "model_quantization", "q4_k_m"),
    up_to("model.contextWindow", "model_context_window", 8192),
    exactly("model.warmOnBoot", "model_warm_on_boot", True),
    up_to("model.maxOutputTokens", "model_output_tokens", 256),
    exactly(f"{OPERATIONAL}recommendedPromptFormat", "model_operational_prompt_format", "native-template"),
    exactly(f"{OPERATIONAL}supportsJsonMode", "model_operational_json_mode", True),
    up_to(f"{OPERATIONAL}tokensPerSecondTarget", "model_operational_tps", 18),
    up_to(f"{OPERATIONAL}memoryClassMiB", "model_operational_memory_class", 8192),
    up_to(f"{OPERATIONAL}preferredCtxSize", "model_operational_ctx_size", 4096),
    exactly(f"{OPERATIONAL}chatTemplateKnown", "model_operational_chat_template", True),
    exactly(f"{ADAPTER}kind", "model_adapter_kind", "llama.cpp"),
    exactly(f"{ADAPTER}baseUrl", "model_adapter_base_url", "http://127.0.0.1:8081"),
    text(f"{ADAPTER}modelRef", "model_adapter_ref"),
    up_to(f"{ADAPTER}timeoutMs", "model_adapter_timeout", 32_000),
    exactly(f"{ADAPTER}cachePrompt", "model_adapter_cache_prompt", True),
    up_to(f"{ADAPTER}slotStateTtlMs", "model_adapter_slot_state_ttl", 250),
    up_to(f"{ADAPTER}slotSnapshotTimeoutMs", "model_adapter_slot_snapshot_timeout", 300),
    up_to(f"{ADAPTER}promptScaffoldCacheEntries", "model_adapter_scaffold_cache", 384),
    absent(f"{ADAPTER}apiKeyEnv", "model_adapter_api_key_env"),
    absent(f"{ADAPTER}headers", "model_adapter_headers"),
    absent(f"{ADAPTER}slotId", "model_adapter_slot_id"),
    text(f"{LAUNCH}preset", "model_launch_preset"),
    exactly(f"{LAUNCH}binaryPath", "model_launch_binary", "/usr/local/bin/llama-server"),
    text(f"{LAUNCH}modelPath", "model_launch_model_path"),
    exactly(f"{LAUNCH}host", "model_launch_host", "127.0.0.1"),
    exactly(f"{LAUNCH}port", "model_launch_port", 8081),
    text(f"{LAUNCH}alias", "model_launch_alias"),
    up_to(f"{LAUNCH}ctxSize", "model_launch_ctx_size", 4096),
    up_to(f"{LAUNCH}parallel", "model_launch_parallel", 2),
    up_to(f"{LAUNCH}threads", "model_launch_threads", 4),
    up_to(f"{LAUNCH}threadsHttp", "model_launch_http_threads", 2),
    up_to(f"{LAUNCH}batchSize", "model_launch_batch_size", 256),
    up_to(f"{LAUNCH}ubatchSize", "model_launch_ubatch_size", 128),
    up_to(f"{LAUNCH}cacheReuse", "model_launch_cache_reuse", 256),
    up_to(f"{LAUNCH}cacheRamMiB", "model_launch_cache_ram", 768),
    exactly(f"{LAUNCH}cachePrompt", "model_launch_cache_prompt", True),
    exactly(f"{LAUNCH}continuousBatching", "model_launch_continuous_batching", True),
    exactly(f"{LAUNCH}enableMetrics", "model_launch_metrics", True),
    exactly(f"{LAUNCH}exposeSlots", "model_launch_slots", True),
    exactly(f"{LAUNCH}warmup", "model_launch_warmup", True),
    exactly(f"{LAUNCH}enableUnifiedKv", "model_launch_unified_kv", True),
    exactly(f"{LAUNCH}cacheIdleSlots", "model_launch_idle_slot_cache", True),
    exactly(f"{LAUNCH}contextShift", "model_launch_context_shift", True),
    absent(f"{LAUNCH}extraArgs", "model_launch_extra_args"),
    exactly("auth.enabled", "auth_enabled", True),
    text("auth.apiKeyEnv", "auth_key_env"),
    exactly("rateLimit.enabled", "rate_limit_enabled", True),
    up_to("rateLimit.windowMs", "rate_limit_window", 3_600_000),
    up_to("rateLimit.maxRequests", "rate_limit_requests", 300),
    up_to("rateLimit.maxKeys", "rate_limit_keys", 8192),
    exactly("rateLimit.keyStrategy", "rate_limit_key_strategy", "ip+api-key"),
    exactly("rateLimit.trustProxyHeaders", "rate_limit_proxy_headers", True),
    exactly("telemetry.serviceName", "telemetry_service", "ray-gateway"),
    exactly("telemetry.logLevel", "telemetry_log_level", "info"),
    exactly("telemetry.includeDebugMetrics", "telemetry_debug_metrics", True),
    up_to("telemetry.slowRequestThresholdMs", "telemetry_slow_request", 2200),
    up_to("scheduler.concurrency", "scheduler_concurrency", 2),
    up_to("scheduler.maxQueue", "scheduler_max_queue", 96),
    up_to("scheduler.maxQueuedTokens", "scheduler_queued_tokens", 48_000),
    up_to("scheduler.maxInflightTokens", "scheduler_inflight_tokens", 6144),
    up_to("scheduler.requestTimeoutMs", "scheduler_request_timeout", 32_000),
    exactly("scheduler.dedupeInflight", "scheduler_dedupe", True),
    up_to("scheduler.batchWindowMs", "scheduler_batch_window", 10),
    up_to("scheduler.affinityLookahead", "scheduler_affinity_lookahead", 24),
    up_to("scheduler.shortJobMaxTokens", "scheduler_short_job_tokens", 96),
    exactly("asyncQueue.enabled", "async_queue_enabled", True),
    exactly("asyncQueue.storageDir", "async_queue_storage", "/var/lib/ray/async-queue"),
    up_to("asyncQueue.maxJobs", "async_queue_max_jobs", 2000),
    up_to("asyncQueue.minFreeStorageMiB", "async_queue_storage_reserve", 1024),
    up_to("asyncQueue.completedTtlMs", "async_queue_completed_ttl", 604_800_000),
    up_to("asyncQueue.pollIntervalMs", "async_queue_poll_interval", 5000),
    up_to("asyncQueue.dispatchConcurrency", "async_queue_dispatch_concurrency", 1),
    up_to("asyncQueue.maxAttempts", "async_queue_max_attempts", 5),
    up_to("asyncQueue.callbackTimeoutMs", "async_queue_callback_timeout", 10_000),
    up_to("asyncQueue.maxCallbackAttempts", "async_queue_callback_attempts", 5),
    exactly("asyncQueue.callbackAllowPrivateNetwork", "async_queue_private_callbacks", False),
    exactly("asyncQueue.callbackAllowedHosts", "async_queue_callback_hosts", []),
    exactly("cache.enabled", "cache_enabled", True),
    up_to("cache.maxEntries", "cache_entries", 512),
    up_to("cache.maxBytes", "cache_bytes", 4_194_304),
    up_to("cache.ttlMs", "cache_ttl", 120_000),
    exactly("cache.keyStrategy", "cache_key_strategy", "input+params"),
    exactly("gracefulDegradation.enabled", "degradation_enabled", True),
    up_to("gracefulDegradation.queueDepthThreshold", "degradation_queue_depth", 20),
    up_to("gracefulDegradation.maxPromptChars", "degradation_prompt_chars", 8000),
    up_to("gracefulDegradation.degradeToMaxTokens", "degradation_tokens", 160),
    up_to("gracefulDegradation.memoryRssThresholdMiB", "degradation_memory_rss", 768),
    number_up_to(
        "gracefulDegradation.memoryCgroupPressureRatioThreshold", "degradation_memory_cgroup_pressure_ratio", 0.9
    ),
    number_up_to("gracefulDegradation.cpuThrottledRatioThreshold", "degradation_cpu_throttled_ratio", 0.2),
    number_up_to("gracefulDegradation.memoryPsiSomeAvg10Threshold", "degradation_memory_psi_some", 100),
    number_up_to("gracefulDegradation.memoryPsiFullAvg10Threshold", "degradation_memory_psi_full", 100),
    number_up_to("gracefulDegradation.cpuPsiSomeAvg10Threshold", "degradation_cpu_psi_some", 100),
    number_up_to("gracefulDegradation.cpuPsiFullAvg10Threshold", "degradation_cpu_psi_full", 100),
    exactly("promptCompiler.enabled", "prompt_compiler_enabled", True),
    exactly("promptCompiler.collapseWhitespace", "prompt_compiler_collapse_whitespace", True),
    exactly("promptCompiler.dedupeRepeatedLines", "prompt_compiler_dedupe_lines", True),
    exactly("promptCompiler.familyMetadataKeys", "prompt_compiler_family_keys", FAMILY_KEYS),
    exactly("adaptiveTuning.enabled", "adaptive_enabled", True),
    up_to("adaptiveTuning.sampleSize", "adaptive_sample_size", 32),
    up_to("adaptiveTuning.queueLatencyThresholdMs", "adaptive_queue_latency", 600),
    up_to("adaptiveTuning.minCompletionTokensPerSecond", "adaptive_min_tps", 14),
    number_up_to("adaptiveTuning.maxOutputReductionRatio", "adaptive_reduction_ratio", 0.5),
    up_to("adaptiveTuning.minOutputTokens", "adaptive_min_output_tokens", 64),
    exactly("adaptiveTuning.learnedFamilyCapEnabled", "adaptive_learned_cap", True),
    up_to("adaptiveTuning.familyHistorySize", "adaptive_family_history", 64),
    up_to("adaptiveTuning.learnedCapMinSamples", "adaptive_learned_cap_samples", 8),
    number_up_to("adaptiveTuning.draftPercentile", "adaptive_draft_percentile", 0.95),
    number_up_to("adaptiveTuning.shortPercentile", "adaptive_short_percentile", 0.9),
    up_to("adaptiveTuning.learnedCapHeadroomTokens", "adaptive_headroom_tokens", 24),
)


def is_public_name(path: str) -> bool:
    return os.path.basename(path).endswith(SUFFIX)


def unreadable_policy(path: str) -> Finding | None:
    """What keeps a file that is public by its name from being looked at, or None."""
    try:
        content = read_regular(path, MAX_BYTES)
    except OSError as error:
        return _unreadable(path, f"cannot be read ({error.strerror or error})")
    except ValueError as problem:
        return _unreadable(path, str(problem))
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        return _unreadable(path, f"is not JSON: {error}")
    if not isinstance(document, dict):
        return Finding("error", "public_config_policy_invalid", f"{path} is not a JSON object. Write it as one")
    return None


def _unreadable(path: str, problem: str) -> Finding:
    message = f"{path} {problem}, so nothing can be said about what it exposes. Mend the file"
    return Finding("error", "public_config_policy_unreadable", message)


def policy_findings(path: str, config: Config) -> Iterator[Finding]:
    """What a public config fails to be. Nothing for a config that is not public. The message never shows a value."""
    if not is_public_name(path) and config.tags.get("exposure") != "public":
        return
    document = config_document(config)
    for rule in RULES:
        if not rule.holds(_value(document, rule.key)):
            yield Finding(
                "error",
                rule.code,
                f"{rule.key} must be {rule.wanted} in a public config. Set it in {path} or its profile",
            )


def _value(document: Mapping[str, object], key: str) -> object:
    value: object = document
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value
