"""`validate-all`: its report, the public policy, and files that are no configs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray.deploy import validate_all_command
from ray.deploy.machine import Machine
from ray.deploy.public_policy import MAX_BYTES, RULES
from ray.deploy.validate_all_command import validate_directory
from tests.deploy.support import EXAMPLES, ROOT, run

FOUR_CPUS = Machine(memory_mib=16_000, cpu_count=4, architecture="x64")
PUBLIC = (EXAMPLES / "ray.sub1b.public.json").read_text()


def test_disks_of_this_machine_are_not_looked_at() -> None:
    results = validate_directory(str(ROOT), "examples/config", "key", FOUR_CPUS)
    codes = {finding.code for result in results for finding in result.findings}

    assert not [code for code in codes if code.startswith(("async_queue_storage", "model_file", "memory_fit"))]


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    return tmp_path / "configs"


def codes_of(configs: Path, level: str = "error") -> list[str]:
    results = validate_directory(str(configs.parent), "configs", "key", FOUR_CPUS)
    return [finding.code for result in results for finding in result.findings if finding.level == level]


def test_the_policy_has_one_code_for_each_rule() -> None:
    assert len({rule.code for rule in RULES}) == len(RULES)
    assert len({rule.key for rule in RULES}) == len(RULES)


def changed_public(changes: str) -> str:
    document = json.loads(PUBLIC)
    for path, value in json.loads(changes).items():
        target = document
        *parents, last = path.split(".")
        for part in parents:
            target = target.setdefault(part, {})
        target[last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ("{}", []),
        ('{"server.requestBodyLimitBytes": 64001}', ["public_config_request_body_limit_explicit"]),
        ('{"server.port": 8080}', []),
        ('{"tags.exposure": "private-local"}', ["public_config_tag_exposure_explicit"]),
        ('{"tags.hosting": " "}', ["public_config_tag_hosting_explicit"]),
        ('{"rateLimit.keyStrategy": "ip"}', ["public_config_rate_limit_key_strategy_explicit"]),
        ('{"scheduler.batchWindowMs": 0}', ["public_config_scheduler_batch_window_explicit"]),
        ('{"asyncQueue.callbackAllowedHosts": ["a.example"]}', ["public_config_async_queue_callback_hosts_explicit"]),
        (
            '{"gracefulDegradation.cpuThrottledRatioThreshold": 0.21}',
            ["public_config_degradation_cpu_throttled_ratio_explicit"],
        ),
        (
            '{"promptCompiler.familyMetadataKeys": ["useCase"]}',
            ["public_config_prompt_compiler_family_keys_explicit"],
        ),
        ('{"model.adapter.launchProfile.warmup": false}', ["public_config_model_launch_warmup_explicit"]),
        (
            '{"model.adapter.launchProfile.extraArgs": ["--mlock"], "model.adapter.headers": {"x-a": "b"},'
            ' "model.adapter.apiKeyEnv": "OTHER_KEY", "model.adapter.slotId": 0}',
            [
                "public_config_model_adapter_api_key_env_absent",
                "public_config_model_adapter_headers_absent",
                "public_config_model_adapter_slot_id_absent",
                "public_config_model_launch_extra_args_absent",
            ],
        ),
    ],
)
def test_a_public_config_keeps_the_policy(configs: Path, changes: str, expected: list[str]) -> None:
    (configs / "x.public.json").write_text(changed_public(changes))

    assert codes_of(configs) == expected


def test_a_config_that_is_tagged_public_keeps_it_whatever_its_name(configs: Path) -> None:
    (configs / "x.json").write_text(changed_public('{"cache.maxEntries": 513}'))

    assert codes_of(configs) == ["public_config_cache_entries_explicit"]


def test_a_private_config_does_as_it_likes(configs: Path) -> None:
    (configs / "x.json").write_text(changed_public('{"cache.maxEntries": 513, "tags.exposure": "private-local"}'))

    assert codes_of(configs) == []


def test_values_are_not_repeated(configs: Path) -> None:
    (configs / "x.public.json").write_text(changed_public('{"model.adapter.headers": {"x-key": "secret-value"}}'))
    results = validate_directory(str(configs.parent), "configs", "key", FOUR_CPUS)

    assert not any("secret-value" in finding.message for finding in results[0].findings)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b" " * (MAX_BYTES + 1), "public_config_policy_unreadable"),
        (b"{", "public_config_policy_unreadable"),
        (b"\xff", "public_config_policy_unreadable"),
        (b"[" * 100_000, "public_config_policy_unreadable"),
        (b"[]", "public_config_policy_invalid"),
    ],
)
def test_a_public_file_that_is_no_config_is_one_error(configs: Path, content: bytes, expected: str) -> None:
    (configs / "x.public.json").write_bytes(content)

    assert codes_of(configs) == [expected]


def test_a_file_that_cannot_be_loaded_is_one_error_and_the_others_go_on(configs: Path) -> None:
    (configs / "a.json").write_text('{"profile": "nope"}')
    (configs / "b.json").write_text('{"profile": "tiny"}')
    results = validate_directory(str(configs.parent), "configs", "key", FOUR_CPUS)

    assert [(result.path, result.profile) for result in results] == [
        ("configs/a.json", None),
        ("configs/b.json", "tiny"),
    ]
    assert [finding.code for finding in results[0].findings] == ["config_validation_failed"]


def test_nothing_of_the_environment_counts_but_the_keys() -> None:
    environ = {"RAY_LLAMA_CPP_CTX_SIZE": "not-a-number", "RAY_AUTH_ENABLED": "nonsense"}

    assert run("validate-all", "--cwd", str(ROOT), environ=environ)[0] == 0
    status, text = run("validate-all", "--cwd", str(ROOT), "--json", environ={**environ, "RAY_API_KEYS": "a b"})
    assert status == 1
    assert json.loads(text)["errorCount"] == 7


def test_json_has_every_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate_all_command, "read_machine", lambda: FOUR_CPUS)
    status, text = run("validate-all", "--cwd", str(ROOT), "--json", environ={})
    document = json.loads(text)

    assert status == 0
    assert list(document) == ["ok", "failOnWarn", "configCount", "errorCount", "warningCount", "results"]
    assert (document["ok"], document["configCount"], document["errorCount"]) == (True, 19, 0)
    assert document["warningCount"] == 20
    first = document["results"][0]
    assert list(first) == ["configPath", "profile", "diagnostics", "errorCount", "warningCount"]
    assert first["configPath"] == "examples/config/ray.1b.8gb.generic.json"


def test_warnings_are_shown_and_count_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate_all_command, "read_machine", lambda: FOUR_CPUS)
    plain = run("validate-all", "--cwd", str(ROOT), environ={})
    verbose = run("validate-all", "--cwd", str(ROOT), "--verbose", environ={})
    strict = run("validate-all", "--cwd", str(ROOT), "--fail-on-warn", environ={})

    assert (plain[0], verbose[0], strict[0]) == (0, 0, 1)
    assert "auth_disabled" not in plain[1]
    assert "--verbose shows the warnings" in plain[1]
    assert verbose[1].count("auth_disabled") == 12
    assert verbose[1] == strict[1]
    assert "19 configs, 0 errors, 20 warnings" in plain[1]


@pytest.mark.parametrize("directory", ["/etc", "..", "examples/none", "docs", "link"])
def test_a_directory_outside_missing_or_without_configs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], directory: str
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "link").symlink_to(EXAMPLES)

    assert run("validate-all", "--cwd", str(tmp_path), "--config-dir", directory) == (1, "")
    assert "config directory" in capsys.readouterr().err
