"""The command line: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ray.cli import main
from ray.version import VERSION

ROOT = Path(__file__).parent.parent


def config_file(directory: Path, **sections: object) -> str:
    path = directory / "ray.json"
    path.write_text(json.dumps({"profile": "tiny", **sections}))
    return str(path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config"],
        ["--unknown"],
        ["positional"],
        ["--json"],
        ["--check", "--print-config"],
        ["--check", "--version"],
        ["--config", "ray.json", "--json"],
        ["--conf", "ray.json"],
        ["--check", "--json=yes"],
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, {}) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "usage: python -m ray" in printed.err


def test_version_and_help_end_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"], {}) == 0
    assert capsys.readouterr().out == f"ray {VERSION}\n"
    assert main(["--help"], {}) == 0
    shown = capsys.readouterr().out
    for option in ("--config", "--check", "--print-config", "--version", "--json"):
        assert option in shown


def test_version_as_json_names_the_python_that_runs_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version", "--json"], {}) == 0
    python = ".".join(str(part) for part in sys.version_info[:3])
    assert json.loads(capsys.readouterr().out) == {"ok": True, "version": VERSION, "python": python}


def test_check_says_what_would_run_in_aligned_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config_file(tmp_path, server={"host": "127.0.0.1", "port": 4711}, rateLimit={"enabled": False})
    assert main(["--check", "--config", path], {}) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    table = dict(line.split(maxsplit=1) for line in printed.out.splitlines())
    assert table["config"] == path
    assert table["profile"] == "tiny"
    assert table["listen"] == "host 127.0.0.1, port 4711"
    assert table["auth"] == "off"
    assert table["rateLimit"] == "off"
    assert table["jobs"] == "off"
    assert table["adapter"].startswith("kind mock")
    assert "backendCommand" not in table


def test_check_as_json_is_for_tools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config_file(tmp_path, auth={"enabled": True})
    assert main(["--config", path, "--check", "--json"], {"RAY_API_KEYS": "first-key,second-key"}) == 0
    printed = capsys.readouterr().out
    plan = json.loads(printed)
    assert plan["ok"] is True
    assert plan["auth"] == {"enabled": True, "keys": 2, "apiKeyEnv": "RAY_API_KEYS"}
    assert plan["model"]["id"] == "tiny-dev"
    assert plan["limits"]["requestBodyLimitBytes"] == 32_000
    assert "first-key" not in printed


def test_check_says_where_jobs_are_kept_and_how_many_secrets_sign_their_callbacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path, asyncQueue={"enabled": True, "storageDir": str(tmp_path / "store"), "maxJobs": 7})
    assert main(["--config", path, "--check", "--json"], {"RAY_WEBHOOK_SECRETS": "whsec_" + "QUJD" * 10}) == 0
    jobs = json.loads(capsys.readouterr().out)["jobs"]
    assert jobs == {"enabled": True, "storageDir": str(tmp_path / "store"), "maxJobs": 7, "callbackSecrets": 1}
    assert not (tmp_path / "store").exists()


def test_given_malformed_webhook_secrets_when_checked_then_it_fails_as_a_boot_would_and_shows_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path, asyncQueue={"enabled": True})
    assert main(["--config", path, "--check"], {"RAY_WEBHOOK_SECRETS": "whsec_S3CRET!"}) == 1
    printed = capsys.readouterr()
    assert "RAY_WEBHOOK_SECRETS" in printed.err
    assert "S3CRET" not in printed.out + printed.err


def test_check_shows_the_backends_command_when_there_is_a_launch_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "--json"], {"RAY_PROFILE": "sub1b"}) == 0
    command = json.loads(capsys.readouterr().out)["backendCommand"]
    assert command[0].endswith("llama-server")
    assert "--model" in command
    assert main(["--check"], {"RAY_PROFILE": "sub1b", "RAY_MODEL_PATH": "/srv/my models/m.gguf"}) == 0
    assert "--model '/srv/my models/m.gguf'" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["--check", "--print-config"])
def test_given_a_broken_config_when_looked_at_then_1_and_the_key_is_named(
    action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path, server={"port": 0})
    assert main([action, "--config", path], {}) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("ray: ")
    assert "server.port" in printed.err
    assert printed.err.count("\n") == 1


def test_given_missing_keys_when_checked_then_it_fails_as_a_boot_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path, auth={"enabled": True})
    assert main(["--check", "--json", "--config", path], {}) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert answer["error"]["code"] == "config_validation_error"
    assert "RAY_API_KEYS" in answer["error"]["message"]


def test_given_no_such_file_when_run_then_1_and_one_json_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(tmp_path / "missing.json")], {}) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    line = json.loads(printed.err)
    assert line["message"] == "gateway boot failed"
    assert "missing.json" in line["error"]["message"]


def test_print_config_shows_the_effective_config_without_header_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = {
        "kind": "openai-compatible",
        "baseUrl": "http://127.0.0.1:9",
        "modelRef": "m",
        "timeoutMs": 1_000,
        "headers": {"x-upstream": "hush"},
    }
    path = config_file(tmp_path, model={"adapter": adapter})
    assert main(["--print-config", "--config", path], {"RAY_PORT": "4712"}) == 0
    printed = capsys.readouterr().out
    document = json.loads(printed)
    assert document["server"]["port"] == 4712
    assert document["model"]["adapter"]["headers"] == {"x-upstream": "[redacted]"}
    assert "hush" not in printed


def test_print_config_as_json_is_one_line_with_the_same_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path)
    assert main(["--print-config", "--config", path], {}) == 0
    shown = json.loads(capsys.readouterr().out)
    assert main(["--print-config", "--json", "--config", path], {}) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert json.loads(printed) == {"ok": True, "config": path, "effective": shown}


@pytest.mark.parametrize("action", ["--check", "--print-config"])
def test_given_a_broken_config_when_looked_at_as_json_then_1_and_the_error_on_standard_output(
    action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path, server={"port": 0})
    assert main([action, "--json", "--config", path], {}) == 1
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert (answer["ok"], answer["error"]["code"], printed.err) == (False, "config_validation_error", "")
    assert "server.port" in answer["error"]["message"]


def test_given_no_config_when_looked_at_then_the_profile_of_the_environment_counts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--check", "--json"], {"RAY_PROFILE": "tiny"}) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["config"], plan["profile"]) == ("defaults", "tiny")


@pytest.mark.parametrize("arguments", [["--print-config"], ["--check"], ["--version"], ["--help"]])
def test_given_a_reader_that_has_seen_enough_when_printing_then_silence_and_0(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_process(arguments, stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_given_a_full_disk_when_printing_then_1_and_the_reason() -> None:
    with open("/dev/full", "wb") as full:
        done = run_process(["--print-config"], stdout=full.fileno())
    assert done.returncode == 1
    assert done.stderr == b"ray: cannot write the output: No space left on device\n"


def run_process(arguments: list[str], stdout: int) -> subprocess.CompletedProcess[bytes]:
    # -E: with PYTHONUNBUFFERED nothing would be left to flush.
    return subprocess.run(
        [sys.executable, "-E", "-m", "ray", *arguments], stdout=stdout, stderr=subprocess.PIPE, cwd=ROOT, check=False
    )
