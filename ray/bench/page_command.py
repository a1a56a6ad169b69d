"""`page REPORT.json PAGE.html`: a report that was written, drawn as one page."""

from __future__ import annotations

import argparse

from ray.bench.read_report import load_report
from ray.bench.report_file import write_file
from ray.bench.report_page import report_page
from ray.bench.shown import Shown


def show_page(options: argparse.Namespace) -> Shown:
    """Draw it. Raises `MeasurementError` and `OSError`."""
    write_file(options.page, report_page(load_report(options.report).document))
    return Shown(f"wrote {options.page}\n", {}, False)
