"""The service manager's side of a process: sockets that it keeps for us, and what it wants to be told.

A socket unit's sockets arrive as file descriptors from 3 on; messages go as datagrams to the address in
`NOTIFY_SOCKET`. Both protocols are promised to stay: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3). All
their variables leave the environment when they are read: what a child of ours says is not ours, and a descriptor is
taken once.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from ray.errors import RayError, truncated

FIRST_DESCRIPTOR = 3
# More than this for one port is a mistake; systemd itself would pass thousands.
MAX_SOCKETS = 64
MICROSECONDS = 1_000_000
SOCKET_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", *SOCKET_VARIABLES)


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """Who started this process, as far as it wants to hear from us.

    `sockets`: TCP sockets that listen already, and are the caller's now. `watchdog_s`: it ends this process when it
    hears nothing for so many seconds; None: it does not watch.
    """

    sockets: tuple[socket.socket, ...] = ()
    watchdog_s: float | None = None
    notify_address: str | None = None

    def tell(self, *lines: str) -> bool:
        """Send assignments such as `READY=1` or `STATUS=…` as one message; whether it was taken. Never waits."""
        if self.notify_address is None:
            return True
        # A name that begins with @ is in the abstract namespace, where the first byte is NUL.
        address = "\0" + self.notify_address[1:] if self.notify_address[0] == "@" else self.notify_address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)
                channel.sendto("\n".join(lines).encode(), address)
        except OSError:
            return False
        return True


def take_service_manager(environ: Mapping[str, str]) -> ServiceManager:
    """Read the variables of a service manager, and remove them. Without any, nobody is there to be told anything.

    Variables that name another process (`LISTEN_PID`, `WATCHDOG_PID`) were inherited and are not for us. Raises
    RayError `listen_failed` when what was passed is no listening TCP socket.
    """
    given = {name: environ[name] for name in VARIABLES if name in environ}
    if isinstance(environ, MutableMapping):
        for name in given:
            del environ[name]
    address = given.get("NOTIFY_SOCKET", "")
    return ServiceManager(
        sockets=_passed_sockets(given) if _is_ours(given.get("LISTEN_PID")) else (),
        watchdog_s=_watchdog_s(given),
        notify_address=address if address[:1] in ("/", "@") and len(address) > 1 else None,
    )


def _is_ours(pid: str | None) -> bool:
    return pid == str(os.getpid())


def _watchdog_s(given: Mapping[str, str]) -> float | None:
    pid, text = given.get("WATCHDOG_PID"), given.get("WATCHDOG_USEC", "")
    if not _is_number(text, 18) or int(text) == 0 or not (pid is None or _is_ours(pid)):
        return None
    return int(text) / MICROSECONDS


def _passed_sockets(given: Mapping[str, str]) -> tuple[socket.socket, ...]:
    text = given.get("LISTEN_FDS", "")
    if not _is_number(text, 4) or int(text) > MAX_SOCKETS:
        raise RayError(
            "listen_failed", f"LISTEN_FDS={truncated(text, 32)!r} is no number of sockets up to {MAX_SOCKETS}"
        )
    names = given.get("LISTEN_FDNAMES", "").split(":")
    taken: list[socket.socket] = []
    try:
        for index in range(int(text)):
            name = names[index] if index < len(names) else ""
            taken.append(_taken_socket(FIRST_DESCRIPTOR + index, name))
    except BaseException:
        for passed in taken:
            passed.close()
        raise
    return tuple(taken)


def _taken_socket(descriptor: int, name: str) -> socket.socket:
    """The passed descriptor as a listening TCP socket that no child inherits."""
    described = f"file descriptor {descriptor}" + (f" ({truncated(name, 64)})" if name else "")
    try:
        os.set_inheritable(descriptor, False)
        passed = socket.socket(fileno=descriptor)
    except OSError as error:
        raise RayError(
            "listen_failed", f"{described} was passed by the service manager and is no socket: {error.strerror}"
        ) from error
    is_stream = passed.family in (socket.AF_INET, socket.AF_INET6) and passed.type == socket.SOCK_STREAM
    if not is_stream or not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        passed.close()
        raise RayError(
            "listen_failed",
            f"{described} was passed by the service manager and is no listening TCP socket: "
            "the socket unit needs ListenStream=ADDRESS:PORT and Accept=no",
        )
    return passed


def _is_number(text: str, digits: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= digits
