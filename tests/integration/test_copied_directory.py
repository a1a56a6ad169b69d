"""The promise of the whole: copy `ray/` and one config file to a machine that has Python, and it runs.

No package is installed there, the environment is empty, and `-S` keeps Python from looking for any.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.backend import ROOT, GatewayProcess


def system_python() -> str:
    """The machine's own Python, or the one that made the virtual environment when that is older than 3.11."""
    system = "/usr/bin/python3"
    check = [system, "-S", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    if Path(system).exists() and subprocess.run(check, check=False).returncode == 0:
        return system
    return str(getattr(sys, "_base_executable", sys.executable))


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    shutil.copytree(ROOT / "ray", tmp_path / "ray", ignore=shutil.ignore_patterns("__pycache__"))
    process = GatewayProcess({"profile": "tiny"}, tmp_path, python=(system_python(), "-S"), cwd=tmp_path)
    yield process
    process.stop()


def test_given_only_ray_and_one_config_when_started_with_nothing_else_then_it_answers(gateway: GatewayProcess) -> None:
    gateway.start()

    assert gateway.get("/livez").json() == {"status": "ok", "service": "ray-gateway"}
    answer = gateway.post("/v1/infer", {"input": "Say hello.", "maxTokens": 16})
    assert answer.status == 200, answer.body
    assert answer.json()["output"]
    assert answer.json()["model"] == "tiny-dev"


def test_given_only_ray_and_one_config_when_terminated_then_it_ends_with_exit_0_and_has_written_nothing(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    gateway.start()

    gateway.signal(signal.SIGTERM)
    assert gateway.wait_exit() == 0, gateway.output()

    left = {
        path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc", ".typed")
    }
    assert left == {gateway.config_path.name}
