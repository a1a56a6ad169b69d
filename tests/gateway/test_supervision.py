"""What a service manager hears of a gateway: made up ones in order, and a real process over a real datagram socket."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ray.gateway.supervision import Supervision, rhythm, status_text
from ray.gateway.warm_up import WarmUp
from ray.host import ServiceManager
from ray.http import ConnectionCounts
from ray.telemetry import Logger
from tests.gateway.harness import soon
from tests.integration.backend import GatewayProcess


class Cold:
    """A runtime that nothing is asked of."""

    async def warm(self) -> None: ...

    async def backend_answers(self) -> bool:
        return False

    async def needs_warming(self) -> bool:
        return False


@dataclass
class FakeServices:
    warm_up: WarmUp
    requests: int = 0

    def connections(self) -> ConnectionCounts:
        return ConnectionCounts(self.requests, self.requests, self.requests)


@dataclass
class FakeGateway:
    services: FakeServices
    draining: bool = False
    port: int = 1


def fake_gateway() -> FakeGateway:
    return FakeGateway(FakeServices(WarmUp(Cold(), Logger("ray-test", "error", stdout=io.StringIO()))))


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end of the notify socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(20)
        yield end


def address_of(heard: socket.socket) -> str:
    return str(heard.getsockname())


@pytest.mark.parametrize(
    ("watchdog_s", "interval_s", "looks"),
    [(None, 1.0, 0), (30.0, 1.0, 15), (1.0, 0.5, 1), (3.0, 0.75, 2), (0.2, 0.1, 1), (2.0, 1.0, 1)],
)
def test_signs_of_life_come_at_half_of_the_time(watchdog_s: float | None, interval_s: float, looks: int) -> None:
    assert rhythm(watchdog_s) == (interval_s, looks)


def test_the_status_follows_the_warm_up_and_the_drain() -> None:
    gateway = fake_gateway()
    warm_up = gateway.services.warm_up
    assert status_text(gateway) == "listening, warming the backend"
    warm_up.failures, warm_up.delay_ms = 3, 2000
    assert status_text(gateway) == "listening, the backend could not be warmed (3 failures), trying again"
    warm_up.delay_ms, warm_up.succeeded = 0, True
    assert status_text(gateway) == "serving, the backend is warm"
    gateway.draining, gateway.services.requests = True, 2
    assert status_text(gateway) == "draining, 2 requests under way"


def test_ready_status_and_the_first_sign_of_life_are_one_message(heard: socket.socket) -> None:
    async def main() -> None:
        manager = ServiceManager(watchdog_s=60.0, notify_address=address_of(heard))
        supervision = Supervision(manager, Logger("ray-test", "error", stdout=io.StringIO()))
        supervision.ready(fake_gateway())
        assert heard.recv(4096) == b"READY=1\nWATCHDOG=1\nSTATUS=listening, warming the backend"
        supervision.stopping()
        assert heard.recv(4096) == b"STOPPING=1"
        supervision.close()

    asyncio.run(main())


def test_given_nobody_who_hears_when_somebody_comes_then_nothing_but_old_signs_of_life_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        log = io.StringIO()
        manager = ServiceManager(watchdog_s=0.002, notify_address=str(tmp_path / "notify"))
        supervision = Supervision(manager, Logger("ray-test", "info", stdout=log, stderr=log))
        supervision.ready(fake_gateway())
        await soon(lambda: log.getvalue() != "")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.bind(str(tmp_path / "notify"))
            end.settimeout(20)
            loop = asyncio.get_running_loop()
            message = await loop.run_in_executor(None, end.recv, 4096)
        supervision.close()
        assert message == b"READY=1\nWATCHDOG=1\nSTATUS=listening, warming the backend"
        assert [json.loads(line)["event"] for line in log.getvalue().splitlines()] == ["service_manager_unreachable"]

    asyncio.run(main())


def read_for_ever(end: socket.socket) -> None:
    while True:
        end.recv(4096)


def write_for_ever(end: socket.socket, address: str) -> None:
    while True:
        end.sendto(b"x", address)


@dataclass
class Heard:
    """Every message so far, in order."""

    end: socket.socket
    messages: list[list[str]] = field(default_factory=list)

    def until(self, line: str) -> None:
        """Read until a message has this line."""
        while not self.messages or line not in self.messages[-1]:
            self.messages.append(self.end.recv(4096).decode().split("\n"))


def test_given_a_gateway_process_then_it_is_ready_when_it_listens_lives_and_says_when_it_stops(
    tmp_path: Path, heard: socket.socket
) -> None:
    environ = {"NOTIFY_SOCKET": address_of(heard), "WATCHDOG_USEC": "1000000"}
    gateway = GatewayProcess({"profile": "tiny"}, tmp_path, environ=environ)
    told = Heard(heard)
    try:
        gateway.start()
        told.until("READY=1")
        assert gateway.get("/livez").status == 200
        told.until("STATUS=serving, the backend is warm")
        told.until("WATCHDOG=1")
        gateway.signal(signal.SIGTERM)
        told.until("STOPPING=1")
        assert gateway.wait_exit() == 0
    finally:
        gateway.stop()
    assert not [entry for entry in gateway.log() if entry["level"] in ("warn", "error")]


def test_given_an_event_loop_that_no_longer_turns_then_there_is_no_sign_of_life(
    tmp_path: Path, heard: socket.socket
) -> None:
    # A thread of its own would go on sending while the loop is stuck: the loop is stuck here, and the process is not.
    program = tmp_path / "sitecustomize.py"
    program.write_text(
        "import signal, time\n"
        "def get_stuck(number, frame):\n"
        "    while True:\n"
        "        time.sleep(0.01)\n"
        "signal.signal(signal.SIGUSR1, get_stuck)\n"
    )
    environ = {"NOTIFY_SOCKET": address_of(heard), "WATCHDOG_USEC": "400000", "PYTHONPATH": str(tmp_path)}
    gateway = GatewayProcess({"profile": "tiny"}, tmp_path, environ=environ)
    told = Heard(heard)
    try:
        gateway.start()
        told.until("READY=1")
        told.until("WATCHDOG=1")
        gateway.signal(signal.SIGUSR1)
        heard.settimeout(1.0)
        with pytest.raises(TimeoutError):
            read_for_ever(heard)
        assert gateway.running()
        os.kill(gateway.pid, signal.SIGKILL)
    finally:
        gateway.stop()


def fill(address: str, senders: ExitStack) -> None:
    """Send until even a new sender is turned away: what one may have under way is limited, too."""
    while True:
        sender = senders.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        sender.setblocking(False)
        try:
            sender.sendto(b"x", address)
        except BlockingIOError:
            return
        with pytest.raises(BlockingIOError):
            write_for_ever(sender, address)


def test_given_a_full_queue_of_messages_then_the_gateway_serves_all_the_same(
    tmp_path: Path, heard: socket.socket
) -> None:
    with ExitStack() as senders:
        fill(address_of(heard), senders)
        gateway = GatewayProcess({"profile": "tiny"}, tmp_path, environ={"NOTIFY_SOCKET": address_of(heard)})
        try:
            gateway.start()
            assert gateway.get("/livez").status == 200
            warned = gateway.wait_logged("the service manager does not take messages")
            assert warned["level"] == "warn"
            Heard(heard).until("READY=1")
        finally:
            gateway.stop()


def test_given_a_descriptor_that_is_no_socket_when_booted_then_one_line_says_so(tmp_path: Path) -> None:
    # The shell knows its process id before it becomes the gateway.
    gateway = GatewayProcess(
        {"profile": "tiny"},
        tmp_path,
        environ={"LISTEN_FDS": "1"},
        python=("/bin/sh", "-c", 'LISTEN_PID=$$ exec "$0" "$@" 3</dev/null', sys.executable),
    )
    with pytest.raises(AssertionError):
        gateway.start()
    output = gateway.output()
    gateway.stop()
    error = json.loads(output)["error"]
    assert error["code"] == "listen_failed"
    assert "file descriptor 3" in error["message"]
