"""`python -m ray.bench run`: a workload against a gateway, its report, and what is done with it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ray.bench.processes.process import MeasurementError
from ray.bench.report.report_file import write_file
from ray.bench.run.baseline import (
    DEFAULT_PASSES,
    Baseline,
    Comparison,
    baseline_document,
    compare,
    load_baseline,
    slowest_to_best,
)
from ray.bench.run.driver import Measured, RunPlan, drive
from ray.bench.run.gateway_under_test import Target, api_key_of, read_config, started_gateway, wait_until_ready
from ray.bench.run.report import RunReport, RunSettings
from ray.bench.run.summary import summary_of
from ray.bench.run.text import run_text
from ray.bench.run.workload_file import Workload, load_workload
from ray.clock import iso_now

DEFAULT_URL = "http://127.0.0.1:3000"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run's report in both forms. `failed`: nothing was answered, the gateway went away, or the baseline that was to
    be held was not."""

    text: str
    document: Mapping[str, object]
    failed: bool


def measure_run(
    options: argparse.Namespace, facts: Mapping[str, str], finish: Callable[[], Mapping[str, str]], progress: Progress
) -> Outcome:
    """Load, run, compare, make a baseline. Raises `MeasurementError` for what keeps a run from being made."""
    # Everything that can be known to be wrong comes before the minutes of measuring.
    baseline = None if options.baseline is None else load_baseline(options.baseline)
    plan = plan_of(options, load_workload(options.workload))

    def once() -> RunReport:
        return measured_report(options, plan, facts, finish, progress)

    def is_enough(report: RunReport) -> bool:
        return run_is_enough(options, baseline, report)

    passes = repeated(once, passes_of(options), is_enough, progress)
    report, comparison = held_against(options, baseline, passes[-1], len(passes))
    unwritten = options.write_baseline is not None and not baseline_written(options, passes, progress)
    nothing = not any(sample.answered for sample in report.samples)
    missed = options.assert_baseline and comparison is not None and not comparison.passed
    failed = nothing or missed or unwritten or report.broken_off is not None
    return Outcome(run_text(report, comparison), report.to_document(), failed)


def passes_of(options: argparse.Namespace) -> int:
    """How often the run is made at most: baselines are about the best of several."""
    if options.passes is not None:
        return int(options.passes)
    repeatable = options.no_cache or is_started(options)
    return DEFAULT_PASSES if repeatable and (options.assert_baseline or options.write_baseline) else 1


def is_started(options: argparse.Namespace) -> bool:
    """Whether each pass gets a gateway of its own, whose response cache is empty."""
    return options.config is not None and options.url is None


def repeated(
    once: Callable[[], RunReport], most: int, is_enough: Callable[[RunReport], bool], progress: Progress
) -> list[RunReport]:
    """Run once, and again until it is enough, `most` times at most."""
    reports = [once()]
    while len(reports) < most and not is_enough(reports[-1]):
        progress(f"pass {len(reports) + 1} of {most} at most")
        reports.append(once())
    return reports


def run_is_enough(options: argparse.Namespace, baseline: Baseline | None, report: RunReport) -> bool:
    """A baseline that was missed may have been missed because of a neighbour; all passes are made to write one."""
    if report.broken_off is not None or not any(sample.answered for sample in report.samples):
        return True
    if options.write_baseline is not None or baseline is None:
        return False
    comparison = compare(options.baseline, baseline, report.settings, report.summary)
    return comparison.passed or not comparison.could_be_noise


def measured_report(
    options: argparse.Namespace,
    plan: RunPlan,
    facts: Mapping[str, str],
    finish: Callable[[], Mapping[str, str]],
    progress: Progress,
) -> RunReport:
    """Send the plan to the gateway that the options name. Raises `MeasurementError` when that cannot be done."""
    config = None if options.config is None else read_config(options.config)
    key = api_key_of(config, os.environ)
    with _target(options) as target:
        measured = asyncio.run(measured_plan(plan, target, key, progress))
    settings = settings_of(plan, target.url)
    return report_of(options.label or plan.workload.name, settings, measured, {**facts, **finish()})


def held_against(
    options: argparse.Namespace, baseline: Baseline | None, report: RunReport, passes: int = 1
) -> tuple[RunReport, Comparison | None]:
    """The report with its comparison in it, when there is a baseline. `passes`: how many were made up to this one."""
    if baseline is None:
        return report, None
    comparison = replace(compare(options.baseline, baseline, report.settings, report.summary), passes=passes)
    return replace(report, comparison=comparison.document()), comparison


def plan_of(options: argparse.Namespace, workload: Workload) -> RunPlan:
    """The sizes of the run: one client, and every item of the workload once, unless something else was asked for."""
    return RunPlan(
        workload=workload,
        requests=options.requests or len(workload.items),
        clients=(options.clients or 1) if options.rate is None else None,
        rate=options.rate,
        warmup=options.warmup,
        no_cache=options.no_cache,
        timeout_ms=options.timeout_ms,
        seed=options.seed,
    )


def settings_of(plan: RunPlan, url: str) -> RunSettings:
    return RunSettings(
        target=url,
        workload=plan.workload.name,
        workload_digest=plan.workload.digest,
        items=len(plan.workload.items),
        requests=plan.requests,
        clients=plan.clients,
        rate=plan.rate,
        warmup=plan.warmup,
        no_cache=plan.no_cache,
    )


def report_of(label: str, settings: RunSettings, measured: Measured, facts: Mapping[str, str]) -> RunReport:
    """The report of what was measured, without a comparison."""
    summary = {
        "label": label,
        "baseUrl": settings.target,
        **({"concurrency": settings.clients} if settings.rate is None else {"rate": settings.rate}),
        **summary_of(measured.samples, measured.wall_ms, measured.tally, measured.queue),
    }
    if measured.cpu_ms is not None and measured.wall_ms > 0:
        summary["generatorCpuPercent"] = 100 * measured.cpu_ms / measured.wall_ms
    return RunReport(
        label=label,
        generated_at=iso_now(),
        settings=settings,
        wall_ms=measured.wall_ms,
        samples=measured.samples,
        queue=measured.queue,
        facts=facts,
        summary=summary,
        broken_off=measured.broken_off,
    )


@contextlib.contextmanager
def _target(options: argparse.Namespace) -> Iterator[Target]:
    """With a URL that one is asked, and a config beside it only gives the key."""
    if not is_started(options):
        yield Target(options.url or DEFAULT_URL)
        return
    with started_gateway(read_config(options.config), os.environ, options.python) as target:
        yield target


async def measured_plan(plan: RunPlan, target: Target, key: str | None, progress: Progress) -> Measured:
    """Wait for the gateway, then send the plan."""
    await wait_until_ready(target, progress)
    return await drive(plan, target.url, key, progress)


def baseline_written(options: argparse.Namespace, passes: Sequence[RunReport], progress: Progress) -> bool:
    """Whether the baseline that was asked for could be made. What was measured is shown and written all the same when
    there is none to be made of it."""
    try:
        _write_baseline(options, passes, progress)
    except MeasurementError as error:
        progress(str(error))
        return False
    return True


def _write_baseline(options: argparse.Namespace, passes: Sequence[RunReport], progress: Progress) -> None:
    """Make a baseline of all passes of a run. Raises `MeasurementError`, also for a run that is not complete."""
    report = passes[-1]
    if report.broken_off is not None or not any(sample.cold for sample in report.samples):
        raise MeasurementError(
            f"no baseline written to {options.write_baseline}: the run is not complete, or the model answered nothing"
        )
    room = options.tolerance / 100
    document = baseline_document(
        Path(options.write_baseline).stem,
        options.machine_class or report.facts.get("processor", "unnamed")[:256],
        passes,
        room,
    )
    write_file(options.write_baseline, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    progress(f"wrote {options.write_baseline}")
    apart = slowest_to_best(passes)
    if apart > 1 + room:
        progress(f"its slowest pass took {apart:.1f} times as long as its best: write it when the machine is quiet")
