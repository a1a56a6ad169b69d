"""`make demo`, end to end: real processes, a real model, and nothing left running afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.backend import ROOT, ask, wait_until
from tests.integration.conftest import Backend

DEMO_SECONDS = 180.0


class Demo:
    """The demo as a process; its two streams go to files."""

    def __init__(self, directory: Path, backend: Backend, *arguments: str) -> None:
        self.directory = directory
        self.out = directory / "demo.out"
        self.err = directory / "demo.err"
        environ = {**os.environ, "RAY_LLAMA_SERVER": str(backend.binary)}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "examples.demo", "--directory", str(directory / "demo"), *arguments],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def text(self) -> str:
        return self.out.read_text("utf-8") + self.err.read_text("utf-8")

    def ports(self) -> tuple[int, int]:
        """The gateway's and the backend's, from the config it wrote."""
        config = json.loads((self.directory / "demo" / "ray.demo.json").read_text("utf-8"))
        return config["server"]["port"], config["model"]["adapter"]["launchProfile"]["port"]

    def wait_ready(self) -> None:
        def offered() -> bool:
            return "Ctrl-C stops both." in self.out.read_text("utf-8") or self.process.poll() is not None

        wait_until(offered, DEMO_SECONDS, "the demo is ready")
        assert self.process.poll() is None, self.text()

    def nobody_listens(self) -> bool:
        for port in self.ports():
            try:
                ask(port, "GET", "/health", timeout=5)
            except ConnectionRefusedError:
                continue
            return False
        return True


@pytest.fixture
def demos() -> Iterator[list[Demo]]:
    started: list[Demo] = []
    yield started
    for demo in started:
        if demo.process.poll() is None:
            demo.process.terminate()
            demo.process.wait(60)


def test_given_a_backend_when_the_demo_runs_once_then_it_prints_real_answers_and_leaves_nothing_running(
    backend: Backend, tmp_path: Path, demos: list[Demo]
) -> None:
    demo = Demo(tmp_path, backend, "--once")
    demos.append(demo)

    assert demo.process.wait(DEMO_SECONDS) == 0, demo.text()

    out = demo.out.read_text("utf-8")
    answer = re.search(r"^\{\n.*?^\}$", out, re.MULTILINE | re.DOTALL)
    assert answer, out
    document = json.loads(answer[0])
    assert document["output"].strip()
    assert document["usage"]["tokens"]["completion"] > 0
    pieces = re.search(r"\((\d+) token events\)", out)
    assert pieces, out
    assert int(pieces[1]) > 1, out
    assert demo.nobody_listens()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_given_a_ready_demo_when_asked_to_stop_then_both_processes_end_and_it_exits_0(
    number: signal.Signals, backend: Backend, tmp_path: Path, demos: list[Demo]
) -> None:
    demo = Demo(tmp_path, backend)
    demos.append(demo)
    demo.wait_ready()
    gateway_port, backend_port = demo.ports()
    assert ask(gateway_port, "GET", "/livez").status == 200
    assert ask(backend_port, "GET", "/health").status == 200

    demo.process.send_signal(number)

    assert demo.process.wait(60) == 0, demo.text()
    assert demo.nobody_listens()


def test_given_a_llama_server_that_ends_at_once_when_the_demo_starts_then_it_fails_with_the_end_of_its_log(
    backend: Backend, tmp_path: Path, demos: list[Demo]
) -> None:
    broken = tmp_path / "llama-server"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "out of everything"\nexit 3\n', "utf-8")
    broken.chmod(0o755)
    demo = Demo(tmp_path, Backend(broken, backend.model))
    demos.append(demo)

    assert demo.process.wait(60) == 1

    assert "llama-server ended with exit status 3" in demo.text()
    assert "out of everything" in demo.text()
    assert demo.nobody_listens()
