"""Installing llama-server and its model, so that whatever happens each is the old file or the checked new one.

A copy is made beside the target, checked there (content, checksum, and as the account of the service), brought to the
disk, and renamed. A failure, a signal or a full disk leaves the target alone and no copy behind; what a power cut left
is cleaned up a day later by the next run. A program that was installed is not taken back when the model then fails.
"""

from __future__ import annotations

import os
import secrets
import signal
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from ray.deploy.failures import DeployError
from ray.deploy.probes import Identity
from ray.deploy.staging_checks import (
    CHUNK_BYTES,
    check_gguf,
    check_program,
    check_service_reads,
    check_sha256,
    check_sources,
    open_source,
    service_identity,
    source_bytes,
    source_of,
)
from ray.deploy.staging_plan import Artifact, StagingPlan
from ray.deploy.writing import sync_directory
from ray.host import read_storage
from ray.types import MIB, ceil_mib

BINARY_MODE = 0o755
MODEL_MODE = 0o640
DIRECTORY_MODE = 0o755
MODEL_DIRECTORY_MODE = 0o750
STALE_SECONDS = 24 * 60 * 60

FreeMib = Callable[[str], int]


def free_mib(directory: str) -> int:
    """What may still be written there, in MiB, rounded down. Raises `DeployError` when nobody knows."""
    reading = read_storage(directory)
    if reading is None:
        raise DeployError(f"The free space of {directory} cannot be read")
    return reading.available_bytes // MIB


def apply(plan: StagingPlan, environ: Mapping[str, str], free: FreeMib = free_mib) -> list[str]:
    """Check everything, then install both. Returns warnings. Raises `DeployError`, also when a disk is full."""
    identity = service_identity(plan)
    if os.geteuid() not in (0, identity.uid):
        raise DeployError(f"Only root or the account {plan.user} itself can install for it: run this with sudo")
    check_sources(plan, environ, identity)
    try:
        with _tidy_end():
            warnings = _make_directories(plan, identity)
            for artifact in (plan.binary, plan.model):
                _clean(artifact)
            _check_room(plan, free)
            _install(plan.binary, BINARY_MODE, None, lambda path: _check_binary(plan, path, environ, identity))
            _install(plan.model, MODEL_MODE, identity, lambda path: _check_model(plan, path, environ, identity))
            check_service_reads(plan.model.target, environ, identity)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise DeployError(f"Nothing more was installed: {error.strerror or error}{where}") from None
    return warnings


def _check_binary(plan: StagingPlan, path: str, environ: Mapping[str, str], identity: Identity) -> None:
    check_sha256(path, plan.binary.sha256)
    check_program(path, plan.flags, environ, identity)


def _check_model(plan: StagingPlan, path: str, environ: Mapping[str, str], identity: Identity) -> None:
    check_sha256(path, plan.model.sha256)
    check_gguf(path)
    check_service_reads(path, environ, identity)


@contextmanager
def _tidy_end() -> Iterator[None]:
    """A lost connection or `kill` ends this as Ctrl-C does: what is half made is removed."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # under nohup a lost connection is meant to be survived
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _make_directories(plan: StagingPlan, identity: Identity) -> list[str]:
    """Make what is missing. A directory that was there stays as it is; the warning says what is unusual about it."""
    _make_directory(plan.binary.directory, DIRECTORY_MODE)
    if plan.share_a_directory:
        return []
    if _make_directory(plan.model.directory, MODEL_DIRECTORY_MODE):
        os.chown(plan.model.directory, identity.uid, identity.gid)
        return []
    found = os.stat(plan.model.directory)
    mode = stat.S_IMODE(found.st_mode)
    if (found.st_uid, found.st_gid, mode) == (identity.uid, identity.gid, MODEL_DIRECTORY_MODE):
        return []
    return [
        f"{plan.model.directory} stays as it is: owner and mode {found.st_uid}:{found.st_gid} {mode:o}, "
        f"not {identity.uid}:{identity.gid} {MODEL_DIRECTORY_MODE:o}"
    ]


def _make_directory(path: str, mode: int) -> bool:
    """True when it was not there. What is missing above it is made with mode 0755, whatever the umask."""
    if os.path.isdir(path):
        return False
    _make_directory(os.path.dirname(path), DIRECTORY_MODE)
    os.mkdir(path)
    os.chmod(path, mode)
    return True


def _clean(artifact: Artifact) -> None:
    """Remove half-made copies that nobody can be making any more."""
    with os.scandir(artifact.directory) as entries:
        for entry in entries:
            if not entry.name.startswith(artifact.temporary_prefix):
                continue
            with suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(found.st_mode) and found.st_mtime <= time.time() - STALE_SECONDS:
                    os.unlink(entry.path)


@dataclass(frozen=True, slots=True)
class _Room:
    """Room that one or both files need."""

    directories: tuple[str, ...]
    size_mib: int
    reserve_mib: int
    what: str

    def check(self, free: FreeMib) -> None:
        for directory in self.directories:
            available, needed = free(directory), self.size_mib + self.reserve_mib
            if available < needed:
                raise DeployError(
                    f"{directory} has {available} MiB free, but {self.what} takes {self.size_mib} MiB and staging "
                    f"keeps {self.reserve_mib} MiB free, together {needed} MiB: make room, or use a larger disk"
                )


def _check_room(plan: StagingPlan, free: FreeMib) -> None:
    """For each copy that is made; for both at once where they lie on the same device."""
    copied = [artifact for artifact in (plan.model, plan.binary) if not artifact.is_in_place]
    sizes = {artifact.name: max(1, ceil_mib(source_bytes(source_of(artifact)))) for artifact in copied}
    devices = {os.stat(artifact.directory).st_dev for artifact in copied}
    if len(copied) == 2 and len(devices) == 1:
        directories = tuple(dict.fromkeys(artifact.directory for artifact in copied))
        reserve = max(artifact.reserve_mib for artifact in copied)
        _Room(directories, sum(sizes.values()), reserve, "llama-server with its model").check(free)
        return
    for artifact in copied:
        _Room((artifact.directory,), sizes[artifact.name], artifact.reserve_mib, f"the {artifact.name}").check(free)


def _install(artifact: Artifact, mode: int, owner: Identity | None, check: Callable[[str], None]) -> None:
    """Put the file in its place when `check` is content with the copy. `owner`: None leaves it to whoever runs this."""
    if artifact.is_in_place:
        os.chmod(artifact.target, mode)
        if owner is not None:
            os.chown(artifact.target, owner.uid, owner.gid)
        check(artifact.target)
        return
    if os.path.isdir(artifact.target):
        raise DeployError(f"{artifact.target} is a directory: remove it, or correct the path in the config")
    ending = f"{os.getpid()}-{time.time_ns()}-{secrets.token_hex(4)}"
    temporary = os.path.join(artifact.directory, artifact.temporary_prefix + ending)
    try:
        _copy(source_of(artifact), temporary, mode, owner)
        check(temporary)
        os.rename(temporary, artifact.target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(artifact.directory)


def _copy(source: str, target: str, mode: int, owner: Identity | None) -> None:
    """Copy to a new file, down to the disk. Until it is complete nobody but its maker can read it."""
    with open_source(source) as reader:
        size = os.fstat(reader.fileno()).st_size
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", buffering=0) as writer:
            copied = 0
            while chunk := reader.read(CHUNK_BYTES):
                remaining = memoryview(chunk)
                while remaining:
                    remaining = remaining[writer.write(remaining) :]
                copied += len(chunk)
            if not copied == size == os.fstat(reader.fileno()).st_size:
                raise DeployError(f"{source} changed while it was copied: try again when it is complete")
            if owner is not None:
                os.fchown(writer.fileno(), owner.uid, owner.gid)
            os.fchmod(writer.fileno(), mode)  # after the owner, whose change takes bits away
            os.fsync(writer.fileno())
