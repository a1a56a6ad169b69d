"""How text is written into a unit file so that systemd reads the same text: each kind of setting has rules of its own.

Sources: systemd.syntax(7), systemd.service(5) "Command lines", systemd.exec(5), and load-fragment.c of systemd 252,
whose readings differ from setting to setting. `%` begins a specifier everywhere and is doubled everywhere.
"""

from __future__ import annotations

import re

from ray.deploy.failures import DeployError

_PLAIN_WORD = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# string_is_safe() of systemd.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\"'\\]")
# What the pattern language of glob(3) gives a meaning.
_GLOB = re.compile(r"([\\*?\[\]])")


def program_word(path: str) -> str:
    """The first word of `ExecStart=`: variables are not expanded in the path of a program. Raises `DeployError` for
    what systemd refuses there."""
    if _UNSAFE.search(path):
        raise DeployError(
            f"systemd starts no program whose path holds quotes, backslashes or control characters, as {path!r} does: "
            "install it elsewhere"
        )
    return _quoted(_spared(path))


def argument_word(text: str) -> str:
    """A further word of `ExecStart=`: `$` begins a variable there, and `$$` is a dollar."""
    return _quoted(_spared(text).replace("$", "$$"))


def assignment(name: str, value: str) -> str:
    """`NAME=value` as one word of `Environment=`; `$` means nothing there."""
    return f'"{name}={_escaped(_spared(value))}"'


def raw_path(setting: str, path: str) -> str:
    """The value of a setting that takes the rest of its line as it is, quotes and blanks included
    (`WorkingDirectory=`). Raises `DeployError` for what no such line can hold: `setting` is named in it."""
    if _CONTROL.search(path) or path.endswith("\\") or path != path.strip():
        raise DeployError(
            f"{setting} cannot be {path!r}: systemd has no spelling for control characters, for whitespace at an end, "
            "or for a backslash as the last character there; rename that file or directory"
        )
    return _spared(path)


def raw_pattern(setting: str, path: str) -> str:
    """The same for a setting that is a pattern of file names (`EnvironmentFile=`)."""
    return raw_path(setting, _GLOB.sub(r"\\\1", path))


def listed_path(path: str) -> str:
    """One path in a list such as `ReadWritePaths=`, where a backslash in quotes only makes the next character itself.
    Raises `DeployError` for control characters."""
    if _PLAIN_WORD.fullmatch(path):
        return path
    if _CONTROL.search(path):
        raise DeployError(f"a unit cannot name the path {path!r}: rename it to be without control characters")
    return _quoted(_spared(path))


def state_directory(path: str) -> str:
    """One relative path in `StateDirectory=`, where a colon separates and backslash escapes are read."""
    return re.sub(r"[^A-Za-z0-9_@+=,./%\u0080-\U0010ffff-]", lambda found: f"\\x{ord(found[0]):02x}", _spared(path))


def _spared(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """One word, in double quotes where it needs them."""
    return text if _PLAIN_WORD.fullmatch(text) else f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    """For the inside of double quotes, where C's escapes are read."""
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
