"""Running a program to see what it says: bounded in time and output, with next to nothing in its environment.

A probe never raises and never outlives its time limit. It has no shell, no input, its own session (so that its
children end with it), and an environment without keys, `HOME` or `LD_*`.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeVar

PROBE_SECONDS = 10.0
LOOK_SECONDS = 5.0
EXCERPT_CHARS = 256
VERSION_CAP_BYTES = 16 << 10
OUTPUT_CAP_BYTES = 64 << 10
HELP_CAP_BYTES = 1 << 20  # the help of a current llama-server is larger than 64 KiB
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEPT_VARIABLES = ("LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TMP", "TEMP")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a probe runs as. Only root can change to somebody else."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of it. `missing`: there is no such program. `error`: why it did not end well, with a part of what it
    said. `code`: its exit status, None when it did not end by itself."""

    status: Literal["ok", "failed", "missing"]
    stdout: str = ""
    stderr: str = ""
    error: str | None = None
    code: int | None = None

    @property
    def is_ok(self) -> bool:
        return self.status == "ok"

    @property
    def output(self) -> str:
        return f"{self.stdout}\n{self.stderr}"

    @property
    def first_line(self) -> str:
        """The first line that says something, such as a version."""
        return excerpt(next((line for line in self.output.splitlines() if line.strip()), ""))


class _Stopped(Exception):
    """The probe was ended; the message says why."""


def run_probe(
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    cap: int = OUTPUT_CAP_BYTES,
    seconds: float = PROBE_SECONDS,
    identity: Identity | None = None,
    cwd: str | None = None,
    extra: Mapping[str, str] | None = None,
) -> Probe:
    """Run `command` to its end, at most `seconds`, with at most `cap` bytes on each stream.

    `environ`: the caller's own, of which only the path, language and temporary directory are kept. `extra`: variables
    on top. `identity`: taken only by root; everybody else runs it as themselves.
    """
    as_somebody_else = identity if os.geteuid() == 0 else None
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=probe_environment(environ) | dict(extra or {}),
            start_new_session=True,
            user=as_somebody_else.uid if as_somebody_else else None,
            group=as_somebody_else.gid if as_somebody_else else None,
            extra_groups=as_somebody_else.groups if as_somebody_else else None,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        is_missing = isinstance(error, FileNotFoundError) and error.filename != cwd
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return Probe("missing" if is_missing else "failed", error=f"{command[0]} cannot be started: {reason}")
    return _ended(process, command[0], cap, seconds)


def probe_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """All that a probe gets of the caller's environment: no keys, no `HOME`, nothing of the loader's."""
    kept = {name: environ[name] for name in KEPT_VARIABLES if environ.get(name) and "\0" not in environ[name]}
    path = environ.get("PATH", "")
    return {"PATH": path if path and "\0" not in path else DEFAULT_PATH, **kept}


def _ended(process: subprocess.Popen[bytes], name: str, cap: int, seconds: float) -> Probe:
    buffers = (bytearray(), bytearray())
    problem: str | None = None
    try:
        _collect(process, buffers, cap, time.monotonic() + seconds, seconds)
    except _Stopped as stopped:
        problem = str(stopped)
    finally:
        if process.poll() is None:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):  # one that hangs in the kernel is left behind
                process.wait(1)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    stdout, stderr = (bytes(buffer[:cap]).decode("utf-8", "replace") for buffer in buffers)
    if problem is None and process.returncode == 0:
        return Probe("ok", stdout, stderr, code=0)
    code = process.returncode if problem is None else None
    said = excerpt(f"{stderr} {stdout}")
    error = f"{name} {problem or _exit_words(process.returncode)}" + (f"; output: {said}" if said else "")
    return Probe("failed", stdout, stderr, error, code)


def _collect(
    process: subprocess.Popen[bytes], buffers: tuple[bytearray, bytearray], cap: int, deadline: float, seconds: float
) -> None:
    late = f"did not end within {seconds:g} s"
    with selectors.DefaultSelector() as selector:
        for stream, buffer in zip((process.stdout, process.stderr), buffers, strict=True):
            assert stream is not None  # both are pipes
            selector.register(stream, selectors.EVENT_READ, buffer)
        while selector.get_map():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise _Stopped(late)
            for key, _ in selector.select(remaining):
                chunk = os.read(key.fd, 65_536)
                if not chunk:
                    selector.unregister(key.fileobj)
                key.data.extend(chunk)
                if len(key.data) > cap:
                    raise _Stopped(f"wrote more than {cap} bytes")
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise _Stopped(late) from None


def _exit_words(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with status {code}"


def excerpt(text: str) -> str:
    """One line of at most 256 characters that a terminal can show."""
    line = " ".join(text.split())
    line = "".join(letter if letter.isprintable() else "?" for letter in line[: EXCERPT_CHARS + 1])
    return line if len(line) <= EXCERPT_CHARS else f"{line[:EXCERPT_CHARS]}..."


def within(seconds: float, read: Callable[[], T], late: Callable[[str], T]) -> T:
    """`read()`, or `late(reason)` when it fails or hangs: a file server or a directory of accounts may not answer."""
    results: list[T] = []
    problems: list[str] = []

    def work() -> None:
        try:
            results.append(read())
        except (OSError, ValueError) as error:
            problems.append((error.strerror if isinstance(error, OSError) else None) or str(error))

    thread = threading.Thread(target=work, daemon=True, name="ray-deploy-look")
    thread.start()
    thread.join(seconds)
    if results:
        return results[0]
    return late(problems[0] if problems else f"no answer within {seconds:g} s")
