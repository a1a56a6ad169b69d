"""The sanitised view and its capability hints."""

from __future__ import annotations

import json

from ray.config import config_document, sanitised_config
from tests.config.support import changed, load, load_with, value_of

LAUNCHED = {
    "modelRef": "qwen2.5-0.5b-instruct-q4_k_m",
    "launchPreset": "single-vps-sub1b-cx23",
    "ctxSize": 3072,
    "parallel": 2,
    "cacheRamMiB": 512,
    "cachePrompt": True,
}


def test_view_is_the_document_and_hints_last() -> None:
    config = load({})
    view = sanitised_config(config)
    assert list(view)[-1] == "capabilityHints"
    hints = view.pop("capabilityHints")
    assert view == config_document(config)
    assert hints == {
        "profile": "sub1b",
        "modelId": "qwen2.5-0.5b-instruct-q4_k_m",
        "family": "qwen2.5",
        "quantization": "q4_k_m",
        "contextWindow": 8192,
        "maxOutputTokens": 256,
        "operational": value_of(config, "model.operational"),
        "llamaCpp": LAUNCHED,
    }


def test_hints_leave_out_what_the_config_does_not_have() -> None:
    assert sanitised_config(load({"profile": "tiny"}))["capabilityHints"] == {
        "profile": "tiny",
        "modelId": "tiny-dev",
        "family": "mock",
        "quantization": "unknown",
        "contextWindow": 4096,
        "maxOutputTokens": 192,
    }
    bare = load_with("vps", model__adapter={"kind": "llama.cpp", "cachePrompt": False})
    hints = sanitised_config(bare)["capabilityHints"]
    assert isinstance(hints, dict)
    assert hints["llamaCpp"] == {"modelRef": "qwen2.5-3b-instruct-q4_k_m", "cachePrompt": False}


def test_header_values_are_redacted_for_both_http_kinds() -> None:
    for kind in ("openai-compatible", "llama.cpp"):
        config = load(
            changed("vps", model__adapter={"kind": kind, "headers": {"authorization": "s3cret", "x-b": "s3cret"}})
        )
        text = json.dumps(sanitised_config(config))
        assert '"headers": {"authorization": "[redacted]", "x-b": "[redacted]"}' in text
        assert "s3cret" not in text
        assert value_of(config, "model.adapter.headers.authorization") == "s3cret"


def test_views_are_plain_json_and_share_nothing() -> None:
    config = load({"asyncQueue": {"callbackAllowedHosts": ["a.example"]}})
    view = sanitised_config(config)
    assert json.loads(json.dumps(view)) == view
    tags = view["tags"]
    assert isinstance(tags, dict)
    tags["target"] = "changed"
    assert sanitised_config(config)["tags"] != tags
