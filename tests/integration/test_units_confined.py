"""The two services under what their units allow them: what the hardening forbids, neither of them needs.

Each unit's own command line is run as an unprivileged user, in a read-only file system with the unit's writable
paths, its umask, its system calls, and no memory that is both writable and executable.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray.deploy.sizing import size
from ray.deploy.units import BACKEND_UNIT, GATEWAY_UNIT, render_gateway, render_llama_cpp
from tests.deploy.support import settings_for
from tests.integration.backend import ROOT, START_SECONDS, STOP_SECONDS, ask, free_port, wait_until
from tests.integration.conftest import Backend
from tests.integration.namespaces import missing, need_machines
from tests.integration.sandbox import values

# A user that has no account and owns nothing else.
UID = 61_234
PYTHON = "/usr/bin/python3"


@pytest.fixture(autouse=True, scope="module")
def sandbox() -> None:
    """Skip or fail where it cannot be built."""
    need_machines(("mount", "systemd-analyze", "unshare", PYTHON))
    version = [PYTHON, "-I", "-S", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    if subprocess.run(version, timeout=60).returncode != 0:
        missing("the system's Python is older than 3.11")
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, timeout=60)
    if tried.returncode != 0:
        missing(f"there can be no sandbox: {tried.stderr}")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the unprivileged user can reach, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="ray-units-", dir="/var/tmp"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


class Confined:
    """A unit's own command under the unit's own restrictions."""

    def __init__(self, place: Path, name: str, unit: str) -> None:
        self.unit = place / name
        self.unit.write_text(unit)
        (line,) = values(unit, "ExecStart")
        self.log = place / f"{name}.log"
        environ = dict(pair.split("=", 1) for text in values(unit, "Environment") for pair in shlex.split(text))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.sandbox", str(self.unit), str(UID), "--", *shlex.split(line)],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")[-4000:]

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def answers(port: int, path: str) -> bool:
    try:
        return ask(port, "GET", path, timeout=5).status == 200
    except (OSError, http.client.HTTPException):
        return False


def config_for(place: Path, backend: Backend, port: int) -> dict[str, object]:
    launch = {
        "binaryPath": str(backend.binary),
        "modelPath": str(backend.model),
        "port": free_port(),
        "ctxSize": 2048,
        "parallel": 2,
        "threads": 1,
        "contextShift": False,
        "enableUnifiedKv": False,
    }
    adapter = {
        "kind": "llama.cpp",
        "baseUrl": f"http://127.0.0.1:{launch['port']}",
        "modelRef": "m",
        "launchProfile": launch,
    }
    model = {"contextWindow": 2048, "maxOutputTokens": 128, "operational": {"preferredCtxSize": 2048}}
    return {
        "profile": "sub1b",
        "server": {"host": "127.0.0.1", "port": port},
        "model": {"id": "m", "family": "smollm2", **model, "adapter": adapter},
        "scheduler": {"maxInflightTokens": 2048},
        "auth": {"enabled": False},
        "rateLimit": {"enabled": False},
        "gracefulDegradation": {"enabled": False},
        "asyncQueue": {"enabled": True, "storageDir": str(place / "jobs"), "minFreeStorageMiB": 1},
        "prefixStore": {"enabled": True, "storageDir": str(place / "prefixes"), "minTokens": 16},
    }


SYSTEM = "You answer customers of a parcel service. " + " ".join(f"Rule {number}: be kind." for number in range(20))


def test_both_services_do_all_their_work_under_their_units(backend: Backend, place: Path) -> None:
    port = free_port()
    document = config_for(place, backend, port)
    path = place / "ray.json"
    path.write_text(json.dumps(document))
    path.chmod(0o644)
    for name in ("jobs", "prefixes"):
        (place / name).mkdir(mode=0o700)
        os.chown(place / name, UID, UID)
    settings = settings_for(["--cwd", str(ROOT), "--config", str(path)], {})
    sizing = size(settings.loaded.config, 8192, None)
    unit = render_llama_cpp(settings, sizing)
    assert unit is not None
    server = Confined(place, BACKEND_UNIT, unit)
    gateway = Confined(place, GATEWAY_UNIT, render_gateway(settings, sizing))
    try:
        wait_until(lambda: answers(port, "/readyz"), START_SECONDS, "ready")
        body = {"input": "Where is it?", "system": SYSTEM, "maxTokens": 8}
        for number in range(3):
            given = ask(port, "POST", "/v1/infer", {**body, "input": f"Where is number {number}?"})
            assert given.status == 200, (given.body, server.text(), gateway.text())
        job = ask(port, "POST", "/v1/jobs", body).json()
        wait_until(
            lambda: ask(port, "GET", f"/v1/jobs/{job['id']}").json()["status"] == "succeeded", START_SECONDS, "the job"
        )
        snapshots = place / "prefixes"
        wait_until(
            lambda: bool(list(snapshots.glob("*.kv.json"))), START_SECONDS, "a snapshot that the gateway has adopted"
        )
        health = ask(port, "GET", "/health").json()
        assert health["prefixStore"], health
        assert gateway.end() == 0, gateway.text()
        assert server.end() in (0, -15), server.text()
        for file in snapshots.iterdir():
            assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (UID, 0o600)
    finally:
        gateway.kill()
        server.kill()


def test_the_sandbox_does_forbid(place: Path) -> None:
    """That the test above means something: what no unit allows fails in it."""
    settings = settings_for(["--cwd", str(ROOT)], {}, example="ray.tiny.json")
    unit = render_gateway(settings, size(settings.loaded.config, 8192, None))
    program = (
        "import ctypes, mmap, os, socket\n"
        "def refused(act):\n"
        "    try:\n"
        "        act()\n"
        "    except (OSError, PermissionError):\n"
        "        return True\n"
        "    return False\n"
        "print(refused(lambda: open('/var/tmp/x', 'w')), refused(lambda: os.nice(-5)),\n"
        "    refused(lambda: socket.socket(socket.AF_NETLINK)), refused(lambda: os.chroot('/')),\n"
        "    refused(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)), os.getuid())\n"
    )
    command = shlex.join([PYTHON, "-c", program])
    unit = "\n".join(line for line in unit.splitlines() if not line.startswith("ExecStart=")) + "\n"
    path = place / "x.service"
    path.write_text(unit)
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.sandbox", str(path), str(UID), "--", *shlex.split(command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == f"True True True True True {UID}", done.stderr
