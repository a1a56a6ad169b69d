"""All 123 variables: each reaches its key, and each refuses garbage in words that name it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ray.config.containers import IntegerList
from ray.config.environment import variables_of
from ray.config.kinds import Boolean, Integer, Number
from ray.config.schema import CONFIG
from ray.config.sections import OneOf, Section
from tests.config.support import CWD, Document, load, refusal, value_of
from tests.config.test_schema import declared

LAUNCH = "model.adapter.launchProfile."
# Variable, key, a good text other than the default ("*": one step below the default, half of it, or its opposite), and
# a bad text ("*": one that no whole number, number or boolean can be). `launch.` stands for the launch profile.
VARIABLES = """
RAY_HOST                                    server.host                             0.0.0.0         a|b c
RAY_PORT                                    server.port                             *               *
RAY_REQUEST_BODY_LIMIT_BYTES                server.requestBodyLimitBytes            *               *
RAY_CORS_ALLOWED_ORIGINS                    server.corsAllowedOrigins               https://a.example *
RAY_LOG_LEVEL                               telemetry.logLevel                      debug           INFO
RAY_TELEMETRY_SERVICE_NAME                  telemetry.serviceName                   edge            long
RAY_TELEMETRY_INCLUDE_DEBUG_METRICS         telemetry.includeDebugMetrics           *               *
RAY_TELEMETRY_SLOW_REQUEST_THRESHOLD_MS     telemetry.slowRequestThresholdMs        *               *
RAY_MODEL_ID                                model.id                                other           long
RAY_MODEL_FAMILY                            model.family                            other           long
RAY_MODEL_QUANTIZATION                      model.quantization                      q8_0            Q8_0
RAY_MODEL_WARM_ON_BOOT                      model.warmOnBoot                        *               *
RAY_MODEL_CONTEXT_WINDOW                    model.contextWindow                     *               *
RAY_MODEL_MAX_OUTPUT_TOKENS                 model.maxOutputTokens                   *               *
RAY_MODEL_TOKENS_PER_SECOND_TARGET          model.operational.tokensPerSecondTarget *               *
RAY_MODEL_MEMORY_CLASS_MIB                  model.operational.memoryClassMiB        *               *
RAY_MODEL_PREFERRED_CTX_SIZE                model.operational.preferredCtxSize      *               *
RAY_MODEL_BASE_URL                          model.adapter.baseUrl                   http://127.0.0.1:8081/ 127.0.0.1:8
RAY_MODEL_REF                               model.adapter.modelRef                  other           long
RAY_MODEL_API_KEY_ENV                       model.adapter.apiKeyEnv                 BACKEND_KEY     BACKEND-KEY
RAY_MODEL_TIMEOUT_MS                        model.adapter.timeoutMs                 *               *
RAY_LLAMA_CPP_BASE_URL                      model.adapter.baseUrl                   http://127.0.0.1:8081/ 127.0.0.1:8
RAY_LLAMA_CPP_MODEL_REF                     model.adapter.modelRef                  other           long
RAY_LLAMA_CPP_CACHE_PROMPT                  model.adapter.cachePrompt               *               *
RAY_LLAMA_CPP_SLOT_ID                       model.adapter.slotId                    3               *
RAY_LLAMA_CPP_SLOT_STATE_TTL_MS             model.adapter.slotStateTtlMs            *               *
RAY_LLAMA_CPP_SLOT_SNAPSHOT_TIMEOUT_MS      model.adapter.slotSnapshotTimeoutMs     *               *
RAY_LLAMA_CPP_PROMPT_SCAFFOLD_CACHE_ENTRIES model.adapter.promptScaffoldCacheEntries *              *
RAY_MODEL_PATH                              launch.modelPath                        /m.gguf         long
RAY_LLAMA_CPP_MODEL_PATH                    launch.modelPath                        /m.gguf         long
RAY_LLAMA_CPP_BINARY_PATH                   launch.binaryPath                       /bin/llama      llama-server
RAY_LLAMA_CPP_ALIAS                         launch.alias                            other           long
RAY_LLAMA_CPP_HOST                          launch.host                             127.0.0.2       0.0.0.0
RAY_LLAMA_CPP_PORT                          launch.port                             *               *
RAY_LLAMA_CPP_CTX_SIZE                      launch.ctxSize                          *               *
RAY_LLAMA_CPP_PARALLEL                      launch.parallel                         3               *
RAY_LLAMA_CPP_THREADS                       launch.threads                          *               *
RAY_LLAMA_CPP_THREADS_BATCH                 launch.threadsBatch                     3               *
RAY_LLAMA_CPP_THREADS_HTTP                  launch.threadsHttp                      *               *
RAY_LLAMA_CPP_BATCH_SIZE                    launch.batchSize                        *               *
RAY_LLAMA_CPP_UBATCH_SIZE                   launch.ubatchSize                       *               *
RAY_LLAMA_CPP_CACHE_REUSE                   launch.cacheReuse                       *               *
RAY_LLAMA_CPP_CACHE_RAM_MIB                 launch.cacheRamMiB                      -1              -2
RAY_LLAMA_CPP_CONTINUOUS_BATCHING           launch.continuousBatching               *               *
RAY_LLAMA_CPP_ENABLE_METRICS                launch.enableMetrics                    *               *
RAY_LLAMA_CPP_EXPOSE_SLOTS                  launch.exposeSlots                      *               *
RAY_LLAMA_CPP_WARMUP                        launch.warmup                           *               *
RAY_LLAMA_CPP_ENABLE_UNIFIED_KV             launch.enableUnifiedKv                  *               *
RAY_LLAMA_CPP_CACHE_IDLE_SLOTS              launch.cacheIdleSlots                   *               *
RAY_LLAMA_CPP_CONTEXT_SHIFT                 launch.contextShift                     *               *
RAY_SCHEDULER_CONCURRENCY                   scheduler.concurrency                   *               *
RAY_SCHEDULER_MAX_QUEUE                     scheduler.maxQueue                      *               *
RAY_SCHEDULER_MAX_QUEUED_TOKENS             scheduler.maxQueuedTokens               *               *
RAY_SCHEDULER_MAX_INFLIGHT_TOKENS           scheduler.maxInflightTokens             *               *
RAY_SCHEDULER_REQUEST_TIMEOUT_MS            scheduler.requestTimeoutMs              *               *
RAY_SCHEDULER_DEDUPE_INFLIGHT               scheduler.dedupeInflight                *               *
RAY_SCHEDULER_BATCH_WINDOW_MS               scheduler.batchWindowMs                 0               *
RAY_SCHEDULER_AFFINITY_LOOKAHEAD            scheduler.affinityLookahead             *               *
RAY_SCHEDULER_SHORT_JOB_MAX_TOKENS          scheduler.shortJobMaxTokens             *               *
RAY_ASYNC_QUEUE_ENABLED                     asyncQueue.enabled                      *               *
RAY_ASYNC_QUEUE_STORAGE_DIR                 asyncQueue.storageDir                   /jobs           long
RAY_ASYNC_QUEUE_MAX_JOBS                    asyncQueue.maxJobs                      *               *
RAY_ASYNC_QUEUE_MAX_STORE_MIB               asyncQueue.maxStoreMiB                  *               *
RAY_ASYNC_QUEUE_MIN_FREE_INODES             asyncQueue.minFreeInodes                *               *
RAY_ASYNC_QUEUE_RETAIN_REQUEST              asyncQueue.retainRequest                *               *
RAY_ASYNC_QUEUE_CALLBACK_PAYLOAD            asyncQueue.callbackPayload              thin            Thin
RAY_ASYNC_QUEUE_CALLBACK_REQUIRE_HTTPS      asyncQueue.callbackRequireHttps         *               *
RAY_ASYNC_QUEUE_CALLBACK_ALLOWED_PORTS      asyncQueue.callbackAllowedPorts         81,8443         81,
RAY_ASYNC_QUEUE_MIN_FREE_STORAGE_MIB        asyncQueue.minFreeStorageMiB            *               *
RAY_ASYNC_QUEUE_COMPLETED_TTL_MS            asyncQueue.completedTtlMs               *               *
RAY_ASYNC_QUEUE_POLL_INTERVAL_MS            asyncQueue.pollIntervalMs               *               *
RAY_ASYNC_QUEUE_DISPATCH_CONCURRENCY        asyncQueue.dispatchConcurrency          2               *
RAY_ASYNC_QUEUE_MAX_ATTEMPTS                asyncQueue.maxAttempts                  *               *
RAY_ASYNC_QUEUE_CALLBACK_TIMEOUT_MS         asyncQueue.callbackTimeoutMs            *               *
RAY_ASYNC_QUEUE_MAX_CALLBACK_ATTEMPTS       asyncQueue.maxCallbackAttempts          *               *
RAY_ASYNC_QUEUE_CALLBACK_ALLOW_PRIVATE_NETWORK asyncQueue.callbackAllowPrivateNetwork *             *
RAY_ASYNC_QUEUE_CALLBACK_ALLOWED_HOSTS      asyncQueue.callbackAllowedHosts         a.example,b.c   a.example,
RAY_CACHE_ENABLED                           cache.enabled                           *               *
RAY_CACHE_MAX_ENTRIES                       cache.maxEntries                        *               *
RAY_CACHE_MAX_BYTES                         cache.maxBytes                          *               *
RAY_CACHE_TTL_MS                            cache.ttlMs                             *               *
RAY_CACHE_KEY_STRATEGY                      cache.keyStrategy                       input           Input
RAY_GRACEFUL_DEGRADATION_ENABLED            gracefulDegradation.enabled             *               *
RAY_DEGRADATION_QUEUE_DEPTH_THRESHOLD       gracefulDegradation.queueDepthThreshold *               *
RAY_DEGRADATION_MAX_PROMPT_CHARS            gracefulDegradation.maxPromptChars      *               *
RAY_DEGRADATION_MAX_TOKENS                  gracefulDegradation.degradeToMaxTokens  *               *
RAY_DEGRADATION_MEMORY_RSS_THRESHOLD_MIB    gracefulDegradation.memoryRssThresholdMiB *             *
RAY_DEGRADATION_MEMORY_CGROUP_PRESSURE_RATIO_THRESHOLD gracefulDegradation.memoryCgroupPressureRatioThreshold * *
RAY_DEGRADATION_CPU_THROTTLED_RATIO_THRESHOLD gracefulDegradation.cpuThrottledRatioThreshold *      *
RAY_DEGRADATION_MEMORY_PSI_SOME_AVG10_THRESHOLD gracefulDegradation.memoryPsiSomeAvg10Threshold *   *
RAY_DEGRADATION_MEMORY_PSI_FULL_AVG10_THRESHOLD gracefulDegradation.memoryPsiFullAvg10Threshold *   *
RAY_DEGRADATION_CPU_PSI_SOME_AVG10_THRESHOLD gracefulDegradation.cpuPsiSomeAvg10Threshold *         *
RAY_DEGRADATION_CPU_PSI_FULL_AVG10_THRESHOLD gracefulDegradation.cpuPsiFullAvg10Threshold *         *
RAY_PROMPT_COMPILER_ENABLED                 promptCompiler.enabled                  *               *
RAY_PROMPT_COMPILER_COLLAPSE_WHITESPACE     promptCompiler.collapseWhitespace       *               *
RAY_PROMPT_COMPILER_DEDUPE_REPEATED_LINES   promptCompiler.dedupeRepeatedLines      *               *
RAY_PROMPT_COMPILER_FAMILY_METADATA_KEYS    promptCompiler.familyMetadataKeys       a,b             a,,b
RAY_PREFIX_STORE_ENABLED                    prefixStore.enabled                     *               *
RAY_PREFIX_STORE_STORAGE_DIR                prefixStore.storageDir                  /prefixes       long
RAY_PREFIX_STORE_MAX_MIB                    prefixStore.maxMiB                      *               *
RAY_PREFIX_STORE_MIN_TOKENS                 prefixStore.minTokens                   *               *
RAY_PREFIX_STORE_MIN_SIGHTINGS              prefixStore.minSightings                *               *
RAY_ADAPTIVE_TUNING_ENABLED                 adaptiveTuning.enabled                  *               *
RAY_ADAPTIVE_SAMPLE_SIZE                    adaptiveTuning.sampleSize               *               *
RAY_ADAPTIVE_QUEUE_LATENCY_THRESHOLD_MS     adaptiveTuning.queueLatencyThresholdMs  *               *
RAY_ADAPTIVE_MIN_COMPLETION_TOKENS_PER_SECOND adaptiveTuning.minCompletionTokensPerSecond *         *
RAY_ADAPTIVE_MAX_OUTPUT_REDUCTION_RATIO     adaptiveTuning.maxOutputReductionRatio  *               *
RAY_ADAPTIVE_MIN_OUTPUT_TOKENS              adaptiveTuning.minOutputTokens          *               *
RAY_ADAPTIVE_LEARNED_FAMILY_CAP_ENABLED     adaptiveTuning.learnedFamilyCapEnabled  *               *
RAY_ADAPTIVE_FAMILY_HISTORY_SIZE            adaptiveTuning.familyHistorySize        *               *
RAY_ADAPTIVE_LEARNED_CAP_MIN_SAMPLES        adaptiveTuning.learnedCapMinSamples     *               *
RAY_ADAPTIVE_DRAFT_PERCENTILE               adaptiveTuning.draftPercentile          *               *
RAY_ADAPTIVE_SHORT_PERCENTILE               adaptiveTuning.shortPercentile          *               *
RAY_ADAPTIVE_LEARNED_CAP_HEADROOM_TOKENS    adaptiveTuning.learnedCapHeadroomTokens *               *
RAY_AUTH_ENABLED                            auth.enabled                            *               *
RAY_AUTH_API_KEY_ENV                        auth.apiKeyEnv                          OTHER_KEYS      OTHER-KEYS
RAY_RATE_LIMIT_ENABLED                      rateLimit.enabled                       *               *
RAY_RATE_LIMIT_WINDOW_MS                    rateLimit.windowMs                      *               *
RAY_RATE_LIMIT_MAX_REQUESTS                 rateLimit.maxRequests                   *               *
RAY_RATE_LIMIT_MAX_KEYS                     rateLimit.maxKeys                       *               *
RAY_RATE_LIMIT_KEY_STRATEGY                 rateLimit.keyStrategy                   api-key         IP
RAY_RATE_LIMIT_TRUST_PROXY_HEADERS          rateLimit.trustProxyHeaders             *               *
"""


def rows() -> list[tuple[str, str, str, str]]:
    found = []
    for line in VARIABLES.strip().splitlines():
        variable, key, good, bad = line.split(maxsplit=3)
        found.append((variable, key.replace("launch.", LAUNCH), good, bad))
    return found


def good_text(key: str, text: str) -> str:
    default = value_of(load({}), key)
    if text != "*":
        return text
    if isinstance(default, bool):
        return "off" if default else "on"
    assert isinstance(default, int | float)
    return str(default - 1) if isinstance(declared(key).kind, Integer) else str(default / 2)


def as_value(key: str, text: str) -> object:
    """What the text should have become, told without the code under test."""
    kind = declared(key).kind
    if isinstance(kind, Boolean):
        return text == "on"
    if isinstance(kind, Integer):
        return int(text)
    if isinstance(kind, Number):
        return float(text)
    if isinstance(kind, IntegerList):
        return [int(part) for part in text.split(",")]
    return text.split(",") if isinstance(value_of(load({}), key), list) else text


@pytest.mark.parametrize(("variable", "key", "good", "bad"), rows())
def test_variable_reaches_its_key(variable: str, key: str, good: str, bad: str) -> None:
    text = good_text(key, good)
    expected = as_value(key, text)
    assert value_of(load({}), key) != expected  # else the test could not fail
    assert value_of(load({}, {variable: f"  {text}\n"}), key) == expected


@pytest.mark.parametrize(("variable", "key", "good", "bad"), rows())
def test_variable_refuses_garbage_and_is_named(variable: str, key: str, good: str, bad: str) -> None:
    if bad == "long":
        texts = ["x" * 5000]
    elif bad != "*":
        texts = [bad]
    elif isinstance(declared(key).kind, Boolean):
        texts = ["maybe", "2", "truee", "tr ue"]
    elif isinstance(declared(key).kind, Integer):
        texts = ["abc", "5MiB", "+5", "1e3", "5.0", "1_0", "٣", "0x10", "--5", "-5", "9" * 5000, "99999999999999999999"]
    else:
        texts = ["abc", "nan", "Infinity", "inf", "1_0", "0x1", "-0.1", "101", "1e999", "9" * 5000]
    for text in texts:
        message = refusal({}, {variable: text})
        assert variable in message
        assert key in message


@pytest.mark.parametrize(("variable", "key", "good", "bad"), rows())
def test_blank_variable_counts_as_not_set(variable: str, key: str, good: str, bad: str) -> None:
    assert load({}, {variable: "  \t\n"}) == load({})


def declared_variables(section: Section[object], adapter_kind: str = "llama.cpp") -> Iterator[tuple[str, str]]:
    for entry in section.settings:
        if isinstance(entry.kind, Section):
            inner: list[Section[object]] = [entry.kind]
        elif isinstance(entry.kind, OneOf):
            inner = list(entry.kind.sections.values())
        else:
            inner = []
            for name in variables_of(entry, adapter_kind):
                yield name, entry.key
        for below in inner:
            yield from declared_variables(below, adapter_kind)


def test_the_table_and_the_declaration_have_the_same_123_variables() -> None:
    listed = {(variable, key.rpartition(".")[2]) for variable, key, _, _ in rows()}
    assert set(declared_variables(CONFIG)) == listed
    assert len({variable for variable, _ in listed} | {"RAY_PROFILE"}) == 123


# --- forms


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("TRUE", True), ("Yes", True), (" oN ", True), ("0", False), ("False", False), ("nO", False)],
)
def test_boolean_words(text: str, value: bool) -> None:
    assert load({}, {"RAY_CACHE_ENABLED": text}).cache.enabled is value


@pytest.mark.parametrize(("text", "value"), [("007", 7), (" 4000 ", 4000), ("1", 1)])
def test_whole_numbers_are_decimal_digits(text: str, value: int) -> None:
    assert load({}, {"RAY_PORT": text}).server.port == value


def test_port_zero_and_beyond_are_refused() -> None:
    for text in ("0", "65536"):
        message = refusal({}, {"RAY_PORT": text})
        assert message == f"server.port must be an integer from 1 to 65535, not {text} (set by RAY_PORT)"


@pytest.mark.parametrize(("text", "value"), [(".5", 0.5), ("5e-1", 0.5), ("1", 1), ("+0.25", 0.25), ("1.", 1)])
def test_number_spellings(text: str, value: float) -> None:
    variable = "RAY_DEGRADATION_CPU_THROTTLED_RATIO_THRESHOLD"
    assert load({}, {variable: text}).graceful_degradation.cpu_throttled_ratio_threshold == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("RAY_LLAMA_CPP_CTX_SIZE", "2048MiB"),
        ("RAY_ASYNC_QUEUE_MAX_JOBS", "100jobs"),
        ("RAY_ASYNC_QUEUE_COMPLETED_TTL_MS", "1h"),
    ],
)
def test_units_are_refused(variable: str, text: str) -> None:
    assert refusal({}, {variable: text}).startswith(f"{variable} must be an integer from ")


def test_lists() -> None:
    variable = "RAY_ASYNC_QUEUE_CALLBACK_ALLOWED_HOSTS"
    assert load({}, {variable: " a.example , b.example"}).async_queue.callback_allowed_hosts == (
        "a.example",
        "b.example",
    )
    assert "at most 16255 characters" in refusal({}, {variable: "a," * 8128})
    assert "at most 64 entries" in refusal({}, {variable: ",".join(["a"] * 65)})
    assert "at most 253 characters" in refusal({}, {variable: "a" * 254})
    variable = "RAY_ASYNC_QUEUE_CALLBACK_ALLOWED_PORTS"
    assert load({}, {variable: " 81 , 8443"}).async_queue.callback_allowed_ports == (81, 8443)
    assert "at most 64 entries" in refusal({}, {variable: "81," * 64 + "81"})
    assert "comma-separated list of whole numbers" in refusal({}, {variable: "81,,82"})
    assert "must be an integer from 1 to 65535, not 65536" in refusal({}, {variable: "81,65536"})
    variable = "RAY_PROMPT_COMPILER_FAMILY_METADATA_KEYS"
    assert "at most 16 entries" in refusal({}, {variable: ",".join(["a"] * 17)})
    assert "at most 128 characters" in refusal({}, {variable: "a" * 129})
    assert "at most 2063 characters" in refusal({}, {variable: "a" * 2064})


def test_byte_that_is_not_utf8_is_refused() -> None:
    assert "RAY_MODEL_ID must be valid UTF-8" in refusal({}, {"RAY_MODEL_ID": "a\udcff"})


def test_other_variables_are_ignored() -> None:
    environ = {"RAY_NO_SUCH": "x", "RAY_API_KEYS": "k", "RAY_DEPLOY_USER": "u", "HOME": "/"}
    assert load({}, environ) == load({})


# --- which variables apply


def test_llama_cpp_variables_say_nothing_to_other_backends() -> None:
    environ = {"RAY_LLAMA_CPP_BASE_URL": "http://127.0.0.1:9", "RAY_LLAMA_CPP_PORT": "junk", "RAY_MODEL_PATH": "a\0"}
    assert load({"profile": "vps"}, environ) == load({"profile": "vps"})
    assert load({"profile": "tiny"}, {"RAY_MODEL_TIMEOUT_MS": "abc"}) == load({"profile": "tiny"})


def test_launch_variables_say_nothing_without_a_launch_profile() -> None:
    document: Document = {"profile": "vps", "model": {"adapter": {"kind": "llama.cpp"}}}
    environ = {"RAY_LLAMA_CPP_PORT": "junk", "RAY_LLAMA_CPP_CTX_SIZE": "junk", "RAY_LLAMA_CPP_SLOT_ID": "2"}
    config = load(document, environ)
    assert value_of(config, "model.adapter.slotId") == 2
    assert value_of(config, "model.adapter.launchProfile") is None


def test_planning_variables_are_checked_but_unused_without_the_section() -> None:
    assert load({"profile": "tiny"}, {"RAY_MODEL_MEMORY_CLASS_MIB": "64"}) == load({"profile": "tiny"})
    assert "RAY_MODEL_MEMORY_CLASS_MIB must be" in refusal({"profile": "tiny"}, {"RAY_MODEL_MEMORY_CLASS_MIB": "abc"})


@pytest.mark.parametrize(
    ("first", "second", "key", "value"),
    [
        ("RAY_MODEL_BASE_URL", "RAY_LLAMA_CPP_BASE_URL", "model.adapter.baseUrl", "http://127.0.0.1:8081/"),
        ("RAY_MODEL_REF", "RAY_LLAMA_CPP_MODEL_REF", "model.adapter.modelRef", "other"),
        ("RAY_MODEL_PATH", "RAY_LLAMA_CPP_MODEL_PATH", f"{LAUNCH}modelPath", "/other.gguf"),
    ],
)
def test_second_variable_counts_only_while_the_first_is_blank(first: str, second: str, key: str, value: str) -> None:
    assert value_of(load({}, {first: " ", second: value}), key) == value
    assert value_of(load({}, {first: value, second: "junk://"}), key) == value


# --- what moves along


def test_model_id_names_the_model_at_the_backend_too() -> None:
    config = load({}, {"RAY_MODEL_ID": "m"})
    assert value_of(config, "model.adapter.modelRef") == "m"
    assert value_of(config, f"{LAUNCH}alias") == "m"
    assert value_of(config, f"{LAUNCH}modelPath") == "/var/lib/ray/models/qwen2.5-0.5b-instruct-q4_k_m.gguf"
    config = load({}, {"RAY_MODEL_ID": "m", "RAY_LLAMA_CPP_MODEL_REF": "r", "RAY_LLAMA_CPP_ALIAS": "a"})
    assert value_of(config, "model.adapter.modelRef") == "r"
    assert value_of(config, f"{LAUNCH}alias") == "a"
    assert value_of(load({"profile": "vps"}, {"RAY_MODEL_ID": "m"}), "model.adapter.modelRef") == "m"
    assert value_of(load({"profile": "tiny"}, {"RAY_MODEL_ID": "m"}), "model.adapter.modelRef") is None


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"RAY_LLAMA_CPP_PORT": "8090"}, "http://127.0.0.1:8090"),
        ({"RAY_LLAMA_CPP_HOST": "::1", "RAY_LLAMA_CPP_PORT": "8090"}, "http://[::1]:8090"),
        ({"RAY_LLAMA_CPP_HOST": "::ffff:7f00:1", "RAY_LLAMA_CPP_PORT": "8090"}, "http://127.0.0.1:8090"),
        ({"RAY_LLAMA_CPP_HOST": "::ffff:127.0.0.1"}, "http://127.0.0.1:8081"),
        ({"RAY_LLAMA_CPP_HOST": "LocalHost"}, "http://localhost:8081"),
    ],
)
def test_base_url_follows_the_launch_address(environ: dict[str, str], url: str) -> None:
    config = load({"profile": "1b"}, environ)
    assert value_of(config, "model.adapter.baseUrl") == url
    host = environ.get("RAY_LLAMA_CPP_HOST")
    if host:
        assert value_of(config, f"{LAUNCH}host") == host  # keeps the given spelling


def test_base_url_that_is_set_itself_does_not_follow() -> None:
    environ = {"RAY_LLAMA_CPP_PORT": "8090", "RAY_MODEL_BASE_URL": "http://127.0.0.1:8081"}
    assert "must have the port of launchProfile.port (8090)" in refusal({"profile": "1b"}, environ)


def test_port_from_the_file_does_not_move_the_base_url() -> None:
    document: Document = {"profile": "1b", "model": {"adapter": {"launchProfile": {"port": 8090}}}}
    assert "must have the port of launchProfile.port (8090)" in refusal(document)


def test_context_size_moves_the_planning_figure_along() -> None:
    environ = {"RAY_LLAMA_CPP_CTX_SIZE": "4096"}
    assert value_of(load({}, environ), "model.operational.preferredCtxSize") == 4096
    environ["RAY_MODEL_PREFERRED_CTX_SIZE"] = "1000"
    assert value_of(load({}, environ), "model.operational.preferredCtxSize") == 1000


def test_cache_prompt_sets_adapter_and_launch_profile() -> None:
    config = load({}, {"RAY_LLAMA_CPP_CACHE_PROMPT": "no"})
    assert value_of(config, "model.adapter.cachePrompt") is False
    assert value_of(config, f"{LAUNCH}cachePrompt") is False


def test_portable_block_for_a_small_generic_box() -> None:
    environ = {
        "RAY_SCHEDULER_CONCURRENCY": "1",
        "RAY_SCHEDULER_MAX_INFLIGHT_TOKENS": "2048",
        "RAY_LLAMA_CPP_CTX_SIZE": "2048",
        "RAY_LLAMA_CPP_PARALLEL": "1",
        "RAY_ASYNC_QUEUE_MAX_JOBS": "128",
        "RAY_ASYNC_QUEUE_MIN_FREE_STORAGE_MIB": "256",
        "RAY_LLAMA_CPP_HOST": "127.0.0.1",
        "RAY_LLAMA_CPP_PORT": "8081",
    }
    config = load({"profile": "1b"}, environ)
    assert (config.scheduler.concurrency, config.scheduler.max_inflight_tokens) == (1, 2048)
    assert (config.async_queue.max_jobs, config.async_queue.min_free_storage_mib) == (128, 256)
    assert config.async_queue.storage_dir == f"{CWD}/.ray/async-queue"
