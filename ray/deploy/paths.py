"""Rules for paths that end up in unit files: absolute, one line, and visible inside the service's sandbox."""

from __future__ import annotations

import os
import re

from ray.deploy.failures import DeployError, UsageError

MAX_PATH_BYTES = 4_096
# What a hardened unit does not see: ProtectHome=, PrivateTmp=, and what ProtectSystem= makes read-only.
HOME_PROTECTED = ("/home", "/root", "/run/user")
PRIVATE_TMP = ("/tmp", "/var/tmp")
READ_ONLY = ("/etc", "/usr", "/boot")
_BREAKS = re.compile(r"[\0\r\n]")


def path_problem(text: str) -> str | None:
    """The problem with a path as text ("must …"), or None."""
    if not text:
        return "must be a non-empty path"
    if text != text.strip():
        return "must not begin or end with whitespace"
    if _BREAKS.search(text):
        return "must not contain NUL, carriage return or line feed"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "must be valid UTF-8"
    return None if size <= MAX_PATH_BYTES else f"must be at most {MAX_PATH_BYTES} bytes"


def program_problem(text: str, hidden: tuple[str, ...]) -> str | None:
    """The problem with the path of a program that a service runs; `hidden`: where that service cannot see it."""
    problem = path_problem(text)
    if problem is not None:
        return problem
    if not text.startswith("/"):
        return "must be an absolute path"
    place = under(normalised(text), hidden)
    return None if place is None else f"must not lie under {place}: the service cannot see that directory"


def absolute(path: str, cwd: str) -> str:
    """`path` against `cwd`, normalised as text: symbolic links are kept."""
    return normalised(os.path.join(cwd, path))


def from_here(path: str) -> str:
    """`path` against the directory this process stands in. Raises `DeployError` when that was removed meanwhile."""
    if path.startswith("/"):
        return normalised(path)
    try:
        return absolute(path, os.getcwd())
    except OSError as error:
        reason = error.strerror or str(error)
        raise DeployError(f"The directory you stand in cannot be used ({reason}): `cd` to another") from None


def path_option(text: str, option: str, cwd: str | None = None) -> str:
    """The path that `option` names, absolute: against `cwd`, or the directory this process stands in. Raises
    `UsageError`, and `DeployError` as `from_here` does."""
    problem = path_problem(text)
    if problem is not None:
        raise UsageError(f"{option} {problem}")
    return from_here(text) if cwd is None else absolute(text, cwd)


def normalised(path: str) -> str:
    """Without `.`, `..` and doubled slashes, as text."""
    text = os.path.normpath(path)
    # POSIX lets two leading slashes mean something of their own, so normpath keeps them; to Linux they are one.
    return text[1:] if text.startswith("//") else text


def under(path: str, roots: tuple[str, ...]) -> str | None:
    """The one of `roots` that `path` is or lies under."""
    return next((root for root in roots if path == root or path.startswith(f"{root}/")), None)
