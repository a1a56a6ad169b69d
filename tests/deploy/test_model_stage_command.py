"""`model-stage` as an operator meets it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.deploy.staging_support import EXAMPLE, Box, box, sha256
from tests.deploy.support import EXAMPLES, ROOT, run

__all__ = ["box"]
PLAN_KEYS = [
    "configPath",
    "profile",
    "modelId",
    "adapterKind",
    "modelRef",
    "alias",
    "binaryPath",
    "binaryDirectory",
    "modelPath",
    "modelDirectory",
    "host",
    "port",
    "serviceUser",
    "serviceGroup",
    "binarySourcePath",
    "binarySha256",
    "sourcePath",
    "sha256",
    "memoryBudgetMiB",
    "memoryBudgetSource",
    "safeMemoryBudgetMiB",
    "nonModelWorkingSetMiB",
    "workingSetSource",
    "binaryStorageReserveMiB",
    "modelStorageReserveMiB",
    "requiredLaunchFlags",
    "commands",
    "script",
]


def stage(box: Box | None, *arguments: str, **environ: str) -> tuple[int, str]:
    user = [] if box is None else ["--user", box.user]
    values = dict(os.environ) if box is None else box.environ()
    config = ["--config", str(EXAMPLES / EXAMPLE)]
    return run("model-stage", "--cwd", str(ROOT), *config, *user, *arguments, environ=values | environ)


def test_the_plan_as_json_has_its_keys_in_order(box: Box) -> None:
    status, text = stage(box, "--json", "--sha256", "A" * 64, RAY_LLAMA_CPP_BINARY_SHA256=f" {'B' * 64} ")
    plan = json.loads(text)
    assert status == 0
    assert list(plan) == PLAN_KEYS
    assert plan["configPath"] == f"examples/config/{EXAMPLE}"
    assert (plan["sha256"], plan["binarySha256"]) == ("a" * 64, "b" * 64)
    assert len(plan["commands"]) == 12
    assert all(command in plan["script"] for command in plan["commands"])


def test_what_is_not_there_is_absent() -> None:
    _, text = stage(None, "--json", RAY_LLAMA_CPP_CACHE_RAM_MIB="-1")
    absent = {"binarySourcePath", "binarySha256", "sourcePath", "sha256"}
    absent |= {"safeMemoryBudgetMiB", "nonModelWorkingSetMiB", "workingSetSource"}
    assert absent.isdisjoint(json.loads(text))


def test_the_plan_for_people_says_what_is_missing_and_ends_with_the_script() -> None:
    status, text = stage(None)
    assert status == 0
    assert "--binary-source" in text
    assert "RAY_MODEL_SOURCE_PATH" in text
    assert "binary_source='/path/to/llama-server'" in text
    assert "Run doctor before" in text.splitlines()[-1]


def test_commands_only_prints_a_script_and_nothing_else(box: Box) -> None:
    status, text = stage(box, "--commands-only")
    assert status == 0
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0
    assert text.startswith("sh -eu <<'")


@pytest.mark.parametrize("other", ["--json", "--apply"])
def test_options_that_do_not_go_together_are_refused_before_anything_is_loaded(
    other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("model-stage", "--commands-only", other, "--config", "/nowhere/at/all")[0] == 2
    assert other in capsys.readouterr().err


def test_an_option_beats_its_variable_which_is_then_not_judged(box: Box) -> None:
    source = str(box.model_source)
    _, text = stage(box, "--json", "--source", source, RAY_MODEL_SOURCE_PATH=" /x ", RAY_MODEL_SHA256="")
    assert json.loads(text)["sourcePath"] == source


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("RAY_MODEL_SOURCE_PATH", " /tmp/model.gguf"),
        ("RAY_LLAMA_CPP_BINARY_SOURCE_PATH", "/tmp/a\tb"),
        ("RAY_MODEL_SHA256", "abc"),
        ("RAY_LLAMA_CPP_BINARY_SHA256", "z" * 64),
    ],
)
def test_a_bad_variable_is_named(name: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage(None, **{name: text})[0] == 1
    assert name in capsys.readouterr().err


def test_a_blank_variable_counts_as_not_set() -> None:
    status, text = stage(None, "--json", RAY_MODEL_SOURCE_PATH="   ", RAY_MODEL_SHA256=" ")
    assert status == 0
    assert "sourcePath" not in json.loads(text)


@pytest.mark.parametrize("option", ["--source= x", "--sha256=abc", "--group=a b", "--binary-source="])
def test_a_bad_option_is_wrong_usage(option: str) -> None:
    assert stage(None, option)[0] == 2


def test_a_relative_source_is_relative_to_the_working_directory() -> None:
    _, text = stage(None, "--json", "--source", "models/a.gguf")
    assert json.loads(text)["sourcePath"] == str(ROOT / "models/a.gguf")


def test_an_env_file_names_sources_and_account(box: Box, tmp_path: Path) -> None:
    env_file = tmp_path / "ray.env"
    env_file.write_text(f"RAY_MODEL_SOURCE_PATH={box.model_source}\nRAY_DEPLOY_SERVICE_USER=daemon\n")
    _, text = stage(None, "--json", "--env-file", str(env_file))
    plan = json.loads(text)
    assert plan["sourcePath"] == str(box.model_source)
    assert (plan["serviceUser"], plan["serviceGroup"]) == ("daemon", "daemon")


def test_check_sources_says_so_and_writes_nothing(box: Box) -> None:
    status, text = stage(box, "--check-sources")
    assert status == 0
    assert "both are what they should be" in text
    assert not box.binary.exists()


def test_check_sources_that_fails_says_nothing_but_why(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.model_source.write_bytes(b"NOPE")
    status, text = stage(box, "--check-sources")
    assert (status, text) == (1, "")
    assert "no GGUF file" in capsys.readouterr().err


def test_apply_installs_and_reports(box: Box) -> None:
    status, text = stage(box, "--apply", "--check-sources", "--sha256", sha256(box.model_source.read_bytes()))
    assert status == 0
    assert box.model.read_bytes() == box.model_source.read_bytes()
    assert "SHA-256 verified, of source and copy: model." in text
    assert "No SHA-256 was given for: llama-server." in text


def test_apply_as_json(box: Box) -> None:
    box.model.parent.mkdir()
    status, text = stage(box, "--apply", "--json")
    document = json.loads(text)
    assert status == 0
    assert (document["applied"], document["binaryProbeStatus"], document["modelReadStatus"]) == (True, "ok", "ok")
    assert document["plan"]["modelPath"] == str(box.model)
    assert len(document["warnings"]) == 1


def test_a_failure_as_json_is_json(box: Box) -> None:
    status, text = stage(box, "--apply", "--json", "--sha256", "0" * 64)
    assert status == 1
    assert json.loads(text)["ok"] is False
    assert not box.model.exists()
