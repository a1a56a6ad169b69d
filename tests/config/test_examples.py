"""The example configs: each says only its differences, and together with its profile gives what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray.config import config_document, load_config
from tests.config.support import CWD, profile_fixture, put, value_of

DIRECTORY = Path(__file__).parents[2] / "examples/config"
Changes = dict[str, object]
ADAPTER = "model.adapter."
LAUNCH = "model.adapter.launchProfile."
JOBS = "/var/lib/ray/async-queue"
MODELS = "/var/lib/ray/models/"

PRIVATE: Changes = {"tags.exposure": "private-local"}
PUBLIC: Changes = {
    "auth.enabled": True,
    "rateLimit.keyStrategy": "ip+api-key",
    "asyncQueue.enabled": True,
    "asyncQueue.storageDir": JOBS,
    "asyncQueue.callbackRequireHttps": True,
    "tags.exposure": "public",
}
GENERIC: Changes = {
    "model.id": "local-1b-q4",
    "model.family": "generic-1b",
    f"{ADAPTER}modelRef": "local-1b-q4",
    f"{LAUNCH}alias": "local-1b-q4",
    f"{LAUNCH}modelPath": f"{MODELS}local-1b-q4.gguf",
    "tags.portability": "generic-model",
}
RAZROO: Changes = {
    "model.id": "razroo-email-ai-qwen0.6b",
    f"{ADAPTER}modelRef": "qwen2.5-0.6b-razroo-email-ai",
    f"{LAUNCH}alias": "qwen2.5-0.6b-razroo-email-ai",
    f"{LAUNCH}modelPath": f"{MODELS}qwen2.5-0.6b-razroo-email-ai.q4_k_m.gguf",
    "tags.integration": "razroo-email-ai",
    "tags.hardware": "hetzner-cx23",
    f"{ADAPTER}warmupRequests": [
        {
            "maxTokens": 1,
            "templateId": "email.cold_outreach.v1",
            "templateVariables": {
                "recipientRole": "CTO",
                "topic": "developer tooling",
                "valueProp": "less build waste and faster feedback loops",
                "companyContext": "startup engineering team shipping multiple times a day",
            },
        },
        {
            "templateId": "email.reply_classification.v1",
            "templateVariables": {"replyText": "Sounds interesting, send details."},
        },
    ],
}
CLASSIFIER: Changes = {
    "model.maxOutputTokens": 96,
    "model.operational.tokensPerSecondTarget": 22,
    "model.operational.preferredCtxSize": 2048,
    f"{ADAPTER}timeoutMs": 12_000,
    f"{ADAPTER}slotSnapshotTimeoutMs": 200,
    f"{LAUNCH}ctxSize": 2048,
    f"{LAUNCH}cacheReuse": 192,
    f"{LAUNCH}cacheRamMiB": 384,
    "scheduler.maxQueue": 96,
    "scheduler.maxQueuedTokens": 16_000,
    "scheduler.maxInflightTokens": 2048,
    "scheduler.requestTimeoutMs": 14_000,
    "scheduler.batchWindowMs": 5,
    "scheduler.shortJobMaxTokens": 64,
    "gracefulDegradation.queueDepthThreshold": 18,
    "gracefulDegradation.maxPromptChars": 3500,
    "gracefulDegradation.degradeToMaxTokens": 64,
    "tags.modelRole": "classifier",
    "tags.modelSize": "0.5b-class",
    f"{ADAPTER}warmupRequests": [
        {
            "maxTokens": 64,
            "seed": 11,
            "templateId": "email.reply_classification.v1",
            "templateVariables": {"replyText": "Send pricing and implementation details."},
        }
    ],
}
DRAFTER: Changes = {
    "model.maxOutputTokens": 180,
    "model.operational.tokensPerSecondTarget": 16,
    f"{ADAPTER}promptScaffoldCacheEntries": 384,
    "scheduler.maxQueue": 72,
    "scheduler.maxQueuedTokens": 22_000,
    "gracefulDegradation.queueDepthThreshold": 14,
    "gracefulDegradation.maxPromptChars": 5500,
    "gracefulDegradation.degradeToMaxTokens": 112,
    "tags.modelRole": "drafter",
    "tags.modelSize": "0.5b-class",
    f"{ADAPTER}warmupRequests": [
        {
            "maxTokens": 120,
            "seed": 21,
            "templateId": "email.cold_outreach.v1",
            "templateVariables": {
                "recipientRole": "VP Revenue Operations",
                "topic": "faster follow-up drafting",
                "valueProp": "turn CRM context into first-pass replies",
                "companyContext": "B2B SaaS team",
            },
        },
        {
            "maxTokens": 100,
            "seed": 22,
            "templateId": "email.reply_rewrite.v1",
            "templateVariables": {
                "rewriteGoal": "Sound clear and helpful.",
                "replyText": "I can take a look next week if you send details.",
            },
        },
    ],
}
HALF_B: Changes = {"tags.modelSize": "0.5b-class"}
ONE_B: Changes = {"tags.modelSize": "1b-class"}
BOX_4GB: Changes = {**ONE_B, "tags.hardware": "generic-4gb-vps-class"}
BOX_8GB: Changes = {**ONE_B, "tags.hardware": "generic-8gb-vps-class"}

EXAMPLES: dict[str, tuple[str, Changes]] = {
    "tiny": ("tiny", {}),
    "sub1b": ("sub1b", PRIVATE),
    "sub1b.public": ("sub1b", PUBLIC | HALF_B),
    "sub1b.cax11": ("sub1b-cax11", PRIVATE),
    "sub1b.cax11.public": ("sub1b-cax11", PUBLIC | HALF_B),
    "sub1b.classifier": ("sub1b", CLASSIFIER),
    "sub1b.drafter": ("sub1b", DRAFTER),
    "1b": ("1b", PRIVATE | ONE_B),
    "1b.public": ("1b", PUBLIC | ONE_B),
    "1b.generic": ("1b", GENERIC | PRIVATE | BOX_4GB),
    "1b.generic.public": ("1b", GENERIC | PUBLIC | BOX_4GB),
    "1b.8gb": ("1b-8gb", PRIVATE | ONE_B),
    "1b.8gb.public": ("1b-8gb", PUBLIC | ONE_B),
    "1b.8gb.generic": ("1b-8gb", GENERIC | PRIVATE | BOX_8GB),
    "1b.8gb.generic.public": ("1b-8gb", GENERIC | PUBLIC | BOX_8GB),
    "vps": ("vps", {}),
    "balanced": ("balanced", {}),
    "hetzner-cx23-qwen0.6b": (
        "sub1b",
        RAZROO | PRIVATE | {"asyncQueue.enabled": True, "asyncQueue.storageDir": JOBS},
    ),
    "hetzner-cx23-qwen0.6b.public": ("sub1b", RAZROO | PUBLIC | {"tags.modelSize": "0.6b-class"}),
}


def test_directory_holds_exactly_these_files() -> None:
    assert sorted(path.name for path in DIRECTORY.iterdir()) == sorted(f"ray.{name}.json" for name in EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_with_an_empty_environment_is_its_profile_and_its_changes(name: str) -> None:
    profile, changes = EXAMPLES[name]
    expected = profile_fixture(profile)
    for key, value in changes.items():
        put(expected, key, value)
    loaded = load_config(str(DIRECTORY / f"ray.{name}.json"), {}, CWD)
    assert config_document(loaded.config) == expected
    assert loaded.path == str(DIRECTORY / f"ray.{name}.json")


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_says_nothing_that_its_profile_already_says(name: str) -> None:
    document = json.loads((DIRECTORY / f"ray.{name}.json").read_text("utf-8"))
    profile, changes = EXAMPLES[name]
    assert document.pop("profile") == profile
    assert dict(leaves(document)) == changes


def leaves(document: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name, value in document.items():
        found += leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return found


# --- what a config for a public box must be, judged on the merged config

EXACT: Changes = {
    "tags.engine": "llama.cpp",
    "tags.exposure": "public",
    "server.host": "127.0.0.1",
    "model.quantization": "q4_k_m",
    "model.warmOnBoot": True,
    "model.operational.recommendedPromptFormat": "native-template",
    "model.operational.supportsJsonMode": True,
    "model.operational.chatTemplateKnown": True,
    f"{ADAPTER}kind": "llama.cpp",
    f"{ADAPTER}baseUrl": "http://127.0.0.1:8081",
    f"{ADAPTER}cachePrompt": True,
    f"{ADAPTER}apiKeyEnv": None,
    f"{ADAPTER}headers": None,
    f"{ADAPTER}slotId": None,
    f"{LAUNCH}binaryPath": "/usr/local/bin/llama-server",
    f"{LAUNCH}host": "127.0.0.1",
    f"{LAUNCH}port": 8081,
    f"{LAUNCH}extraArgs": None,
    **{
        f"{LAUNCH}{name}": True
        for name in (
            "cachePrompt",
            "continuousBatching",
            "enableMetrics",
            "exposeSlots",
            "warmup",
            "enableUnifiedKv",
            "cacheIdleSlots",
            "contextShift",
        )
    },
    "scheduler.dedupeInflight": True,
    "asyncQueue.enabled": True,
    "asyncQueue.storageDir": JOBS,
    "asyncQueue.dispatchConcurrency": 1,
    "asyncQueue.callbackRequireHttps": True,
    "asyncQueue.callbackAllowPrivateNetwork": False,
    "asyncQueue.callbackAllowedHosts": [],
    "asyncQueue.callbackAllowedPorts": [],
    "cache.enabled": True,
    "cache.keyStrategy": "input+params",
    "telemetry.serviceName": "ray-gateway",
    "telemetry.logLevel": "info",
    "telemetry.includeDebugMetrics": True,
    "gracefulDegradation.enabled": True,
    "promptCompiler.enabled": True,
    "promptCompiler.collapseWhitespace": True,
    "promptCompiler.dedupeRepeatedLines": True,
    "promptCompiler.familyMetadataKeys": ["promptFamily", "taskTemplate", "template", "useCase"],
    "adaptiveTuning.enabled": True,
    "adaptiveTuning.learnedFamilyCapEnabled": True,
    "auth.enabled": True,
    "rateLimit.enabled": True,
    "rateLimit.keyStrategy": "ip+api-key",
    "rateLimit.trustProxyHeaders": True,
}
NON_BLANK = (
    "profile",
    "tags.target",
    "tags.hosting",
    "tags.hardware",
    "tags.modelSize",
    "model.id",
    "model.family",
    f"{ADAPTER}modelRef",
    f"{LAUNCH}preset",
    f"{LAUNCH}modelPath",
    f"{LAUNCH}alias",
    "auth.apiKeyEnv",
)
AT_MOST: dict[str, float] = {
    "server.port": 65_535,
    "server.requestBodyLimitBytes": 64_000,
    "model.contextWindow": 8192,
    "model.maxOutputTokens": 256,
    "model.operational.tokensPerSecondTarget": 18,
    "model.operational.memoryClassMiB": 8192,
    "model.operational.preferredCtxSize": 4096,
    f"{ADAPTER}timeoutMs": 32_000,
    f"{ADAPTER}slotStateTtlMs": 250,
    f"{ADAPTER}slotSnapshotTimeoutMs": 300,
    f"{ADAPTER}promptScaffoldCacheEntries": 384,
    f"{LAUNCH}ctxSize": 4096,
    f"{LAUNCH}parallel": 2,
    f"{LAUNCH}threads": 4,
    f"{LAUNCH}threadsHttp": 2,
    f"{LAUNCH}batchSize": 256,
    f"{LAUNCH}ubatchSize": 128,
    f"{LAUNCH}cacheReuse": 256,
    f"{LAUNCH}cacheRamMiB": 768,
    "scheduler.concurrency": 2,
    "scheduler.maxQueue": 96,
    "scheduler.maxQueuedTokens": 48_000,
    "scheduler.maxInflightTokens": 6144,
    "scheduler.requestTimeoutMs": 32_000,
    "scheduler.batchWindowMs": 10,
    "scheduler.affinityLookahead": 24,
    "scheduler.shortJobMaxTokens": 96,
    "asyncQueue.maxJobs": 2000,
    "asyncQueue.minFreeStorageMiB": 1024,
    "asyncQueue.completedTtlMs": 604_800_000,
    "asyncQueue.pollIntervalMs": 5000,
    "asyncQueue.maxAttempts": 5,
    "asyncQueue.callbackTimeoutMs": 10_000,
    "asyncQueue.maxCallbackAttempts": 5,
    "cache.maxEntries": 512,
    "cache.maxBytes": 4_194_304,
    "cache.ttlMs": 120_000,
    "telemetry.slowRequestThresholdMs": 2200,
    "gracefulDegradation.queueDepthThreshold": 20,
    "gracefulDegradation.maxPromptChars": 8000,
    "gracefulDegradation.degradeToMaxTokens": 160,
    "gracefulDegradation.memoryRssThresholdMiB": 768,
    "gracefulDegradation.memoryCgroupPressureRatioThreshold": 0.9,
    "gracefulDegradation.cpuThrottledRatioThreshold": 0.2,
    "gracefulDegradation.memoryPsiSomeAvg10Threshold": 100,
    "gracefulDegradation.memoryPsiFullAvg10Threshold": 100,
    "gracefulDegradation.cpuPsiSomeAvg10Threshold": 100,
    "gracefulDegradation.cpuPsiFullAvg10Threshold": 100,
    "adaptiveTuning.sampleSize": 32,
    "adaptiveTuning.queueLatencyThresholdMs": 600,
    "adaptiveTuning.minCompletionTokensPerSecond": 14,
    "adaptiveTuning.maxOutputReductionRatio": 0.5,
    "adaptiveTuning.minOutputTokens": 64,
    "adaptiveTuning.familyHistorySize": 64,
    "adaptiveTuning.learnedCapMinSamples": 8,
    "adaptiveTuning.draftPercentile": 0.95,
    "adaptiveTuning.shortPercentile": 0.9,
    "adaptiveTuning.learnedCapHeadroomTokens": 24,
    "rateLimit.windowMs": 3_600_000,
    "rateLimit.maxRequests": 300,
    "rateLimit.maxKeys": 8192,
}


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.endswith(".public")])
def test_public_example_is_fit_for_a_public_box(name: str) -> None:
    config = load_config(str(DIRECTORY / f"ray.{name}.json"), {}, CWD).config
    assert {key: value_of(config, key) for key in EXACT} == EXACT
    for key in NON_BLANK:
        assert str(value_of(config, key) or "").strip(), key
    for key, limit in AT_MOST.items():
        value = value_of(config, key)
        assert isinstance(value, int | float), key
        assert 0 < value <= limit, key


def test_public_is_said_by_name_and_tag_alike() -> None:
    for name, (_, changes) in EXAMPLES.items():
        assert name.endswith(".public") is (changes.get("tags.exposure") == "public")


def test_portable_variables_fit_the_generic_public_example() -> None:
    environ = {
        "RAY_PROFILE": "tiny",  # the file's own profile wins
        "RAY_MODEL_ID": "my-1b",
        "RAY_MODEL_PATH": "/var/lib/ray/models/my-1b.gguf",
        "RAY_SCHEDULER_CONCURRENCY": "1",
        "RAY_SCHEDULER_MAX_INFLIGHT_TOKENS": "2048",
        "RAY_LLAMA_CPP_CTX_SIZE": "2048",
        "RAY_LLAMA_CPP_PARALLEL": "1",
        "RAY_ASYNC_QUEUE_MAX_JOBS": "128",
        "RAY_ASYNC_QUEUE_MIN_FREE_STORAGE_MIB": "256",
    }
    config = load_config(str(DIRECTORY / "ray.1b.generic.public.json"), environ, CWD).config
    assert config.profile == "1b"
    assert (config.scheduler.concurrency, config.scheduler.max_inflight_tokens) == (1, 2048)
    assert (value_of(config, f"{LAUNCH}ctxSize"), value_of(config, f"{LAUNCH}parallel")) == (2048, 1)
    assert (config.async_queue.max_jobs, config.async_queue.min_free_storage_mib) == (128, 256)
    assert value_of(config, f"{LAUNCH}alias") == "my-1b"
