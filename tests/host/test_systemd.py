"""The service manager's protocols: what is taken from the environment, what is refused, and where messages go."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ray.errors import RayError
from ray.host import take_service_manager

ROOT = Path(__file__).resolve().parent.parent.parent
OWN_PID = str(os.getpid())


@pytest.mark.parametrize("environ", [{}, {"PATH": "/bin"}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_given_nobody_to_tell_then_telling_succeeds_and_nothing_is_taken(environ: dict[str, str]) -> None:
    manager = take_service_manager(environ)
    assert (manager.sockets, manager.watchdog_s) == ((), None)
    assert manager.tell("READY=1") is True


def test_all_variables_leave_the_environment_and_no_others() -> None:
    environ = {
        "NOTIFY_SOCKET": "/nowhere",
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": OWN_PID,
        "LISTEN_FDS": "0",
        "LISTEN_PID": OWN_PID,
        "LISTEN_FDNAMES": "http",
        "HOME": "/root",
    }
    assert take_service_manager(environ).watchdog_s == 3.0
    assert environ == {"HOME": "/root"}


def test_given_a_path_when_told_then_one_datagram_holds_all_lines(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        manager = take_service_manager({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert manager.tell("READY=1", "STATUS=wärm") is True
        assert heard.recv(4096) == "READY=1\nSTATUS=wärm".encode()


def test_given_an_abstract_address_when_told_then_it_arrives() -> None:
    name = f"ray-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind("\0" + name)
        assert take_service_manager({"NOTIFY_SOCKET": f"@{name}"}).tell("WATCHDOG=1") is True
        assert heard.recv(4096) == b"WATCHDOG=1"


def test_given_nobody_behind_the_address_when_told_then_it_says_so(tmp_path: Path) -> None:
    assert take_service_manager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell("READY=1") is False


def test_given_somebody_who_does_not_read_when_told_then_it_never_waits(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "notify"))
        manager = take_service_manager({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert not all(manager.tell("WATCHDOG=1") for _ in range(10_000))


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("30000000", None, 30.0),
        ("30000000", OWN_PID, 30.0),
        ("30000000", "1", None),
        ("0", None, None),
        ("-1", None, None),
        ("1e6", None, None),
        ("", None, None),
        ("9" * 30, None, None),
    ],
)
def test_the_watchdog_counts_when_it_is_a_time_and_meant_for_us(
    usec: str, pid: str | None, seconds: float | None
) -> None:
    environ = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": usec} | ({} if pid is None else {"WATCHDOG_PID": pid})
    assert take_service_manager(environ).watchdog_s == seconds


@pytest.mark.parametrize("pid", ["1", "", "x", None])
def test_sockets_passed_to_another_process_are_not_ours(pid: str | None) -> None:
    environ = {"LISTEN_FDS": "1"} | ({} if pid is None else {"LISTEN_PID": pid})
    assert take_service_manager(environ).sockets == ()
    assert "LISTEN_FDS" not in environ


@pytest.mark.parametrize("count", ["", "x", "-1", "65", "1.0", "٣", "9" * 500])
def test_a_count_that_is_none_is_refused(count: str) -> None:
    with pytest.raises(RayError) as caught:
        take_service_manager({"LISTEN_FDS": count, "LISTEN_PID": OWN_PID})
    assert caught.value.code == "listen_failed"
    assert "LISTEN_FDS" in caught.value.message
    assert len(caught.value.message) < 200


# What one process was passed is tried in a process of its own: the descriptors have to be 3, 4, ...
PROGRAM = """
import json, os, sys
from ray.errors import RayError
from ray.host import take_service_manager
environ = {**os.environ, "LISTEN_PID": str(os.getpid())}
try:
    passed = take_service_manager(environ).sockets
    again = take_service_manager(environ).sockets
    print(json.dumps({
        "names": [taken.getsockname()[:2] for taken in passed],
        "inheritable": [taken.get_inheritable() for taken in passed],
        "again": len(again),
    }))
except RayError as error:
    print(json.dumps({"code": error.code, "message": error.message}))
"""


def taken_by_a_process(descriptors: list[int], environ: Mapping[str, str]) -> dict[str, object]:
    def place() -> None:
        high = [os.dup2(descriptor, 100 + index) for index, descriptor in enumerate(descriptors)]
        for index, descriptor in enumerate(high):
            os.dup2(descriptor, 3 + index)

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={"LISTEN_FDS": str(len(descriptors)), **environ},
        preexec_fn=place,
        close_fds=False,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def test_listening_sockets_are_taken_once_and_no_child_inherits_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        answer = taken_by_a_process([one.fileno(), two.fileno()], {"LISTEN_FDNAMES": "http:other"})
        assert answer == {
            "names": [list(one.getsockname()), list(two.getsockname())],
            "inheritable": [False, False],
            "again": 0,
        }


@pytest.mark.parametrize("kind", ["datagram", "unix", "connected", "not listening", "file"])
def test_a_descriptor_that_is_no_listening_tcp_socket_is_refused_by_its_name(tmp_path: Path, kind: str) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
        socket.socket(socket.AF_UNIX) as unix,
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as connected,
        socket.socket() as bound,
        (tmp_path / "file").open("wb") as file,
    ):
        unix.bind(str(tmp_path / "socket"))
        unix.listen()
        given = {
            "datagram": datagram.fileno(),
            "unix": unix.fileno(),
            "connected": connected.fileno(),
            "not listening": bound.fileno(),
            "file": file.fileno(),
        }
        answer = taken_by_a_process([given[kind]], {"LISTEN_FDNAMES": "http"})
    assert answer["code"] == "listen_failed"
    assert str(answer["message"]).startswith("file descriptor 3 (http) was passed by the service manager and is no ")


def test_a_descriptor_that_is_not_open_is_refused() -> None:
    answer = taken_by_a_process([], {"LISTEN_FDS": "60"})
    assert answer["code"] == "listen_failed"
    assert "Bad file descriptor" in str(answer["message"])


def test_without_a_service_manager_the_code_for_one_is_not_loaded() -> None:
    program = "import sys, ray.cli, ray.gateway, ray.host; print('ray.host.systemd' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
