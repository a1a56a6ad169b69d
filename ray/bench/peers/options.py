"""The options of `peers`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ray.bench.peers.command import PEER_KEY_VARIABLE
from ray.bench.reading.comparison import MARGIN_PERCENT
from ray.bench.report.option_values import path_text, percent, whole_number
from ray.bench.report.output_options import add_output_options
from ray.bench.run.command import DEFAULT_URL
from ray.bench.run.gateway_under_test import KEY_VARIABLE
from ray.bench.run.options import url_text

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_ROUNDS = 4


def add_peers_command(commands: Commands) -> None:
    peers = commands.add_parser(
        "peers",
        help="Ray beside another OpenAI-compatible server: the same workload in turns",
        description="Ask Ray and another server the same streamed chats, in turns, and compare. Both must be running. "
        f"API keys come from {KEY_VARIABLE} and {PEER_KEY_VARIABLE}.",
    )
    peers.add_argument("--url", type=url_text, default=DEFAULT_URL, metavar="URL", help=f"Ray (default {DEFAULT_URL})")
    peers.add_argument("--peer", type=url_text, required=True, metavar="URL", help="the other one; without a path: /v1")
    peers.add_argument("--model", metavar="NAME", help="the model asked for at Ray (default: none is named)")
    peers.add_argument("--peer-model", metavar="NAME", help="the model asked for at the other one")
    peers.add_argument(
        "--workload", type=path_text, metavar="FILE", help="JSON or JSONL (default: four built-in requests)"
    )
    for name, largest, default, what in (
        ("--rounds", 100, _ROUNDS, "turns of each side"),
        ("--requests", 10_000, None, "requests of one turn (default: every item once)"),
        ("--clients", 64, 1, "clients that ask at once, each when its last answer is complete"),
        ("--timeout-ms", 600_000, 180_000, "of one request"),
    ):
        told = what if default is None else f"{what} (default {default})"
        peers.add_argument(
            name,
            type=whole_number(1, largest),
            default=default,
            metavar="MS" if name.endswith("-ms") else "N",
            help=told,
        )
    peers.add_argument(
        "--margin",
        type=percent,
        default=MARGIN_PERCENT,
        metavar="PERCENT",
        help=f"a ratio that differs by less is the same (default {MARGIN_PERCENT:g})",
    )
    peers.add_argument(
        "--output-dir", type=path_text, metavar="DIR", help="write ray.json and peer.json there, for page and compare"
    )
    peers.add_argument("--check", action="store_true", help="exit 1 when Ray is worse in anything")
    add_output_options(peers.add_argument_group("the results"))


def peers_problem(options: argparse.Namespace) -> str | None:
    """What is wrong with the files that are named."""
    if options.workload is not None and not Path(options.workload).is_file():
        return f"--workload: there is no file {options.workload}"
    return None
