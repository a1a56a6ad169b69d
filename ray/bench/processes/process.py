"""A server as a real process: start it, read what it costs from `/proc`, stop it.

The readings come from outside, as an operator's `top` would take them, so they include everything the process does:
interpreter, threads and allocator. Linux only, like the readings themselves.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

STOP_SECONDS = 15.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
LOG_TAIL_BYTES = 2_000
BYTES_PER_MB = 1_000_000
LOWEST_PORT = 10_000
PORT_TRIES = 100

_CPU_CLOCK_OF_SCHEDULER = 2  # CPUCLOCK_SCHED


class MeasurementError(Exception):
    """Something kept a number from being measured. The message says what, and what to do."""


def parse_status_bytes(status: str, field: str) -> int:
    """A memory line of `/proc/<pid>/status`, for example `VmRSS`, in bytes. Its `kB` are 1024 bytes each."""
    for line in status.splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    raise MeasurementError(f"/proc/<pid>/status has no {field}: has the process ended?")


def parse_machine_ticks(stat: str) -> tuple[int, int]:
    """(busy, all) clock ticks of the whole machine out of the first line of `/proc/stat`.

    Waiting for a disk is idle; time stolen by the hypervisor is busy: both as seen by someone who wants to measure.
    """
    user, nice, system, idle, iowait, irq, softirq, steal = (int(word) for word in stat.split("\n", 1)[0].split()[1:9])
    busy = user + nice + system + irq + softirq + steal
    return busy, busy + idle + iowait


def machine_ticks() -> tuple[int, int]:
    """(busy, all) clock ticks of the whole machine since it was started."""
    return parse_machine_ticks(Path("/proc/stat").read_text(encoding="ascii"))


def foreign_share(before: tuple[int, int], after: tuple[int, int], own_seconds: float) -> float:
    """The share of the machine's CPU time between two `machine_ticks`, 0 to 1, that was not used in `own_seconds`."""
    busy, whole = after[0] - before[0], after[1] - before[1]
    return max(0.0, busy - own_seconds * os.sysconf("SC_CLK_TCK")) / max(1, whole)


def cpu_seconds(pid: int) -> float:
    """CPU time the process has used so far: user and system, all threads, also ended ones.

    Read from the process's CPU-time clock (clock_getcpuclockid(3)), whose id is made of the pid as in the kernel's
    include/linux/posix-timers.h. It counts in nanoseconds; the times in `/proc/<pid>/stat` count in ticks of 10 ms,
    which is a hundred cached requests.
    """
    try:
        return time.clock_gettime((~pid << 3) | _CPU_CLOCK_OF_SCHEDULER)
    except OSError as error:
        raise MeasurementError(f"cannot read the CPU time of process {pid} ({error.strerror}): it has ended") from error


def cpu_seconds_of_all() -> float:
    """CPU time of this process and of every child that has been waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def resident_mb(pid: int) -> float:
    """Resident memory now, in MB (1 000 000 bytes)."""
    return parse_status_bytes(_proc_text(pid, "status"), "VmRSS") / BYTES_PER_MB


def peak_resident_mb(pid: int) -> float:
    """The most memory the process ever had resident, in MB (1 000 000 bytes)."""
    return parse_status_bytes(_proc_text(pid, "status"), "VmHWM") / BYTES_PER_MB


def _proc_text(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise MeasurementError(f"cannot read /proc/{pid}/{name} ({error.strerror}): the process has ended") from error


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, and that nobody gets by chance before it is used.

    The kernel gives ports of a range of its own to outgoing connections (`ip_local_port_range` in ip(7)), and a
    measurement opens thousands of those. Raises `MeasurementError` when there is none outside that range.
    """
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split())
    outside = [*range(LOWEST_PORT, first), *range(last + 1, 65_536)]
    candidates: list[int] = random.sample(outside, min(PORT_TRIES, len(outside)))
    for port in candidates:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise MeasurementError("no free TCP port of 127.0.0.1 outside net.ipv4.ip_local_port_range")


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM: one in the middle of starting a process would leave it running, and nobody would
    know its number. What arrived meanwhile is raised at the end."""
    arrived: list[int] = []
    before = {number: signal.signal(number, lambda number, _: arrived.append(number)) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if arrived:
        raise KeyboardInterrupt


@contextmanager
def working_directory() -> Iterator[Path]:
    """A temporary directory for servers. Those started since that still run at its end are ended first: an interrupt
    may come between the start of a server and the block that stops it, and would otherwise leave it writing where
    nothing is left. One directory may be opened inside another; servers of the outer one run on."""
    with tempfile.TemporaryDirectory(prefix="ray-bench-") as directory:
        before = len(_children)
        try:
            yield Path(directory)
        finally:
            for child in [child for child in _children[before:] if child.poll() is None]:
                child.kill()
                child.wait()
            del _children[before:]


_children: list[subprocess.Popen[bytes]] = []


class ServerProcess:
    """A child process that is always stopped again: as a context manager it leaves nobody behind.

    It gets a session of its own, so that Ctrl-C in the terminal reaches only the bench, which then stops it in order.
    """

    def __init__(
        self, command: Sequence[str], *, cwd: Path, environ: Mapping[str, str], log: Path, niceness: int = 0
    ) -> None:
        """Starts at once. `niceness`: how much it yields to others. Raises `MeasurementError` when the program cannot
        be run."""
        self.log = log
        self._name = os.path.basename(command[0])
        words = ["nice", "-n", str(niceness), *command] if niceness else list(command)
        with log.open("ab") as output, _interrupts_deferred():
            try:
                self._child = subprocess.Popen(
                    words,
                    cwd=cwd,
                    env=dict(environ),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            except OSError as error:
                raise MeasurementError(f"cannot run {command[0]}: {error.strerror}") from error
            _children.append(self._child)

    @property
    def pid(self) -> int:
        return self._child.pid

    def require_running(self) -> None:
        """Raises `MeasurementError`, with the end of the process's own log, when it has ended."""
        code = self._child.poll()
        if code is not None:
            raise MeasurementError(f"{self._name} ended by itself with exit code {code}:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The last lines the process wrote."""
        try:
            return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def stop(self) -> int:
        """SIGTERM, and SIGKILL when that was not enough. Returns the exit code."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.kill()
        return self._child.wait()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except BaseException:
            # A second Ctrl-C while waiting for an orderly end: end it at once, but do not leave it behind.
            self._child.kill()
            self._child.wait()
            raise
