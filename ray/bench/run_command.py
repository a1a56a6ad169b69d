"""`python -m ray.bench run`: a workload against a gateway, its report, and what is done with it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ray.bench.baseline import Baseline, Comparison, baseline_document, compare, load_baseline
from ray.bench.driver import Measured, RunPlan, drive
from ray.bench.gateway_under_test import Target, api_key_of, read_config, started_gateway, wait_until_ready
from ray.bench.process import MeasurementError
from ray.bench.report_file import write_file
from ray.bench.run_report import RunReport, RunSettings
from ray.bench.run_summary import summary_of
from ray.bench.run_text import run_text
from ray.bench.workload_file import Workload, load_workload
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
    workload = load_workload(options.workload)
    report = measured_report(options, plan_of(options, workload), facts, finish, progress)
    report, comparison = held_against(options, baseline, report)
    unwritten = options.write_baseline is not None and not _baseline_written(options, report, progress)
    nothing = not any(sample.answered for sample in report.samples)
    missed = options.assert_baseline and comparison is not None and not comparison.passed
    failed = nothing or missed or unwritten or report.broken_off is not None
    return Outcome(run_text(report, comparison), report.to_document(), failed)


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
    options: argparse.Namespace, baseline: Baseline | None, report: RunReport
) -> tuple[RunReport, Comparison | None]:
    """The report with its comparison in it, when there is a baseline."""
    if baseline is None:
        return report, None
    comparison = compare(options.baseline, baseline, report.settings, report.summary)
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
    if options.config is None or options.url is not None:
        yield Target(options.url or DEFAULT_URL)
        return
    with started_gateway(read_config(options.config), os.environ, options.python) as target:
        yield target


async def measured_plan(plan: RunPlan, target: Target, key: str | None, progress: Progress) -> Measured:
    """Wait for the gateway, then send the plan."""
    await wait_until_ready(target, progress)
    return await drive(plan, target.url, key, progress)


def _baseline_written(options: argparse.Namespace, report: RunReport, progress: Progress) -> bool:
    """What was measured is shown and written all the same when there is no baseline to be made of it."""
    try:
        write_baseline(options, report, progress)
    except MeasurementError as error:
        progress(str(error))
        return False
    return True


def write_baseline(options: argparse.Namespace, report: RunReport, progress: Progress) -> None:
    """Make a baseline of the run. Raises `MeasurementError`, also for a run that is not complete."""
    if report.broken_off is not None or not any(sample.answered for sample in report.samples):
        raise MeasurementError(f"no baseline written to {options.write_baseline}: the run is not complete")
    document = baseline_document(
        Path(options.write_baseline).stem,
        options.machine_class or report.facts.get("processor", "unnamed")[:256],
        report.settings,
        report.samples,
        report.summary,
        options.tolerance / 100,
    )
    write_file(options.write_baseline, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    progress(f"wrote {options.write_baseline}")
