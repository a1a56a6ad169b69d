"""`render`: what it prints, what it writes, and when it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.deploy.support import EXAMPLE_NAMES, EXAMPLES, ROOT, run

BASE = ("--cwd", str(ROOT), "--memory-mib", "8192")


@pytest.mark.parametrize("example", EXAMPLE_NAMES)
def test_every_example_renders_without_an_error(example: str) -> None:
    status, out = run("render", *BASE, "--config", str(EXAMPLES / example), "--json")
    assert status == 0, out
    document = json.loads(out)
    assert not [found for found in document["summary"]["diagnostics"] if found["level"] == "error"]
    assert document["service"].startswith("[Unit]")


def test_without_a_command_it_is_render_and_without_keys_it_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*BASE, environ={}) == (1, "")
    said = capsys.readouterr().err
    assert "auth_keys_missing" in said
    assert "validate" in said
    assert run(*BASE)[0] == 0


def test_text_is_what_people_get() -> None:
    status, out = run("render", *BASE)
    assert status == 0
    assert out.startswith("# Ray systemd service\n\n[Unit]\n")
    assert out.endswith("}\n")


def test_a_directory_is_written_and_named(tmp_path: Path) -> None:
    target = tmp_path / "out"
    status, out = run("render", *BASE, "--output-dir", str(target), "--json")
    assert status == 0
    assert json.loads(out) == {
        "files": {
            "service": str(target / "ray-gateway.service"),
            "socket": str(target / "ray-gateway.socket"),
            "llamaCppService": str(target / "ray-llama-cpp.service"),
            "caddyfile": str(target / "Caddyfile"),
            "envFileExample": str(target / "ray.env.example"),
            "summary": str(target / "summary.json"),
        }
    }
    status, out = run("render", *BASE, "--output-dir", str(target))
    assert status == 0
    assert str(target / "ray-gateway.service") in out
    assert "0 errors" in out


def test_several_nodes_get_a_caddyfile_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = ("--node", "10.0.0.2:3000", "--node", "10.0.0.3:3000")
    status, out = run("render", *BASE, *nodes, "--output-dir", str(tmp_path), "--json")
    assert status == 0
    assert json.loads(out)["files"]["caddyfilePool"] == str(tmp_path / "Caddyfile.pool")
    text = (tmp_path / "Caddyfile.pool").read_text("utf-8")
    assert "10.0.0.2:3000" in text
    assert "10.0.0.3:3000" in text
    assert "10.0.0" not in (tmp_path / "Caddyfile").read_text("utf-8")
    assert run("render", *BASE, "--node", "10.0.0.2:3000") == (1, "")
    assert "ray.deploy: " in capsys.readouterr().err


def test_a_refusal_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out"
    arguments = ("render", "--cwd", str(ROOT), "--memory-mib", "2048", "--output-dir", str(target))
    assert run(*arguments) == (1, "")
    assert "memory_budget_below_systemd_floor" in capsys.readouterr().err
    assert not target.exists()
    status, out = run(*arguments, "--json")
    assert (status, json.loads(out)["error"]["code"]) == (1, "render_refused")


def test_the_host_of_a_strict_render_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("render", *BASE, "--strict-filesystem", "--user", "no-such-account-here") == (1, "")
    said = capsys.readouterr().err
    assert "Render refused" in said
    assert "doctor" in said


def test_a_missing_systemd_env_file_defers_the_keys() -> None:
    status, out = run("render", *BASE, "--systemd-env-file", "/nowhere/ray.env", "--json", environ={})
    assert status == 0
    document = json.loads(out)
    levels = {found["code"]: found["level"] for found in document["summary"]["diagnostics"]}
    assert levels["auth_keys_unverified"] == "warn"
    assert "EnvironmentFile=/nowhere/ray.env\n" in document["service"]


def test_the_systemd_path_hides_the_one_that_was_read(tmp_path: Path) -> None:
    loaded = tmp_path / "loaded.env"
    loaded.write_text("RAY_API_KEYS=a-key\nRAY_PORT=4321\n")
    status, out = run(
        "render", *BASE, "--env-file", str(loaded), "--systemd-env-file", "/etc/ray/ray.env", "--json", environ={}
    )
    assert status == 0
    document = json.loads(out)
    assert "127.0.0.1:4321" in document["caddyfile"]
    assert str(loaded) not in out
    assert document["summary"]["preflight"]["envFilePath"] == "/etc/ray/ray.env"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--config", "--memory-mib", "4096"), "--config"),
        (("--memory-mib", "4096MiB"), "--memory-mib"),
        (("--memory-mib", "99999999"), "--memory-mib"),
        (("--user", "ray;root"), "--user"),
        (("--domain", "a b"), "--domain"),
        (("--domain", "a.com,b.com"), "--domain"),
        (("--output-dir", ""), "--output-dir"),
        (("--node-binary", "/usr/bin/node"), "--node-binary"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(
    arguments: tuple[str, ...], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("render", *arguments) == (2, "")
    assert part in capsys.readouterr().err


def test_help_reads_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("render", "--ray-env-file", "/nowhere/ray.env", "-h", environ={"RAY_PORT": "none"})[0] == 0
    assert "--strict-filesystem" in capsys.readouterr().out


def test_a_missing_env_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("render", *BASE, "--ray-env-file", "/nowhere/ray.env") == (1, "")
    assert capsys.readouterr().err == "ray.deploy: The env file /nowhere/ray.env does not exist\n"


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run("render", *BASE, "--output-dir", str(tmp_path / "file/out")) == (1, "")
    assert "Cannot write into" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["file"]
