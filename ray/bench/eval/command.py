"""`python -m ray.bench eval`: a golden set against a gateway, judged by prompt family."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace

from ray.bench.eval.report import (
    EvalReport,
    FamilyFigures,
    eval_document,
    eval_report,
    family_changes,
    family_of,
    load_eval_report,
    score_change,
)
from ray.bench.eval.text import answers_text, changes_text, eval_text
from ray.bench.processes.process import MeasurementError
from ray.bench.report.report import machine_facts
from ray.bench.report.shown import BACKEND_AND_OTHERS, Shown, say_progress, watch
from ray.bench.run.baseline import load_baseline
from ray.bench.run.command import baseline_written, held_against, measured_report
from ray.bench.run.driver import RunPlan
from ray.bench.run.options import MAX_REQUESTS
from ray.bench.run.repetition import repeated_workload
from ray.bench.run.report import RunReport
from ray.bench.run.sample import Sample
from ray.bench.run.text import comparison_lines
from ray.bench.run.workload_file import Workload, load_workload
from ray.types import as_json

GOLDEN_SET = "examples/evals/email-prompt-families-1b.json"


def show_eval(options: argparse.Namespace) -> Shown:
    """Ask, judge, compare. Raises `MeasurementError` for what keeps it from being done."""
    # Everything that can be known to be wrong comes before the minutes of asking.
    baseline = None if options.baseline is None else load_baseline(options.baseline)
    before = None if options.compare_with is None else load_eval_report(options.compare_with)
    golden = load_workload(options.workload or GOLDEN_SET)
    seen: list[tuple[Sample, str]] = []

    def keep(sample: Sample, text: str) -> None:
        seen.append((replace(sample, item=sample.item % len(golden.items)), text))

    plan = plan_of(options, golden, keep if options.show_answers else None)
    measured = measured_report(options, plan, machine_facts(), watch(BACKEND_AND_OTHERS), say_progress)
    run, comparison = held_against(options, baseline, of_golden_set(measured, len(golden.items)))
    report = eval_report(run, golden, options.repeat)
    text = eval_text(report)
    if comparison is not None:
        text += "\n".join(["", *comparison_lines(comparison)]) + "\n"
    document = eval_document(report)
    if before is not None:
        text += "\n" + changes_text(before, report, options.compare_with)
        document |= {"changes": changes_document(before[0], report)}
        if (change := score_change(before[2], run)) is not None:
            document["scoreChange"] = as_json(change)
    if options.show_answers:
        text += answers_text(seen, [family_of(item) for item in golden.items])
    too_low = thresholds_missed(options, report)
    text += "".join(f"\nFAIL: {line}\n" for line in too_low)
    missed = options.assert_baseline and comparison is not None and not comparison.passed
    nothing = not any(sample.answered for sample in run.samples)
    unwritten = options.write_baseline is not None and not baseline_written(options, (run,), say_progress)
    failed = missed or nothing or unwritten or bool(too_low) or run.broken_off is not None
    return Shown(text, document, missed=False, broken=failed)


def plan_of(options: argparse.Namespace, golden: Workload, keep: Callable[[Sample, str], None] | None) -> RunPlan:
    """The golden set as often as it was asked for. Raises `MeasurementError` when that is too often."""
    requests = len(golden.items) * options.repeat
    if requests > MAX_REQUESTS:
        raise MeasurementError(
            f"{len(golden.items)} items {options.repeat} times are more than {MAX_REQUESTS} requests"
        )
    return RunPlan(
        workload=repeated_workload(golden, options.repeat),
        requests=requests,
        clients=options.clients,
        warmup=options.warmup,
        no_cache=not options.use_cache,
        timeout_ms=options.timeout_ms,
        seen=keep,
    )


def of_golden_set(run: RunReport, items: int) -> RunReport:
    """The run as one of the golden set's `items`: repetitions of an item are the same item."""
    samples = tuple(replace(sample, item=sample.item % items) for sample in run.samples)
    return replace(run, samples=samples, settings=replace(run.settings, items=items))


def thresholds_missed(options: argparse.Namespace, report: EvalReport) -> list[str]:
    """What was to be reached and was not, in words."""
    missed = []
    if options.min_score is not None and report.total.score_avg < options.min_score:
        missed.append(f"the mean score is {report.total.score_avg:.1f}, and --min-score is {options.min_score:g}")
    if options.min_pass_rate is not None and report.total.pass_rate < options.min_pass_rate:
        missed.append(f"{report.total.pass_rate:.1f} % passed, and --min-pass-rate is {options.min_pass_rate:g}")
    return missed


def changes_document(before: Mapping[str, FamilyFigures], report: EvalReport) -> list[dict[str, object]]:
    """What has changed in each family, as JSON data; a family that one side lacks has no scores of it."""
    found = []
    for change in family_changes(before, report.families):
        document: dict[str, object] = {"family": change.family}
        for key, one in (("scoreBefore", change.before), ("scoreNow", change.after)):
            if one is not None:
                document[key] = one.score_avg
        found.append({**document, "newFailures": change.new_failures, "goneFailures": change.gone_failures})
    return found
