"""The options of the commands that read reports instead of measuring: `compare` and `page`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ray.bench.reading.comparison import MARGIN_PERCENT
from ray.bench.report.option_values import percent
from ray.bench.report.report_file import is_same_file

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_compare_command(commands: Commands) -> None:
    compare = commands.add_parser(
        "compare",
        help="two reports of the same kind side by side, with ratios and how much of them is noise",
        description="Compare report B with report A. Reads what `--output FILE` wrote; measures nothing.",
    )
    compare.add_argument("a", metavar="A.json", help="the report to compare with")
    compare.add_argument("b", metavar="B.json", help="the report to judge")
    compare.add_argument(
        "--margin",
        type=percent,
        default=MARGIN_PERCENT,
        metavar="PERCENT",
        help=f"a ratio that differs by less is the same, however sure it is (default {MARGIN_PERCENT:g})",
    )
    compare.add_argument(
        "--force", action="store_true", help="compare other kinds, workloads and schema versions as well"
    )
    compare.add_argument("--json", action="store_true", help="the comparison as JSON")
    compare.add_argument("--check", action="store_true", help="exit 1 when B is worse in anything")


def add_page_command(commands: Commands) -> None:
    page = commands.add_parser(
        "page",
        help="draw a report as one HTML page",
        description="Draw what `--output FILE` wrote as one HTML page that loads nothing; measures nothing.",
    )
    page.add_argument("report", metavar="REPORT.json", help="a report")
    page.add_argument("page", metavar="PAGE.html", help="the page to write; one that is there is replaced")
    page.set_defaults(json=False, check=False)


def report_problem(options: argparse.Namespace) -> str | None:
    """What is wrong with the files that are named."""
    named = [options.a, options.b] if options.command == "compare" else [options.report]
    for path in named:
        if not Path(path).is_file():
            return f"there is no file {path}"
    if options.command == "page" and is_same_file(options.report, options.page):
        return f"the page would take the place of the report {options.report}; name another file"
    if options.command == "page" and not Path(options.page).absolute().parent.is_dir():
        return f"there is no directory for {options.page}"
    return None
