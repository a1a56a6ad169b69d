"""The checks explained: for the terminal, as JSON, and as docs/doctor.md. All from the lines that run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from ray.deploy.checks import CHECKS, SUBJECTS, remedy_form
from ray.deploy.facts import Facts
from ray.deploy.findings import Check

LEVELS = {"error/warn": "error with the host, else warning", "warn": "warning", "info": "fine"}
HEAD = """\
# What doctor checks

<!-- Written by `python3 -m ray.deploy doctor --list --markdown`. Do not edit: a test compares it with the checks. -->

`python3 -m ray.deploy doctor` looks at one config and the host that will run it. It changes nothing, and needs root
only to ask the kernel what the service's account may do. Its exit status is 1 when there is an error.
`python3 -m ray.deploy validate` runs the checks that need no host, on any machine.

- Every warning and error ends with its remedy. What is fine is reported, too, so that one sees what was looked at.
- Programs are started with a limit of 10 seconds, without a shell and without your environment; file systems that do
  not answer are given 5 seconds.
- What the service will run is tried as the service's account. While that account does not exist, it is not tried.
- `--json` prints the findings and the facts behind them; `--no-caddy` is for those who use another proxy.

In the remedies below, a word in capitals (USER, CONFIG, MODEL …) stands for what your config and options name.
"""


def checks_text() -> str:
    """For reading in a terminal."""
    return "\n".join("\n".join(_paragraph(check)) + "\n" for check in CHECKS)


def _paragraph(check: Check[Facts]) -> Iterator[str]:
    yield check.id + ("  (doctor only)" if check.strict else "")
    yield f"  inspects: {check.inspects}"
    for code, level in check.levels.items():
        yield f"  {code}: {LEVELS.get(level, level)}"
    yield textwrap.fill(remedy_form(check.remedy), 110, initial_indent="  remedy: ", subsequent_indent="    ")


def checks_document() -> dict[str, object]:
    """For programs."""
    return {
        "checks": [
            {
                "id": check.id,
                "inspects": check.inspects,
                "codes": dict(check.levels),
                "remedy": remedy_form(check.remedy),
                "strict": check.strict,
            }
            for check in CHECKS
        ]
    }


def checks_markdown() -> str:
    """The whole of docs/doctor.md."""
    return HEAD + "".join(f"\n## {title}\n" + "".join(map(_entry, checks)) for title, checks in SUBJECTS)


def _entry(check: Check[Facts]) -> str:
    where = " Only on the host." if check.strict else ""
    codes = "".join(f"| `{code}` | {LEVELS.get(level, level)} |\n" for code, level in check.levels.items())
    inspects = check.inspects[:1].upper() + check.inspects[1:]
    return (
        f"\n### {check.id}\n\n{inspects}.{where}\n\n| code | level |\n|---|---|\n{codes}\n"
        f"Remedy: {remedy_form(check.remedy)}.\n"
    )
