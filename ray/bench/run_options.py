"""The options of `python -m ray.bench run`."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable

from ray.bench.baseline import DEFAULT_TOLERANCE
from ray.bench.run_command import DEFAULT_URL
from ray.client import RayClient

MAX_CLIENTS = 64
MAX_REQUESTS = 10_000
MAX_RATE = 1_000.0
MAX_LABEL_CHARS = 256
MAX_PATH_BYTES = 4_096
MAX_TIMEOUT_MS = 600_000
DEFAULT_TIMEOUT_MS = 180_000


def add_run_options(run: argparse.ArgumentParser) -> None:
    """Everything that `run` understands."""
    add_target_options(run)
    load = run.add_argument_group("the load")
    load.add_argument("--workload", type=_path, metavar="FILE", help="JSON or JSONL (default: four built-in requests)")
    load.add_argument("--requests", type=_whole(1, MAX_REQUESTS), metavar="N", help="default: every item once")
    loop = load.add_mutually_exclusive_group()
    loop.add_argument(
        "--clients",
        "--concurrency",
        type=_whole(1, MAX_CLIENTS),
        metavar="N",
        help="closed loop: so many clients, each asks again when its answer is complete (default 1)",
    )
    loop.add_argument(
        "--rate", type=_rate, metavar="R", help="open loop: so many random arrivals per second, which wait for nobody"
    )
    load.add_argument(
        "--warmup", type=_whole(0, MAX_REQUESTS), default=0, metavar="N", help="requests before the measured ones"
    )
    load.add_argument("--no-cache", action="store_true", help="send cache: false, so that the model answers everything")
    load.add_argument(
        "--timeout-ms",
        type=_whole(1, MAX_TIMEOUT_MS),
        default=DEFAULT_TIMEOUT_MS,
        metavar="MS",
        help=f"of one request (default {DEFAULT_TIMEOUT_MS})",
    )
    load.add_argument("--seed", type=_whole(0, 2**31), default=1, metavar="N", help="other arrivals (default 1)")
    add_result_options(run)


def run_problem(options: argparse.Namespace) -> str | None:
    """What is wrong between the options."""
    if options.assert_baseline and options.baseline is None:
        return "--assert-baseline needs --baseline"
    return None


def add_target_options(run: argparse.ArgumentParser) -> None:
    """Which gateway is asked."""
    target = run.add_argument_group("the gateway")
    target.add_argument("--url", "--base-url", type=_url, metavar="URL", help=f"a running one (default {DEFAULT_URL})")
    target.add_argument(
        "--config",
        type=_path,
        metavar="FILE",
        help="start one with a copy of this config, on another port; with --url only its API key is used",
    )
    target.add_argument("--python", default=sys.executable, metavar="PATH", help="interpreter that runs the gateway")


def add_result_options(run: argparse.ArgumentParser) -> None:
    """Where the report goes, and the baseline that it is held against."""
    results = run.add_argument_group("the results")
    results.add_argument("--json", action="store_true", help="the report as JSON")
    results.add_argument("--label", type=_label, metavar="TEXT", help="default: the workload's name")
    results.add_argument("--output", type=_path, metavar="FILE", help="write the report as JSON, all samples in it")
    results.add_argument("--html", type=_path, metavar="FILE", help="write the report as one page with charts")
    results.add_argument("--history-dir", type=_path, metavar="DIR", help="add the figures to a history in there")
    results.add_argument("--baseline", type=_path, metavar="FILE", help="compare with this one")
    results.add_argument("--assert-baseline", action="store_true", help="exit 1 when it is missed")
    results.add_argument("--write-baseline", type=_path, metavar="FILE", help="make a baseline of this run")
    results.add_argument("--machine-class", type=_label, metavar="TEXT", help="of the written baseline")
    results.add_argument(
        "--tolerance",
        type=_whole(0, 1_000),
        default=round(DEFAULT_TOLERANCE * 100),
        metavar="PERCENT",
        help=f"room for noise in the written baseline (default {DEFAULT_TOLERANCE:.0%})".replace("%", "%%"),
    )


def _whole(smallest: int, largest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or len(text) > 10 or not smallest <= int(text) <= largest:
            raise argparse.ArgumentTypeError(f"must be a whole number from {smallest} to {largest}")
        return int(text)

    return read


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate <= MAX_RATE:
        raise argparse.ArgumentTypeError(f"must be a number above 0, up to {MAX_RATE:.0f}")
    return rate


def _url(text: str) -> str:
    try:
        RayClient(text).close()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text.removesuffix("/")


def _path(text: str) -> str:
    if not text.strip() or text != text.strip() or any(mark in text for mark in "\0\r\n"):
        raise argparse.ArgumentTypeError("must be a path without white space around it")
    if len(text.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
        raise argparse.ArgumentTypeError(f"must have at most {MAX_PATH_BYTES} bytes")
    return text


def _label(text: str) -> str:
    if not 1 <= len(text.strip()) <= MAX_LABEL_CHARS:
        raise argparse.ArgumentTypeError(f"must have 1 to {MAX_LABEL_CHARS} characters")
    return text.strip()
