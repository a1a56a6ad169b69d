"""`gateway`: its options, and its report."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ray.bench.budgets import backend_bench, gateway_bench
from ray.bench.budgets.backend_bench import Backend
from ray.bench.budgets.bench_options import add_bench_options, bench_facts, model_problem
from ray.bench.processes.gateway_process import MAX_CONNECTIONS
from ray.bench.processes.load import Address
from ray.bench.report.option_values import whole_number
from ray.bench.report.report import Report
from ray.bench.report.shown import Shown, say_progress, shown_rows, watch

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_gateway_command(commands: Commands) -> None:
    gateway = commands.add_parser(
        "gateway",
        help="what the gateway costs: start, memory, CPU per request, throughput, freed slots",
        description="Start the gateway as a real process and measure it. Takes about half a minute on two cores.",
    )
    add_bench_options(gateway)
    gateway.add_argument(
        "--connections",
        type=whole_number(1, MAX_CONNECTIONS),
        default=8,
        metavar="N",
        help="for throughput (default 8)",
    )
    model = gateway.add_argument_group("with a real model")
    model.add_argument("--backend", type=_address, metavar="URL", help="a running llama-server, http://HOST:PORT")
    model.add_argument("--llama-server", metavar="PATH", help="start this llama-server; needs --model")
    model.add_argument("--model", metavar="GGUF", help="the model file for --llama-server")


def gateway_problem(options: argparse.Namespace) -> str | None:
    """What is wrong between the options, or with the files they name."""
    both = options.backend and options.llama_server
    return model_problem(options) or ("give either --backend or --llama-server, not both" if both else None)


def show_gateway(options: argparse.Namespace) -> Shown:
    """Measure. Raises `MeasurementError`."""
    facts = bench_facts(options)
    finish = watch()
    plan = gateway_bench.QUICK if options.quick else gateway_bench.FULL
    rows = gateway_bench.measure_gateway(plan, options.python, options.connections, say_progress)
    if options.backend or options.llama_server:
        backend = Backend(options.backend, options.llama_server, options.model)
        backend_plan = backend_bench.QUICK if options.quick else backend_bench.FULL
        rows += backend_bench.measure_backend(backend, backend_plan, options.python, say_progress)
    else:
        rows += backend_bench.rows_without_backend()
    settings = {"quick": options.quick, "connections": options.connections}
    return shown_rows(Report("gateway-bench", rows, {**facts, **finish()}, options.label or "gateway", settings))


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
