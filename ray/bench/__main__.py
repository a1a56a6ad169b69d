"""`python -m ray.bench`: measure, print a table or JSON.

Exit 0 when measuring worked, whatever came out; 1 when it did not, or when a budget (`--check`) or a baseline
(`--assert-baseline`) was missed; 2 for wrong usage. The report goes to stdout, progress and errors to stderr.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ray.bench import backend_bench, gateway_bench, jobs_bench, openai_bench, prefix_bench
from ray.bench.backend_bench import Backend
from ray.bench.command_line import parse_options, prefix_plan
from ray.bench.compare_command import comparison_document, comparison_text, measure_comparison
from ray.bench.html_report import html_page
from ray.bench.peers_command import measure_peers, peers_document, peers_text, write_reports
from ray.bench.plot import scatter_svg
from ray.bench.prefix_report import panels, prefix_document, prefix_facts, prefix_text, rows_of
from ray.bench.prefix_sides import Model
from ray.bench.process import MeasurementError, foreign_share, machine_ticks
from ray.bench.report import Report, json_document, machine_facts, text_table
from ray.bench.run_command import measure_run
from ray.bench.run_report import load_run_report

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_STOPPED = 130


@dataclass(frozen=True, slots=True)
class Shown:
    """A report in both forms. `missed`: a budget, target or baseline that was measured was not kept.
    `broken`: not everything that was to be measured could be."""

    text: str
    document: Mapping[str, object]
    missed: bool
    broken: bool = False


def main(argv: list[str] | None = None) -> int:
    """Run one bench command. `argv` without the program's name; the process's own when None."""
    options = parse_options(argv)
    measure = {"run": _run, "gateway": _gateway, "prefix": _prefix, "jobs": _jobs, "openai": _openai}
    measure |= {"peers": _peers, "compare": _compare, "page": _page}
    # SIGTERM ends the bench like Ctrl-C does: the servers it started must not outlive it.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        shown = measure[options.command](options)
    except (MeasurementError, OSError) as error:
        print(f"ray.bench: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("ray.bench: stopped", file=sys.stderr)
        return EXIT_STOPPED
    finally:
        signal.signal(signal.SIGTERM, before)
    print(json.dumps(shown.document, indent=2) + "\n" if options.json else shown.text, end="")
    # `run` has no budgets to look past: what it calls missed was asked for, or is no measurement.
    failed = shown.missed and (options.command == "run" or options.check)
    return EXIT_FAILED if failed or shown.broken else EXIT_OK


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(options: argparse.Namespace) -> Shown:
    outcome = measure_run(options, machine_facts(), _watch(), _progress)
    return Shown(outcome.text, outcome.document, outcome.failed)


def _gateway(options: argparse.Namespace) -> Shown:
    facts = _facts(options)
    finish = _watch()
    plan = gateway_bench.QUICK if options.quick else gateway_bench.FULL
    rows = gateway_bench.measure_gateway(plan, options.python, options.connections, _progress)
    if options.backend or options.llama_server:
        backend = Backend(options.backend, options.llama_server, options.model)
        backend_plan = backend_bench.QUICK if options.quick else backend_bench.FULL
        rows += backend_bench.measure_backend(backend, backend_plan, options.python, _progress)
    else:
        rows += backend_bench.rows_without_backend()
    report = Report("gateway-bench", rows, {**facts, **finish()})
    return Shown(text_table(report), json_document(report), bool(report.exceeded))


def _prefix(options: argparse.Namespace) -> Shown:
    plan = prefix_plan(options)
    model = Model(options.llama_server, options.model, dict(options.backend_env))
    facts = {**_facts(options), **prefix_facts(plan, model)}
    finish = _watch()
    measured = prefix_bench.measure_prefix(plan, model, options.python, _progress)
    report = Report("prefix-bench", rows_of(plan, measured), {**facts, **finish()})
    if options.plot is not None:
        title = "Latency of each request, directly and through Ray"
        plot = scatter_svg(title, panels(measured), x_label="request, in order of asking", y_label="seconds")
        Path(options.plot).write_text(plot, encoding="utf-8")
    return Shown(prefix_text(report, plan, measured), prefix_document(report, plan, measured), bool(report.exceeded))


def _jobs(options: argparse.Namespace) -> Shown:
    facts = _facts(options)
    finish = _watch()
    plan = jobs_bench.QUICK if options.quick else jobs_bench.FULL
    rows = jobs_bench.measure_jobs(plan, options.python, options.connections, options.directory, _progress)
    report = Report("jobs-bench", rows, {**facts, **finish()})
    return Shown(text_table(report), json_document(report), bool(report.exceeded))


def _openai(options: argparse.Namespace) -> Shown:
    plan = openai_bench.QUICK if options.quick else openai_bench.FULL
    model = Model(options.llama_server, options.model, dict(options.backend_env))
    facts = _facts(options)
    finish = _watch()
    rows = openai_bench.measure_openai(plan, model, options.python, _progress)
    report = Report("openai-bench", rows, {**facts, **finish()})
    return Shown(text_table(report), json_document(report), bool(report.exceeded))


def _peers(options: argparse.Namespace) -> Shown:
    facts = machine_facts()
    peers = measure_peers(options, facts, _progress)
    write_reports(options, peers, _progress)
    return Shown(peers_text(peers), peers_document(peers), bool(peers.comparison.worse), peers.failed)


def _compare(options: argparse.Namespace) -> Shown:
    comparison = measure_comparison(options)
    return Shown(comparison_text(comparison), comparison_document(comparison), bool(comparison.worse))


def _page(options: argparse.Namespace) -> Shown:
    Path(options.page).write_text(html_page(load_run_report(options.report)), encoding="utf-8")
    return Shown(f"wrote {options.page}\n", {}, False)


def _facts(options: argparse.Namespace) -> dict[str, str]:
    return {**machine_facts(), "gateway runs on": gateway_bench.interpreter_name(options.python)}


def _watch() -> Callable[[], dict[str, str]]:
    """Look at clock and machine now; the returned function says what has happened since."""
    started, machine_before, own_before = time.monotonic(), machine_ticks(), _own_cpu_seconds()

    def finish() -> dict[str, str]:
        took = f"{time.monotonic() - started:.0f} s"
        share = foreign_share(machine_before, machine_ticks(), _own_cpu_seconds() - own_before)
        return {"took": took, "used by other processes meanwhile": f"{share:.0%} of the machine"}

    return finish


def _own_cpu_seconds() -> float:
    """CPU time of this process and of every child that has been waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
