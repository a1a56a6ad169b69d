"""`prefix`: its options, and its report."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ray.bench.budgets import prefix_bench
from ray.bench.budgets.bench_options import add_bench_options, add_model_options, bench_facts, model_of, model_problem
from ray.bench.budgets.prefix_bench import FULL, QUICK, PrefixPlan
from ray.bench.budgets.prefix_report import PREFIX_KIND, panels, prefix_document, prefix_facts, prefix_text, rows_of
from ray.bench.budgets.prefix_sides import LARGEST_CONTEXT, Shape
from ray.bench.budgets.workload import ORDERS_PER_TURN
from ray.bench.processes.gateway_process import MAX_CONNECTIONS
from ray.bench.report.option_values import whole_number
from ray.bench.report.plot import scatter_svg
from ray.bench.report.report import Report
from ray.bench.report.shown import Shown, say_progress, watch

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


def add_prefix_command(commands: Commands) -> None:
    prefix = commands.add_parser(
        "prefix",
        help="what prefix reuse gains: the same families of prompts directly and through Ray",
        description="Start llama-server and the gateway, and ask both the same families of prompts: first, again, and "
        "after a restart. Takes some minutes; how many depends on the model.",
    )
    add_bench_options(prefix)
    add_model_options(prefix)
    prefix.add_argument("--no-store", action="store_true", help="Ray without its prefix store: what scheduling gains")
    prefix.add_argument("--plot", metavar="FILE.svg", help="draw the latency of every request into this file")
    sizes = prefix.add_argument_group("the workload")
    for name, largest, what in _SIZES:
        help_text = f"{what} (default {getattr(FULL, name)})"
        sizes.add_argument(f"--{name.replace('_', '-')}", type=whole_number(1, largest), metavar="N", help=help_text)
    sizes.add_argument("--seed", type=int, default=FULL.seed, metavar="N", help=f"other texts (default {FULL.seed})")


def prefix_problem(options: argparse.Namespace) -> str | None:
    """What is wrong between the options, or with the files they name."""
    wrong = model_problem(options)
    if wrong is not None:
        return wrong
    # Known before the minutes of measuring, not after them.
    if options.plot is not None and not Path(options.plot).absolute().parent.is_dir():
        return f"--plot: there is no directory for {options.plot}"
    plan = prefix_plan(options)
    context = Shape.of(slots=plan.slots, prefix_tokens=plan.prefix_tokens, answer_tokens=plan.answer_tokens).context
    if context > LARGEST_CONTEXT:
        return f"slots, prefix and answer need a context of {context} tokens; at most {LARGEST_CONTEXT} are possible"
    return None


def prefix_plan(options: argparse.Namespace) -> PrefixPlan:
    """The sizes that were given, the others from the full or the quick plan."""
    base = QUICK if options.quick else FULL
    sizes = {name: getattr(options, name) for name, _, _ in _SIZES}
    given = {name: value for name, value in sizes.items() if value is not None}
    return replace(base, seed=options.seed, store=not options.no_store, **given)


def show_prefix(options: argparse.Namespace) -> Shown:
    """Measure, and draw the plot. Raises `MeasurementError`."""
    plan, model = prefix_plan(options), model_of(options)
    facts = {**bench_facts(options), **prefix_facts(plan, model)}
    finish = watch()
    measured = prefix_bench.measure_prefix(plan, model, options.python, say_progress)
    report = Report(PREFIX_KIND, rows_of(plan, measured), {**facts, **finish()}, options.label or "prefix")
    files = {}
    if options.plot is not None:
        title = "Latency of each request, directly and through Ray"
        files[options.plot] = scatter_svg(
            title, panels(measured), x_label="request, in order of asking", y_label="seconds"
        )
    document = prefix_document(report, plan, measured)
    return Shown(prefix_text(report, plan, measured), document, bool(report.exceeded), files=files)
