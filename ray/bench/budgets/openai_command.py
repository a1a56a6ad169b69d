"""`openai`: its options, and its report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ray.bench.budgets import openai_bench
from ray.bench.budgets.bench_options import add_bench_options, add_model_options, bench_facts, model_of
from ray.bench.report.report import Report
from ray.bench.report.shown import Shown, say_progress, shown_rows, watch

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_openai_command(commands: Commands) -> None:
    openai = commands.add_parser(
        "openai",
        help="what /v1/chat/completions costs through Ray: time to first token, tokens per second",
        description="Start llama-server twice, once behind a gateway, and ask both the same streamed chats. Takes "
        "about two minutes.",
    )
    add_bench_options(openai)
    add_model_options(openai)


def show_openai(options: argparse.Namespace) -> Shown:
    """Measure. Raises `MeasurementError`."""
    plan = openai_bench.QUICK if options.quick else openai_bench.FULL
    facts = {**bench_facts(options), "model": Path(options.model).name}
    finish = watch()
    rows = openai_bench.measure_openai(plan, model_of(options), options.python, say_progress)
    return shown_rows(
        Report("openai-bench", rows, {**facts, **finish()}, options.label or "openai", {"quick": options.quick})
    )
