"""`page REPORT.json PAGE.html`: a report that was written, drawn as one page."""

from __future__ import annotations

import argparse

from ray.bench.reading.read_report import load_report
from ray.bench.report.report_file import write_file
from ray.bench.report.shown import Shown
from ray.bench.report_page import report_page


def show_page(options: argparse.Namespace) -> Shown:
    """Draw it. Raises `MeasurementError` and `OSError`."""
    write_file(options.page, report_page(load_report(options.report).document))
    return Shown(f"wrote {options.page}\n", {}, False)
