"""The env file (`/etc/ray/ray.env`), read as systemd reads it.

systemd hands the file to the service, so this reader must see the same values. It accepts the part of systemd's
grammar (systemd.exec(5), EnvironmentFile=; src/basic/env-file.c) in which a line means what it seems to mean, and
refuses the rest with the line's number: continuation lines, backslashes outside quotes, `\\n` inside them, text after
a closing quote. A refusal never repeats the value.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ray.deploy.failures import DeployError
from ray.deploy.reading import read_regular

MAX_BYTES = 65_536
MAX_ASSIGNMENTS = 512
MAX_NAME_CHARS = 128
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNSAFE_NAMES = frozenset({"__proto__", "constructor", "prototype"})
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # systemd drops a variable whose value holds one of these
_LINE_BREAK = re.compile(r"\r\n|\n")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class EnvFile:
    """A file that was read. `values` hold secrets: they stay out of `repr`."""

    path: str
    values: Mapping[str, str] = field(repr=False)


class _LineError(Exception):
    """The problem with one line, as the rest of a sentence."""


def read_env_file(path: str) -> EnvFile:
    """The variables of an env file. `path`: absolute. Raises `DeployError`."""
    content = _content(path)
    if content.startswith(b"\xef\xbb\xbf"):
        raise DeployError(f"The env file {path} begins with a byte-order mark, which systemd would take for a name")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise DeployError(f"The env file {path} is not valid UTF-8") from None
    return EnvFile(path, parse_env(text, path))


def _content(path: str) -> bytes:
    try:
        return read_regular(path, MAX_BYTES)
    except FileNotFoundError:
        raise DeployError(f"The env file {path} does not exist") from None
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            hint = "it normally belongs to root with mode 0600, so run this with sudo"
            raise DeployError(f"The env file {path} is not readable: {hint}") from None
        raise DeployError(f"The env file {path} cannot be read: {error.strerror or error}") from None
    except ValueError as problem:
        raise DeployError(f"The env file {path} {problem}") from None


def parse_env(text: str, path: str) -> dict[str, str]:
    """The assignments of an env file's text, the last of each name. Raises `DeployError` naming `path` and line."""
    values: dict[str, str] = {}
    assignments = 0
    for number, line in enumerate(_LINE_BREAK.split(text), start=1):
        try:
            assignment = _assignment(line.strip(" \t"))
        except _LineError as error:
            raise DeployError(f"The env file {path}, line {number}, {error}") from None
        if assignment is None:
            continue
        assignments += 1
        if assignments > MAX_ASSIGNMENTS:
            raise DeployError(f"The env file {path} must hold at most {MAX_ASSIGNMENTS} assignments")
        values[assignment[0]] = assignment[1]
    return values


def _assignment(line: str) -> tuple[str, str] | None:
    """Name and value of one line; None for blank lines and comments."""
    if line.endswith("\\"):
        raise _LineError("ends with a backslash: systemd would join the next line to it")
    if not line or line[0] in "#;":
        return None
    name, equals, text = line.partition("=")
    name, text = name.rstrip(" \t"), text.lstrip(" \t")
    if not equals or not name:
        raise _LineError("must be NAME=value")
    if not _NAME.fullmatch(name):
        raise _LineError("has no valid name before the =: letters, digits and underscores, no `export`")
    if len(name) > MAX_NAME_CHARS:
        raise _LineError(f"has a name of more than {MAX_NAME_CHARS} characters")
    if name in _UNSAFE_NAMES:
        raise _LineError(f"has an unsafe name: {name}")
    if _CONTROL.search(text):
        raise _LineError(f"gives {name} a value with a control character, which systemd would drop")
    return name, _value(name, text)


def _value(name: str, text: str) -> str:
    quote = text[:1] if text[:1] in ('"', "'") else ""
    if len(text) >= 2 and quote and text.endswith(quote):
        inner = text[1:-1]
        return _single_quoted(name, inner) if quote == "'" else _double_quoted(name, inner)
    if quote or text.endswith(('"', "'")):
        raise _LineError(f"has an unterminated quote in the value of {name}; there are no comments after a value")
    if "\\" in text:
        raise _LineError(f"has a backslash in the value of {name}, which systemd would drop: put it in single quotes")
    return text


def _single_quoted(name: str, inner: str) -> str:
    if "'" in inner:
        raise _LineError(f"has a quote inside the quoted value of {name}: use the other kind of quotes around it")
    return inner


def _double_quoted(name: str, inner: str) -> str:
    """systemd undoes a backslash before one of `"`, `\\`, `` ` `` and `$`, and keeps any other."""
    plain = _ESCAPE.sub("", inner)
    if '"' in plain:
        raise _LineError(f'has a quote inside the quoted value of {name}: write it as \\"')
    if plain.endswith("\\"):
        raise _LineError(f"has an unterminated quote in the value of {name}: the last one is escaped")
    if re.search(r"\\[nrt]", _ESCAPE.sub(lambda found: found[0] if found[1] in "nrt" else "", inner)):
        raise _LineError(f"has \\n, \\r or \\t in the value of {name}: systemd keeps them as two characters")
    return _ESCAPE.sub(lambda found: found[1] if found[1] in '"\\`$' else found[0], inner)


def quoted(text: str) -> str | None:
    """A value as it has to be written in an env file; None when it holds what no line can (control characters)."""
    if _CONTROL.search(text) or "\n" in text:
        return None
    if text == text.strip() and "\\" not in text and text[:1] not in ('"', "'") and text[-1:] not in ('"', "'"):
        return text
    if "'" not in text:
        return f"'{text}'"
    escaped = re.sub(r'["\\`$]', lambda found: f"\\{found[0]}", text)
    return f'"{escaped}"'
