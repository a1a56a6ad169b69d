"""How text is spelled in a unit. The spellings below are those that systemd 252 was seen to read as the text beside it,
and what its own parser says is asked again where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ray.deploy.failures import DeployError
from ray.deploy.unit_values import (
    argument_word,
    assignment,
    listed_path,
    program_word,
    raw_path,
    raw_pattern,
    state_directory,
)

HOSTILE = "/srv/a b\"c'd%n$HOME\\e;f#g[h]*?:i ü"


def test_a_plain_path_is_written_as_it_is_everywhere() -> None:
    path = "/srv/ray-1.2/ray_x@host+y:z,w=v"
    assert program_word(path) == argument_word(path) == raw_path("X=", path) == raw_pattern("X=", path) == path
    assert listed_path("-" + path) == "-" + path


def test_a_hostile_path_is_spelled_by_the_rules_of_each_setting() -> None:
    assert argument_word(HOSTILE) == '"/srv/a b\\"c\'d%%n$$HOME\\\\e;f#g[h]*?:i ü"'
    assert assignment("A", HOSTILE) == '"A=/srv/a b\\"c\'d%%n$HOME\\\\e;f#g[h]*?:i ü"'
    assert raw_path("X=", HOSTILE) == "/srv/a b\"c'd%%n$HOME\\e;f#g[h]*?:i ü"
    assert raw_pattern("X=", HOSTILE) == "/srv/a b\"c'd%%n$HOME\\\\e;f#g\\[h\\]\\*\\?:i ü"
    assert listed_path("-" + HOSTILE) == '"-/srv/a b\\"c\'d%%n$HOME\\\\e;f#g[h]*?:i ü"'
    assert (
        state_directory("ray/" + HOSTILE[5:])
        == r"ray/a\x20b\x22c\x27d%%n\x24HOME\x5ce\x3bf\x23g\x5bh\x5d\x2a\x3f\x3ai\x20ü"
    )
    assert program_word("/opt/a b%n$HOME/llama-server") == '"/opt/a b%%n$HOME/llama-server"'


@pytest.mark.parametrize(
    ("text", "word"), [(";", '";"'), ("${X} $$", '"$${X} $$$$"'), ("a\tb", '"a\\x09b"'), ("%h", '"%%h"'), ("", '""')]
)
def test_an_argument_that_would_mean_something_else_is_spelled_so_that_it_does_not(text: str, word: str) -> None:
    assert argument_word(text) == word


@pytest.mark.parametrize("path", ['/opt/"x"', "/opt/it's", "/opt/a\\b", "/opt/a\x01"])
def test_a_program_that_systemd_would_not_start_is_refused_by_name(path: str) -> None:
    with pytest.raises(DeployError, match="systemd starts no program"):
        program_word(path)


@pytest.mark.parametrize("path", ["/srv/ray\\", "/srv/a\tb", "/srv/ray ", " /srv/ray"])
def test_a_path_that_no_raw_line_can_hold_is_refused_with_its_setting(path: str) -> None:
    with pytest.raises(DeployError, match="WorkingDirectory="):
        raw_path("WorkingDirectory=", path)


def test_a_listed_path_with_control_characters_is_refused() -> None:
    with pytest.raises(DeployError, match="control characters"):
        listed_path("/srv/a\x07")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze: install systemd")
@pytest.mark.parametrize("name", ["plain", "with blank", "per%cent", "dol$HOME lar", "semi;colon", "ünï", "ha#sh"])
def test_a_program_under_a_hostile_path_is_found_by_the_real_verify(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "x.service"
    unit.write_text(f"[Service]\nExecStart={program_word(str(program))} {argument_word(HOSTILE)}\n")
    command = ["systemd-analyze", "verify", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    program.unlink()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert str(program) in done.stderr, "verify does look at the program"
