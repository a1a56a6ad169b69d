"""The one form of every report of the bench: an envelope with rows, as a text table for people and as JSON for tools.

Whatever a command measures becomes rows (`Row`: a figure, how far its repetitions spread, its budget) in an envelope
(`envelope`), and beside them the parts that only this kind of report has. `docs/bench-report.schema.json` says it to
tools.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ray.bench.processes.process import MeasurementError
from ray.bench.report.figures import Figure
from ray.clock import iso_now
from ray.version import VERSION

REPORT_VERSION = 1
# From here on all digits of a number would be no help to anyone.
_TOO_LONG = 1e12
_COLUMNS = ("what", "measured", "spread", "budget", "verdict")
# Units that say by themselves which way is better.
_LESS_IS_BETTER = frozenset({"ms", "us", "s", "MB"})
_MORE_IS_BETTER = frozenset({"/s", "/h", "tok/s"})


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit of the project's plan, in the unit of its row. `at_least`: more is better."""

    limit: float
    at_least: bool = False

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing. `figure` None means that it was not measured, and `note` then says why.

    `more_is_better` has to be given where neither the budget nor the unit says it (shares, ratios, scores): two reports
    are compared by it, and a row that has no direction can only differ.
    """

    id: str
    label: str
    unit: str
    figure: Figure | None
    budget: Budget | None = None
    note: str | None = None
    more_is_better: bool | None = None

    @property
    def direction(self) -> bool | None:
        """Whether more is better: as it was said, or by the budget, or by the unit; None when nothing tells."""
        if self.more_is_better is not None:
            return self.more_is_better
        if self.budget is not None:
            return self.budget.at_least
        if self.unit in _LESS_IS_BETTER or self.unit in _MORE_IS_BETTER:
            return self.unit in _MORE_IS_BETTER
        return None

    @property
    def verdict(self) -> str | None:
        """`ok` or `over` against the budget (`under` for a lower limit); None without a budget or a figure."""
        if self.budget is None or self.figure is None:
            return None
        if self.budget.holds(self.figure.value):
            return "ok"
        return "under" if self.budget.at_least else "over"

    @property
    def missed(self) -> bool:
        """It was measured and did not keep its budget."""
        return self.verdict not in (None, "ok")


@dataclass(frozen=True, slots=True)
class Report:
    """One run. `facts`: what it ran on and how, as text; `rows` in the order in which they are shown; `label` and
    `settings` as in `envelope`."""

    kind: str
    rows: Sequence[Row]
    facts: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def exceeded(self) -> list[Row]:
        """The rows that were measured and missed their budget."""
        return [row for row in self.rows if row.missed]


def number(value: float) -> str:
    """About three digits, as a person would write them down: 1234, 87.6, 5.43, 0.982, 0."""
    size = abs(value)
    if size == 0 or size >= _TOO_LONG:
        return f"{value:.3g}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3f}"


def text_table(report: Report) -> str:
    """The report for a terminal, ending with a newline."""
    lines = [cells(row) for row in report.rows]
    widths = [max(len(line[column]) for line in [_COLUMNS, *lines]) for column in range(len(_COLUMNS))]
    shown = [f"{name}: {value}" for name, value in report.facts.items()]
    shown.append("")
    for line in [_COLUMNS, *lines]:
        aligned = [line[0].ljust(widths[0])]
        aligned += [line[column].rjust(widths[column]) for column in range(1, 4)]
        shown.append("  ".join([*aligned, line[4]]).rstrip())
    notes = [f"  {row.label}: {row.note}" for row in report.rows if row.note]
    if notes:
        shown += ["", "Notes", *notes]
    missed = report.exceeded
    shown += ["", f"Over budget: {', '.join(row.label for row in missed)}" if missed else "No budget exceeded."]
    return "\n".join(shown) + "\n"


def cells(row: Row) -> tuple[str, str, str, str, str]:
    """What is measured, spread, budget and verdict of a row, after its name, for people."""
    budget = "" if row.budget is None else f"{'>=' if row.budget.at_least else '<='} {number(row.budget.limit)}"
    if row.figure is None:
        return row.label, "not measured", "", budget, ""
    measured = f"{number(row.figure.value)} {row.unit}".rstrip()
    spread = f"{number(row.figure.low)}..{number(row.figure.high)}" if row.figure.samples > 1 else ""
    return row.label, measured, spread, budget, row.verdict or ""


def envelope(
    kind: str,
    rows: Sequence[Row],
    *,
    label: str,
    facts: Mapping[str, str],
    settings: Mapping[str, object],
    version: int = REPORT_VERSION,
    generated_at: str | None = None,
    parts: Mapping[str, object] = {},
) -> dict[str, object]:
    """The document of a report, of whatever kind, as plain JSON data: this is what every command returns.

    `kind`: what sort of report it is ("gateway-bench"), and the name of its file in a history; `version`: of the parts
    that only this kind has. `rows`: every figure that a person would want to see in a table or a comparison; one that
    could not be measured is a row with `figure` None and a note. `label`: a name for people (`--label`, otherwise the
    command or the workload). `facts`: machine, versions and circumstances, as text (`machine_facts()` and what
    `watch()` gives). `settings`: what was asked for, with camelCase keys: reports with different settings have measured
    different things, and `compare` refuses them; when `workloadDigest` is among them only that one decides, and the
    others are noted. `target`, a URL, never decides. `parts`: what only this kind has, by camelCase names; None leaves
    a part out. Large lists of single measurements are called `samples`, `queue`, `passes`, `pairs` or `candidates`, at
    any depth: histories leave those out.

    A document made here can be written, compared and drawn like every other: `--output`, `--html`, `--history-dir`,
    `compare` and `page` need nothing more. Raises `ValueError` when a part is named like something of the envelope.
    """
    document: dict[str, object] = {
        "kind": kind,
        "version": version,
        "generatedAt": generated_at or iso_now(),
        "label": label,
        "facts": dict(facts),
        "settings": dict(settings),
        "rows": [_row_document(row) for row in rows],
        "exceeded": [row.id for row in rows if row.missed],
    }
    twice = document.keys() & parts.keys()
    if twice:
        raise ValueError(f"parts named like the envelope's own: {', '.join(sorted(twice))}")
    return document | {name: part for name, part in parts.items() if part is not None}


def json_document(report: Report, parts: Mapping[str, object] = {}) -> dict[str, object]:
    """The report as JSON data, in its envelope."""
    return envelope(
        report.kind,
        report.rows,
        label=report.label or report.kind,
        facts=report.facts,
        settings=report.settings,
        parts=parts,
    )


def _row_document(row: Row) -> dict[str, object]:
    document: dict[str, object] = {"id": row.id, "label": row.label, "unit": row.unit}
    if row.figure is not None:
        document["value"] = row.figure.value
        document["low"] = row.figure.low
        document["high"] = row.figure.high
        document["samples"] = row.figure.samples
    if row.budget is not None:
        document["budget"] = {"atLeast" if row.budget.at_least else "atMost": row.budget.limit}
    if row.direction is not None:
        document["better"] = "more" if row.direction else "less"
    if row.verdict is not None:
        document["verdict"] = row.verdict
    if row.note is not None:
        document["note"] = row.note
    return document


def machine_facts() -> dict[str, str]:
    """What this runs on: Ray's version, processor and how many of them, kernel."""
    return {
        "Ray": VERSION,
        "processor": f"{len(os.sched_getaffinity(0))} x {_processor_name()}",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return processor_name(lines.read())
    except OSError as error:
        raise MeasurementError(f"cannot read /proc/cpuinfo ({error.strerror}); the bench needs Linux") from error


def processor_name(cpuinfo: str) -> str:
    """The first `model name` of `/proc/cpuinfo`; ARM kernels give none."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "unnamed processor"
