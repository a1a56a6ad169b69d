"""docs/embedding.md: its programs run, and its tables name what the commands print."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ray.cli import main

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = (ROOT / "docs" / "embedding.md").read_text("utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


def row(first_cell: str) -> str:
    """The second cell of the table row that begins with this one."""
    found = re.search(rf"^\| {re.escape(first_cell)} \| (.*) \|$", DOCUMENT, re.MULTILINE)
    assert found, f"docs/embedding.md has no row {first_cell}"
    return found[1]


def named(cell: str) -> set[str]:
    """The names between backticks, without quoted values."""
    return set(re.findall(r"`(\w+)`", cell))


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_given_a_program_of_the_document_when_run_then_it_ends_well(program: str, tmp_path: Path) -> None:
    config = {"profile": "tiny", "asyncQueue": {"enabled": True, "storageDir": str(tmp_path / "jobs")}}
    (tmp_path / "ray.json").write_text(json.dumps({**config, "telemetry": {"logLevel": "error"}}))

    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout


def test_given_the_commands_when_asked_for_json_then_the_document_names_what_they_print(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "ray.json"
    config.write_text(json.dumps({"profile": "sub1b", "asyncQueue": {"enabled": True}}))

    def printed(*arguments: str) -> dict[str, object]:
        assert main([*arguments, "--json", "--config", str(config)], {}) == 0
        document = json.loads(capsys.readouterr().out)
        assert isinstance(document, dict)
        return document

    assert set(printed("--version")) == named(row("`python3 -m ray --version --json`"))
    assert set(printed("--print-config")) == named(row("`python3 -m ray --print-config --json`"))
    check = printed("--check")
    assert set(check) == named(row("`python3 -m ray --check --json`"))
    for field in ("model", "listen", "auth", "rateLimit", "jobs", "limits"):
        inner = check[field]
        assert isinstance(inner, dict)
        assert set(inner) == named(row(f"`{field}`"))
    adapter = check["adapter"]
    assert isinstance(adapter, dict)
    assert set(adapter) == named(row("`adapter`")) - {"mock", "latencyMs"}
