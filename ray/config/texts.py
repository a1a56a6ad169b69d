"""Kinds of value that are text: words, names, URLs, and paths."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable
from dataclasses import dataclass

from ray.config.kinds import Place, found

MAX_PATH_CHARS = 4096
Check = Callable[[str], str | None]  # the problem with a text ("must …"), or None
_BREAKS = re.compile(r"[\0\r\n]")


@dataclass(frozen=True, slots=True)
class Text:
    """A string of at most `max_chars` characters.

    `blank`: may be empty or blank. `one_line`: NUL, CR and LF are refused, for values that reach a command line or a
    unit file. `check` adds a rule of its own, `rule` says it in words, `pattern` says it in JSON Schema.
    """

    max_chars: int
    blank: bool = False
    one_line: bool = False
    check: Check | None = None
    rule: str = ""
    pattern: str | None = None

    def read(self, value: object, place: Place) -> str:
        if not isinstance(value, str):
            raise place.error(f"must be a {'' if self.blank else 'non-empty '}string, not {found(value)}")
        if not self.blank and not value.strip():
            raise place.error("must be a non-empty string")
        if len(value) > self.max_chars:
            raise place.error(
                f"must be at most {self.max_chars} characters, not {len(value)}",
                actualChars=len(value),
                maxChars=self.max_chars,
            )
        if self.one_line and _BREAKS.search(value):
            raise place.error("must not contain NUL, carriage return or line feed")
        problem = self.check(value) if self.check else None
        if problem:
            raise place.error(problem)
        return value

    def parse(self, text: str) -> object:
        return text

    def write(self, value: object) -> object:
        return value

    def allowed(self) -> str:
        size = f"text, {'0' if self.blank else '1'} to {self.max_chars} characters"
        return f"{size}; {self.rule}" if self.rule else size

    def json_schema(self) -> dict[str, object]:
        schema: dict[str, object] = {"type": "string", "maxLength": self.max_chars}
        if not self.blank:
            schema["minLength"] = 1
        pattern = self.pattern or (None if self.blank else r"\S")
        return schema | ({"pattern": pattern} if pattern else {})


def path_problem(value: str) -> str | None:
    """The rule for every path: no NUL, CR, LF, no outer whitespace, at most 4096 characters."""
    if not value:
        return "must be a non-empty path"
    if _BREAKS.search(value):
        return "must not contain NUL, carriage return or line feed"
    if value != value.strip():
        return "must not begin or end with whitespace"
    if len(value) > MAX_PATH_CHARS:
        return f"must be at most {MAX_PATH_CHARS} characters, not {len(value)}"
    return None


@dataclass(frozen=True, slots=True)
class FilePath:
    """A path, made absolute against the working directory and normalised. Existence is not checked.

    `program`: a name without a slash is not a path here, so it is refused instead of resolved: systemd units and
    process starts get no PATH lookup.
    """

    program: bool = False

    def read(self, value: object, place: Place) -> str:
        if not isinstance(value, str):
            raise place.error(f"must be a non-empty path, not {found(value)}")
        problem = path_problem(value)
        if problem:
            raise place.error(problem)
        if self.program and "/" not in value:
            raise place.error("must be an absolute path: a bare program name is not looked up in PATH")
        absolute = os.path.normpath(os.path.join(place.cwd, value))
        if len(absolute) > MAX_PATH_CHARS:
            raise place.error(f"must be at most {MAX_PATH_CHARS} characters once made absolute")
        return absolute

    def parse(self, text: str) -> object:
        return text

    def write(self, value: object) -> object:
        return value

    def allowed(self) -> str:
        rest = "absolute or containing a slash" if self.program else "relative ones start at the working directory"
        return f"a path of at most {MAX_PATH_CHARS} characters; {rest}"

    def json_schema(self) -> dict[str, object]:
        return {"type": "string", "minLength": 1, "maxLength": MAX_PATH_CHARS}
