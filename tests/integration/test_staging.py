"""Staging the real llama-server and a real model, by `--apply` and by the printed script."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.staging_support import sha256
from tests.integration.conftest import Backend

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "examples/config/ray.sub1b.public.json"
USER = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def places() -> Iterator[Path]:
    """A directory that the account of the service reaches, with the sources in it."""
    directory = Path(tempfile.mkdtemp(prefix="ray-staging-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("way", ["apply", "script"])
def test_the_real_server_and_a_real_model_are_staged(backend: Backend, places: Path, way: str) -> None:
    if way == "script" and os.geteuid() != 0:
        pytest.skip("the script needs root, or sudo")
    artifacts = places / "artifacts"
    artifacts.mkdir()
    binary = Path(shutil.copy(backend.binary, artifacts / "llama-server"))
    model = Path(shutil.copy(backend.model, artifacts / "model.gguf"))
    if subprocess.run([binary, "--version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this llama-server does not start from another directory")
    environ = {
        "PATH": os.environ["PATH"],
        "RAY_LLAMA_CPP_BINARY_PATH": str(places / "bin" / "llama-server"),
        "RAY_MODEL_PATH": str(places / "models" / "model.gguf"),
        "RAY_LLAMA_CPP_BINARY_SOURCE_PATH": str(binary),
        "RAY_MODEL_SOURCE_PATH": str(model),
        "RAY_MODEL_SHA256": sha256(model.read_bytes()),
        "RAY_DEPLOY_SERVICE_USER": USER,
    }
    command = [sys.executable, "-S", "-m", "ray.deploy", "model-stage", "--config", str(CONFIG)]
    option = "--apply" if way == "apply" else "--commands-only"
    done = subprocess.run([*command, option], env=environ, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if way == "script":
        done = subprocess.run(["sh"], input=done.stdout, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    staged = places / "models" / "model.gguf"
    assert stat.S_IMODE(staged.stat().st_mode) == 0o640
    assert staged.stat().st_uid == pwd.getpwnam(USER).pw_uid
    assert sha256(staged.read_bytes()) == environ["RAY_MODEL_SHA256"]
    assert (
        subprocess.run([places / "bin" / "llama-server", "--version"], capture_output=True, check=False).returncode == 0
    )
    plan = subprocess.run([*command, "--json"], env=environ, cwd=ROOT, capture_output=True, text=True, check=True)
    assert '"workingSetSource": "model-file"' in plan.stdout
