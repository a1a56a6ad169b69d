"""One compact JSON object per line, for people with `jq` and for journald.

Logging never raises, never blocks on formatting a line nobody asked for, and never prints a secret or a prompt: values
under the names in `SECRET_NAMES` and texts under the names in `CONTENT_NAMES` are replaced at every depth. Errors go to
stderr, the rest to stdout. Rotation and retention belong to the journal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TextIO

from ray.clock import iso_now
from ray.errors import MAX_DETAIL_KEYS, RayError, bounded, truncated

LEVELS: Mapping[str, int] = {"debug": 10, "info": 20, "warn": 30, "error": 40}

MAX_STACK_CHARS = 8_192
_MAX_STACK_ENTRY_CHARS = 1_024
REDACTED = "[redacted]"

_CORE_FIELDS = frozenset({"ts", "service", "level", "message", "event", "requestId"})

# Whole names, lower case, without "-", "_", "." and " ": `promptTokens` and `maxTokens` are figures, not secrets.
SECRET_NAMES = frozenset(
    {
        "authorization",
        "proxyauthorization",
        "bearer",
        "cookie",
        "setcookie",
        "apikey",
        "xapikey",
        "token",
        "accesstoken",
        "authtoken",
        "bearertoken",
        "refreshtoken",
        "xauthtoken",
        "secret",
        "clientsecret",
        "password",
        "passwd",
    }
)
# What users write and models answer. A number under such a name (`usage.tokens.prompt`) is a count and is kept.
CONTENT_NAMES = frozenset({"prompt", "input", "system", "output", "messages", "content"})
_NAME_NOISE = str.maketrans("", "", "-_. ")


class Logger:
    """Writes lines at or above one level. One instance per process; use it from any thread."""

    __slots__ = ("_service", "_stderr", "_stdout", "_threshold")

    def __init__(self, service: str, level: str, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        """`level`: one of `debug`, `info`, `warn`, `error`. Streams: the process's own when not given."""
        self._service = service
        self._threshold = LEVELS[level]
        self._stdout: TextIO | None = sys.stdout if stdout is None else stdout
        self._stderr: TextIO | None = sys.stderr if stderr is None else stderr

    def enabled(self, level: str) -> bool:
        """Whether a line of this level would be written; for callers whose fields are costly to make."""
        return LEVELS[level] >= self._threshold

    # `message` is positional only, so that a field may be called `message` (it is renamed, see `_line`).

    def debug(self, message: str, /, *, event: str, request_id: str | None = None, **fields: object) -> None:
        if self._threshold <= 10:
            self._write("debug", message, event, request_id, fields)

    def info(self, message: str, /, *, event: str, request_id: str | None = None, **fields: object) -> None:
        if self._threshold <= 20:
            self._write("info", message, event, request_id, fields)

    def warn(self, message: str, /, *, event: str, request_id: str | None = None, **fields: object) -> None:
        if self._threshold <= 30:
            self._write("warn", message, event, request_id, fields)

    def error(self, message: str, /, *, event: str, request_id: str | None = None, **fields: object) -> None:
        self._write("error", message, event, request_id, fields)

    def _write(
        self, level: str, message: str, event: str, request_id: str | None, fields: Mapping[str, object]
    ) -> None:
        stream = self._stderr if level == "error" else self._stdout
        if stream is None:
            return
        record: dict[str, object] = {
            "ts": iso_now(),
            "service": self._service,
            "level": level,
            "message": bounded(message),
            "event": bounded(event),
        }
        if request_id is not None:
            record["requestId"] = bounded(request_id)
        record.update(_sanitised(fields))
        try:
            _write_line(stream, record)
        except BrokenPipeError:
            self._retire(stream)
        except (OSError, ValueError):
            # A full disk or a closed stream costs the line, never the request that wanted to log it.
            pass

    def close(self) -> None:
        """Write out what is left, and give up a stream that cannot take it; to be called as the process ends."""
        for stream in (self._stdout, self._stderr):
            if stream is None:
                continue
            try:
                stream.flush()
            except (OSError, ValueError):
                self._retire(stream)

    def _retire(self, stream: TextIO) -> None:
        """Nobody reads this stream any more, or it takes nothing until the end: stop writing to it."""
        if stream is self._stdout:
            self._stdout = None
        if stream is self._stderr:
            self._stderr = None
        discard_output(stream)


def discard_output(stream: TextIO) -> None:
    """Point a stream that fails at /dev/null (the remedy in Python's `signal` documentation).

    What is left in its buffer would fail again when the interpreter flushes it on exit, and turn exit status 0 into
    120.
    """
    with suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(devnull, stream.fileno())
        finally:
            os.close(devnull)


def _write_line(stream: TextIO, record: Mapping[str, object]) -> None:
    line = json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"
    try:
        stream.write(line)
    except UnicodeEncodeError:
        # A stream that was opened with a narrower encoding than UTF-8 still takes the escaped form.
        stream.write(json.dumps(record, separators=(",", ":")) + "\n")
    stream.flush()


def _sanitised(fields: Mapping[str, object]) -> dict[str, object]:
    """The fields of one line: at most 64, bounded and redacted, core names renamed to `field.<name>`."""
    line: dict[str, object] = {}
    dropped = 0
    for name, value in fields.items():
        if len(line) >= MAX_DETAIL_KEYS:
            dropped += 1
            continue
        line[f"field.{name}" if name in _CORE_FIELDS else truncated(name, 128)] = _field(name, value)
    if dropped:
        line["__truncatedFields"] = dropped
    return line


def _field(name: str, value: object) -> object:
    # Wrapped in one mapping, because the line itself is the first of the six permitted levels.
    copied = bounded({"field": value})
    kept = copied["field"] if isinstance(copied, dict) else None
    if isinstance(kept, dict) and isinstance(value, Mapping):
        # `bounded` drops stacks because clients must not see them; a log line is the place where they belong.
        stack = value.get("stack")
        if isinstance(stack, str):
            kept["stack"] = bounded(stack)
    return _redacted(name, kept)


def _redacted(name: str, value: object) -> object:
    """`value`, a bounded tree, with every secret and every text of a user or model replaced."""
    plain = name.lower().translate(_NAME_NOISE)
    if plain in SECRET_NAMES and value is not None:
        return REDACTED
    if plain in CONTENT_NAMES and not (value is None or isinstance(value, int | float)):
        return REDACTED if isinstance(value, str | list) else _without_texts(value)
    if isinstance(value, dict):
        return {key: _redacted(key, item) for key, item in value.items()}
    if isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], str) and value[0].lower().translate(_NAME_NOISE) in SECRET_NAMES:
            # Headers travel as (name, value) pairs.
            return [value[0], REDACTED]
        return [_redacted("", item) for item in value]
    return value


def _without_texts(value: object) -> object:
    """A mapping under a content name: counts stay, everything that could be text goes."""
    if not isinstance(value, dict):
        return REDACTED
    return {key: item if item is None or isinstance(item, int | float) else REDACTED for key, item in value.items()}


def error_fields(error: BaseException, *, stack: bool) -> dict[str, object]:
    """An error for a log line: `code`, `status`, `message`, `name`, then `details` and `stack` where there are any.

    Anything but a `RayError` is what the client gets to see as `gateway_error`, 500. Ask for the stack only when the
    error is unexpected. It is a plain traceback: file, line and source, never the values of local variables.
    """
    if isinstance(error, RayError):
        fields: dict[str, object] = {"code": error.code, "status": error.status}
    else:
        fields = {"code": "gateway_error", "status": 500}
    described = bounded(error)
    if isinstance(described, dict):
        fields["message"] = described["message"] or "Unknown error"
        fields["name"] = described["name"]
    if isinstance(error, RayError) and error.details:
        fields["details"] = error.details
    if stack:
        fields["stack"] = _stack(error)
    return fields


def _stack(error: BaseException) -> str:
    """At most 8192 characters of traceback. The end is kept: in Python the failing line stands last."""
    import traceback  # only unexpected errors need it

    try:
        entries = traceback.format_exception(error)
    except Exception as failure:  # noqa: BLE001 - a broken __str__ must not hide the error being reported
        return f"[Unserializable stack: {type(failure).__name__}]"
    # A message of a megabyte must not push out the frames, so each entry has a cap of its own.
    text = "".join(
        entry if len(entry) <= _MAX_STACK_ENTRY_CHARS else truncated(entry, _MAX_STACK_ENTRY_CHARS) + "\n"
        for entry in entries
    )
    if len(text) <= MAX_STACK_CHARS:
        return text
    # The marker must fit as well: the line caps texts at the same length, and would cut the end off again.
    dropped = len(text) - MAX_STACK_CHARS + len(f"[truncated {len(text)} chars]...")
    return f"[truncated {dropped} chars]..." + text[dropped:]
