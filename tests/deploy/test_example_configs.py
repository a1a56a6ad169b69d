"""The directory of example configs as a whole: no error anywhere, and only the warnings that belong there."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from ray.deploy.command_line import main
from ray.deploy.machine import Machine
from ray.deploy.validate_all_command import validate_directory
from tests.deploy.support import EXAMPLE_NAMES, EXAMPLES, ROOT

ROOMY = Machine(memory_mib=16_384, cpu_count=4, architecture="x64")
SMALL = Machine(memory_mib=16_384, cpu_count=2, architecture="x64")
PRIVATE = {name for name in EXAMPLE_NAMES if not name.endswith(".public.json")}
# Whom a warning belongs to, on every machine.
EXPECTED = {
    *((name, "auth_disabled") for name in PRIVATE),
    *((name, "env_file_missing") for name in set(EXAMPLE_NAMES) - PRIVATE),
    ("ray.tiny.json", "rate_limit_disabled"),
}
# On fewer processors than the config has use for.
ON_TWO_PROCESSORS = {
    *((name, "llama_threads_exceed_host_cpu") for name in EXAMPLE_NAMES if name.startswith("ray.1b.8gb")),
    ("ray.balanced.json", "scheduler_concurrency_exceeds_host_cpu"),
}


def warnings(machine: Machine) -> Counter[tuple[str, str]]:
    return Counter(
        (Path(result.path).name, finding.code)
        for result in validate_directory(str(ROOT), "examples/config", "a-key", machine)
        for finding in result.findings
        if finding.level == "warn"
    )


@pytest.mark.parametrize(("machine", "more"), [(ROOMY, set()), (SMALL, ON_TWO_PROCESSORS)], ids=["roomy", "small"])
def test_given_the_examples_when_validated_then_they_warn_of_what_is_true_and_of_nothing_else(
    machine: Machine, more: set[tuple[str, str]]
) -> None:
    assert warnings(machine) == Counter(EXPECTED | more)


def test_given_the_examples_when_validated_then_none_has_an_error() -> None:
    results = validate_directory(str(ROOT), "examples/config", "a-key", ROOMY)

    assert [Path(result.path).name for result in results] == EXAMPLE_NAMES
    assert [
        (result.path, finding.code) for result in results for finding in result.findings if finding.level == "error"
    ] == []


def validate_all(cwd: Path, *arguments: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    out = io.StringIO()
    status = main(["validate-all", "--cwd", str(cwd), *arguments], environ or {}, out)
    return status, out.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "examples/config").mkdir(parents=True)
    for name in ("ray.tiny.json", "ray.1b.generic.public.json"):
        shutil.copy(EXAMPLES / name, tmp_path / "examples/config")
    return tmp_path


def test_given_warnings_alone_when_validated_then_only_fail_on_warn_fails(tree: Path) -> None:
    assert validate_all(tree)[0] == 0

    status, text = validate_all(tree, "--fail-on-warn")
    assert status == 1
    assert "WARN" in text
    assert "FAIL" not in text
    assert "auth_disabled" in text


def test_given_variables_of_the_shell_when_validated_then_they_do_not_count(tree: Path) -> None:
    hostile = {"RAY_LLAMA_CPP_CTX_SIZE": "not-a-number", "RAY_PORT": "0", "RAY_PROFILE": "none"}

    assert validate_all(tree, environ=hostile) == validate_all(tree)


def test_given_a_file_that_cannot_be_loaded_when_validated_then_it_is_one_error_and_the_others_go_on(
    tree: Path,
) -> None:
    (tree / "examples/config/ray.broken.json").write_text("{")

    status, text = validate_all(tree, "--json")

    document = json.loads(text)
    codes = {
        Path(result["configPath"]).name: [one["code"] for one in result["diagnostics"] if one["level"] == "error"]
        for result in document["results"]
    }
    assert status == 1
    assert codes == {
        "ray.tiny.json": [],
        "ray.1b.generic.public.json": [],
        "ray.broken.json": ["config_validation_failed"],
    }


@pytest.mark.parametrize(
    ("section", "change", "code"),
    [
        (("model", "adapter"), {"apiKeyEnv": "KEY"}, "public_config_model_adapter_api_key_env_absent"),
        (("model", "adapter"), {"headers": {"x": "y"}}, "public_config_model_adapter_headers_absent"),
        (("model", "adapter"), {"slotId": 0}, "public_config_model_adapter_slot_id_absent"),
        (
            ("model", "adapter", "launchProfile"),
            {"extraArgs": ["--verbose"]},
            "public_config_model_launch_extra_args_absent",
        ),
        (("server",), {"host": "0.0.0.0"}, "public_config_server_host_explicit"),
        (("auth",), {"enabled": False}, "public_config_auth_enabled_explicit"),
        (("rateLimit",), {"maxRequests": 301}, "public_config_rate_limit_requests_explicit"),
        (
            ("asyncQueue",),
            {"callbackAllowedHosts": ["a.example.com"]},
            "public_config_async_queue_callback_hosts_explicit",
        ),
    ],
)
def test_given_a_public_config_that_breaks_the_policy_when_validated_then_the_rule_is_named(
    section: tuple[str, ...], change: dict[str, object], code: str, tree: Path
) -> None:
    path = tree / "examples/config/ray.1b.generic.public.json"
    document = json.loads(path.read_text())
    place = document
    for name in section:
        place = place.setdefault(name, {})
    place.update(change)
    path.write_text(json.dumps(document))

    status, text = validate_all(tree, "--json")

    codes = [one["code"] for result in json.loads(text)["results"] for one in result["diagnostics"]]
    assert status == 1
    assert code in codes


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("[]", "public_config_policy_invalid"),
        ("{", "public_config_policy_unreadable"),
        (" " * (256 * 1024 + 1), "public_config_policy_unreadable"),
    ],
)
def test_given_a_public_file_that_is_no_config_when_validated_then_the_policy_says_so(
    content: str, code: str, tree: Path
) -> None:
    (tree / "examples/config/ray.odd.public.json").write_text(content)

    status, text = validate_all(tree, "--json")

    codes = [one["code"] for result in json.loads(text)["results"] for one in result["diagnostics"]]
    assert status == 1
    assert [found for found in codes if found.startswith("public_config_")] == [code]


@pytest.mark.parametrize("directory", ["..", "/", "../elsewhere", "nothing", "examples"])
def test_given_a_directory_that_will_not_do_when_validated_then_it_is_refused(directory: str, tree: Path) -> None:
    assert validate_all(tree, "--config-dir", directory)[0] == 1


def test_given_too_many_configs_when_validated_then_it_is_refused(tree: Path) -> None:
    for number in range(128):
        shutil.copy(EXAMPLES / "ray.tiny.json", tree / f"examples/config/{number}.json")

    assert validate_all(tree)[0] == 1
