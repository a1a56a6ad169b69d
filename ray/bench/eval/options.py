"""The options of `python -m ray.bench eval`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ray.bench.eval.command import GOLDEN_SET
from ray.bench.report.option_values import path_text, percent, whole_number
from ray.bench.run.options import (
    MAX_REQUESTS,
    add_closed_loop_options,
    add_result_options,
    add_target_options,
    run_problem,
)

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

MAX_REPEAT = 1_000


def add_eval_command(commands: Commands) -> None:
    command = commands.add_parser(
        "eval",
        help="a golden set against a gateway: scores, failures and prompt formats by prompt family",
        description="Ask every item of a golden set and judge the answers by prompt family. Made for the time before "
        "and after a change of wording, of the model or of its settings.",
        epilog="The API key comes from RAY_BENCHMARK_API_KEY, or from the variable that the config names.",
    )
    add_target_options(command)
    asked = command.add_argument_group("the questions")
    asked.add_argument("--workload", type=path_text, metavar="FILE", help=f"JSON or JSONL (default {GOLDEN_SET})")
    asked.add_argument(
        "--repeat",
        type=whole_number(1, MAX_REPEAT),
        default=1,
        metavar="N",
        help="ask each item N times; an item's seed grows by 1 each time (default 1)",
    )
    asked.add_argument(
        "--warmup", type=whole_number(0, MAX_REQUESTS), default=0, metavar="N", help="requests before the measured ones"
    )
    asked.add_argument(
        "--use-cache",
        action="store_true",
        help="let the response cache answer; without this cache: false is sent, so that the model answers everything",
    )
    add_closed_loop_options(asked)
    _add_judgement(command)
    add_result_options(command)


def _add_judgement(command: argparse.ArgumentParser) -> None:
    judged = command.add_argument_group("the judgement; a failed request counts as a score of 0, not passed")
    judged.add_argument("--min-score", type=percent, metavar="X", help="exit 1 when the mean score of all is lower")
    judged.add_argument("--min-pass-rate", type=percent, metavar="X", help="exit 1 when fewer percent of all pass")
    judged.add_argument(
        "--compare-with", type=path_text, metavar="BEFORE.json", help="show what has changed since this report of eval"
    )
    judged.add_argument(
        "--show-answers", action="store_true", help="print the answers as well; they are never written to a file"
    )


def eval_problem(options: argparse.Namespace) -> str | None:
    """What is wrong between the options, or with the files they name."""
    if options.show_answers and options.json:
        return "--show-answers shows texts in the terminal; it does not go with --json"
    if options.workload is None and not Path(GOLDEN_SET).is_file():
        return f"there is no {GOLDEN_SET} below the current directory: run eval in Ray's own, or give --workload FILE"
    if options.compare_with is not None and not Path(options.compare_with).is_file():
        return f"--compare-with: there is no file {options.compare_with}"
    if options.write_baseline is not None and options.use_cache:
        return "--write-baseline does not go with --use-cache: the response cache is never slow, and never wrong anew"
    return run_problem(options)
