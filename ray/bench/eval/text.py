"""An eval for a terminal: one line for each prompt family, what failed in it, and what has changed since another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ray.bench.eval.report import EvalReport, FamilyChange, FamilyFigures, family_changes, score_change
from ray.bench.report.aligned import aligned, counted, one_line
from ray.bench.report.figures import Figure
from ray.bench.report.report import number
from ray.bench.run.paired import with_bounds
from ray.bench.run.report import RunReport
from ray.bench.run.sample import Sample

_NOT_KNOWN = "n/a"
_HEAD = ("prompt family", "n", "errors", "passed", "score", "valid JSON", "p50 ms", "tokens in", "tokens out")
_CHANGES_HEAD = ("prompt family", "score before", "now", "change", "passed before", "now")


def eval_text(report: EvalReport) -> str:
    """The whole report without its samples, ending with a newline."""
    run, settings = report.run, report.run.settings
    times = "once each" if report.repeat == 1 else f"{report.repeat} times each"
    cache = "answered by the model, past the response cache" if settings.no_cache else "the response cache may answer"
    lines = [f"{name}: {value}" for name, value in run.facts.items()]
    lines += [
        f"label: {run.label}",
        f"gateway: {settings.target}",
        f"asked: {settings.items} items of {settings.workload}, {times}, {settings.clients or 1} at once, {cache}",
        "",
        *aligned([_HEAD, *(_cells(one) for one in report.families), _cells(report.total)]),
        "",
        *_details(report),
    ]
    if run.broken_off is not None:
        lines += ["", f"BROKEN OFF: {run.broken_off}. The figures are of what was measured until then."]
    return "\n".join(lines) + "\n"


def _cells(one: FamilyFigures) -> tuple[str, ...]:
    # A prompt without a token there is not: such a backend does not count.
    tokens = (str(one.prompt_tokens), str(one.completion_tokens)) if one.prompt_tokens else (_NOT_KNOWN, _NOT_KNOWN)
    return (
        one.family,
        str(one.n),
        str(one.failed_requests),
        f"{one.pass_rate:.0f} %",
        f"{one.score_avg:.1f}",
        f"{one.valid_json} of {one.json_expected}" if one.json_expected else "",
        _NOT_KNOWN if one.latency_p50_ms is None else number(one.latency_p50_ms),
        *tokens,
    )


def _details(report: EvalReport) -> Iterator[str]:
    """What does not fit into the table: codes and formats, by family."""
    families = report.families
    for title, counts, nothing in (
        ("failures", [one.failures for one in families], "no answer failed a check"),
        ("errors", [one.errors for one in families], "none"),
        ("prompt formats", [one.prompt_formats for one in families], "the answers name none"),
    ):
        if not any(counts):
            yield f"{title}: {nothing}"
            continue
        yield f"{title}:"
        for one, found in zip(families, counts, strict=True):
            if found:
                yield f"  {one.family}: {counted(found)}"


def changes_text(
    before: tuple[Mapping[str, FamilyFigures], FamilyFigures, RunReport], report: EvalReport, path: str
) -> str:
    """What has changed since the report `before`, which was read from `path`; ends with a newline."""
    families, total, run = before
    changes = family_changes(families, report.families)
    whole = FamilyChange(report.total.family, total, report.total)
    lines = [f"Compared with {path} ({run.label}, {run.generated_at}):", *comparison_notes(run, report.run), ""]
    lines += aligned([_CHANGES_HEAD, *(_change_cells(one) for one in [*changes, whole])])
    lines += ["", _verdict(score_change(run, report.run))]
    codes = [line for one in changes for line in _code_lines(one)]
    lines += ["", *(codes or ["No failure is new and none is gone."])]
    return "\n".join(lines) + "\n"


def _verdict(change: Figure | None) -> str:
    """Whether the change of the whole score is one."""
    if change is None:
        return (
            "Whether the score has really changed cannot be told: that takes the same requests, of five items or more."
        )
    if change.low <= 0 <= change.high:
        return f"The score has not changed beyond noise: {with_bounds(change)} over {change.samples} items."
    better = "better" if change.value > 0 else "worse"
    return f"The score is {better} by more than noise: {with_bounds(change)} over {change.samples} items."


def comparison_notes(before: RunReport, after: RunReport) -> list[str]:
    """What differs between the runs, other than what came out."""
    notes = []
    if before.settings.workload_digest != after.settings.workload_digest:
        notes.append("The requests differ: other items, seeds or repetitions. Families are compared by their names.")
    for name, first, second in (
        ("past the response cache", before.settings.no_cache, after.settings.no_cache),
        ("Ray", before.facts.get("Ray"), after.facts.get("Ray")),
    ):
        if first != second:
            notes.append(f"{name}: before {first}, now {second}")
    if before.broken_off is not None:
        notes.append(f"The earlier one was broken off: {before.broken_off}")
    return notes


def _change_cells(change: FamilyChange) -> tuple[str, ...]:
    sides = (change.before, change.after)
    scores = ["not there" if one is None else f"{one.score_avg:.1f}" for one in sides]
    passed = ["" if one is None else f"{one.pass_rate:.0f} %" for one in sides]
    if change.before is None or change.after is None:
        difference = ""
    else:
        difference = f"{change.after.score_avg - change.before.score_avg:+.1f}"
    return change.family, scores[0], scores[1], difference, passed[0], passed[1]


def _code_lines(change: FamilyChange) -> Iterator[str]:
    if change.new_failures:
        yield f"new in {change.family}: {one_line(', '.join(change.new_failures))}"
    if change.gone_failures:
        yield f"gone from {change.family}: {one_line(', '.join(change.gone_failures))}"


def answers_text(seen: Sequence[tuple[Sample, str]], families: Sequence[str]) -> str:
    """Every answer below what it was judged to be, in the order of sending. `families`: of the items, by place."""
    lines = []
    for sample, text in sorted(seen, key=lambda one: one[0].number):
        score = _NOT_KNOWN if sample.quality_score is None else f"{sample.quality_score:g}"
        verdict = one_line(", ".join(sample.quality_failures)) or "passed"
        lines += ["", f"--- {families[sample.item]}, request {sample.number + 1}: score {score}, {verdict}"]
        lines.append(text)
    return "\n".join(lines) + "\n"
