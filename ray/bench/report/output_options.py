"""The options with which every command that measures is told where its report goes."""

from __future__ import annotations

import argparse

from ray.bench.report.option_values import label_text, path_text

# What has options like a parser or a group of them.
Options = argparse._ActionsContainer


def add_output_options(command: Options, *, label: str = "the command's name") -> None:
    """The options of a command that measures. `label`: what a report is called when `--label` is not given."""
    command.add_argument("--json", action="store_true", help="the report as JSON")
    command.add_argument("--label", type=label_text, metavar="TEXT", help=f"name of the report (default: {label})")
    command.add_argument("--output", type=path_text, metavar="FILE", help="write the report as JSON, with every sample")
    command.add_argument("--html", type=path_text, metavar="FILE", help="write the report as one page with charts")
    command.add_argument("--history-dir", type=path_text, metavar="DIR", help="add the figures to a history in there")
