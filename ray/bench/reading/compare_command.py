"""`compare A.json B.json`: two reports of the same kind side by side."""

from __future__ import annotations

import argparse
from dataclasses import replace

from ray.bench.reading.compare_rows import compare_rows
from ray.bench.reading.compare_runs import compare_runs
from ray.bench.reading.comparison import Comparison, S, comparison_document, comparison_text
from ray.bench.reading.read_report import ReadReport, load_report
from ray.bench.report.shown import Shown
from ray.bench.run.report import RUN_KIND, RunReport


def show_compare(options: argparse.Namespace) -> Shown:
    """The comparison in both forms. Raises `MeasurementError` and `OSError`."""
    before, after = (load_report(path, any_version=options.force) for path in (options.a, options.b))
    runs = [run for report in (before, after) if (run := _run_of(report, options.force)) is not None]
    of_runs = compare_runs(*runs, margin=options.margin, force=options.force) if len(runs) == 2 else None
    if of_runs is not None and before.kind == after.kind == RUN_KIND:
        return _shown(of_runs)
    comparison = compare_rows(before, after, margin=options.margin, force=options.force)
    if of_runs is None:
        return _shown(comparison)
    # What was drawn from a run has its samples, which say more than rows without a spread.
    return _shown(replace(comparison, rows=[*comparison.rows, *of_runs.rows]))


def _run_of(report: ReadReport, any_version: bool) -> RunReport | None:
    """The run that the report is, or that it was drawn from and has in it."""
    document = report.document if report.kind == RUN_KIND else report.document.get("run")
    if not isinstance(document, dict) or document.get("kind") != RUN_KIND or "samples" not in document:
        return None
    return RunReport.from_document(document, any_version=any_version)


def _shown(comparison: Comparison[S]) -> Shown:
    return Shown(comparison_text(comparison), comparison_document(comparison), bool(comparison.worse))
