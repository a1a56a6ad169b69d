"""What our reader sees in an env file is what systemd sees in it.

systemd's own parser is reached through the generator for `environment.d`, which uses the same code as
`EnvironmentFile=` (`src/basic/env-file.c`) and prints the result. It also expands `$`, so values with one are left out.
"""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest

from ray.deploy.env_file import parse_env, quoted
from ray.deploy.failures import DeployError

GENERATOR = Path("/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not GENERATOR.exists(), reason="needs systemd's environment.d generator"),
]


def as_systemd_reads(directory: Path, text: str) -> dict[str, str]:
    (directory / "environment.d").mkdir(exist_ok=True)
    (directory / "environment.d/ray.conf").write_text(text, "utf-8")
    done = subprocess.run(
        [GENERATOR], env={"XDG_CONFIG_HOME": str(directory)}, capture_output=True, timeout=30, check=True
    )
    # Of no interest is what the machine's own files add.
    lines = [line.partition("=") for line in done.stdout.decode("utf-8").split("\n") if line.startswith("RAY_")]
    return {name: unquoted(value) for name, _, value in lines}


def unquoted(printed: str) -> str:
    """A value as the generator prints it: for a shell, and a tab as `\\t` (`shell_maybe_quote`)."""
    if not printed.startswith('"'):
        return printed
    return re.sub(r"\\(.)", lambda found: "\t" if found[1] == "t" else found[1], printed[1:-1])


def test_lines_mean_the_same(tmp_path: Path) -> None:
    lines = [
        "# RAY_A0=1",
        "  ; RAY_A1=1",
        "RAY_A2=plain",
        "  RAY_A3 = trimmed \t",
        "RAY_A4=x # no comment",
        "RAY_A5=it's",
        'RAY_A6=a"b"c',
        "RAY_A7='single \\ \" quotes'",
        'RAY_A8="double \\" \\\\ \\` \\d quotes"',
        "RAY_A9=a=b=c",
        "RAY_B0=50%i",
        "RAY_B1='tab\there'",
        "RAY_B2=\u00e4\u20ac",
        "RAY_B3=first\r",
        "RAY_B3=second",
    ]
    text = "\n".join(lines) + "\n"
    ours = parse_env(text, "ray.env")
    assert len(ours) == 12
    assert as_systemd_reads(tmp_path, text) == ours


def test_quoted_values_arrive(tmp_path: Path) -> None:
    chance = random.Random(6)
    alphabet = "ab \"'\\`#;=%n\t\u00e4"
    values = {f"RAY_{number}": "x" + "".join(chance.choices(alphabet, k=8)) for number in range(400)}
    text = "".join(f"{name}={quoted(value)}\n" for name, value in values.items())
    assert parse_env(text, "ray.env") == values
    assert as_systemd_reads(tmp_path, text) == values


def test_any_line_that_is_taken_means_the_same(tmp_path: Path) -> None:
    chance = random.Random(7)
    taken = []
    for number in range(3000):
        line = f"RAY_{number}=v" + "".join(chance.choices("ab \"'\\`#;=nr\t", k=chance.randrange(1, 8)))
        try:
            parse_env(line, "ray.env")
        except DeployError:
            continue
        taken.append(line)
    for number in range(3000):
        quote = chance.choice("\"'")
        line = f"RAY_Q{number}={quote}v" + "".join(chance.choices("ab \"'\\`#;n", k=chance.randrange(1, 6))) + quote
        try:
            parse_env(line, "ray.env")
        except DeployError:
            continue
        taken.append(line)
    assert len(taken) > 1000
    for start in range(0, len(taken), 500):  # more assignments than one file may hold
        text = "\n".join(taken[start : start + 500]) + "\n"
        assert as_systemd_reads(tmp_path, text) == parse_env(text, "ray.env")
