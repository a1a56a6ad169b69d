"""What a config alone makes the checks say. Each case changes one thing in a config with nothing to complain about."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from ray.config import config_document, config_from_mapping
from ray.deploy.checks import CHECKS, diagnose
from ray.deploy.machine import Machine
from ray.deploy.sizing import launch_profile
from ray.errors import RayError
from tests.deploy.diagnosing import (
    ARGUMENTS,
    FOUR_GB,
    Document,
    codes,
    complaints,
    facts_of,
    settings_of,
)
from tests.deploy.support import KEYS

ENV_FILE = ("--systemd-env-file", "/etc/ray/ray.env")
CLEAN: Document = {"profile": "sub1b", "auth": {"enabled": True}}
OPENAI: Document = {**CLEAN, "profile": "vps"}


def launch(**keys: object) -> Document:
    return {"model": {"adapter": {"launchProfile": keys}}}


def jobs(**keys: object) -> Document:
    return {"asyncQueue": {"enabled": True, "storageDir": "/var/lib/ray/async-queue", **keys}}


def adapter(**keys: object) -> Document:
    return {"model": {"adapter": keys}}


def test_a_config_in_order_has_nothing_to_complain_about(tmp_path: Path) -> None:
    facts = facts_of(settings_of(tmp_path, CLEAN, (*ARGUMENTS, *ENV_FILE)))

    assert codes(diagnose(facts)) == ["config_ok"]


CASES: list[tuple[Document, list[str]]] = [
    ({"auth": {"enabled": False}}, ["auth_disabled"]),
    ({"gracefulDegradation": {"enabled": False}}, ["graceful_degradation_disabled"]),
    ({"gracefulDegradation": {"degradeToMaxTokens": 256}}, ["graceful_degradation_token_clamp_ineffective"]),
    ({"promptCompiler": {"enabled": False}}, ["prompt_compiler_disabled"]),
    ({"adaptiveTuning": {"enabled": False}}, ["adaptive_tuning_disabled"]),
    ({"adaptiveTuning": {"maxOutputReductionRatio": 0}}, ["adaptive_output_reduction_disabled"]),
    ({"adaptiveTuning": {"minOutputTokens": 256}}, ["adaptive_min_output_tokens_ineffective"]),
    ({"adaptiveTuning": {"learnedFamilyCapEnabled": False}}, ["adaptive_learned_caps_disabled"]),
    ({"scheduler": {"dedupeInflight": False}}, ["scheduler_dedupe_disabled"]),
    ({"cache": {"enabled": False}}, ["cache_disabled"]),
    ({"cache": {"keyStrategy": "input"}}, ["cache_key_ignores_generation_params"]),
    # One finding is enough for a public address, and rate limits then trust what strangers claim.
    ({"server": {"host": "0.0.0.0"}}, ["gateway_bind_host_public", "rate_limit_proxy_headers_public_bind"]),
    ({"server": {"host": "10.0.0.11"}}, ["gateway_bind_host_private", "rate_limit_proxy_headers_public_bind"]),
    ({"server": {"host": "::ffff:192.168.1.2"}}, ["gateway_bind_host_private", "rate_limit_proxy_headers_public_bind"]),
    ({"server": {"host": "fd00::11"}}, ["gateway_bind_host_private", "rate_limit_proxy_headers_public_bind"]),
    ({"server": {"host": "100.64.0.5"}}, ["gateway_bind_host_private", "rate_limit_proxy_headers_public_bind"]),
    (
        {"server": {"host": "10.0.0.11"}, "rateLimit": {"trustProxyHeaders": False}},
        ["gateway_bind_host_private", "rate_limit_proxy_headers_disabled"],
    ),
    ({"server": {"host": "203.0.113.5"}}, ["gateway_bind_host_public", "rate_limit_proxy_headers_public_bind"]),
    ({"server": {"host": "::1", "port": 3100}}, []),
    ({"telemetry": {"logLevel": "error"}}, ["log_level_suppresses_operational_warnings"]),
    ({"rateLimit": {"enabled": False}}, ["rate_limit_disabled"]),
    ({"rateLimit": {"trustProxyHeaders": False}}, ["rate_limit_proxy_headers_disabled"]),
    (
        {"rateLimit": {"keyStrategy": "api-key"}, "auth": {"enabled": False}},
        ["auth_disabled", "rate_limit_api_key_strategy_without_auth"],
    ),
    ({"rateLimit": {"maxKeys": 16_384}}, ["rate_limit_key_store_high_for_gateway_memory"]),
    ({"rateLimit": {"maxKeys": 16_384, "enabled": False}}, ["rate_limit_disabled"]),
    ({"cache": {"maxBytes": 268_435_456}}, ["cache_max_bytes_high_for_gateway_memory"]),
    ({"server": {"requestBodyLimitBytes": 1_048_576}}, ["request_body_buffer_high_for_gateway_memory"]),
    ({"model": {"warmOnBoot": False}}, ["warmup_disabled"]),
    ({"scheduler": {"requestTimeoutMs": 18_000}}, ["timeout_budget_tight"]),
    ({"telemetry": {"slowRequestThresholdMs": 18_000}}, ["slow_request_threshold_masks_timeouts"]),
    (launch(binaryPath="/home/ray/llama-server"), ["llama_binary_path_home_protected"]),
    (launch(binaryPath="/tmp/llama-server"), ["llama_binary_path_private_tmp"]),
    (launch(modelPath="/root/model.gguf"), ["llama_model_path_home_protected"]),
    (launch(modelPath="/var/tmp/model.gguf"), ["llama_model_path_private_tmp"]),
    (launch(cachePrompt=False), ["cache_prompt_disabled"]),
    (launch(continuousBatching=False), ["llama_continuous_batching_disabled"]),
    (launch(warmup=False), ["llama_warmup_disabled"]),
    (launch(enableMetrics=False), ["llama_endpoints_disabled"]),
    (launch(exposeSlots=False), ["llama_endpoints_disabled"]),
    # What a full context does is a matter of taste: nobody is told to drop the beginnings of conversations.
    (launch(contextShift=False), []),
    (launch(cacheRamMiB=-1), ["cache_ram_unbounded", "memory_fit_unbounded"]),
    (launch(cacheRamMiB=0), ["cache_idle_slots_without_cache_ram"]),
    (launch(cacheRamMiB=2048), ["cache_ram_high_for_small_vps"]),
    (launch(enableUnifiedKv=False), ["cache_idle_slots_without_unified_kv"]),
    (launch(threads=9), ["llama_threads_exceed_host_cpu"]),
    (launch(threadsBatch=9), ["llama_threads_exceed_host_cpu"]),
    ({**launch(parallel=1), "scheduler": {"maxInflightTokens": 3072}}, ["scheduler_exceeds_parallel"]),
    (launch(ctxSize=8192), ["ctx_per_slot_high"]),
    ({**launch(ctxSize=1022), "scheduler": {"maxInflightTokens": 2044}}, ["ctx_per_slot_tight"]),
    (launch(preset="single-vps-sub1b-cax11"), ["cax11_parallel_high"]),
    (jobs(callbackAllowPrivateNetwork=True), ["async_callback_private_network_allowed"]),
    (jobs(callbackAllowedHosts=["hooks.internal"]), ["async_callback_hosts_allowlisted"]),
    (jobs(dispatchConcurrency=8), ["async_queue_dispatch_exceeds_scheduler_concurrency"]),
    (jobs(pollIntervalMs=249), ["async_queue_retry_interval_too_fast"]),
    (jobs(pollIntervalMs=250), []),
    (jobs(maxJobs=512), ["async_queue_retained_jobs_exceed_storage_reserve"]),
    (jobs(maxJobs=512, maxStoreMiB=256), []),  # the store is kept that small
    ({"prefixStore": {"enabled": True}}, []),
    (
        {"prefixStore": {"enabled": True}, **launch(cachePrompt=False)},
        ["cache_prompt_disabled", "prefix_store_unsupported"],
    ),
]


def ids(case: object) -> str:
    return ",".join(map(str, case)) if isinstance(case, list) else ""


@pytest.mark.parametrize(("changes", "expected"), CASES, ids=ids)
def test_each_thing_that_is_not_in_order_is_said(tmp_path: Path, changes: Document, expected: list[str]) -> None:
    facts = facts_of(settings_of(tmp_path, {**CLEAN, **changes}, (*ARGUMENTS, *ENV_FILE)))

    # The large machine gives room for everything; what two threads of the preset want, it has.
    assert complaints(facts) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (adapter(baseUrl="http://127.0.0.1:8081/v1"), ["openai_compatible_base_url_includes_v1_path"]),
        (adapter(baseUrl="http://127.0.0.1:8081/V1/"), ["openai_compatible_base_url_includes_v1_path"]),
        (adapter(baseUrl="http://models.example.net"), ["openai_compatible_base_url_not_loopback"]),
        ({"prefixStore": {"enabled": True}}, ["prefix_store_unsupported"]),
        (
            {"scheduler": {"maxQueuedTokens": 262_144, "maxInflightTokens": 65_536}},
            ["scheduler_token_buffer_high_for_gateway_memory"],
        ),
    ],
    ids=ids,
)
def test_backends_that_others_run(tmp_path: Path, changes: Document, expected: list[str]) -> None:
    facts = facts_of(settings_of(tmp_path, {**OPENAI, **changes}, (*ARGUMENTS, *ENV_FILE)))

    assert complaints(facts) == expected


def test_the_small_test_profile_is_not_asked_to_tune_itself(tmp_path: Path) -> None:
    document: Document = {
        **CLEAN,
        "profile": "tiny",
        "rateLimit": {"enabled": True, "trustProxyHeaders": True},
        "adaptiveTuning": {"enabled": False},
    }
    facts = facts_of(settings_of(tmp_path, document, (*ARGUMENTS, *ENV_FILE)))

    assert complaints(facts) == []


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("ray.local", ["caddy_site_address_local"]),
        (":443", ["caddy_site_address_local"]),
        ("10.0.0.1", ["caddy_site_address_local"]),
        ("http://localhost:8080", ["caddy_site_address_local"]),
        ("http://ray.example.com", ["caddy_site_address_http_only"]),
        ("https://ray.example.com", []),
    ],
)
def test_site_addresses(tmp_path: Path, domain: str, expected: list[str]) -> None:
    facts = facts_of(settings_of(tmp_path, CLEAN, ("--domain", domain, *ENV_FILE)))

    assert complaints(facts) == expected
    assert complaints(replace(facts, proxy=False)) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", "auth_keys_missing"),
        (" ", "auth_keys_missing"),
        ("two words", "auth_keys_missing"),
        (",,", "auth_keys_missing"),
        ("k" * 1025, "auth_keys_missing"),
        ("one,two\nthree", ""),
    ],
)
def test_keys_are_looked_at_and_never_shown(tmp_path: Path, keys: str, expected: str) -> None:
    findings = diagnose(facts_of(settings_of(tmp_path, CLEAN, ARGUMENTS, {"RAY_API_KEYS": keys})))

    assert codes(findings, "error") == ([expected] if expected else [])
    assert not any(keys in finding.message for finding in findings if len(keys.strip(", ")) > 1)


PROXY = ("--proxy-address", "10.0.0.2")


def test_given_a_node_that_only_its_proxy_can_reach_then_the_missing_tls_is_all_there_is_to_say(tmp_path: Path) -> None:
    document: Document = {**CLEAN, "server": {"host": "10.0.0.11"}}
    (finding,) = diagnose(facts_of(settings_of(tmp_path, document, (*ARGUMENTS, *ENV_FILE, *PROXY))))

    assert (finding.level, finding.code) == ("warn", "gateway_bind_host_private")
    assert "on 10.0.0.11 for 10.0.0.2:" in finding.message
    assert "without TLS" in finding.message
    assert "--proxy-address" in finding.message


def test_given_a_node_without_a_named_proxy_then_the_warning_says_who_may_connect(tmp_path: Path) -> None:
    document: Document = {**CLEAN, "server": {"host": "fd00::11"}}
    findings = diagnose(facts_of(settings_of(tmp_path, document, (*ARGUMENTS, *ENV_FILE))))

    assert "everybody in fc00::/7" in next(one.message for one in findings if one.code == "gateway_bind_host_private")


@pytest.mark.parametrize(
    "host", ["203.0.113.5", "2001:db8::1", "0.0.0.0", "::", "169.254.1.1", "fe80::1", "172.32.0.1"]
)
def test_given_an_address_that_is_not_private_then_naming_a_proxy_does_not_make_it_one(
    host: str, tmp_path: Path
) -> None:
    document: Document = {**CLEAN, "server": {"host": host}}
    findings = diagnose(facts_of(settings_of(tmp_path, document, (*ARGUMENTS, *ENV_FILE, *PROXY))))

    assert codes(findings, "error") == ["gateway_bind_host_public"]


def test_keys_in_a_file_that_was_not_read_are_not_missing(tmp_path: Path) -> None:
    facts = facts_of(settings_of(tmp_path, CLEAN, (*ARGUMENTS, *ENV_FILE), {}))

    assert complaints(facts) == ["auth_keys_unverified"]


def test_invalid_keys_are_an_error_although_the_file_was_not_read(tmp_path: Path) -> None:
    facts = facts_of(settings_of(tmp_path, CLEAN, (*ARGUMENTS, *ENV_FILE), {"RAY_API_KEYS": "a b"}))

    assert complaints(facts) == ["auth_keys_missing"]


def test_variables_of_this_shell_alone_are_named_and_their_values_are_not(tmp_path: Path) -> None:
    (tmp_path / "ray.env").write_text("RAY_API_KEYS=one\nRAY_LOG_LEVEL=info\n")
    environ = {"RAY_PORT": "3456", "RAY_LOG_LEVEL": "debug", "RAY_API_KEYS": "other", "RAY_HOST": " "}
    environ |= {"RAY_DEPLOY_SERVICE_USER": "ray", "RAY_MODEL_SHA256": "0" * 64}  # no service reads these
    arguments = (*ARGUMENTS, "--env-file", str(tmp_path / "ray.env"))
    findings = diagnose(facts_of(settings_of(tmp_path, CLEAN, arguments, environ)))

    assert codes(findings) == ["environment_leaks"]
    assert "sets RAY_PORT: they" in findings[0].message
    assert not any(word in findings[0].message for word in ("3456", "RAY_LOG_LEVEL", "RAY_API_KEYS", "RAY_HOST"))


def test_keys_of_this_shell_do_not_stand_in_for_those_of_the_env_file(tmp_path: Path) -> None:
    (tmp_path / "ray.env").write_text("RAY_LOG_LEVEL=info\n")
    arguments = (*ARGUMENTS, "--env-file", str(tmp_path / "ray.env"))

    assert "environment_leaks" in complaints(facts_of(settings_of(tmp_path, CLEAN, arguments)))


def test_a_malformed_cushion_is_an_error_and_the_default_is_used(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path, CLEAN, (*ARGUMENTS, *ENV_FILE), {**KEYS, "RAY_DEPLOY_MIN_FREE_STORAGE_MIB": "lots"}
    )

    assert "deploy_min_free_storage_invalid" in codes(diagnose(facts_of(settings)), "error")
    assert settings.min_free_mib == 1024


@pytest.mark.parametrize("user", ["root", "0"])
def test_root_is_no_service_account(tmp_path: Path, user: str) -> None:
    facts = facts_of(settings_of(tmp_path, CLEAN, (*ARGUMENTS, *ENV_FILE, "--user", user)))

    assert complaints(facts) == ["service_user_root"]


@pytest.mark.parametrize(
    ("arguments", "machine", "expected"),
    [
        (("--memory-mib", "4096"), FOUR_GB, []),  # a "4 GB" box shows less, and is one all the same
        (("--memory-mib", "8192"), FOUR_GB, ["memory_budget_exceeds_host_memory"]),
        (("--memory-mib", "2048"), FOUR_GB, ["memory_budget_below_systemd_floor"]),
        (("--memory-mib", "2176"), FOUR_GB, []),
        ((), Machine(2_000, 2, "x64"), ["memory_budget_below_systemd_floor"]),
        (
            (),
            Machine(1_000, 2, "x64"),
            ["gateway_memory_max_exceeds_host_budget", "memory_budget_below_systemd_floor"],
        ),
        ((), Machine(4_000, 1, "x64"), ["scheduler_concurrency_exceeds_host_cpu", "llama_threads_exceed_host_cpu"]),
    ],
)
def test_machines(tmp_path: Path, arguments: tuple[str, ...], machine: Machine, expected: list[str]) -> None:
    facts = facts_of(settings_of(tmp_path, CLEAN, (*ARGUMENTS, *ENV_FILE, *arguments)), machine)

    assert complaints(facts) == expected


def test_a_launch_that_leaves_the_prompt_cache_open_has_none(tmp_path: Path) -> None:
    """No profile does, so the launch profile is given whole, over one without."""
    whole = config_document(config_from_mapping({"profile": "sub1b"}))["model"]
    assert isinstance(whole, dict)
    backend = json.loads(json.dumps(whole["adapter"]))
    del backend["launchProfile"]["cacheRamMiB"]
    document: Document = {**OPENAI, "model": {"contextWindow": 8192, "adapter": backend}}
    document["scheduler"] = {"concurrency": 1, "requestTimeoutMs": 30_000, "maxInflightTokens": 4096}
    facts = facts_of(settings_of(tmp_path, document, (*ARGUMENTS, *ENV_FILE)))

    assert "cache_ram_implicit" in complaints(facts)


@pytest.mark.parametrize(
    "changes",
    [
        adapter(baseUrl="http://127.0.0.1:3000"),
        adapter(baseUrl="not a url"),
        adapter(baseUrl="https://127.0.0.1:8081"),
        adapter(baseUrl="http://10.0.0.1:8081"),
        adapter(baseUrl="http://127.0.0.1:8082"),
        adapter(baseUrl="http://127.0.0.1:8081/v1"),
        launch(host="0.0.0.0"),
        {**launch(port=3000), **adapter(baseUrl="http://127.0.0.1:3000")},
        launch(binaryPath="bin/../../llama-server\n"),
    ],
)
def test_what_the_loader_refuses_needs_no_check(tmp_path: Path, changes: Document) -> None:
    """A backend that is the gateway, or that others reach, never gets as far as a diagnosis."""
    with pytest.raises(RayError):
        settings_of(tmp_path, {**CLEAN, **changes}, ARGUMENTS)


def test_relative_paths_are_absolute_before_anybody_looks_at_them(tmp_path: Path) -> None:
    document = {**CLEAN, **jobs(storageDir="jobs"), **launch(modelPath="model.gguf", binaryPath="./llama-server")}
    facts = facts_of(settings_of(tmp_path, document, (*ARGUMENTS, "--env-file", _env_file(tmp_path))))
    config = facts.settings.loaded.config
    profile = launch_profile(config)

    assert profile is not None
    assert facts.env_file is not None
    paths = (config.async_queue.storage_dir, profile.model_path, profile.binary_path, facts.env_file.path)
    assert all(path.startswith("/") for path in paths)


def _env_file(directory: Path) -> str:
    (directory / "ray.env").write_text("RAY_API_KEYS=key\n")
    return os.path.relpath(directory / "ray.env", "/srv/ray")  # the working directory that the settings name


def test_every_code_belongs_to_one_check_and_every_check_names_a_remedy() -> None:
    every = [code for check in CHECKS for code in check.codes]

    assert len(every) == len(set(every))
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert check.inspects
        assert check.remedy
        assert not check.remedy.endswith(".")


def test_a_llama_server_that_ray_does_not_launch_is_not_looked_at(tmp_path: Path) -> None:
    keys = ("slotStateTtlMs", "slotSnapshotTimeoutMs", "promptScaffoldCacheEntries")
    changes = adapter(kind="llama.cpp", cachePrompt=True, **dict.fromkeys(keys, 200))
    facts = facts_of(settings_of(tmp_path, {**OPENAI, **changes}, (*ARGUMENTS, *ENV_FILE)))

    assert complaints(facts) == ["llama_launch_profile_missing"]
