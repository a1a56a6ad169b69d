"""The options of `python -m ray.bench formats`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ray.bench.report.option_values import path_text, whole_number
from ray.bench.report.output_options import add_output_options
from ray.bench.run.options import MAX_REQUESTS, add_closed_loop_options, add_target_options

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_formats_command(commands: Commands) -> None:
    command = commands.add_parser(
        "formats",
        help="the same questions with prompts in each format: the model's chat template, scaffolds, labelled text",
        description="Ask a workload with the prompts written in each format that the llama.cpp adapter has, in turns, "
        "and recommend one. With --config, gateways are started for it; a running one is only asked.",
        epilog="The API key comes from RAY_BENCHMARK_API_KEY, or from the variable that the config names.",
    )
    add_target_options(command)
    load = command.add_argument_group("the load; cache: false is sent with every request")
    load.add_argument(
        "--workload", type=path_text, metavar="FILE", help="JSON or JSONL (default: four built-in requests)"
    )
    load.add_argument(
        "--requests",
        type=whole_number(1, MAX_REQUESTS),
        metavar="N",
        help="for each format (default: every item once); seeds grow by 1 with every turn of the items",
    )
    add_closed_loop_options(load)
    add_output_options(command.add_argument_group("the results"), label="the workload's name")


def formats_problem(options: argparse.Namespace) -> str | None:
    """Nothing can be wrong between these options."""
    return None
