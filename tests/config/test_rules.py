"""What one setting demands of another."""

from __future__ import annotations

import pytest

from tests.config.support import changed, load_with, refusal

# Profile, changes, and the words of the refusal.
BROKEN: list[tuple[str, dict[str, object], str]] = [
    ("tiny", {"model__contextWindow": 128}, "model.maxOutputTokens (192) must be at most model.contextWindow (128)"),
    (
        "tiny",
        {"scheduler__batchWindowMs": 1000, "scheduler__requestTimeoutMs": 1000},
        "scheduler.batchWindowMs (1000) must be less than scheduler.requestTimeoutMs (1000)",
    ),
    ("tiny", {"scheduler__maxQueue": 4}, "scheduler.affinityLookahead (8) must be at most scheduler.maxQueue (4)"),
    ("tiny", {"scheduler__shortJobMaxTokens": 193}, "scheduler.shortJobMaxTokens (193) must be at most model.max"),
    ("tiny", {"scheduler__maxInflightTokens": 192}, "scheduler.maxInflightTokens (192) must be at least 193"),
    ("tiny", {"scheduler__maxQueuedTokens": 192}, "scheduler.maxQueuedTokens (192) must be at least 193"),
    ("tiny", {"gracefulDegradation__degradeToMaxTokens": 193}, "degradeToMaxTokens (193) must be at most model.max"),
    (
        "tiny",
        {"scheduler__maxQueue": 8, "gracefulDegradation__queueDepthThreshold": 8},
        "gracefulDegradation.queueDepthThreshold (8) must be less than scheduler.maxQueue (8)",
    ),
    (
        "1b",
        {"adaptiveTuning__familyHistorySize": 4},
        "adaptiveTuning.learnedCapMinSamples (8) must be at most adaptiveTuning.familyHistorySize (4)",
    ),
    ("tiny", {"adaptiveTuning__minOutputTokens": 193}, "minOutputTokens (193) must be at most model.maxOutputTokens"),
    ("tiny", {"adaptiveTuning__learnedCapHeadroomTokens": 193}, "learnedCapHeadroomTokens (193) must be at most"),
    ("1b", {"model__operational__preferredCtxSize": 8193}, "preferredCtxSize (8193) must be at most model.contextWind"),
    ("1b", {"model__adapter__timeoutMs": 299}, "slotSnapshotTimeoutMs (300) must be at most model.adapter.timeoutMs"),
    ("1b", {"model__contextWindow": 2047}, "preferredCtxSize (2048) must be at most model.contextWindow (2047)"),
    (
        "1b",
        {"model__contextWindow": 2047, "model__operational__preferredCtxSize": 1000},
        "launchProfile.ctxSize (2048) must be at most model.contextWindow (2047)",
    ),
    (
        "1b",
        {"model__adapter__launchProfile__ctxSize": 1024},
        "scheduler.maxInflightTokens (2048) must be at most the launch context capacity, ctxSize times parallel (1024)",
    ),
    ("sub1b", {"model__adapter__launchProfile__parallel": 1}, "(4096) must be at most the launch context capacity"),
    ("1b", {"model__adapter__launchProfile__ubatchSize": 193}, "ubatchSize (193) must be at most"),
    ("1b", {"model__adapter__launchProfile__host": "0.0.0.0"}, "launchProfile.host must be a loopback address"),
    ("1b", {"model__adapter__launchProfile__host": "10.0.0.1"}, "launchProfile.host must be a loopback address"),
    (
        "1b",
        {"server__port": 8081, "model__adapter__baseUrl": "http://127.0.0.1:8082"},
        "model.adapter.launchProfile.port (8081) must not overlap server.port",
    ),
    (
        "1b",
        {
            "server__port": 8081,
            "model__adapter__baseUrl": "http://127.0.0.1:8082",
            "model__adapter__launchProfile__host": "::ffff:7f00:1",
        },
        "model.adapter.launchProfile.port (8081) must not overlap server.port",
    ),
    ("1b", {"server__port": 8081}, "model.adapter.baseUrl must not point at the gateway itself"),
    ("1b", {"model__adapter__baseUrl": "http://localhost:8081"}, "baseUrl must have the host of launchProfile.host"),
    ("1b", {"model__adapter__baseUrl": "http://127.0.0.2:8081"}, "baseUrl must have the host of launchProfile.host"),
    ("1b", {"model__adapter__baseUrl": "http://127.0.0.1:8082"}, "baseUrl must have the port of launchProfile.port"),
    ("1b", {"model__adapter__baseUrl": "http://127.0.0.1"}, "baseUrl must have the port of launchProfile.port"),
    ("1b", {"model__adapter__baseUrl": "http://127.0.0.1:8081/v1"}, "baseUrl must not have a path"),
    ("1b", {"model__adapter__baseUrl": "https://127.0.0.1:8081"}, "baseUrl must use plain http"),
    ("1b", {"model__adapter__baseUrl": "http://10.0.0.1:8081"}, "baseUrl must have a loopback host"),
    (
        "tiny",
        {"templates": {"email.follow_up.v1": {"lane": "draft", "input": "x"}}},
        "templates.email.follow_up.v1 has the id of a built-in template",
    ),
    (
        "tiny",
        {"prefixStore": {"enabled": True, "storageDir": "/x"}, "asyncQueue__storageDir": "/x/"},
        "prefixStore.storageDir must differ from asyncQueue.storageDir",
    ),
]


@pytest.mark.parametrize(("profile", "changes", "words"), BROKEN)
def test_broken_rule_is_refused(profile: str, changes: dict[str, object], words: str) -> None:
    assert words in refusal(changed(profile, **changes))


# The nearest config on the right side of each rule.
KEPT: list[tuple[str, dict[str, object]]] = [
    ("tiny", {"model__contextWindow": 192}),
    ("tiny", {"scheduler__batchWindowMs": 999, "scheduler__requestTimeoutMs": 1000}),
    ("tiny", {"scheduler__maxQueue": 9, "scheduler__affinityLookahead": 9}),
    ("tiny", {"scheduler__shortJobMaxTokens": 192}),
    ("tiny", {"scheduler__maxInflightTokens": 193, "scheduler__maxQueuedTokens": 193}),
    ("tiny", {"gracefulDegradation__degradeToMaxTokens": 192}),
    ("tiny", {"scheduler__maxQueue": 9}),
    ("tiny", {"gracefulDegradation__enabled": False, "gracefulDegradation__queueDepthThreshold": 512}),
    ("1b", {"adaptiveTuning__familyHistorySize": 8}),
    ("tiny", {"adaptiveTuning__minOutputTokens": 192, "adaptiveTuning__learnedCapHeadroomTokens": 192}),
    ("1b", {"model__operational__preferredCtxSize": 8192}),
    ("1b", {"model__adapter__timeoutMs": 300}),
    ("1b", {"model__adapter__launchProfile__ctxSize": 8192}),
    ("1b", {"scheduler__maxInflightTokens": 4096, "model__adapter__launchProfile__parallel": 2}),
    ("1b", {"model__adapter__launchProfile__ubatchSize": 192}),
    ("1b", {"model__adapter__launchProfile__host": "localhost"}),
    ("1b", {"model__adapter__launchProfile__host": "localhost", "model__adapter__baseUrl": "http://[::1]:8081"}),
    ("1b", {"model__adapter__launchProfile__host": "::1", "model__adapter__baseUrl": "http://[0:0:0:0:0:0:0:1]:8081"}),
    ("1b", {"model__adapter__baseUrl": "http://127.0.0.1:8081/"}),
    ("vps", {"model__adapter__baseUrl": "https://models.example/prefix/v1"}),
    ("tiny", {"templates": {"email.follow_up.v2": {"lane": "draft", "input": "x"}}}),
    ("tiny", {"prefixStore": {"storageDir": "/x"}, "asyncQueue__storageDir": "/x"}),
    # Not judged here: more requests than slots, a tight timeout.
    ("1b", {"scheduler__concurrency": 8}),
    ("1b", {"scheduler__requestTimeoutMs": 28_000}),
]


@pytest.mark.parametrize(("profile", "changes"), KEPT)
def test_kept_rule_is_no_obstacle(profile: str, changes: dict[str, object]) -> None:
    load_with(profile, **changes)


@pytest.mark.parametrize(
    ("server_host", "url"),
    [
        ("127.0.0.1", "http://localhost:3000"),
        ("127.0.0.1", "http://127.0.0.1:3000/v1"),
        ("127.0.0.1", "http://[::ffff:127.0.0.1]:3000"),
        ("127.0.0.1", "http://0.0.0.0:3000"),
        ("127.0.0.1", "http://[::]:3000"),
        ("localhost", "http://[::1]:3000"),
        ("::1", "http://[0:0:0:0:0:0:0:1]:3000"),
        ("0.0.0.0", "http://127.0.0.1:3000"),
        ("::", "http://localhost:3000"),
        ("10.1.2.3", "http://10.1.2.3:3000"),
        ("box.example", "http://BOX.example:3000"),
    ],
)
@pytest.mark.parametrize("kind", ["openai-compatible", "llama.cpp"])
def test_backend_url_that_leads_back_to_the_gateway_is_refused(server_host: str, url: str, kind: str) -> None:
    document = changed("vps", server__host=server_host, model__adapter={"kind": kind, "baseUrl": url})
    assert "must not point at the gateway itself" in refusal(document)


@pytest.mark.parametrize(
    ("server_host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:3001"),
        ("127.0.0.1", "http://[::1]:3000"),
        ("127.0.0.1", "http://127.0.0.2:3000"),
        ("0.0.0.0", "http://10.1.2.3:3000"),
        ("127.0.0.1", "http://other.example:3000"),
    ],
)
def test_backend_on_the_same_port_elsewhere_is_fine(server_host: str, url: str) -> None:
    load_with("vps", server__host=server_host, model__adapter__baseUrl=url)


def test_default_ports_count_in_the_comparison() -> None:
    assert "gateway itself" in refusal(changed("vps", server__port=80, model__adapter__baseUrl="http://127.0.0.1"))
    assert "gateway itself" in refusal(changed("vps", server__port=443, model__adapter__baseUrl="https://127.0.0.1"))


def test_lowering_only_the_output_cap_names_the_first_cap_in_the_way() -> None:
    assert "scheduler.shortJobMaxTokens (96) must be at most" in refusal(changed("1b", model__maxOutputTokens=95))
    assert load_with("1b", model__maxOutputTokens=128).model.max_output_tokens == 128
