"""What `validate` and `doctor` say, and the form of the checks that say it.

A check is one small function: it takes the facts, looks at one thing, and yields what it found. Which codes it can
yield, what it inspects and how a finding is mended stand beside it, so that `doctor --list` and docs/doctor.md are
written from the same lines that run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

Level = Literal["info", "warn", "error"]
Subject_contra = TypeVar("Subject_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis. `message` names the thing, and the remedy where something has to be done."""

    level: Level
    code: str
    message: str

    def document(self) -> dict[str, str]:
        """As it stands in JSON: `{level, code, message}`."""
        return {"level": self.level, "code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True)
class Check(Generic[Subject_contra]):
    """One check of some facts. `codes`: all that `run` can yield. `strict`: it looks at the host, so only `doctor`
    and `--strict-filesystem` run it. `levels`: of each code; `error/warn` is an error only when the
    host is looked at."""

    id: str
    codes: tuple[str, ...]
    inspects: str
    remedy: str
    strict: bool
    run: Callable[[Subject_contra], Iterable[Finding]]
    levels: Mapping[str, str] = field(default_factory=dict)


def count(findings: Iterable[Finding], level: Level) -> int:
    """How many are of this level."""
    return sum(finding.level == level for finding in findings)


def has_errors(findings: Iterable[Finding]) -> bool:
    """Is there a finding that makes `render` refuse and `validate` and `doctor` exit with 1?"""
    return any(finding.level == "error" for finding in findings)
