"""The seven profiles, as differences from the declared defaults (`schema.py`).

A profile is written as plain data. `sub1b` is the base with a llama.cpp backend; the other llama.cpp profiles are
differences from it; `tiny`, `vps` and `balanced` bring their own backend.
"""

from __future__ import annotations

from ray.config.merge import merged
from ray.config.schema import CONFIG, DEFAULT_PROFILE
from ray.config.sections import Section

Document = dict[str, object]

_LLAMA_CPP: Document = {
    "model": {
        "operational": {
            "recommendedPromptFormat": "native-template",
            "supportsJsonMode": True,
            "tokensPerSecondTarget": 14,
            "memoryClassMiB": 4096,
            "preferredCtxSize": 3072,
            "chatTemplateKnown": True,
        },
        "adapter": {
            "kind": "llama.cpp",
            "baseUrl": "http://127.0.0.1:8081",
            "modelRef": "qwen2.5-0.5b-instruct-q4_k_m",
            "timeoutMs": 18_000,
            "cachePrompt": True,
            "slotStateTtlMs": 200,
            "slotSnapshotTimeoutMs": 250,
            "promptScaffoldCacheEntries": 256,
            "launchProfile": {
                "preset": "single-vps-sub1b-cx23",
                "binaryPath": "/usr/local/bin/llama-server",
                "modelPath": "/var/lib/ray/models/qwen2.5-0.5b-instruct-q4_k_m.gguf",
                "host": "127.0.0.1",
                "port": 8081,
                "alias": "qwen2.5-0.5b-instruct-q4_k_m",
                "ctxSize": 3072,
                "parallel": 2,
                "threads": 2,
                "threadsHttp": 2,
                "batchSize": 256,
                "ubatchSize": 128,
                "cachePrompt": True,
                "cacheReuse": 256,
                "cacheRamMiB": 512,
                "continuousBatching": True,
                "enableMetrics": True,
                "exposeSlots": True,
                "warmup": True,
                "enableUnifiedKv": True,
                "cacheIdleSlots": True,
                "contextShift": True,
            },
        },
    },
    "tags": {"target": "sub1b", "hosting": "cheap-vps", "engine": "llama.cpp", "hardware": "hetzner-cx23-class"},
}

_TINY: Document = {
    "server": {"requestBodyLimitBytes": 32_000},
    "model": {
        "id": "tiny-dev",
        "family": "mock",
        "quantization": "unknown",
        "contextWindow": 4096,
        "warmOnBoot": False,
        "maxOutputTokens": 192,
        "adapter": {"kind": "mock", "latencyMs": 35, "seed": "ray-tiny"},
    },
    "scheduler": {
        "concurrency": 1,
        "maxQueue": 32,
        "maxQueuedTokens": 12_000,
        "maxInflightTokens": 2500,
        "requestTimeoutMs": 8000,
        "batchWindowMs": 0,
        "affinityLookahead": 8,
    },
    "asyncQueue": {"maxJobs": 32, "minFreeStorageMiB": 64, "pollIntervalMs": 500},
    "cache": {"maxEntries": 128, "maxBytes": 1_048_576, "ttlMs": 30_000},
    "telemetry": {"includeDebugMetrics": False, "slowRequestThresholdMs": 750},
    "gracefulDegradation": {
        "queueDepthThreshold": 8,
        "maxPromptChars": 4000,
        "degradeToMaxTokens": 96,
        "memoryRssThresholdMiB": 256,
    },
    "adaptiveTuning": {
        "enabled": False,
        "sampleSize": 24,
        "queueLatencyThresholdMs": 250,
        "minCompletionTokensPerSecond": 18,
        "minOutputTokens": 48,
        "familyHistorySize": 48,
        "learnedCapMinSamples": 6,
    },
    "rateLimit": {"enabled": False, "maxKeys": 2048, "trustProxyHeaders": False},
    "tags": {"target": "tiny", "hosting": "cheap-vps"},
}

_SUB1B_CAX11: Document = {
    "model": {
        "operational": {"tokensPerSecondTarget": 10},
        "adapter": {
            "launchProfile": {"preset": "single-vps-sub1b-cax11", "parallel": 1, "batchSize": 192, "ubatchSize": 96},
        },
    },
    "scheduler": {
        "concurrency": 1,
        "maxQueue": 48,
        "maxQueuedTokens": 18_000,
        "maxInflightTokens": 3072,
        "requestTimeoutMs": 22_000,
        "batchWindowMs": 5,
        "affinityLookahead": 16,
    },
    "telemetry": {"slowRequestThresholdMs": 1500},
    "gracefulDegradation": {"queueDepthThreshold": 12},
    "adaptiveTuning": {"queueLatencyThresholdMs": 450, "minCompletionTokensPerSecond": 10},
    "rateLimit": {"maxRequests": 90},
    "tags": {"hardware": "hetzner-cax11-class"},
}

_1B: Document = {
    "model": {
        "id": "qwen2.5-1.5b-instruct-q4_k_m",
        "maxOutputTokens": 192,
        "operational": {"tokensPerSecondTarget": 10, "preferredCtxSize": 2048},
        "adapter": {
            "modelRef": "qwen2.5-1.5b-instruct-q4_k_m",
            "timeoutMs": 28_000,
            "slotStateTtlMs": 250,
            "slotSnapshotTimeoutMs": 300,
            "promptScaffoldCacheEntries": 384,
            "launchProfile": {
                "preset": "single-vps-1b-cx23",
                "modelPath": "/var/lib/ray/models/qwen2.5-1.5b-instruct-q4_k_m.gguf",
                "alias": "qwen2.5-1.5b-instruct-q4_k_m",
                "ctxSize": 2048,
                "parallel": 1,
                "threadsBatch": 2,
                "batchSize": 192,
                "ubatchSize": 96,
                "cacheReuse": 192,
                "cacheRamMiB": 384,
            },
        },
    },
    "scheduler": {
        "concurrency": 1,
        "maxQueue": 40,
        "maxQueuedTokens": 18_000,
        "maxInflightTokens": 2048,
        "requestTimeoutMs": 32_000,
        "batchWindowMs": 5,
        "affinityLookahead": 12,
    },
    "cache": {"ttlMs": 120_000},
    "telemetry": {"slowRequestThresholdMs": 2200},
    "gracefulDegradation": {"queueDepthThreshold": 10, "maxPromptChars": 5000},
    "adaptiveTuning": {"queueLatencyThresholdMs": 600, "minCompletionTokensPerSecond": 8},
    "rateLimit": {"maxRequests": 75},
    "tags": {"target": "1b"},
}

_1B_8GB: Document = {
    "server": {"requestBodyLimitBytes": 64_000},
    "model": {
        "id": "qwen2.5-1.5b-instruct-q4_k_m",
        "operational": {"tokensPerSecondTarget": 18, "memoryClassMiB": 8192, "preferredCtxSize": 4096},
        "adapter": {
            "modelRef": "qwen2.5-1.5b-instruct-q4_k_m",
            "timeoutMs": 24_000,
            "slotStateTtlMs": 250,
            "slotSnapshotTimeoutMs": 300,
            "promptScaffoldCacheEntries": 384,
            "launchProfile": {
                "preset": "single-vps-1b-8gb",
                "modelPath": "/var/lib/ray/models/qwen2.5-1.5b-instruct-q4_k_m.gguf",
                "alias": "qwen2.5-1.5b-instruct-q4_k_m",
                "ctxSize": 4096,
                "threads": 4,
                "threadsBatch": 4,
                "cacheRamMiB": 768,
            },
        },
    },
    "scheduler": {
        "maxQueue": 96,
        "maxQueuedTokens": 48_000,
        "maxInflightTokens": 6144,
        "requestTimeoutMs": 28_000,
    },
    "asyncQueue": {"maxJobs": 256, "minFreeStorageMiB": 512},
    "cache": {"maxEntries": 512, "maxBytes": 4_194_304, "ttlMs": 120_000},
    "telemetry": {"slowRequestThresholdMs": 1800},
    "gracefulDegradation": {
        "queueDepthThreshold": 20,
        "maxPromptChars": 8000,
        "degradeToMaxTokens": 160,
        "memoryRssThresholdMiB": 768,
    },
    "adaptiveTuning": {"queueLatencyThresholdMs": 450},
    "rateLimit": {"maxRequests": 150, "maxKeys": 8192},
    "tags": {"target": "1b", "hosting": "single-node-8gb", "hardware": "8gb-vps-class"},
}

_VPS: Document = {
    "server": {"requestBodyLimitBytes": 64_000},
    "model": {
        "id": "qwen2.5-3b-instruct-q4",
        "maxOutputTokens": 384,
        "adapter": {
            "kind": "openai-compatible",
            "baseUrl": "http://127.0.0.1:8081",
            "modelRef": "qwen2.5-3b-instruct-q4_k_m",
            "timeoutMs": 20_000,
        },
    },
    "scheduler": {
        "maxQueue": 96,
        "maxQueuedTokens": 48_000,
        "maxInflightTokens": 8000,
        "requestTimeoutMs": 24_000,
        "batchWindowMs": 0,
        "affinityLookahead": 12,
    },
    "asyncQueue": {"maxJobs": 256, "minFreeStorageMiB": 512, "callbackTimeoutMs": 7500},
    "cache": {"maxEntries": 512, "maxBytes": 4_194_304, "ttlMs": 120_000},
    "telemetry": {"slowRequestThresholdMs": 1500},
    "gracefulDegradation": {
        "queueDepthThreshold": 24,
        "maxPromptChars": 8000,
        "degradeToMaxTokens": 192,
        "memoryRssThresholdMiB": 768,
    },
    "adaptiveTuning": {"queueLatencyThresholdMs": 400, "minCompletionTokensPerSecond": 18},
    "rateLimit": {"maxRequests": 90},
    "tags": {"target": "vps", "hosting": "single-node"},
}

_BALANCED: Document = {
    "server": {"requestBodyLimitBytes": 96_000},
    "model": {
        "id": "mistral-7b-instruct-q4",
        "family": "mistral",
        "maxOutputTokens": 512,
        "adapter": {
            "kind": "openai-compatible",
            "baseUrl": "http://127.0.0.1:8081",
            "modelRef": "mistral-7b-instruct-q4_k_m",
            "timeoutMs": 25_000,
        },
    },
    "scheduler": {
        "concurrency": 3,
        "maxQueue": 160,
        "maxQueuedTokens": 96_000,
        "maxInflightTokens": 16_000,
        "requestTimeoutMs": 30_000,
        "batchWindowMs": 0,
        "affinityLookahead": 16,
    },
    "asyncQueue": {
        "maxJobs": 512,
        "minFreeStorageMiB": 1024,
        "dispatchConcurrency": 2,
        "callbackTimeoutMs": 7500,
    },
    "cache": {"maxEntries": 1024, "maxBytes": 8_388_608, "ttlMs": 180_000},
    "telemetry": {"slowRequestThresholdMs": 2000},
    "gracefulDegradation": {
        "queueDepthThreshold": 40,
        "maxPromptChars": 12_000,
        "degradeToMaxTokens": 256,
        "memoryRssThresholdMiB": 1024,
    },
    "adaptiveTuning": {
        "sampleSize": 48,
        "queueLatencyThresholdMs": 500,
        "minCompletionTokensPerSecond": 18,
        "maxOutputReductionRatio": 0.4,
        "minOutputTokens": 96,
        "familyHistorySize": 96,
        "learnedCapMinSamples": 10,
        "learnedCapHeadroomTokens": 32,
    },
    "rateLimit": {"maxRequests": 180, "maxKeys": 8192},
    "tags": {"target": "balanced", "hosting": "single-node"},
}

# Each profile as the differences that are laid over the declared defaults, one after the other.
PROFILES: dict[str, tuple[Document, ...]] = {
    "tiny": (_TINY,),
    "sub1b": (_LLAMA_CPP,),
    "sub1b-cax11": (_LLAMA_CPP, _SUB1B_CAX11),
    "1b": (_LLAMA_CPP, _1B),
    "1b-8gb": (_LLAMA_CPP, _1B_8GB),
    "vps": (_VPS,),
    "balanced": (_BALANCED,),
}


def profile_document(name: str = DEFAULT_PROFILE) -> Document:
    """A profile's full defaults as a fresh JSON document. `name` is one of `PROFILE_NAMES`."""
    document = _declared_defaults(CONFIG)
    for differences in PROFILES[name]:
        document = merged(document, differences)
    return document | {"profile": name}


def _declared_defaults(section: Section[object]) -> Document:
    """What the declarations themselves give: every key that has a default, section by section."""
    document: Document = {}
    for entry in section.settings:
        if isinstance(entry.kind, Section):
            if not entry.optional:
                document[entry.key] = _declared_defaults(entry.kind)
        elif entry.default is not None:
            document[entry.key] = entry.kind.write(entry.default)
    return document
