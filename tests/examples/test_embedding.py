"""The embedding examples work as they stand, here with the mock model."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CLIENTS = ROOT / "examples" / "clients"


def run_example(name: str, config: Path) -> subprocess.CompletedProcess[str]:
    """An example as its first lines say that it is run; its environment holds nothing else."""
    return subprocess.run(
        [sys.executable, str(CLIENTS / name), str(config)],
        env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["embed_sync.py", "embed_async.py"])
def test_given_the_mock_model_when_run_then_it_prints_the_answer_and_nothing_else(name: str, tmp_path: Path) -> None:
    config = tmp_path / "ray.json"
    config.write_text(json.dumps({"profile": "tiny", "telemetry": {"logLevel": "error"}}))

    ended = run_example(name, config)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith("Name three colours of the rainbow.\n")


@pytest.mark.parametrize("name", ["embed_sync.py", "embed_async.py"])
def test_given_a_config_that_cannot_be_used_when_run_then_the_error_names_the_key(name: str, tmp_path: Path) -> None:
    config = tmp_path / "ray.json"
    config.write_text(json.dumps({"server": {"port": 0}}))

    ended = run_example(name, config)

    assert ended.returncode == 1
    assert "RayError" in ended.stderr
    assert "server.port" in ended.stderr


def test_the_program_without_asyncio_is_five_lines() -> None:
    text = (CLIENTS / "embed_sync.py").read_text("utf-8")
    docstring = ast.get_docstring(ast.parse(text), clean=False)
    assert docstring is not None
    code = text.replace(f'"""{docstring}"""', "")
    assert len([line for line in code.splitlines() if line.strip()]) == 5
