"""The report of a bench run: rows with their budgets, as a text table for people and as JSON for tools."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ray.bench.figures import Figure
from ray.bench.process import MeasurementError
from ray.clock import iso_now
from ray.version import VERSION

REPORT_VERSION = 1
_COLUMNS = ("what", "measured", "spread", "budget", "verdict")


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit of the project's plan, in the unit of its row. `at_least`: more is better."""

    limit: float
    at_least: bool = False

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing. `figure` None means that it was not measured, and `note` then says why."""

    id: str
    label: str
    unit: str
    figure: Figure | None
    budget: Budget | None = None
    note: str | None = None

    @property
    def verdict(self) -> str | None:
        """`ok` or `over` against the budget (`under` for a lower limit); None without a budget or a figure."""
        if self.budget is None or self.figure is None:
            return None
        if self.budget.holds(self.figure.value):
            return "ok"
        return "under" if self.budget.at_least else "over"


@dataclass(frozen=True, slots=True)
class Report:
    """One run. `facts`: what it ran on and how, as text; `rows` in the order in which they are shown."""

    kind: str
    rows: Sequence[Row]
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def exceeded(self) -> list[Row]:
        """The rows that were measured and missed their budget."""
        return [row for row in self.rows if row.verdict not in (None, "ok")]


def number(value: float) -> str:
    """About three digits, as a person would write them down: 1234, 87.6, 5.43, 0.982."""
    size = abs(value)
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3f}"


def text_table(report: Report) -> str:
    """The report for a terminal, ending with a newline."""
    lines = [_cells(row) for row in report.rows]
    widths = [max(len(line[column]) for line in [_COLUMNS, *lines]) for column in range(len(_COLUMNS))]
    shown = [f"{name}: {value}" for name, value in report.facts.items()]
    shown.append("")
    for line in [_COLUMNS, *lines]:
        cells = [line[0].ljust(widths[0])]
        cells += [line[column].rjust(widths[column]) for column in range(1, 4)]
        shown.append("  ".join([*cells, line[4]]).rstrip())
    notes = [f"  {row.label}: {row.note}" for row in report.rows if row.note]
    if notes:
        shown += ["", "Notes", *notes]
    missed = report.exceeded
    shown += ["", f"Over budget: {', '.join(row.label for row in missed)}" if missed else "No budget exceeded."]
    return "\n".join(shown) + "\n"


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    budget = "" if row.budget is None else f"{'>=' if row.budget.at_least else '<='} {number(row.budget.limit)}"
    if row.figure is None:
        return row.label, "not measured", "", budget, ""
    measured = f"{number(row.figure.value)} {row.unit}".rstrip()
    spread = f"{number(row.figure.low)}..{number(row.figure.high)}" if row.figure.samples > 1 else ""
    return row.label, measured, spread, budget, row.verdict or ""


def json_document(report: Report) -> dict[str, object]:
    """The report as JSON data: camelCase keys; what was not measured has no `value`."""
    return {
        "kind": report.kind,
        "version": REPORT_VERSION,
        "generatedAt": iso_now(),
        "facts": dict(report.facts),
        "rows": [_row_document(row) for row in report.rows],
        "exceeded": [row.id for row in report.exceeded],
    }


def _row_document(row: Row) -> dict[str, object]:
    document: dict[str, object] = {"id": row.id, "label": row.label, "unit": row.unit}
    if row.figure is not None:
        document["value"] = row.figure.value
        document["low"] = row.figure.low
        document["high"] = row.figure.high
        document["samples"] = row.figure.samples
    if row.budget is not None:
        document["budget"] = {"atLeast" if row.budget.at_least else "atMost": row.budget.limit}
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
