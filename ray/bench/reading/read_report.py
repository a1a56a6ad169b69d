"""Reports of every kind, read back from their files: the envelope with its rows, and the parts as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ray.bench.processes.process import MeasurementError
from ray.bench.report.figures import Figure
from ray.bench.report.report import Budget, Row
from ray.bench.run.report import LARGEST_NUMBER, LARGEST_REPORT_BYTES, RUN_KIND, Part, RunReport

_TOP = "report"
# The version of each kind that this Ray reads; the others are at 1.
_READ_VERSION = 1


@dataclass(frozen=True, slots=True)
class ReadReport:
    """A report as it was written. `document`: all of it, for the parts that its kind has."""

    kind: str
    version: int
    generated_at: str
    label: str
    facts: Mapping[str, str]
    settings: Mapping[str, object]
    rows: Sequence[Row]
    document: Mapping[str, object]

    @property
    def target(self) -> str | None:
        """The URL that was asked, for reports that name one."""
        target = self.settings.get("target")
        return target if isinstance(target, str) else None


def load_report(path: str, *, any_version: bool = False) -> ReadReport:
    """The report in a file. Raises `MeasurementError` that names the file, and `OSError` when it cannot be read.
    `any_version`: read another version of a kind as if it were this one."""
    with Path(path).open("rb") as file:
        content = file.read(LARGEST_REPORT_BYTES + 1)
    if len(content) > LARGEST_REPORT_BYTES:
        raise MeasurementError(f"{path}: larger than {LARGEST_REPORT_BYTES} bytes; is it a report?")
    try:
        return read_report(json.loads(content), any_version=any_version)
    except (ValueError, RecursionError) as error:
        raise MeasurementError(f"{path}: not JSON ({error})") from error
    except MeasurementError as error:
        raise MeasurementError(f"{path}: {error}") from error


def read_report(document: object, *, any_version: bool = False) -> ReadReport:
    """The envelope of a document; what an older one lacks (label, settings, rows of runs) is made up for. Raises
    `MeasurementError` that names the key which is not as it should be."""
    part = Part.of(document, _TOP)
    kind, version = part.text("kind"), part.count("version")
    if version != _READ_VERSION and not any_version:
        raise MeasurementError(
            f"the report has schema version {version}, and this Ray reads version {_READ_VERSION}: "
            "use the Ray that wrote it, or measure again"
        )
    if kind == RUN_KIND:
        # Rows are drawn from the samples, so reports that were written without them have them too.
        part = Part.of(RunReport.from_document(document, any_version=any_version).to_document(), _TOP)
    elif "rows" not in part.values:
        raise MeasurementError(f'a report of kind "{kind}" has no rows to be shown')
    return ReadReport(
        kind=kind,
        version=version,
        generated_at=part.text("generatedAt"),
        label=part.maybe_text("label") or kind,
        facts=part.texts_by_name("facts"),
        settings=part.mapping("settings") or part.mapping("plan") or {},
        rows=[_row(one) for one in part.parts("rows")],
        document=part.values,
    )


def _row(part: Part) -> Row:
    better = part.maybe_text("better")
    if better not in (None, "more", "less"):
        raise MeasurementError(f'{part.where}.better must be "more" or "less"')
    return Row(
        id=part.text("id"),
        label=part.text("label"),
        unit=part.text("unit"),
        figure=_figure(part),
        budget=_budget(part),
        note=part.maybe_text("note"),
        more_is_better=None if better is None else better == "more",
    )


def _figure(part: Part) -> Figure | None:
    if part.values.get("value") is None:
        return None
    return Figure(_signed(part, "value"), _signed(part, "low"), _signed(part, "high"), part.count("samples"))


def _budget(part: Part) -> Budget | None:
    if part.values.get("budget") is None:
        return None
    limits = part.part("budget")
    key = "atLeast" if "atLeast" in limits.values else "atMost"
    return Budget(_signed(limits, key), at_least=key == "atLeast")


def _signed(part: Part, key: str) -> float:
    """A number that may be below 0, unlike those that `Part` reads."""
    value = part.values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_NUMBER:
        raise MeasurementError(f"{part.where}.{key} must be a number")
    return value
