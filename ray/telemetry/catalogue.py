"""Every metric there is, declared once: how code names it, how JSON shows it, how Prometheus sees it.

A row's `name` is what code records under and, where the row has a JSON block, the key there. Prometheus names have the
prefix `ray_`, base units and `_total` on counters. Values of variable labels come from the fixed sets below, so no
client can make the registry grow; anything else is counted as `other`.
"""

from __future__ import annotations

from ray.telemetry.catalogue_host import HOST_METRICS, PRESSURE_HELP
from ray.telemetry.catalogue_jobs import JOB_METRICS
from ray.telemetry.catalogue_prefix import PREFIX_METRICS
from ray.telemetry.metric import MS_PER_SECOND, OTHER, Metric, counter, gauge, histogram, total

DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
QUEUE_WAIT_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
TOKEN_RATE_BUCKETS = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0)

SOURCES = ("provider", "cache", "dedupe")
LANES = ("short", "draft")
PROVIDER_STATES = ("unknown", "ready", "warming", "degraded", "unavailable")
ROUTES = (
    "/",
    "/livez",
    "/openapi.json",
    "/readyz",
    "/health",
    "/metrics",
    "/v1/config",
    "/v1/templates",
    "/v1/infer",
    "/v1/jobs",
    "/v1/jobs/{id}",
    "/v1/jobs/{id}/cancel",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/models",
    "/v1/models/{id}",
    OTHER,
)
METHODS = ("DELETE", "GET", "HEAD", "POST", OTHER)
# fmt: off
STATUSES = (
    "200", "202", "204", "400", "401", "404", "405", "408", "409", "410", "411", "413", "414", "415", "417", "422",
    "429", "431", "500", "501", "502", "503", "504", OTHER,
)
# fmt: on
REJECTION_CODES = (
    "invalid_http_request",
    "http_request_timeout",
    "request_headers_too_large",
    "request_target_too_large",
    "unsupported_expectation",
    "unsupported_media_type",
    "unsupported_content_encoding",
    "length_required",
    "body_too_large",
    "method_not_allowed",
    "not_found",
    "invalid_json",
    "invalid_request",
    "gateway_draining",
    "async_job_record_too_large",
    "async_queue_disabled",
    "async_queue_full",
    "async_queue_storage_error",
    "async_queue_storage_low",
    "idempotency_in_progress",
    "idempotency_key_reused",
    "job_expired",
    "job_not_found",
    "job_not_settled",
    OTHER,
)
ADMISSION_CODES = (
    "queue_full",
    "request_timeout",
    "request_token_budget_exceeded",
    "request_context_window_exceeded",
    "gateway_draining",
    OTHER,
)
INFERENCE_ERROR_CODES = (
    "queue_full",
    "request_timeout",
    "request_aborted",
    "request_token_budget_exceeded",
    "request_context_window_exceeded",
    "gateway_draining",
    "provider_unsupported",
    "provider_timeout",
    "provider_upstream_error",
    "provider_request_failed",
    "provider_invalid_response",
    "provider_result_invalid",
    "provider_preparation_invalid",
    "provider_response_too_large",
    "provider_request_too_large",
    "provider_request_body_unbounded",
    "gateway_error",
    OTHER,
)


_REQUESTS = (
    counter(
        "requests.total",
        "ray_inference_requests_total",
        "Inferences answered, by where the answer came from.",
        source=SOURCES,
    ),
    counter(
        "requests.errors",
        "ray_inference_errors_total",
        "Inferences that failed after validation, by error code.",
        code=INFERENCE_ERROR_CODES,
    ),
    counter("requests.degraded", "ray_inference_degraded_total", "Inferences answered with reduced length or prompt."),
    counter("requests.rate_limited", "ray_rate_limit_rejections_total", "Requests refused by the rate limit."),
    counter("requests.auth_rejected", "ray_auth_rejections_total", "Requests without a valid API key."),
    counter(
        "requests.rejected",
        "ray_requests_rejected_total",
        "Requests refused before inference, by error code.",
        json=False,
        code=REJECTION_CODES,
    ),
    histogram(
        "inference.duration",
        "ray_inference_duration_seconds",
        "Time from the start of handling to the whole answer.",
        DURATION_BUCKETS,
        source=SOURCES,
    ),
    histogram(
        "inference.ttft",
        "ray_inference_time_to_first_token_seconds",
        "Time from the start of handling to the first token.",
        DURATION_BUCKETS,
    ),
)

_CACHE = (
    counter("cache.hits", "ray_cache_hits_total", "Response cache lookups that found an answer."),
    counter("cache.misses", "ray_cache_misses_total", "Response cache lookups that found none."),
    gauge("cache.entries", "ray_cache_entries", "Answers in the response cache."),
    gauge("cache.max_entries", "ray_cache_entries_limit", "Most answers the response cache keeps."),
    gauge("cache.entries_ratio"),
    gauge("cache.bytes", "ray_cache_size_bytes", "Size of the response cache."),
    gauge("cache.max_bytes", "ray_cache_size_limit_bytes", "Most bytes the response cache keeps."),
    gauge("cache.bytes_ratio"),
    total("cache.evictions_total", "ray_cache_evictions_total", "Answers dropped to make room."),
    total("cache.expirations_total", "ray_cache_expirations_total", "Answers dropped because of their age."),
    total(
        "cache.dropped_oversized_entries_total",
        "ray_cache_dropped_entries_total",
        "Answers never stored, by reason.",
        reason="oversized",
    ),
    total(
        "cache.dropped_unmeasurable_entries_total",
        "ray_cache_dropped_entries_total",
        "Answers never stored, by reason.",
        reason="unmeasurable",
    ),
)

_SHAPING = (
    gauge("prompt.compiler.chars_saved"),
    counter(
        "prompt.compiler.saved_chars",
        "ray_prompt_compiler_saved_chars_total",
        "Prompt characters that tidying made unnecessary.",
        json=False,
    ),
    gauge(
        "learned_output_cap.max_tokens_ratio",
        "ray_learned_output_cap_ratio",
        "Completion tokens left by the learned cap, as a share of those asked for, last request.",
    ),
    gauge(
        "adaptive.max_tokens_ratio",
        "ray_adaptive_output_cap_ratio",
        "Completion tokens left by adaptive tuning, as a share of those before, last request.",
    ),
)

_QUEUE = (
    gauge("queue.depth"),
    gauge("queue.short_depth", "ray_queue_depth", "Tasks waiting, by lane.", lane="short"),
    gauge("queue.draft_depth", "ray_queue_depth", "Tasks waiting, by lane.", lane="draft"),
    gauge("queue.max_depth", "ray_queue_depth_limit", "Most tasks that may wait."),
    gauge("queue.depth_ratio"),
    gauge("queue.tokens", "ray_queue_tokens", "Tokens the waiting tasks may need."),
    gauge("queue.max_tokens", "ray_queue_tokens_limit", "Most tokens that may wait."),
    gauge("queue.tokens_ratio"),
    gauge("queue.last_delay_ms"),
    histogram(
        "queue.wait", "ray_queue_wait_seconds", "Time from admission to dispatch.", QUEUE_WAIT_BUCKETS, lane=LANES
    ),
    gauge("inference.in_flight", "ray_inference_in_flight", "Tasks being generated."),
    gauge("inference.concurrency", "ray_inference_in_flight_limit", "Most tasks generated at once."),
    gauge("inference.in_flight_ratio"),
    gauge("inference.in_flight_tokens", "ray_inference_in_flight_tokens", "Tokens the running tasks may need."),
    gauge("inference.max_inflight_tokens", "ray_inference_in_flight_tokens_limit", "Most tokens that may be running."),
    gauge("inference.in_flight_tokens_ratio"),
    gauge("preparation.active", "ray_preparation_active", "Requests being prepared for the backend."),
    gauge("preparation.concurrency", "ray_preparation_active_limit", "Most requests prepared at once."),
    gauge("preparation.active_ratio", decimals=4),
    gauge("preparation.queued", "ray_preparation_queue_depth", "Requests waiting for preparation."),
    gauge("preparation.max_queue", "ray_preparation_queue_depth_limit", "Most requests that may wait for preparation."),
    gauge("preparation.queued_ratio", decimals=4),
    counter(
        "scheduler.rejections",
        "ray_scheduler_rejections_total",
        "Tasks not admitted, by error code.",
        json=False,
        code=ADMISSION_CODES,
    ),
    counter(
        "scheduler.deduplicated",
        "ray_scheduler_deduplicated_total",
        "Requests that joined identical work under way.",
        json=False,
    ),
)

_PROVIDER = (
    Metric(
        "provider.health.status",
        "state",
        "ray_provider_status",
        "The backend's state: 1 for the current one.",
        "gauges",
        labels={"status": PROVIDER_STATES},
    ),
    gauge(
        "provider.health.latency_ms",
        "ray_provider_health_duration_seconds",
        "Duration of the last health probe.",
        divisor=MS_PER_SECOND,
    ),
    gauge("provider.slots.total"),
    gauge("provider.slots.idle", "ray_provider_slots", "Backend slots, by state.", state="idle"),
    gauge("provider.slots.processing", "ray_provider_slots", "Backend slots, by state.", state="processing"),
    gauge("provider.slots.occupancy_ratio"),
    gauge("provider.slot.last_id"),
    counter(
        "provider.slot.assignments",
        "ray_provider_slot_assignments_total",
        "Answers for which the backend named a slot.",
    ),
    counter(
        "provider.prompt_cache.hits",
        "ray_provider_prompt_cache_hits_total",
        "Answers that reused prompt tokens of the KV cache.",
    ),
    counter("provider.prompt_cache.misses", "ray_provider_prompt_cache_misses_total", "Answers that reused none."),
    gauge("provider.prompt_cache.tokens_cached"),
    gauge("provider.prompt_cache.reuse_ratio"),
    counter(
        "provider.prompt_cached_tokens",
        "ray_provider_prompt_cached_tokens_total",
        "Prompt tokens taken from the KV cache.",
        json=False,
    ),
    counter("provider.prompt_tokens", "ray_provider_prompt_tokens_total", "Prompt tokens of all answers.", json=False),
    counter("provider.completion_tokens", "ray_provider_completion_tokens_total", "Tokens generated.", json=False),
    gauge("provider.completion_tps"),
    histogram(
        "provider.completion_rate",
        "ray_provider_completion_tokens_per_second",
        "Generation speed of each answer.",
        TOKEN_RATE_BUCKETS,
    ),
)

_HTTP = (
    counter(
        "http.requests",
        "ray_http_requests_total",
        "HTTP responses, by route, method and status.",
        json=False,
        precreated=False,
        route=ROUTES,
        method=METHODS,
        status=STATUSES,
    ),
    histogram(
        "http.duration",
        "ray_http_request_duration_seconds",
        "Time from the request's head to the end of its response.",
        DURATION_BUCKETS,
        route=ROUTES,
    ),
    gauge("gateway.http.sockets"),
    gauge("gateway.http.active_sockets", "ray_http_connections", "Open client connections, by state.", state="active"),
    gauge("gateway.http.idle_sockets", "ray_http_connections", "Open client connections, by state.", state="idle"),
    gauge(
        "gateway.http.active_requests", "ray_http_requests_in_flight", "Requests being handled, this scrape included."
    ),
    gauge("gateway.http.max_connections", "ray_http_connections_limit", "Most client connections at once."),
    gauge("gateway.http.connection_ratio"),
    gauge("gateway.http.connection_ratio_threshold"),
    gauge("gateway.http.degraded", "ray_pressure_active", PRESSURE_HELP, signal="http"),
    # Constants of mixed units: of use to a person who reads the JSON, not to a time series.
    gauge("gateway.http.request_body_limit_bytes"),
    gauge("gateway.http.max_header_bytes"),
    gauge("gateway.http.max_headers_count"),
    gauge("gateway.http.max_requests_per_socket"),
    gauge("gateway.http.headers_timeout_ms"),
    gauge("gateway.http.request_timeout_ms"),
    gauge("gateway.http.keep_alive_timeout_ms"),
)

_GATEWAY = (
    total("gateway.warmup.attempts", "ray_warmup_attempts_total", "Attempts to warm the backend."),
    total("gateway.warmup.failures", "ray_warmup_failures_total", "Attempts to warm the backend that failed."),
    gauge(
        "gateway.warmup.in_flight",
        "ray_warmup_state",
        "Where the warm-up stands: 1 for what is the case.",
        state="in_flight",
    ),
    gauge("gateway.warmup.retry_scheduled", "ray_warmup_state", state="retry_scheduled"),
    gauge("gateway.warmup.succeeded", "ray_warmup_state", state="succeeded"),
    gauge("gateway.warmup.stopped", "ray_warmup_state", state="stopped"),
    gauge(
        "gateway.warmup.retry_delay_ms",
        "ray_warmup_retry_delay_seconds",
        "Time until the next attempt to warm, 0 if none.",
        divisor=MS_PER_SECOND,
    ),
    gauge("rate_limit.enabled"),
    gauge("rate_limit.degraded", "ray_pressure_active", PRESSURE_HELP, signal="rate_limit"),
    gauge("rate_limit.trust_proxy_headers"),
    gauge("rate_limit.active_keys", "ray_rate_limit_keys", "Callers in the current rate limit window."),
    gauge("rate_limit.max_keys", "ray_rate_limit_keys_limit", "Most callers the rate limit can tell apart."),
    gauge("rate_limit.active_keys_ratio", decimals=4),
    gauge("rate_limit.pressure_threshold"),
    gauge(
        "rate_limit.window_ms",
        "ray_rate_limit_window_seconds",
        "Length of the rate limit window.",
        divisor=MS_PER_SECOND,
    ),
    gauge("rate_limit.max_requests", "ray_rate_limit_requests_limit", "Requests per caller and window."),
)

CATALOGUE: tuple[Metric, ...] = (
    *_REQUESTS,
    *_CACHE,
    *_SHAPING,
    *_QUEUE,
    *_PROVIDER,
    *PREFIX_METRICS,
    *JOB_METRICS,
    *_HTTP,
    *_GATEWAY,
    *HOST_METRICS,
)

# The `recent` block: what happened last, null until it has happened once. Keys with `At` hold ISO timestamps.
RECENT_KEYS = (
    "lastLatencyMs",
    "lastCacheHitAt",
    "lastRequestAt",
    "lastErrorAt",
    "lastDegradedAt",
    "lastRateLimitAt",
    "lastAuthRejectAt",
    "lastPromptCacheReuseRatio",
    "lastPromptCacheTokens",
    "lastSlotId",
    "lastSlotOccupancyRatio",
    "lastProcessRssMiB",
    "lastCpuPercent",
    "lastEventLoopLagP95Ms",
)
