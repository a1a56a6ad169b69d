"""`jobs`: its options, and its report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ray.bench.budgets import jobs_bench
from ray.bench.budgets.bench_options import add_bench_options, bench_facts
from ray.bench.processes.gateway_process import MAX_CONNECTIONS
from ray.bench.report.option_values import whole_number
from ray.bench.report.report import Report
from ray.bench.report.shown import Shown, say_progress, shown_rows, watch

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_jobs_command(commands: Commands) -> None:
    jobs = commands.add_parser(
        "jobs",
        help="what durable jobs cost: submissions per second, recovery and health with a full store",
        description="Fill the job store of a real gateway and measure it. Takes about a minute; the disk decides.",
    )
    add_bench_options(jobs)
    jobs.add_argument("--connections", type=whole_number(1, MAX_CONNECTIONS), default=8, metavar="N", help="default 8")
    jobs.add_argument("--directory", metavar="DIR", help="where the store is made: the disk to be measured")


def jobs_problem(options: argparse.Namespace) -> str | None:
    """What is wrong with the directory that is named."""
    missing = options.directory is not None and not Path(options.directory).is_dir()
    return f"--directory: there is no directory {options.directory}" if missing else None


def show_jobs(options: argparse.Namespace) -> Shown:
    """Measure. Raises `MeasurementError`."""
    facts = bench_facts(options)
    finish = watch()
    plan = jobs_bench.QUICK if options.quick else jobs_bench.FULL
    rows = jobs_bench.measure_jobs(plan, options.python, options.connections, options.directory, say_progress)
    settings = {"quick": options.quick, "connections": options.connections}
    return shown_rows(Report("jobs-bench", rows, {**facts, **finish()}, options.label or "jobs", settings))
