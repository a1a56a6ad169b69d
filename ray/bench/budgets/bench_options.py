"""The options that `gateway`, `prefix`, `jobs` and `openai` share: they start what they measure."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ray.bench.budgets.gateway_bench import interpreter_name
from ray.bench.budgets.prefix_sides import Model
from ray.bench.report.option_values import assignment
from ray.bench.report.output_options import add_output_options
from ray.bench.report.report import machine_facts


def add_bench_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--python", default=sys.executable, metavar="PATH", help="interpreter that runs the gateway")
    command.add_argument("--quick", action="store_true", help="a few requests: shows that it works, no more")
    command.add_argument("--check", action="store_true", help="exit 1 when a budget or target is missed")
    add_output_options(command.add_argument_group("the results"))


def add_model_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--llama-server", required=True, metavar="PATH", help="the llama-server to start")
    command.add_argument("--model", required=True, metavar="GGUF", help="the model file")
    command.add_argument(
        "--backend-env",
        type=assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an environment variable of llama-server, the same on both sides; may be repeated",
    )


def model_problem(options: argparse.Namespace) -> str | None:
    """What is wrong with the files of the model."""
    if (options.llama_server is None) != (options.model is None):
        return "--llama-server and --model belong together"
    for name, path in (("--llama-server", options.llama_server), ("--model", options.model)):
        if path is not None and not Path(path).is_file():
            return f"{name}: there is no file {path}"
    return None


def model_of(options: argparse.Namespace) -> Model:
    return Model(options.llama_server, options.model, dict(options.backend_env))


def bench_facts(options: argparse.Namespace) -> dict[str, str]:
    """Machine and interpreter. Raises `MeasurementError` when `--python` does not run."""
    return {**machine_facts(), "gateway runs on": interpreter_name(options.python)}
