"""`compare A.json B.json`: two reports of the same kind side by side."""

from __future__ import annotations

import argparse

from ray.bench.compare_rows import compare_rows
from ray.bench.compare_runs import RunComparison, compare_runs
from ray.bench.comparison import Comparison as AnyComparison
from ray.bench.comparison import S, comparison_document, comparison_text
from ray.bench.read_report import load_report
from ray.bench.run_report import RUN_KIND, RunReport
from ray.bench.shown import Shown

Comparison = RunComparison
__all__ = ["Comparison", "compare_runs", "comparison_document", "comparison_text", "show_compare"]


def show_compare(options: argparse.Namespace) -> Shown:
    """The comparison in both forms. Raises `MeasurementError` and `OSError`."""
    before, after = (load_report(path, any_version=options.force) for path in (options.a, options.b))
    if before.kind == after.kind == RUN_KIND:
        one, other = (RunReport.from_document(run.document, any_version=options.force) for run in (before, after))
        return _shown(compare_runs(one, other, margin=options.margin, force=options.force))
    return _shown(compare_rows(before, after, margin=options.margin, force=options.force))


def _shown(comparison: AnyComparison[S]) -> Shown:
    return Shown(comparison_text(comparison), comparison_document(comparison), bool(comparison.worse))
