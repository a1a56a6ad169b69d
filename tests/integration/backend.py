"""Real processes for the integration tests: a `llama-server` with a small model, and the gateway.

Both write to files or pipes that a failing test can show, both are stopped by whoever started them, and both can be
killed the hard way.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.local_backend import server_environment

ROOT = Path(__file__).resolve().parent.parent.parent
# How long anything may take that does happen in the end. A busy machine is slow, and waiting costs nothing where it is
# not: only what never happens is waited for that long.
PATIENCE_SECONDS = 60.0
START_SECONDS = 120.0
STOP_SECONDS = 60.0
# What is to happen without waiting for running answers must take less than the 30 s that a gateway gives them.
AT_ONCE_SECONDS = 25.0
POLL_SECONDS = 0.05
LOG_TAIL_CHARS = 4_000


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that nobody gets by chance before it is used.

    The kernel gives ports of its own range to outgoing connections and to whoever asks for any; whoever polls such a
    port in vain may even be connected with himself. So it is one from outside that range.
    """
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    outside = [*range(10_000, first), *range(last + 1, 65_536)]
    candidates: list[int] = random.SystemRandom().sample(outside, min(100, len(outside)))
    for port in candidates:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port outside the range that the kernel gives away")


def wait_until(condition: Callable[[], bool], seconds: float, what: str | Callable[[], str]) -> None:
    """Poll `condition` until it is true. Fails the test after `seconds`, naming `what`: a function is called then."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document


def ask(
    port: int,
    method: str,
    path: str,
    document: object = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> Answer:
    """One request on a connection of its own. `document` is sent as JSON; header names come back in lower case."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        body = None if document is None else json.dumps(document).encode()
        sent = dict(headers or {})
        if body is not None:
            sent.setdefault("content-type", "application/json")
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


class LlamaServerProcess:
    """A real `llama-server`. It keeps its port, so that a restarted one is found where the dead one was."""

    def __init__(
        self, binary: Path, model: Path, log: Path, *, slots: int = 2, ctx_size: int = 4096, extra: tuple[str, ...] = ()
    ) -> None:
        self.binary = binary
        self.model = model
        self.log = log
        self.slots = slots
        self.ctx_size = ctx_size
        self.extra = extra
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "llama-server was not started"
        return self._process.pid

    def start(self) -> None:
        """Start it and return at once: it is still loading its model then (`wait_healthy`)."""
        assert self._process is None, "llama-server is running already"
        # One thread: several wait for one another in loops, and beside a busy neighbour that is ten times slower.
        command = [
            str(self.binary), "--model", str(self.model), "--host", "127.0.0.1", "--port", str(self.port),
            "--ctx-size", str(self.ctx_size), "--parallel", str(self.slots), "--kv-unified", "--threads", "1",
            "--batch-size", "256", "--ubatch-size", "128", "--cache-ram", "128", "--slots", "--metrics",
            "--no-context-shift", "--no-ui", "--offline", *self.extra,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=server_environment()
            )

    def healthy(self) -> bool:
        try:
            return ask(self.port, "GET", "/health", timeout=5).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def wait_healthy(self, seconds: float = START_SECONDS) -> None:
        def ready_or_dead() -> bool:
            return self.healthy() or self._process is None or self._process.poll() is not None

        wait_until(ready_or_dead, seconds, lambda: f"llama-server healthy. Its log:\n{self.log_tail()}")
        assert self._process is not None
        assert self._process.poll() is None, f"llama-server ended with {self._process.poll()}:\n{self.log_tail()}"

    def busy_slots(self) -> int:
        """How many slots work at this moment."""
        slots = json.loads(ask(self.port, "GET", "/slots").body)
        return sum(1 for slot in slots if slot["is_processing"])

    def tokens_written(self) -> int:
        """How many tokens it has generated so far, those of answers that nobody waited for included."""
        figures = ask(self.port, "GET", "/metrics").body.decode()
        (line,) = re.findall(r"^llamacpp:tokens_predicted_total (\d+)$", figures, re.MULTILINE)
        return int(line)

    def wait_idle(self) -> None:
        wait_until(lambda: self.busy_slots() == 0, PATIENCE_SECONDS, "no slot of llama-server works")

    def pause(self) -> None:
        """Stop it where it is: it neither works nor answers until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill9(self) -> None:
        """The way the kernel's out-of-memory killer does it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_SECONDS)
        self._process = None

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        self.resume()  # a paused process would not end
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
        self._process = None

    def log_tail(self) -> str:
        return self.log.read_text("utf-8", "replace")[-LOG_TAIL_CHARS:] if self.log.exists() else ""


class GatewayProcess:
    """`python -m ray --config FILE` as a process of its own, with an environment that holds nothing but `environ`."""

    def __init__(
        self,
        config: Mapping[str, object],
        directory: Path,
        *,
        environ: Mapping[str, str] | None = None,
        python: tuple[str, ...] = (sys.executable,),
        cwd: Path = ROOT,
    ) -> None:
        """`config`: a config document; `server.port` is filled in when it is missing."""
        server = config.get("server", {})
        assert isinstance(server, dict)
        self.port: int = server.get("port") or free_port()
        self.config = {**config, "server": {"host": "127.0.0.1", **server, "port": self.port}}
        self.config_path = directory / f"ray.{self.port}.json"
        self.config_path.write_text(json.dumps(self.config), "utf-8")
        self._command = [*python, "-m", "ray", "--config", str(self.config_path)]
        self._environ = dict(environ or {})
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._lines: list[str] = []

    @property
    def pid(self) -> int:
        assert self._process is not None, "the gateway was not started"
        return self._process.pid

    def start(self) -> None:
        """Start it and return once it listens. Fails with its output when it ends instead."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environ,
            cwd=self._cwd,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        wait_until(
            lambda: self._listens() or not self.running(), START_SECONDS, lambda: f"it listens:\n{self.output()}"
        )
        if not self._listens():
            status = self.wait_exit()  # and until everything it said has been read
            raise AssertionError(f"the gateway ended with {status}:\n{self.output()}")

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.append(line.decode("utf-8", "replace"))

    def _listens(self) -> bool:
        return any(entry.get("message") == "gateway listening" for entry in self.log())

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def output(self) -> str:
        """Everything it has written so far, standard error included."""
        return "".join(self._lines)

    def log(self) -> list[dict[str, object]]:
        """Its JSON log lines so far, in order."""
        entries = []
        for line in list(self._lines):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                entries.append(entry)
        return entries

    def wait_logged(self, message: str, seconds: float = PATIENCE_SECONDS) -> dict[str, object]:
        """The first log line whose `message` is this one; waits for it."""

        def found() -> list[dict[str, object]]:
            return [entry for entry in self.log() if entry.get("message") == message]

        wait_until(lambda: bool(found()), seconds, lambda: f"log line {message!r}. Output so far:\n{self.output()}")
        return found()[0]

    def get(self, path: str, headers: Mapping[str, str] | None = None, timeout: float = 60.0) -> Answer:
        return ask(self.port, "GET", path, headers=headers, timeout=timeout)

    def post(
        self, path: str, document: object, headers: Mapping[str, str] | None = None, timeout: float = 60.0
    ) -> Answer:
        return ask(self.port, "POST", path, document, headers, timeout)

    @contextmanager
    def streamed(self, document: Mapping[str, object], timeout: float = 60.0) -> Iterator[Iterator[tuple[str, str]]]:
        """`POST /v1/infer` as an event stream: yields the (event, data) pairs while they arrive.

        Leaving the block before the end closes the connection, which is what a client does that goes away.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            body = json.dumps({**document, "stream": True}).encode()
            connection.request("POST", "/v1/infer", body, {"content-type": "application/json"})
            response = connection.getresponse()
            assert response.status == 200, (response.status, response.read())
            assert response.getheader("content-type", "").startswith("text/event-stream")
            yield _events(response)
        finally:
            connection.close()

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until `/readyz` answers 200."""

        def ready_or_dead() -> bool:
            return not self.running() or self.get("/readyz").status == 200

        wait_until(ready_or_dead, seconds, lambda: f"ready:\n{self.output()}")
        assert self.running(), f"the gateway ended:\n{self.output()}"

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait_exit(self, seconds: float = STOP_SECONDS) -> int:
        """Its exit status, once everything it said has been read. Fails the test when it does not end in time."""
        assert self._process is not None
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the gateway did not end within {seconds:g} s:\n{self.output()}") from None
        assert self._reader is not None
        self._reader.join(STOP_SECONDS)
        return status

    def stop(self) -> None:
        """End it if it still runs, and give its pipe back."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_SECONDS)
        if self._reader is not None:
            self._reader.join(STOP_SECONDS)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[str, str]]:
    event, data = "message", []
    for raw in response:
        line = raw.decode("utf-8").rstrip("\n")
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data.append(line.removeprefix("data: "))
        elif not line and data:
            yield event, "\n".join(data)
            event, data = "message", []


def llama_cpp_config(server: LlamaServerProcess) -> dict[str, object]:
    """A config document for a gateway in front of `server`. Small limits, no rate limit, nothing written to disk."""
    name = server.model.stem
    return {
        "profile": "sub1b",
        "model": {
            "id": name,
            "family": "smollm2",
            "quantization": "unknown",
            "contextWindow": server.ctx_size,
            "maxOutputTokens": 256,
            "operational": {"preferredCtxSize": server.ctx_size},
            "adapter": {
                "kind": "llama.cpp",
                "baseUrl": server.base_url,
                "modelRef": name,
                "timeoutMs": 100_000,
                "launchProfile": {
                    "modelPath": str(server.model),
                    "port": server.port,
                    "alias": name,
                    "ctxSize": server.ctx_size,
                    "parallel": server.slots,
                    "contextShift": False,
                },
            },
        },
        "scheduler": {
            "concurrency": server.slots,
            "maxInflightTokens": server.ctx_size,
            "requestTimeoutMs": 110_000,
        },
        "rateLimit": {"enabled": False},
        # A busy machine must not shorten what a test has asked for.
        "gracefulDegradation": {"enabled": False},
        "adaptiveTuning": {"enabled": False},
    }
