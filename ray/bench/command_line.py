"""The options of `python -m ray.bench`, and the rules between them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ray.bench.gateway_process import MAX_CONNECTIONS
from ray.bench.load import Address
from ray.bench.peers_options import add_peers_command, peers_problem
from ray.bench.prefix_bench import FULL, QUICK, PrefixPlan
from ray.bench.prefix_sides import LARGEST_CONTEXT, Shape
from ray.bench.report_options import add_compare_command, add_page_command, report_problem
from ray.bench.run_options import add_run_options, run_problem
from ray.bench.workload import ORDERS_PER_TURN

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

# Field of `PrefixPlan`, largest value, and what it is. The smallest value is 1.
_SIZES = (
    ("families", 64, "system texts"),
    ("clients", MAX_CONNECTIONS, "clients that ask at once"),
    ("requests", ORDERS_PER_TURN, "requests of one pass"),
    ("slots", 8, "slots of llama-server"),
    ("prefix_tokens", 8_192, "tokens of a system text"),
    ("answer_tokens", 2_048, "most tokens of an answer"),
    ("rounds", 100, "times that all passes of all sides are gone through, in turn"),
    ("pairs", 1_000, "questions of the one-client part"),
)


def parse_options(argv: list[str] | None) -> argparse.Namespace:
    """The options, checked. Ends the process with usage and exit 2 when they make no sense."""
    parser = argparse.ArgumentParser(prog="python -m ray.bench", description="Measure Ray against its budgets.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run_command(commands)
    _add_gateway_command(commands)
    _add_prefix_command(commands)
    _add_jobs_command(commands)
    _add_openai_command(commands)
    add_peers_command(commands)
    add_compare_command(commands)
    add_page_command(commands)
    options = parser.parse_args(argv)
    problem = _problem(options)
    if problem:
        parser.error(problem)
    return options


def prefix_plan(options: argparse.Namespace) -> PrefixPlan:
    """The sizes that were given, the others from the full or the quick plan."""
    base = QUICK if options.quick else FULL
    sizes = {name: getattr(options, name) for name, _, _ in _SIZES}
    given = {name: value for name, value in sizes.items() if value is not None}
    return replace(base, seed=options.seed, store=not options.no_store, **given)


def _add_run_command(commands: Commands) -> None:
    run = commands.add_parser(
        "run",
        help="a workload against a gateway: latency, first token, tokens per second, quality, a baseline to hold",
        description="Send a workload to a running gateway, or to one that is started for it, and report what came.",
        epilog="The API key comes from RAY_BENCHMARK_API_KEY, or from the variable that the config names.",
    )
    add_run_options(run)


def _add_gateway_command(commands: Commands) -> None:
    gateway = commands.add_parser(
        "gateway",
        help="what the gateway costs: start, memory, CPU per request, throughput, freed slots",
        description="Start the gateway as a real process and measure it. Takes about half a minute on two cores.",
    )
    _add_common_options(gateway)
    gateway.add_argument(
        "--connections", type=_whole(MAX_CONNECTIONS), default=8, metavar="N", help="for throughput (default 8)"
    )
    model = gateway.add_argument_group("with a real model")
    model.add_argument("--backend", type=_address, metavar="URL", help="a running llama-server, http://HOST:PORT")
    model.add_argument("--llama-server", metavar="PATH", help="start this llama-server; needs --model")
    model.add_argument("--model", metavar="GGUF", help="the model file for --llama-server")


def _add_prefix_command(commands: Commands) -> None:
    prefix = commands.add_parser(
        "prefix",
        help="what prefix reuse gains: the same families of prompts directly and through Ray",
        description="Start llama-server and the gateway, and ask both the same families of prompts: first, again, and "
        "after a restart. Takes some minutes; how many depends on the model.",
    )
    _add_common_options(prefix)
    _add_model_options(prefix)
    prefix.add_argument("--no-store", action="store_true", help="Ray without its prefix store: what scheduling gains")
    prefix.add_argument("--plot", metavar="FILE.svg", help="draw the latency of every request into this file")
    sizes = prefix.add_argument_group("the workload")
    for name, largest, what in _SIZES:
        help_text = f"{what} (default {getattr(FULL, name)})"
        sizes.add_argument(f"--{name.replace('_', '-')}", type=_whole(largest), metavar="N", help=help_text)
    sizes.add_argument("--seed", type=int, default=FULL.seed, metavar="N", help=f"other texts (default {FULL.seed})")


def _add_jobs_command(commands: Commands) -> None:
    jobs = commands.add_parser(
        "jobs",
        help="what durable jobs cost: submissions per second, recovery and health with a full store",
        description="Fill the job store of a real gateway and measure it. Takes about a minute; the disk decides.",
    )
    _add_common_options(jobs)
    jobs.add_argument("--connections", type=_whole(MAX_CONNECTIONS), default=8, metavar="N", help="default 8")
    jobs.add_argument("--directory", metavar="PATH", help="where the store is made: the disk to be measured")


def _add_openai_command(commands: Commands) -> None:
    openai = commands.add_parser(
        "openai",
        help="what /v1/chat/completions costs through Ray: time to first token, tokens per second",
        description="Start llama-server twice, once behind a gateway, and ask both the same streamed chats. Takes "
        "about two minutes.",
    )
    _add_common_options(openai)
    _add_model_options(openai)


def _add_model_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--llama-server", required=True, metavar="PATH", help="the llama-server to start")
    command.add_argument("--model", required=True, metavar="GGUF", help="the model file")
    command.add_argument(
        "--backend-env",
        type=_assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an environment variable of llama-server, the same on both sides; may be repeated",
    )


def _add_common_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--python", default=sys.executable, metavar="PATH", help="interpreter that runs the gateway")
    command.add_argument("--quick", action="store_true", help="a few requests: shows that it works, no more")
    command.add_argument("--json", action="store_true", help="the report as JSON")
    command.add_argument("--check", action="store_true", help="exit 1 when a budget or target is missed")


def _whole(largest: int) -> Callable[[str], int]:
    """A whole number from 1 to `largest`."""

    def read(text: str) -> int:
        value = int(text) if text.isdecimal() else 0
        if not 1 <= value <= largest:
            raise argparse.ArgumentTypeError(f"must be 1 to {largest}")
        return value

    return read


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    return name, value


def _address(text: str) -> Address:
    """`http://HOST[:PORT]`, nothing behind it, as a socket address."""
    try:
        parts = urlsplit(text)
        port = parts.port or 80
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not a URL: {error}") from error
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.username:
        raise argparse.ArgumentTypeError("must be http://HOST:PORT without a path")
    return parts.hostname, port


def _problem(options: argparse.Namespace) -> str | None:
    """What is wrong between options, or with the files they name."""
    if options.command == "run":
        return run_problem(options)
    if options.command == "peers":
        return peers_problem(options)
    if options.command in ("compare", "page"):
        return report_problem(options)
    if options.command == "jobs":
        missing = options.directory is not None and not Path(options.directory).is_dir()
        return f"--directory: there is no directory {options.directory}" if missing else None
    if (options.llama_server is None) != (options.model is None):
        return "--llama-server and --model belong together"
    for name, path in (("--llama-server", options.llama_server), ("--model", options.model)):
        if path is not None and not Path(path).is_file():
            return f"{name}: there is no file {path}"
    if options.command == "gateway":
        both = options.backend and options.llama_server
        return "give either --backend or --llama-server, not both" if both else None
    return _prefix_problem(options) if options.command == "prefix" else None


def _prefix_problem(options: argparse.Namespace) -> str | None:
    # Known before the minutes of measuring, not after them.
    if options.plot is not None and not Path(options.plot).absolute().parent.is_dir():
        return f"--plot: there is no directory for {options.plot}"
    plan = prefix_plan(options)
    context = Shape.of(slots=plan.slots, prefix_tokens=plan.prefix_tokens, answer_tokens=plan.answer_tokens).context
    if context > LARGEST_CONTEXT:
        return f"slots, prefix and answer need a context of {context} tokens; at most {LARGEST_CONTEXT} are possible"
    return None
