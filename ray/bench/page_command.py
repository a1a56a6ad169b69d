"""`page REPORT.json PAGE.html`: a report that was written, drawn as one page."""

from __future__ import annotations

import argparse

from ray.bench.html_report import html_page
from ray.bench.report_file import write_file
from ray.bench.run_report import load_run_report
from ray.bench.shown import Shown


def show_page(options: argparse.Namespace) -> Shown:
    """Draw it. Raises `MeasurementError` and `OSError`."""
    write_file(options.page, html_page(load_run_report(options.report)))
    return Shown(f"wrote {options.page}\n", {}, False)
