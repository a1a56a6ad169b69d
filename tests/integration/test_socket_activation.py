"""A restart under load: the listening socket is kept by somebody else, so no connection is refused and no answer cut.

Here the test keeps the socket, as the service manager does for a socket unit, and starts each gateway through the real
`systemd-socket-activate`, which passes it on and becomes the gateway when the first connection waits.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fakes.held_backend import HeldBackend, held_backend
from tests.integration.backend import ROOT, STOP_SECONDS, wait_until
from tests.integration.namespaces import missing

RESTARTS = 3
CLIENTS = 4
ANSWERS_BETWEEN_RESTARTS = 40


@pytest.fixture(autouse=True)
def socket_activation() -> None:
    if shutil.which("systemd-socket-activate") is None:
        missing("no systemd-socket-activate: install systemd")


@dataclass
class Manager:
    """Keeps the socket and one gateway on it."""

    listening: socket.socket
    config: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        port: int = self.listening.getsockname()[1]
        return port

    def start(self) -> None:
        # LISTEN_PID must be the process that is about to read it; the shell knows its own number.
        script = 'export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http; exec "$@"'
        command = ["systemd-socket-activate", "--fdname=http", "-E", "PYTHONDONTWRITEBYTECODE=1"]
        command += [sys.executable, "-m", "ray", "--config", str(self.config)]
        kept = self.listening.fileno()

        def place() -> None:
            os.dup2(kept, 3)

        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", script, "sh", *command],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=place,
                close_fds=False,
            )

    def restart(self) -> None:
        """What `systemctl restart` does: SIGTERM, wait, start."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(STOP_SECONDS) == 0, self.text()
        self.start()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def entries(self, message: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("message") == message]


@contextmanager
def managed(tmp_path: Path, document: dict[str, object]) -> Iterator[Manager]:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        config = tmp_path / "ray.json"
        server = {"host": "127.0.0.1", "port": listening.getsockname()[1]}
        config.write_text(json.dumps({**document, "server": server}))
        manager = Manager(listening, config, tmp_path / "gateway.log")
        manager.start()
        try:
            yield manager
        finally:
            manager.stop()


@dataclass
class Load:
    """Clients that ask until they are told to stop, and what went wrong for them."""

    port: int
    ask: Callable[[Load], None]
    answers: int = 0
    faults: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self) -> None:
        with self.lock:
            self.answers += 1

    def wait_for(self, answers: int) -> None:
        wait_until(lambda: self.answers >= answers or bool(self.faults), 60, "more answers")

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self.ask(self)
            except (OSError, http.client.HTTPException, AssertionError) as error:
                with self.lock:
                    self.faults.append(f"{type(error).__name__}: {error}")

    @contextmanager
    def going_on(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.run, daemon=True) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join(60)


def body_of(text: str) -> bytes:
    return json.dumps({"input": text}).encode()


JSON = {"content-type": "application/json"}


def ask_on_new_connections(load: Load) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", load.port, timeout=60)
    try:
        connection.request("POST", "/v1/infer", body_of(f"question {time.monotonic_ns()}"), JSON)
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, (response.status, answer)
        assert json.loads(answer)["output"]
        load.answered()
    finally:
        connection.close()


def ask_on_kept_connections(load: Load) -> None:
    """One connection until the server says that it closes it."""
    connection = http.client.HTTPConnection("127.0.0.1", load.port, timeout=60)
    try:
        while not load.over.is_set():
            connection.request("POST", "/v1/infer", body_of(f"question {time.monotonic_ns()}"), JSON)
            response = connection.getresponse()
            closes = response.getheader("connection") == "close"
            answer = response.read()
            assert response.status == 200, (response.status, answer)
            load.answered()
            if closes:
                return
    finally:
        connection.close()


def ask_for_streams(load: Load) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", load.port, timeout=60)
    try:
        asked = json.dumps({"input": f"question {time.monotonic_ns()}", "stream": True}).encode()
        connection.request("POST", "/v1/infer", asked, JSON)
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status == 200, (response.status, text)
        assert "event: result" in text, text[-300:]
        load.answered()
    finally:
        connection.close()


def submit_jobs(load: Load) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", load.port, timeout=60)
    try:
        connection.request("POST", "/v1/jobs", body_of(f"question {time.monotonic_ns()}"), JSON)
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 202, (response.status, answer)
        load.answered()
    finally:
        connection.close()


def config(tmp_path: Path, **more: object) -> dict[str, object]:
    return {
        "profile": "tiny",
        "model": {"adapter": {"kind": "mock", "latencyMs": 20}},
        "scheduler": {"concurrency": 4, "maxQueue": 200},
        "rateLimit": {"enabled": False},
        "gracefulDegradation": {"enabled": False},
        "asyncQueue": {
            "enabled": True,
            "storageDir": str(tmp_path / "jobs"),
            "minFreeStorageMiB": 1,
            "minFreeInodes": 0,
            "maxJobs": 2000,
        },
        **more,
    }


@pytest.mark.parametrize("ask", [ask_on_new_connections, ask_on_kept_connections, ask_for_streams, submit_jobs])
def test_given_load_when_restarted_again_and_again_then_nobody_is_refused_and_nothing_is_cut(
    tmp_path: Path, ask: Callable[[Load], None]
) -> None:
    with managed(tmp_path, config(tmp_path)) as manager:
        load = Load(manager.port, ask)
        with load.going_on():
            for _ in range(RESTARTS):
                load.wait_for(load.answers + ANSWERS_BETWEEN_RESTARTS)
                manager.restart()
            load.wait_for(load.answers + ANSWERS_BETWEEN_RESTARTS)
        assert load.faults == []
        assert len(manager.entries("gateway listening")) == RESTARTS + 1
        (one, *_) = manager.entries("gateway listening")
        assert (one["host"], one["port"]) == ("127.0.0.1", manager.port)


@pytest.fixture
def backend() -> Iterator[HeldBackend]:
    with held_backend() as server:
        yield server


def test_given_a_long_answer_when_restarted_then_it_ends_in_the_old_gateway_and_the_next_waits_for_the_new_one(
    tmp_path: Path, backend: HeldBackend
) -> None:
    slow = config(tmp_path, model=backend.model())
    slow["scheduler"] = {"requestTimeoutMs": 60_000}
    with managed(tmp_path, slow) as manager:
        connection = http.client.HTTPConnection("127.0.0.1", manager.port, timeout=60)
        connection.request("POST", "/v1/infer", body_of("a long one"), JSON)
        wait_until(lambda: backend.asked.is_set() or manager.ended(), 60, "the backend is asked")
        assert not manager.ended(), manager.text()
        old = manager.process
        assert old is not None
        old.send_signal(signal.SIGTERM)
        wait_until(lambda: bool(manager.entries("gateway shutting down")), 60, "the old gateway drains")
        waiting = http.client.HTTPConnection("127.0.0.1", manager.port, timeout=60)
        waiting.request("GET", "/livez")
        backend.may_answer.set()
        response = connection.getresponse()
        assert (response.status, response.getheader("connection")) == (200, "close")
        assert json.loads(response.read())["output"] == "done"
        connection.close()
        assert old.wait(STOP_SECONDS) == 0
        manager.start()
        assert waiting.getresponse().status == 200
        waiting.close()


def test_without_somebody_who_keeps_the_socket_the_same_load_is_refused(tmp_path: Path) -> None:
    """That the test above can fail: a gateway with a socket of its own does refuse while it restarts."""
    with managed(tmp_path, config(tmp_path)) as manager:
        load = Load(manager.port, ask_on_new_connections)
        wait_until(lambda: answers(load), 60, "it answers")
        manager.listening.close()
        assert manager.process is not None
        manager.process.send_signal(signal.SIGTERM)
        assert manager.process.wait(STOP_SECONDS) == 0
        with pytest.raises(ConnectionRefusedError):
            ask_on_new_connections(load)


def answers(load: Load) -> bool:
    ask_on_new_connections(load)
    return load.answers > 0
