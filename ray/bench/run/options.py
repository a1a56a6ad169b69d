"""The options of `python -m ray.bench run`."""

from __future__ import annotations

import argparse
import math
import sys

from ray.bench.report.option_values import label_text, path_text, whole_number
from ray.bench.report.output_options import Options, add_output_options
from ray.bench.run.baseline import DEFAULT_PASSES, DEFAULT_TOLERANCE
from ray.bench.run.command import DEFAULT_URL, is_started
from ray.client import RayClient

MAX_CLIENTS = 64
MAX_REQUESTS = 10_000
MAX_RATE = 1_000.0
MAX_PASSES = 20
MAX_TIMEOUT_MS = 600_000
DEFAULT_TIMEOUT_MS = 180_000


def add_run_options(run: argparse.ArgumentParser) -> None:
    """Everything that `run` understands."""
    add_target_options(run)
    load = run.add_argument_group("the load")
    load.add_argument(
        "--workload", type=path_text, metavar="FILE", help="JSON or JSONL (default: four built-in requests)"
    )
    load.add_argument("--requests", type=whole_number(1, MAX_REQUESTS), metavar="N", help="default: every item once")
    loop = load.add_mutually_exclusive_group()
    loop.add_argument(
        "--clients",
        "--concurrency",
        type=whole_number(1, MAX_CLIENTS),
        metavar="N",
        help="closed loop: so many clients, each asks again when its answer is complete (default 1)",
    )
    loop.add_argument(
        "--rate", type=_rate, metavar="R", help="open loop: so many random arrivals per second, which wait for nobody"
    )
    load.add_argument(
        "--warmup", type=whole_number(0, MAX_REQUESTS), default=0, metavar="N", help="requests before the measured ones"
    )
    load.add_argument("--no-cache", action="store_true", help="send cache: false, so that the model answers everything")
    add_timeout_option(load)
    load.add_argument(
        "--passes",
        type=whole_number(1, MAX_PASSES),
        metavar="N",
        help="make the run so often at most: until it holds the baseline, or all of them to write one "
        f"(default {DEFAULT_PASSES} for that, otherwise 1)",
    )
    load.add_argument("--seed", type=whole_number(0, 2**31), default=1, metavar="N", help="other arrivals (default 1)")
    add_result_options(run)


def run_problem(options: argparse.Namespace) -> str | None:
    """What is wrong between the options, also of a command that takes only those of target and results."""
    if options.assert_baseline and options.baseline is None:
        return "--assert-baseline needs --baseline"
    if "passes" not in options or options.no_cache or is_started(options):
        return None
    if options.write_baseline is not None or (options.passes or 1) > 1:
        # The cache of a running gateway would answer instead of the model, and it is never slow.
        return "--write-baseline and --passes need --no-cache, or a gateway of their own (--config without --url)"
    return None


def add_timeout_option(load: Options) -> None:
    """How long one request may take."""
    load.add_argument(
        "--timeout-ms",
        type=whole_number(1, MAX_TIMEOUT_MS),
        default=DEFAULT_TIMEOUT_MS,
        metavar="MS",
        help=f"of one request (default {DEFAULT_TIMEOUT_MS})",
    )


def add_closed_loop_options(load: Options) -> None:
    """Of a command that has no other load than clients who wait for their answers."""
    load.add_argument(
        "--clients",
        "--concurrency",
        type=whole_number(1, MAX_CLIENTS),
        default=1,
        metavar="N",
        help="so many at once (default 1)",
    )
    add_timeout_option(load)


def add_target_options(run: argparse.ArgumentParser) -> None:
    """Which gateway is asked."""
    target = run.add_argument_group("the gateway")
    target.add_argument(
        "--url", "--base-url", type=url_text, metavar="URL", help=f"a running one (default {DEFAULT_URL})"
    )
    target.add_argument(
        "--config",
        type=path_text,
        metavar="FILE",
        help="start one with a copy of this config, on another port; with --url only its API key is used",
    )
    target.add_argument("--python", default=sys.executable, metavar="PATH", help="interpreter that runs the gateway")


def add_result_options(run: argparse.ArgumentParser) -> None:
    """Where the report goes, and the baseline that it is held against."""
    results = run.add_argument_group("the results")
    add_output_options(results, label="the workload's name")
    results.add_argument("--baseline", type=path_text, metavar="FILE", help="compare with this one")
    results.add_argument("--assert-baseline", action="store_true", help="exit 1 when it is missed")
    results.add_argument("--write-baseline", type=path_text, metavar="FILE", help="make a baseline of this run")
    results.add_argument("--machine-class", type=label_text, metavar="TEXT", help="of the written baseline")
    results.add_argument(
        "--tolerance",
        type=whole_number(0, 1_000),
        default=round(DEFAULT_TOLERANCE * 100),
        metavar="PERCENT",
        help=f"room for noise in the written baseline (default {DEFAULT_TOLERANCE:.0%})".replace("%", "%%"),
    )


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate <= MAX_RATE:
        raise argparse.ArgumentTypeError(f"must be a number above 0, up to {MAX_RATE:.0f}")
    return rate


def url_text(text: str) -> str:
    """A base URL that the client takes, without a slash at its end."""
    try:
        RayClient(text).close()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text.removesuffix("/")
