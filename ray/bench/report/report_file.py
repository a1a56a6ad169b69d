"""Reports on disk: files that are whole or not there, and a history that several runs may append to at once."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ray.bench.processes.process import MeasurementError

MAX_HISTORY_BYTES = 8_388_608
KEPT_HISTORY_BYTES = 6_291_456
_NEW_MODE = 0o644


def write_file(path: str, text: str, *, copied_from: str | None = None) -> None:
    """Put `text` at `path`: a reader sees the old file or the new one, also after a crash. Missing directories are
    made. `copied_from`: who may not read that file does not get to read this one. Raises `MeasurementError`."""
    target = Path(path)
    require_replaceable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = _mode(target) if copied_from is None else _mode(target) & _mode(Path(copied_from))
        _replace(target, _bytes(text), mode)
    except OSError as error:
        raise MeasurementError(f"cannot write {path}: {error.strerror}") from error


def require_replaceable(path: Path) -> None:
    """Raises `MeasurementError` when something is there that is no file: root could put a report in the place of
    `/dev/null`."""
    if path.is_dir():
        raise MeasurementError(f"cannot write {path}: it is a directory; name a file")
    if path.exists() and not path.is_file():
        raise MeasurementError(f"cannot write {path}: it is a device, a pipe or a socket; name a file")


def is_same_file(one: str, other: str) -> bool:
    """Whether both paths lead to the same file, also where it does not exist yet."""
    return os.path.realpath(one) == os.path.realpath(other) or (
        os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)
    )


def require_writable(directory: Path) -> None:
    """Look in advance whether files can be put into `directory`, or it can be made; nothing stays of the look. Raises
    `MeasurementError`."""
    place = directory.absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    try:
        # Tried instead of asked: root may write everywhere, it seems, and then a mount is read-only.
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise MeasurementError(f"cannot write into {directory}: {place}: {error.strerror}") from error


def append_history(directory: str, kind: str, document: Mapping[str, object]) -> None:
    """Add one line to `<directory>/<kind>.jsonl`. Past 8 MiB the oldest lines go, down to 6 MiB.

    The lock is a file of its own, because the history itself is replaced when it is cut. Raises `MeasurementError`.
    """
    line = _bytes(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")
    if len(line) > MAX_HISTORY_BYTES:
        raise MeasurementError(f"this run's line of history has {len(line)} bytes; {MAX_HISTORY_BYTES} are possible")
    path = Path(directory, f"{kind}.jsonl")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            _append(path, line)
    except OSError as error:
        raise MeasurementError(f"cannot write the history {path}: {error.strerror}") from error


def _bytes(text: str) -> bytes:
    """In UTF-8. A path or a label of others may hold half a character (a lone surrogate), which becomes `?`: that must
    not cost what was measured."""
    return text.encode("utf-8", "replace")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _append(path: Path, line: bytes) -> None:
    size = path.stat().st_size if path.exists() else 0
    if size + len(line) > MAX_HISTORY_BYTES:
        keep = min(KEPT_HISTORY_BYTES, MAX_HISTORY_BYTES - len(line))
        with path.open("rb") as file:
            file.seek(size - min(size, keep))
            _, _, kept = file.read().partition(b"\n")
        _replace(path, kept, _mode(path))
    with path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            # A run that was killed in the middle of its line must not spoil the next one's.
            file.seek(end - 1)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), _mode(path))


def _replace(target: Path, data: bytes, mode: int) -> None:
    number, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.tmp-")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    with contextlib.suppress(OSError):
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _mode(path: Path) -> int:
    """Who could read the file still can; nobody else may write it."""
    try:
        found = path.stat().st_mode
    except FileNotFoundError:
        return _NEW_MODE
    if not stat.S_ISREG(found):
        return _NEW_MODE
    return 0o600 | found & 0o044
