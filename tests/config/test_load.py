"""Files, profile choice, precedence, merging: what reaches the config, and what is refused with which words."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ray.config import (
    PROFILE_NAMES,
    LlamaCppAdapter,
    MockAdapter,
    OpenAICompatibleAdapter,
    config_document,
    load_config,
)
from ray.config.load import MAX_FILE_BYTES
from ray.errors import RayError
from tests.config.support import CWD, Document, changed, load, load_with, refusal, value_of


def file_refusal(path: Path | str, cwd: str = CWD) -> RayError:
    with pytest.raises(RayError) as caught:
        load_config(str(path), {}, cwd)
    return caught.value


def written(directory: Path, content: str | bytes) -> Path:
    path = directory / "ray.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- profile choice


def test_nothing_given_is_the_default_profile_with_storage_below_the_working_directory() -> None:
    loaded = load_config(None, {}, CWD)
    assert loaded.path is None
    assert loaded.config.profile == "sub1b"
    assert isinstance(loaded.config.model.adapter, LlamaCppAdapter)
    assert loaded.config.async_queue.storage_dir == f"{CWD}/.ray/async-queue"


@pytest.mark.parametrize(
    ("document", "environ", "profile"),
    [
        ({}, {"RAY_PROFILE": "vps"}, "vps"),
        ({}, {"RAY_PROFILE": "  tiny "}, "tiny"),
        ({}, {"RAY_PROFILE": "   "}, "sub1b"),
        ({"profile": "tiny"}, {"RAY_PROFILE": "vps"}, "tiny"),
        ({"profile": "tiny"}, {"RAY_PROFILE": "cluster"}, "tiny"),
    ],
)
def test_file_profile_beats_variable_and_variable_beats_default(
    document: Document, environ: dict[str, str], profile: str
) -> None:
    assert load(document, environ).profile == profile


@pytest.mark.parametrize("profile", ["", " ", "Tiny", "cluster"])
def test_unknown_profile_in_the_file_is_refused(profile: str) -> None:
    assert refusal({"profile": profile}, {"RAY_PROFILE": "tiny"}).startswith(f"profile value {profile!r} is not supp")


@pytest.mark.parametrize(
    ("profile", "found"),
    [(None, "null"), (5, "a number"), (["tiny"], "an array"), ({"name": "tiny"}, "an object"), (True, "a boolean")],
)
def test_profile_that_is_no_string_is_refused_and_the_names_are_given(profile: object, found: str) -> None:
    message = refusal({"profile": profile}, {"RAY_PROFILE": "tiny"})
    assert message == f"profile must be one of {', '.join(PROFILE_NAMES)}, not {found}"


def test_unknown_profile_in_the_environment_names_the_variable() -> None:
    assert "RAY_PROFILE is not supported" in refusal({}, {"RAY_PROFILE": "cluster"})


# --- the file


def test_file_is_found_relative_to_the_working_directory(tmp_path: Path) -> None:
    written(tmp_path, '{"profile": "tiny"}')
    loaded = load_config("sub/../ray.json", {}, str(tmp_path))
    assert loaded.path == str(tmp_path / "ray.json")
    assert loaded.config.async_queue.storage_dir == str(tmp_path / ".ray/async-queue")


def test_symlink_to_a_regular_file_is_read(tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(written(tmp_path, '{"profile": "tiny"}'))
    assert load_config(str(link), {}, CWD).config.profile == "tiny"


def test_missing_file_is_named(tmp_path: Path) -> None:
    error = file_refusal(tmp_path / "absent.json")
    assert error.code == "config_validation_error"
    assert str(tmp_path / "absent.json") in error.message
    assert "No such file" in error.message


def test_directory_device_and_fifo_are_refused_without_opening_them(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)  # opening it would block for ever: nobody writes
    for path in (tmp_path, Path("/dev/zero"), fifo):
        error = file_refusal(path)
        assert error.code == "config_validation_error"
        assert "must be a regular file" in error.message


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_takes_the_files_place_after_the_first_look_is_refused_and_not_waited_for(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, '{"profile": "tiny"}')
    real = os.stat(path)
    path.unlink()
    make(path)  # nobody will ever write into the FIFO
    monkeypatch.setattr(os, "stat", lambda _: real)
    error = file_refusal(path)
    assert error.code == "config_validation_error"
    assert str(path) in error.message


def test_file_at_the_size_limit_is_read_and_one_byte_more_is_refused(tmp_path: Path) -> None:
    document = '{"profile": "tiny"}'
    fits = written(tmp_path, document + " " * (MAX_FILE_BYTES - len(document)))
    assert load_config(str(fits), {}, CWD).config.profile == "tiny"
    error = file_refusal(written(tmp_path, "not json" + " " * (MAX_FILE_BYTES - 7)))
    assert error.code == "config_validation_error"  # refused before it is parsed
    assert error.details == {"configPath": str(fits), "actualBytes": 262_145, "maxBytes": 262_144}


def test_file_that_yields_more_than_its_size_says_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, " " * (MAX_FILE_BYTES + 1))
    real = os.stat(path)
    small = os.stat_result((*real[:6], 2, *real[7:]))
    monkeypatch.setattr(os, "stat", lambda _: small)
    monkeypatch.setattr(os, "fstat", lambda _: small)
    assert "at most 262144 bytes" in file_refusal(path).message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"profile": "tiny",}',
        b'{"profile": "tiny"} // comment',
        b'\xef\xbb\xbf{"profile": "tiny"}',
        b'{"profile": "ti\xff\xfeny"}',
        b'{"server": {"port": NaN}}',
        b'{"server": {"port": Infinity}}',
        b'{"server": {"port": -Infinity}}',
        b'{"server": {"port": 1' + b"0" * 5000 + b"}}",
        b"[" * 100_000,
        b'{"a":' * 40_000,
    ],
    ids=lambda content: repr(content[:24]),
)
def test_what_is_not_strict_json_is_a_parse_error_naming_the_file(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path, content)
    error = file_refusal(path)
    assert (error.code, error.status) == ("config_parse_error", 500)
    assert str(path) in error.message


def test_deep_but_valid_nesting_is_refused_with_a_bounded_message(tmp_path: Path) -> None:
    error = file_refusal(written(tmp_path, '{"tags":' * 500 + "1" + "}" * 500))
    assert error.code == "config_validation_error"
    assert "nested deeper than 32 levels" in error.message


@pytest.mark.parametrize(
    ("content", "found"), [("[]", "an array"), ("null", "null"), ("5", "a number"), ('"x"', "a str")]
)
def test_document_must_be_an_object(tmp_path: Path, content: str, found: str) -> None:
    error = file_refusal(written(tmp_path, content))
    assert error.code == "config_validation_error"
    assert f"the config must be an object, not {found}" in error.message


def test_repeated_key_counts_once_with_its_last_value(tmp_path: Path) -> None:
    path = written(tmp_path, '{"profile": "tiny", "profile": "vps"}')
    assert load_config(str(path), {}, CWD).config.profile == "vps"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "non-empty"),
        ("a\nb", "line feed"),
        ("a\0b", "NUL"),
        (" a ", "begin or end with whitespace"),
        ("a" * 4097, "at most 4096"),
    ],
)
def test_bad_paths_are_refused_each_with_its_own_words(path: str, words: str) -> None:
    for arguments in ((path, CWD), ("ray.json", path)):
        with pytest.raises(RayError, match=words) as caught:
            load_config(arguments[0], {}, arguments[1])
        assert caught.value.code == "config_validation_error"


# --- merging


def test_objects_merge_arrays_and_scalars_replace() -> None:
    config = load_with(
        "1b", tags__hosting="rack", promptCompiler__familyMetadataKeys=["lane"], scheduler__concurrency=1
    )
    assert config.tags == {
        "target": "1b",
        "hosting": "rack",
        "engine": "llama.cpp",
        "hardware": "hetzner-cx23-class",
    }
    assert config.prompt_compiler.family_metadata_keys == ("lane",)


@pytest.mark.parametrize("section", ["server", "scheduler", "tags", "cache", "model"])
@pytest.mark.parametrize("value", [None, [], 5, "x", False])
def test_section_that_is_not_an_object_is_refused_by_name(section: str, value: object) -> None:
    assert refusal({section: value}).startswith(f"{section} must be an object, not ")


@pytest.mark.parametrize("value", [None, {}, "x", 1])
def test_array_that_is_not_an_array_is_refused_by_name(value: object) -> None:
    message = refusal(changed("tiny", promptCompiler__familyMetadataKeys=value))
    assert message.startswith("promptCompiler.familyMetadataKeys must be an array, not ")


@pytest.mark.parametrize("name", ["__proto__", "constructor", "prototype"])
@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda name: {name: 1}, "{}"),
        (lambda name: {"tags": {name: "x"}}, "tags.{}"),
        (lambda name: {"model": {"adapter": {"headers": {name: "x"}}}}, "model.adapter.headers.{}"),
        (lambda name: {"unknown": [{"deep": {name: 1}}]}, "unknown[0].deep.{}"),
        (
            lambda name: {"model": {"adapter": {"warmupRequests": [{"templateVariables": {name: "x"}}]}}},
            "model.adapter.warmupRequests[0].templateVariables.{}",
        ),
    ],
)
def test_unsafe_keys_are_refused_at_any_depth(name: str, wrap: object, path: str) -> None:
    assert callable(wrap)
    assert refusal(wrap(name)) == f"{path.format(name)} is an unsafe key and is refused everywhere"


def test_only_the_exact_spelling_is_unsafe() -> None:
    assert load({"profile": "tiny", "tags": {"Constructor": "x"}}).tags["Constructor"] == "x"


@pytest.mark.parametrize(
    ("document", "key", "hint"),
    [
        ({"server": {"hots": "x"}}, "server.hots", "server.host"),
        ({"scheduler": {"maxQueu": 5}}, "scheduler.maxQueu", "scheduler.maxQueue"),
        ({"scheduler": {"maxqueue": 5}}, "scheduler.maxqueue", "scheduler.maxQueue"),
        ({"maxQueue": 5}, "maxQueue", "scheduler.maxQueue"),
        ({"ratelimit": {}}, "ratelimit", "rateLimit"),
        ({"model": {"adapter": {"launchProfile": {"ctxsize": 1}}}}, "model.adapter.launchProfile.ctxsize", ".ctxSize"),
        ({"model": {"adapter": {"warmupRequests": [{"inputs": "x"}]}}}, "warmupRequests[0].inputs", "[0].input"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest_known_one(document: Document, key: str, hint: str) -> None:
    message = refusal(document)
    assert f"{key} is not a known key" in message
    assert message.endswith(f"{hint}?")


def test_unknown_key_without_a_near_one_gets_no_hint() -> None:
    assert refusal({"zzz": 1}) == "zzz is not a known key"


def test_file_may_name_its_schema_for_editors_at_the_top_only() -> None:
    assert load({"$schema": "../docs/ray.schema.json", "profile": "tiny"}) == load({"profile": "tiny"})
    assert refusal({"$schema": 5}) == "$schema must be a string, not a number"
    assert "server.$schema is not a known key" in refusal({"server": {"$schema": "x"}})


def test_unknown_key_never_shows_its_value() -> None:
    with pytest.raises(RayError) as caught:
        load({"apiKey": "s3cret-value"})
    assert "s3cret" not in json.dumps(caught.value.envelope())


# --- another kind of backend


def test_changing_to_mock_starts_the_adapter_afresh() -> None:
    config = load_with("1b", model__adapter={"kind": "mock", "latencyMs": 5})
    assert config.model.adapter == MockAdapter(latency_ms=5, seed="ray")


def test_changing_between_http_kinds_keeps_what_both_share() -> None:
    config = load_with("sub1b", model__adapter={"kind": "openai-compatible"})
    assert config.model.adapter == OpenAICompatibleAdapter(
        base_url="http://127.0.0.1:8081", model_ref="qwen2.5-0.5b-instruct-q4_k_m", timeout_ms=18_000
    )


@pytest.mark.parametrize("profile", ["vps", "balanced"])
def test_changing_to_llama_cpp_works_with_what_is_given(profile: str) -> None:
    adapter = load_with(profile, model__adapter={"kind": "llama.cpp", "slotStateTtlMs": 50}).model.adapter
    assert isinstance(adapter, LlamaCppAdapter)
    assert adapter.base_url == "http://127.0.0.1:8081"
    assert (adapter.slot_state_ttl_ms, adapter.cache_prompt, adapter.launch_profile) == (50, True, None)


def test_changing_from_mock_to_http_needs_the_backend_said() -> None:
    assert refusal(changed("tiny", model__adapter={"kind": "llama.cpp"})) == "model.adapter.baseUrl is required"


def test_naming_the_profiles_own_kind_changes_nothing() -> None:
    assert load_with("1b", model__adapter={"kind": "llama.cpp"}) == load({"profile": "1b"})


@pytest.mark.parametrize("kind", ["openai", None, 5, ["mock"], {}])
def test_unknown_kind_is_refused(kind: object) -> None:
    assert refusal(changed("1b", model__adapter={"kind": kind})).startswith("model.adapter.kind is not supported")


def test_key_of_another_kind_is_refused() -> None:
    message = refusal(changed("vps", model__adapter={"slotId": 1}))
    assert "model.adapter.slotId is not a known key of an openai-compatible adapter" in message
    message = refusal(changed("tiny", model__adapter={"baseUrl": "http://127.0.0.1:1"}))
    assert "model.adapter.baseUrl is not a known key of a mock adapter" in message


# --- the operational section


def test_operational_null_is_absent_where_the_profile_has_none() -> None:
    assert load_with("tiny", model__operational=None).model.operational is None


def test_operational_null_is_refused_where_the_profile_has_one() -> None:
    assert refusal(changed("sub1b", model__operational=None)) == "model.operational must be an object, not null"


def test_partial_operational_names_the_first_missing_key() -> None:
    message = refusal(changed("tiny", model__operational={"supportsJsonMode": True}))
    assert message == "model.operational.recommendedPromptFormat is required"


def test_launch_profile_null_is_refused() -> None:
    document = changed("vps", model__adapter={"kind": "llama.cpp", "launchProfile": None})
    assert refusal(document) == "model.adapter.launchProfile must be an object, not null"


# --- precedence and paths


def test_environment_beats_file_and_file_beats_profile() -> None:
    document = changed("tiny", server__port=4000, scheduler__maxQueue=40)
    config = load(document, {"RAY_PORT": "5000"})
    assert (config.server.port, config.scheduler.max_queue, config.cache.max_entries) == (5000, 40, 128)


def test_range_error_names_key_and_variable() -> None:
    message = refusal({"profile": "tiny"}, {"RAY_SCHEDULER_MAX_QUEUE": "513"})
    expected = "scheduler.maxQueue must be an integer from 1 to 512, not 513 (set by RAY_SCHEDULER_MAX_QUEUE)"
    assert message == expected


def test_rule_error_names_the_variable_that_caused_it() -> None:
    message = refusal({"profile": "1b"}, {"RAY_LLAMA_CPP_CTX_SIZE": "1024"})
    assert message.startswith("scheduler.maxInflightTokens (2048) must be at most the launch context capacity")
    assert message.endswith("(model.adapter.launchProfile.ctxSize is set by RAY_LLAMA_CPP_CTX_SIZE)")


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        ("jobs", f"{CWD}/jobs"),
        ("/a/../b", "/b"),
        ("./x/", f"{CWD}/x"),
        ("..", "/srv"),
    ],
)
def test_storage_directory_is_made_absolute(given: str, resolved: str) -> None:
    assert load_with("tiny", asyncQueue__storageDir=given).async_queue.storage_dir == resolved


@pytest.mark.parametrize("given", ["", " x", "x ", "a\nb", "a\rb", "a\0b", "a" * 4097, "a" * 4090, 5, None])
def test_bad_storage_directory_is_refused(given: object) -> None:
    # 4090 characters fit as they are, but not any more once the working directory stands before them.
    assert refusal(changed("tiny", asyncQueue__storageDir=given)).startswith("asyncQueue.storageDir must ")


def test_launch_paths() -> None:
    config = load({"profile": "1b"}, {"RAY_MODEL_PATH": "models/m.gguf", "RAY_LLAMA_CPP_BINARY_PATH": "./bin/x"})
    assert value_of(config, "model.adapter.launchProfile.modelPath") == f"{CWD}/models/m.gguf"
    assert value_of(config, "model.adapter.launchProfile.binaryPath") == f"{CWD}/bin/x"
    message = refusal({"profile": "1b"}, {"RAY_LLAMA_CPP_BINARY_PATH": "llama-server"})
    assert "model.adapter.launchProfile.binaryPath must be an absolute path" in message


# --- the result


def test_config_is_frozen_all_the_way_down() -> None:
    config = load({"profile": "1b"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.server.port = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.tags["target"] = "x"  # type: ignore[index]
    assert isinstance(config.async_queue.callback_allowed_hosts, tuple)


def test_given_document_is_left_alone() -> None:
    document = changed("vps", model__adapter={"kind": "llama.cpp", "headers": {"x-a": "1"}}, tags={"a": "b"})
    before = json.dumps(document)
    load(document, {"RAY_MODEL_TIMEOUT_MS": "5000", "RAY_MODEL_ID": "other"})
    assert json.dumps(document) == before


def test_effective_document_loads_to_the_same_config() -> None:
    for profile in ("tiny", "1b", "vps"):
        config = load({"profile": profile})
        assert load(config_document(config)) == config


def test_text_that_cannot_be_written_as_utf8_is_refused_by_key() -> None:
    assert refusal({"tags": {"a": "\ud800"}}) == "tags.a is not valid Unicode text (lone surrogate)"
    assert "not valid Unicode" in refusal({"tags": {"\udfff": "a"}})
