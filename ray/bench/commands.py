"""The commands of the bench: one line each says where its options come from, what may be wrong with them, and who
measures. The order is that of `--help`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray.bench.budgets.bench_options import model_problem
from ray.bench.budgets.gateway_command import add_gateway_command, gateway_problem, show_gateway
from ray.bench.budgets.jobs_command import add_jobs_command, jobs_problem, show_jobs
from ray.bench.budgets.openai_command import add_openai_command, show_openai
from ray.bench.budgets.prefix_command import add_prefix_command, prefix_problem, show_prefix
from ray.bench.eval.command import show_eval
from ray.bench.eval.options import add_eval_command, eval_problem
from ray.bench.formats.command import show_formats
from ray.bench.formats.options import add_formats_command, formats_problem
from ray.bench.page_command import show_page
from ray.bench.peers.command import measure_peers, peers_document, peers_text, write_reports
from ray.bench.peers.options import add_peers_command, peers_problem
from ray.bench.reading.compare_command import show_compare
from ray.bench.reading.report_options import add_compare_command, add_page_command, report_problem
from ray.bench.report.report import machine_facts
from ray.bench.report.shown import BACKEND_AND_OTHERS, Shown, say_progress, watch
from ray.bench.run.command import measure_run
from ray.bench.run.options import add_run_options, run_problem
from ray.bench.tune.command import show_autotune
from ray.bench.tune.options import add_autotune_command, autotune_problem

if TYPE_CHECKING:
    Parsers = argparse._SubParsersAction[argparse.ArgumentParser]


@dataclass(frozen=True, slots=True)
class Command:
    """`add`: puts the command and its options into the parser. `problem`: what is wrong between the options or with the
    files they name, None when nothing is; known before anything is measured. `show`: measures, and gives the report;
    raises `MeasurementError` and `OSError`."""

    add: Callable[[Parsers], None]
    problem: Callable[[argparse.Namespace], str | None]
    show: Callable[[argparse.Namespace], Shown]


def _add_run_command(commands: Parsers) -> None:
    run = commands.add_parser(
        "run",
        help="a workload against a gateway: latency, first token, tokens per second, quality, a baseline to hold",
        description="Send a workload to a running gateway, or to one that is started for it, and report what came.",
        epilog="The API key comes from RAY_BENCHMARK_API_KEY, or from the variable that the config names.",
    )
    add_run_options(run)


def _show_run(options: argparse.Namespace) -> Shown:
    outcome = measure_run(options, machine_facts(), watch(BACKEND_AND_OTHERS), say_progress)
    return Shown(outcome.text, outcome.document, missed=False, broken=outcome.failed)


def _show_peers(options: argparse.Namespace) -> Shown:
    peers = measure_peers(options, machine_facts(), say_progress)
    write_reports(options, peers, say_progress)
    return Shown(peers_text(peers), peers_document(peers, options.label), bool(peers.comparison.worse), peers.failed)


COMMANDS: Mapping[str, Command] = {
    "run": Command(_add_run_command, run_problem, _show_run),
    "eval": Command(add_eval_command, eval_problem, show_eval),
    "formats": Command(add_formats_command, formats_problem, show_formats),
    "gateway": Command(add_gateway_command, gateway_problem, show_gateway),
    "prefix": Command(add_prefix_command, prefix_problem, show_prefix),
    "jobs": Command(add_jobs_command, jobs_problem, show_jobs),
    "openai": Command(add_openai_command, model_problem, show_openai),
    "peers": Command(add_peers_command, peers_problem, _show_peers),
    "autotune": Command(add_autotune_command, autotune_problem, show_autotune),
    "compare": Command(add_compare_command, report_problem, show_compare),
    "page": Command(add_page_command, report_problem, show_page),
}
