"""The options of `python -m ray.bench autotune`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from ray.bench.processes.process import MeasurementError
from ray.bench.report.option_values import assignment, path_text, whole_number
from ray.bench.report.output_options import add_output_options
from ray.bench.report.report_file import is_same_file
from ray.bench.run.gateway_under_test import KEY_VARIABLE, read_config
from ray.bench.tune.space import launch_profile_of

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

SCOPES = ("auto", "gateway", "full")
DEFAULT_CANDIDATES = 64
DEFAULT_LAUNCH_CANDIDATES = 8
DEFAULT_TURNS = 4
DEFAULT_TIMEOUT_MS = 180_000


def add_autotune_command(commands: Commands) -> None:
    autotune = commands.add_parser(
        "autotune",
        help="better settings for a config: tries schedulers and launch profiles, proves the winner, prints a patch",
        description="Search the settings of the scheduler, and of llama-server's launch profile, with which this "
        "machine answers a workload best; compare the winner with the starting settings; print what to change.",
        epilog=f"The API key comes from {KEY_VARIABLE}, or from the variable that the config names. Nothing is changed "
        "but what --write names. Takes minutes to hours; --time-limit-s ends it in time.",
    )
    autotune.add_argument("--config", type=path_text, required=True, metavar="FILE", help="the starting settings")
    _add_search(autotune)
    _add_load(autotune)
    _add_processes(autotune)
    _add_results(autotune)


def _add_search(autotune: argparse.ArgumentParser) -> None:
    search = autotune.add_argument_group("the search")
    search.add_argument(
        "--scope",
        "--autotune-scope",
        choices=SCOPES,
        default="auto",
        help="gateway: schedulers, before the running backend of the config; full: launch profiles too, each with a "
        "llama-server that is started for it; auto (default): full where the config has a launchProfile",
    )
    for names, default, what in (
        (("--max-candidates", "--autotune-max-candidates"), DEFAULT_CANDIDATES, "schedulers that are tried at most"),
        (("--launch-candidates",), DEFAULT_LAUNCH_CANDIDATES, "launch profiles that are tried at most"),
    ):
        help_text = f"{what} (default {default})"
        search.add_argument(*names, type=whole_number(1, 256), default=default, metavar="N", help=help_text)
    search.add_argument(
        "--turns",
        type=whole_number(1, 100),
        default=DEFAULT_TURNS,
        metavar="N",
        help=f"of each side in the comparison at the end (default {DEFAULT_TURNS})",
    )
    search.add_argument(
        "--time-limit-s",
        type=whole_number(1, 604_800),
        metavar="S",
        help="start nothing that would not be done by then, the comparison included",
    )


def _add_load(autotune: argparse.ArgumentParser) -> None:
    load = autotune.add_argument_group("the load")
    load.add_argument(
        "--workload", type=path_text, metavar="FILE", help="JSON or JSONL (default: four built-in requests)"
    )
    load.add_argument(
        "--clients",
        "--concurrency",
        type=whole_number(1, 64),
        default=1,
        metavar="N",
        help="ask at once, each again when its answer is complete (default 1)",
    )
    load.add_argument(
        "--requests",
        type=whole_number(1, 10_000),
        metavar="N",
        help="most that one candidate is asked in the search, and of each turn of the comparison "
        "(default: every item three times, at least 12)",
    )
    load.add_argument("--use-cache", action="store_true", help="let the response cache answer (default: cache: false)")
    load.add_argument(
        "--timeout-ms",
        type=whole_number(1, 600_000),
        default=DEFAULT_TIMEOUT_MS,
        metavar="MS",
        help=f"of one request (default {DEFAULT_TIMEOUT_MS})",
    )


def _add_processes(autotune: argparse.ArgumentParser) -> None:
    processes = autotune.add_argument_group("the processes")
    processes.add_argument("--python", default=sys.executable, metavar="PATH", help="interpreter that runs the gateway")
    processes.add_argument(
        "--backend-env",
        type=assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an environment variable of llama-server; may be repeated",
    )


def _add_results(autotune: argparse.ArgumentParser) -> None:
    results = autotune.add_argument_group("the results")
    results.add_argument("--write", type=path_text, metavar="FILE", help="a copy of the config with the patch in it")
    results.add_argument("--force", action="store_true", help="let --write replace a file")
    add_output_options(results, label="the workload's name")


def autotune_problem(options: argparse.Namespace) -> str | None:
    """What is wrong between the options, or with the files that they name."""
    if options.scope == "full" and not _has_launch_profile(options.config):
        return "--scope full needs a llama.cpp adapter with a launchProfile in the config"
    if options.write is None:
        return "--force belongs to --write" if options.force else None
    if is_same_file(options.write, options.config):
        return "--write must name another file than --config: the starting settings stay as they are"
    if os.path.isdir(options.write):
        return f"--write: {options.write} is a directory"
    if os.path.lexists(options.write) and not options.force:
        return f"--write: {options.write} is there already; --force replaces it"
    return None


def _has_launch_profile(path: str) -> bool:
    try:
        return launch_profile_of(read_config(path)) is not None
    except MeasurementError:
        return True  # the config is not one at all, which is said when it is read
