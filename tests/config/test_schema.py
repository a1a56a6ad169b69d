"""The declaration itself: every bound, every type, every key that the published tables list."""

from __future__ import annotations

import pytest

from ray.config import Config
from ray.config.kinds import Boolean, Choice, Integer, Number
from ray.config.nearest import known_keys
from ray.config.schema import CONFIG
from ray.config.sections import OneOf, Section, Setting, camel_case, settings_of
from ray.errors import RayError
from tests.config.support import Document, load, put, refusal, value_of

# Key, least and greatest whole number. `launch.` stands for `model.adapter.launchProfile.`.
INTEGERS = """
server.port 1 65535
server.requestBodyLimitBytes 1 1048576
model.contextWindow 1 32768
model.maxOutputTokens 1 2048
model.operational.tokensPerSecondTarget 1 1000
model.operational.memoryClassMiB 1 65536
model.operational.preferredCtxSize 1 32768
model.adapter.timeoutMs 1 120000
model.adapter.slotId 0 1000000000
model.adapter.slotStateTtlMs 1 120000
model.adapter.slotSnapshotTimeoutMs 1 120000
model.adapter.promptScaffoldCacheEntries 1 4096
launch.port 1 65535
launch.ctxSize 1 32768
launch.parallel 1 8
launch.threads 1 32
launch.threadsBatch 1 32
launch.threadsHttp 1 16
launch.batchSize 1 4096
launch.ubatchSize 1 4096
launch.cacheReuse 0 32768
launch.cacheRamMiB -1 8192
scheduler.concurrency 1 8
scheduler.maxQueue 1 512
scheduler.maxQueuedTokens 1 262144
scheduler.maxInflightTokens 1 65536
scheduler.requestTimeoutMs 1 120000
scheduler.batchWindowMs 0 1000
scheduler.affinityLookahead 1 512
scheduler.shortJobMaxTokens 1 2048
asyncQueue.maxJobs 1 2000
asyncQueue.maxStoreMiB 4 1048576
asyncQueue.minFreeStorageMiB 1 1048576
asyncQueue.minFreeInodes 0 1000000000
asyncQueue.completedTtlMs 1 604800000
asyncQueue.pollIntervalMs 1 60000
asyncQueue.dispatchConcurrency 1 8
asyncQueue.maxAttempts 1 100
asyncQueue.callbackTimeoutMs 1 30000
asyncQueue.maxCallbackAttempts 1 100
cache.maxEntries 1 4096
cache.maxBytes 1 268435456
cache.ttlMs 1 86400000
telemetry.slowRequestThresholdMs 1 120000
gracefulDegradation.queueDepthThreshold 1 512
gracefulDegradation.maxPromptChars 1 65536
gracefulDegradation.degradeToMaxTokens 1 2048
gracefulDegradation.memoryRssThresholdMiB 1 65536
prefixStore.maxMiB 1 1048576
prefixStore.minTokens 1 32768
prefixStore.minSightings 1 1000
adaptiveTuning.sampleSize 1 512
adaptiveTuning.queueLatencyThresholdMs 1 120000
adaptiveTuning.minCompletionTokensPerSecond 1 1000
adaptiveTuning.minOutputTokens 1 2048
adaptiveTuning.familyHistorySize 1 1024
adaptiveTuning.learnedCapMinSamples 1 1024
adaptiveTuning.learnedCapHeadroomTokens 1 2048
rateLimit.windowMs 1 3600000
rateLimit.maxRequests 1 10000
rateLimit.maxKeys 1 16384
"""
# Key, least number (`>` : it is excluded), greatest number.
NUMBERS = """
gracefulDegradation.memoryCgroupPressureRatioThreshold >0 1
gracefulDegradation.cpuThrottledRatioThreshold >0 1
gracefulDegradation.memoryPsiSomeAvg10Threshold >0 100
gracefulDegradation.memoryPsiFullAvg10Threshold >0 100
gracefulDegradation.cpuPsiSomeAvg10Threshold >0 100
gracefulDegradation.cpuPsiFullAvg10Threshold >0 100
adaptiveTuning.maxOutputReductionRatio 0 1
adaptiveTuning.draftPercentile 0 1
adaptiveTuning.shortPercentile 0 1
"""
# Key and greatest length.
TEXTS = """
server.host 253
model.id 256
model.family 256
model.adapter.modelRef 256
model.adapter.apiKeyEnv 128
telemetry.serviceName 128
launch.host 253
auth.apiKeyEnv 128
"""


def rows(table: str) -> list[list[str]]:
    return [line.replace("launch.", "model.adapter.launchProfile.").split() for line in table.strip().splitlines()]


def problem(key: str, value: object) -> str:
    """What loading profile `1b` with this one value says; empty when it loads."""
    document: Document = {"profile": "1b"}
    put(document, key, value)
    try:
        load(document)
    except RayError as error:
        return error.message
    return ""


def declared(key: str) -> Setting:
    """The declaration behind a dotted key (llama.cpp adapter)."""
    section: Section[object] = CONFIG
    *parents, name = key.split(".")
    for part in parents:
        kind = next(entry.kind for entry in section.settings if entry.key == part)
        if isinstance(kind, OneOf):
            kind = kind.sections["llama.cpp"]
        assert isinstance(kind, Section)
        section = kind
    return next(entry for entry in section.settings if entry.key == name)


@pytest.mark.parametrize(("key", "least", "greatest"), rows(INTEGERS))
def test_integer_bounds(key: str, least: str, greatest: str) -> None:
    refused = f"{key} must be an integer from {least} to {greatest}, not "
    for inside in (int(least), int(greatest)):  # a rule between two keys may still object, in its own words
        assert not problem(key, inside).startswith(refused)
    for outside in (int(least) - 1, int(greatest) + 1):
        assert problem(key, outside) == f"{refused}{outside}"
    wrong_types: tuple[object, ...] = (True, "1", None, 1.5, float("inf"), float("nan"), 10**400, [1], {})
    for wrong in wrong_types:
        assert problem(key, wrong).startswith((refused, f"{key} must be an integer"))


def test_every_declared_integer_has_a_row() -> None:
    listed = {row[0] for row in rows(INTEGERS)}
    assert {key for key in leaf_keys() if isinstance(declared(key).kind, Integer)} == listed


def leaf_keys() -> set[str]:
    """Every key that a llama.cpp config can have, except objects."""
    keys = set(known_keys(CONFIG, "")) - {"model.adapter.latencyMs", "model.adapter.seed"}
    return {key for key in keys if not isinstance(declared(key).kind, Section | OneOf)}


@pytest.mark.parametrize(("key", "least", "greatest"), rows(NUMBERS))
def test_number_bounds(key: str, least: str, greatest: str) -> None:
    open_end = least.startswith(">")
    least_value = float(least.strip(">"))
    assert problem(key, float(greatest)) == ""
    assert problem(key, least_value + 1e-9) == ""
    assert (problem(key, least_value) == "") is not open_end
    for outside in (least_value - 1e-9, float(greatest) + 1e-9, float("nan"), float("inf"), True, "0.5", None):
        assert problem(key, outside).startswith(f"{key} must be a number ")


def test_every_declared_number_has_a_row() -> None:
    listed = {row[0] for row in rows(NUMBERS)}
    assert {key for key in leaf_keys() if isinstance(declared(key).kind, Number)} == listed


@pytest.mark.parametrize("key", sorted(key for key in leaf_keys() if isinstance(declared(key).kind, Boolean)))
def test_booleans_are_not_coerced(key: str) -> None:
    wrong_types: tuple[object, ...] = ("false", 0, 1, None, [], "true")
    for value in wrong_types:
        assert problem(key, value).startswith(f"{key} must be a boolean")
    for switch in (True, False):
        assert problem(key, switch) == ""


@pytest.mark.parametrize(
    "key", sorted(key for key in leaf_keys() if isinstance(declared(key).kind, Choice) and key != "model.adapter.kind")
)
def test_choices_are_exact(key: str) -> None:
    kind = declared(key).kind
    assert isinstance(kind, Choice)
    for word in ("", "bogus", kind.members[0].upper(), f" {kind.members[0]}"):
        assert problem(key, word).startswith(f"{key} value")
    for other, found in ((None, "null"), (1, "a number")):
        assert problem(key, other) == f"{key} must be one of {', '.join(kind.members)}, not {found}"
    for member in kind.members:
        assert problem(key, member) == ""


@pytest.mark.parametrize(
    ("key", "members"),
    [
        ("model.quantization", "q4_0 q4_k_m q5_k_m q8_0 fp16 unknown"),
        ("model.operational.recommendedPromptFormat", "native-template openai-chat plain-completion"),
        ("cache.keyStrategy", "input input+params"),
        ("telemetry.logLevel", "debug info warn error"),
        ("rateLimit.keyStrategy", "ip api-key ip+api-key"),
        (
            "model.adapter.launchProfile.preset",
            "single-vps-sub1b single-vps-sub1b-cx23 single-vps-sub1b-cax11 single-vps-1b-cx23 single-vps-1b-8gb "
            "single-vps-balanced",
        ),
    ],
)
def test_choice_members(key: str, members: str) -> None:
    kind = declared(key).kind
    assert isinstance(kind, Choice)
    assert kind.members == tuple(members.split())


@pytest.mark.parametrize(("key", "longest"), rows(TEXTS))
def test_text_lengths(key: str, longest: str) -> None:
    too_long = "a" * (int(longest) + 1)
    assert f"must be at most {longest} characters" in problem(key, too_long)
    assert "must be at most" not in problem(key, too_long[:-1])
    for blank in ("", "  ", "\t"):
        assert problem(key, blank) == f"{key} must be a non-empty string"
    for wrong in (None, 5, True, ["a"]):
        assert problem(key, wrong).startswith(f"{key} must be a non-empty string, not ")


def test_alias_may_be_empty_and_has_a_limit() -> None:
    key = "model.adapter.launchProfile.alias"
    assert problem(key, "") == ""
    assert problem(key, "a" * 256) == ""
    assert "at most 256" in problem(key, "a" * 257)
    assert "line feed" in problem(key, "a\nb")


def test_mock_settings() -> None:
    for value, fits in ((1, True), (120_000, True), (0, False), (120_001, False)):
        document: Document = {"profile": "tiny", "model": {"adapter": {"latencyMs": value}}}
        if fits:
            assert value_of(load(document), "model.adapter.latencyMs") == value
        else:
            assert "model.adapter.latencyMs must be an integer from 1 to 120000" in refusal(document)
    assert value_of(load({"profile": "tiny", "model": {"adapter": {"seed": ""}}}), "model.adapter.seed") == ""
    assert "at most 512" in refusal({"profile": "tiny", "model": {"adapter": {"seed": "s" * 513}}})


def test_integral_floats_are_whole_numbers() -> None:
    config = load({"profile": "tiny", "server": {"port": 3000.0}})
    assert config.server.port == 3000
    assert isinstance(config.server.port, int)


@pytest.mark.parametrize("name", ["RAY-API-KEYS", "1KEY", "A B", "KEY\n", "__proto__", "constructor", "ÄKEY"])
def test_variable_names_are_checked_even_while_auth_is_off(name: str) -> None:
    if name in {"__proto__", "constructor"}:
        assert problem("auth.apiKeyEnv", name)  # as a value; as a key it is refused anyway
    assert "must be a valid environment variable name" in problem("auth.apiKeyEnv", name)
    assert "must be a valid environment variable name" in problem("model.adapter.apiKeyEnv", name)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({f"k{n}": "v" for n in range(64)}, "at most 64 entries"),  # on top of the profile's own four
        ({" ": "v"}, "tags key must be a non-empty string"),
        ({"k" * 129: "v"}, "tags key must be at most 128"),
        ({"k": "v" * 4097}, "tags.k must be at most 4096"),
        ({"k": 1}, "tags.k must be a string, not a number"),
        ({"k": None}, "tags.k must be a string, not null"),
    ],
)
def test_bad_tags_are_refused(tags: dict[str, object], words: str) -> None:
    assert words in refusal({"profile": "1b", "tags": tags})


def test_tags_at_their_limits() -> None:
    tags = {"k" * 128: "v" * 4096, "empty": ""}
    assert load({"profile": "1b", "tags": tags}).tags["empty"] == ""


@pytest.mark.parametrize("value", ["a", None, {"a": 1}, [""], [" "], [1], ["a"] * 17, ["a" * 129]])
def test_bad_family_keys_are_refused(value: object) -> None:
    assert "promptCompiler.familyMetadataKeys" in problem("promptCompiler.familyMetadataKeys", value)


def test_family_keys_may_be_empty() -> None:
    assert load({"promptCompiler": {"familyMetadataKeys": []}}).prompt_compiler.family_metadata_keys == ()


def test_the_top_level_in_order() -> None:
    assert [entry.key for entry in settings_of(Config)] == [
        "profile",
        "server",
        "model",
        "scheduler",
        "asyncQueue",
        "cache",
        "telemetry",
        "gracefulDegradation",
        "promptCompiler",
        "prefixStore",
        "adaptiveTuning",
        "auth",
        "rateLimit",
        "tags",
        "templates",
    ]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("port", "port"),
        ("max_queue", "maxQueue"),
        ("cache_ram_mib", "cacheRamMiB"),
        ("memory_class_mib", "memoryClassMiB"),
    ],
)
def test_keys_are_the_camel_case_of_the_field_names(name: str, key: str) -> None:
    assert camel_case(name) == key
