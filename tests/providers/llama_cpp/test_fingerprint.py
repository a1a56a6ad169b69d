"""What makes a backend another one for the snapshots of its KV cache."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ray.config import LaunchProfile, LlamaCppAdapter, config_from_mapping
from ray.providers.llama_cpp.capabilities import Capabilities, read_props
from ray.providers.llama_cpp.fingerprint import backend_fingerprint, prefix_key

PROPS = {
    "build_info": "b1",
    "model_path": "/models/m.gguf",
    "model_ftype": "Q4_1",
    "total_slots": 2,
    "media_marker": "<__media_x__>",
    "default_generation_settings": {"n_ctx": 4096, "params": {"lora": [], "temperature": 0.8}},
}


def found(**changes: object) -> Capabilities:
    return read_props({**PROPS, **changes}, 4096)


def profile() -> LaunchProfile:
    adapter = config_from_mapping({"profile": "sub1b"}).model.adapter
    assert isinstance(adapter, LlamaCppAdapter)
    assert adapter.launch_profile is not None
    return adapter.launch_profile


@pytest.mark.parametrize(
    "change",
    [
        {"build_info": "b2"},
        {"model_path": "/models/n.gguf"},
        {"model_ftype": "Q8_0"},
        {"total_slots": 1},
        {"default_generation_settings": {"n_ctx": 8192, "params": {"lora": []}}},
        {"default_generation_settings": {"n_ctx": 4096, "params": {"lora": [{"id": 0, "scale": 1.0}]}}},
    ],
)
def test_given_another_backend_when_fingerprinted_then_it_is_another(change: dict[str, object]) -> None:
    assert backend_fingerprint(found(**change), None) != backend_fingerprint(found(), None)


def test_given_the_same_backend_restarted_when_fingerprinted_then_it_is_the_same() -> None:
    assert found(media_marker="<__media_y__>").instance != found().instance
    assert backend_fingerprint(found(media_marker="<__media_y__>"), None) == backend_fingerprint(found(), None)


@pytest.mark.parametrize(
    "change",
    [
        {"extra_args": ("--cache-type-k", "q8_0")},
        {"extra_args": ("--flash-attn", "on")},
        {"enable_unified_kv": False},
        {"ctx_size": 1024},
    ],
)
def test_given_another_cache_layout_when_fingerprinted_then_it_is_another(change: dict[str, object]) -> None:
    changed = replace(profile(), **change)  # type: ignore[arg-type]  # names of its fields
    assert backend_fingerprint(found(), changed) != backend_fingerprint(found(), profile())


def test_given_a_setting_without_effect_on_the_cache_when_fingerprinted_then_it_is_the_same() -> None:
    changed = replace(profile(), port=9999, threads_http=16, alias="x")
    assert backend_fingerprint(found(), changed) == backend_fingerprint(found(), profile())


def test_given_the_model_file_replaced_when_fingerprinted_then_it_is_another(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")
    seen = found(model_path=str(model))
    first = backend_fingerprint(seen, None)
    assert backend_fingerprint(seen, None) == first
    os.utime(model, (1, 1))
    second = backend_fingerprint(seen, None)
    model.write_bytes(b"GGUFF")
    assert len({first, second, backend_fingerprint(seen, None)}) == 3


def test_given_a_text_when_keyed_then_only_the_same_text_on_the_same_backend_has_that_key() -> None:
    keys = {prefix_key(backend, text) for backend in ("f", "g") for text in ("a", "a ", "b", "\ud800")}
    assert len(keys) == 8
    assert all(len(key) == 64 for key in keys)
