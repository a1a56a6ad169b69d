"""The command line: which command runs, what is refused, and how a failure looks."""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.deploy import command_line
from ray.deploy.command_line import main
from ray.deploy.commands import COMMANDS, command_module
from ray.deploy.failures import DeployError, UsageError
from ray.errors import RayError
from tests.deploy.support import ROOT, run


class Probe:
    """A command that notes what it was given, and fails as it is told."""

    def __init__(self) -> None:
        self.seen: argparse.Namespace | None = None
        self.failure: BaseException | None = None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--flag")
        parser.add_argument("--json", action="store_true")

    def run(self, options: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
        self.seen = options
        if self.failure is not None:
            raise self.failure
        out.write("done\n")
        return 1 if options.flag == "found" else 0


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    made = Probe()
    monkeypatch.setattr(command_line, "COMMANDS", {"render": "probes", "other": "probes, too"})
    monkeypatch.setattr(command_line, "command_module", lambda _: made)
    return made


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        ([], None),
        (["--flag", "x"], "x"),
        (["--flag=x"], "x"),
        (["render", "--flag", "x", "--flag", "y"], "y"),
        (["other", "--", "--flag", "x"], "x"),
        (["--", "render", "--flag=", "--"], ""),
    ],
)
def test_options_reach_the_command(probe: Probe, arguments: list[str], flag: str | None) -> None:
    assert run(*arguments) == (0, "done\n")
    assert probe.seen is not None
    assert probe.seen.flag == flag


def test_findings_are_exit_status_1(probe: Probe) -> None:
    assert run("render", "--flag=found")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["rendr"], "did you mean render"),
        (["zzz"], "unknown command 'zzz'"),
        (["render", "--unknown"], "--unknown"),
        (["render", "--fla", "x"], "--fla"),
        (["render", "word"], "word"),
        (["render", "--flag"], "expected one argument"),
        (["render", "--flag", "--json"], "expected one argument"),
        (["render", *["--json"] * 64], "at most 64 arguments"),
        (["render", "--flag", "x" * 4097], "argument 3"),
        (["render", "--flag", "\u00e9" * 2049], "argument 3"),
        (["render", "--flag", "a\0b"], "argument 3"),
    ],
)
def test_wrong_usage_is_exit_status_2(
    probe: Probe, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == (2, "")
    assert part in capsys.readouterr().err
    assert probe.seen is None


def test_a_command_can_refuse_options_that_do_not_go_together(probe: Probe, capsys: pytest.CaptureFixture[str]) -> None:
    probe.failure = UsageError("--apply does not go with --json")
    assert run("other") == (2, "")
    assert "--apply does not go with --json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "failure",
    [DeployError("no model", code="no_model"), RayError("config_validation_error", "no port")],
    ids=lambda failure: type(failure).__name__,
)
def test_a_failure_is_one_line_or_one_object(
    probe: Probe, failure: DeployError | RayError, capsys: pytest.CaptureFixture[str]
) -> None:
    probe.failure = failure
    assert run("render") == (1, "")
    assert capsys.readouterr().err == f"ray.deploy: {failure}\n"
    status, out = run("render", "--json")
    assert status == 1
    assert json.loads(out) == {"ok": False, "error": {"code": failure.code, "message": str(failure)}}


def test_a_failing_disk_is_one_line(probe: Probe, capsys: pytest.CaptureFixture[str]) -> None:
    probe.failure = OSError(28, "No space left on device", "/out/Caddyfile")
    assert run("render") == (1, "")
    assert "No space left on device" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_failure(probe: Probe, capsys: pytest.CaptureFixture[str]) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    assert main(["render"], {}, Closed()) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("arguments", "status"), [(["swap-plan"], 0), (["fit"], 1), (["--help"], 0)])
def test_a_closed_output_leaves_the_exit_status(arguments: list[str], status: int, tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-m", "ray.deploy", *arguments]
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    done = subprocess.run(
        closed, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("swap-plan", "storage")])
def test_a_directory_that_was_removed_meanwhile_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run(name, *(["1.0.0"] if name == "release-check" else [])) == (1, "")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "directory you stand in" in said
    assert "`cd` to another" in said


def test_an_interrupt_is_no_traceback(probe: Probe) -> None:
    probe.failure = KeyboardInterrupt()
    assert run("render") == (130, "")


@given(
    st.lists(
        st.text(max_size=12) | st.sampled_from(["render", "other", "--flag", "--json", "-h", "--", "="]), max_size=6
    )
)
def test_whatever_is_typed_ends_with_a_status(words: list[str]) -> None:
    commands = {"render": "probes", "other": "probes, too"}
    with (
        patch.object(command_line, "COMMANDS", commands),
        patch.object(command_line, "command_module", lambda _: Probe()),
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
    ):
        assert main(words, {}, io.StringIO()) in (0, 1, 2)


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["help"]])
def test_an_overview_names_every_command(arguments: list[str]) -> None:
    status, out = run(*arguments)
    assert status == 0
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_and_touches_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("-h", "--help"):
        assert run(name, flag)[0] == 0
    assert f"python -m ray.deploy {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_module(name: str) -> None:
    module = command_module(name)
    assert callable(module.add_arguments)
    assert callable(module.run)


def test_it_runs_from_a_copied_directory_without_site_packages(tmp_path: Path) -> None:
    (tmp_path / "ray").symlink_to(ROOT / "ray")
    done = subprocess.run(
        [sys.executable, "-S", "-B", "-m", "ray.deploy", "--help"],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m ray.deploy COMMAND")
