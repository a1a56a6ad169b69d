"""What a command of the bench gives back, and what it says on the way."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ray.bench.processes.process import cpu_seconds_of_all, foreign_share, machine_ticks
from ray.bench.report.aligned import for_terminal
from ray.bench.report.report import Report, json_document, text_table

# Of a command that asks a gateway whose backend it has not started.
BACKEND_AND_OTHERS = "the backend and other processes"


@dataclass(frozen=True, slots=True)
class Shown:
    """A report in both forms. `missed`: a budget or target that was measured was not kept, or something got worse;
    `--check` makes that a failure. `broken`: not everything that was to be measured could be, or what was asserted does
    not hold: that is one without being asked for. `files`: more files that were asked for, text by path."""

    text: str
    document: Mapping[str, object]
    missed: bool
    broken: bool = False
    files: Mapping[str, str] = field(default_factory=dict)


def shown_rows(report: Report) -> Shown:
    """A report that is nothing but its rows."""
    return Shown(text_table(report), json_document(report), bool(report.exceeded))


def say_progress(text: str) -> None:
    """A line on stderr, so that stdout has the report alone."""
    print(f"  {for_terminal(text)}", file=sys.stderr, flush=True)


def watch(others: str = "other processes") -> Callable[[], dict[str, str]]:
    """Look at clock and machine now; the returned function says what has happened since, as facts of the report.
    `others`: who has used what this process and its children have not; a backend that was running already is one."""
    started, machine_before, own_before = time.monotonic(), machine_ticks(), cpu_seconds_of_all()

    def finish() -> dict[str, str]:
        took = f"{time.monotonic() - started:.0f} s"
        share = foreign_share(machine_before, machine_ticks(), cpu_seconds_of_all() - own_before)
        return {"took": took, f"used by {others} meanwhile": f"{share:.0%} of the machine"}

    return finish
