"""The answers to a golden set, told apart by prompt family, and two such reports beside each other.

A family is a way to ask: all items with the same `metadata.promptFamily`, without one with the same template. A request
that failed is one that did not pass, with a score of 0: otherwise a gateway that answers little would look good. Pure
functions and values; nothing in here holds an answer's text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ray.bench.processes.process import MeasurementError
from ray.bench.report.aligned import one_line
from ray.bench.report.figures import Figure, median, single
from ray.bench.report.report import Row, envelope
from ray.bench.run.paired import paired_difference, scores_by_item
from ray.bench.run.report import LARGEST_REPORT_BYTES, Part, RunReport
from ray.bench.run.sample import Sample
from ray.bench.run.workload_file import Item, Workload
from ray.errors import truncated
from ray.types import as_json

EVAL_KIND = "eval-report"
EVAL_VERSION = 1
NO_FAMILY = "other"
ALL = "all"
MAX_FAMILY_CHARS = 80


@dataclass(frozen=True, slots=True)
class FamilyFigures:
    """One family, or all of them under the name `all`.

    `n`: requests sent; `errors`: how many brought no answer, by code; `passed`: answers without a failure;
    `score_avg`: 0 to 100, over all requests; `failures`: how many answers failed by which code; `prompt_formats`: how
    many answers name which; `valid_json`: answers that were JSON, of `json_expected` requests;
    `latency_p50_ms`: at the client; `prompt_tokens` and `completion_tokens`: of all answers.
    """

    family: str
    n: int
    errors: Mapping[str, int]
    passed: int
    score_avg: float
    failures: Mapping[str, int]
    prompt_formats: Mapping[str, int]
    valid_json: int
    json_expected: int
    latency_p50_ms: float | None
    prompt_tokens: int
    completion_tokens: int

    @property
    def failed_requests(self) -> int:
        return sum(self.errors.values())

    @property
    def pass_rate(self) -> float:
        """Percent of the requests."""
        return 100 * self.passed / self.n


@dataclass(frozen=True, slots=True)
class EvalReport:
    """`families` in the order of the golden set; `run`: what was measured, all samples in it; `repeat`: how often each
    item was asked."""

    run: RunReport
    repeat: int
    families: tuple[FamilyFigures, ...]
    total: FamilyFigures


@dataclass(frozen=True, slots=True)
class FamilyChange:
    """A family in two reports; one side is None where a report does not have it."""

    family: str
    before: FamilyFigures | None
    after: FamilyFigures | None

    @property
    def new_failures(self) -> list[str]:
        return self._only(self.after, self.before)

    @property
    def gone_failures(self) -> list[str]:
        return self._only(self.before, self.after)

    def _only(self, here: FamilyFigures | None, there: FamilyFigures | None) -> list[str]:
        if here is None or there is None:
            return []
        return [code for code in here.failures if code not in there.failures]


def family_of(item: Item) -> str:
    """The item's `metadata.promptFamily`, else its template, else `other`; on one line."""
    metadata = item.fields.get("metadata")
    named = metadata.get("promptFamily") if isinstance(metadata, Mapping) else None
    for name in (named, item.fields.get("templateId")):
        if isinstance(name, str) and name.strip():
            return truncated(one_line(name.strip()), MAX_FAMILY_CHARS)
    return NO_FAMILY


def eval_report(run: RunReport, workload: Workload, repeat: int) -> EvalReport:
    """The report of a run whose samples' `item` are places in `workload`. Raises `MeasurementError` when nothing was
    sent."""
    if not run.samples:
        raise MeasurementError(f"nothing was measured: {run.broken_off or 'no request was sent'}")
    expects_json = [item.expected.counts_as_json for item in workload.items]
    by_family: dict[str, list[Sample]] = {}
    places = [family_of(item) for item in workload.items]
    for name in places:
        by_family.setdefault(name, [])
    for sample in run.samples:
        by_family[places[sample.item]].append(sample)
    families = tuple(_figures(name, samples, expects_json) for name, samples in by_family.items() if samples)
    return EvalReport(run, repeat, families, _figures(ALL, run.samples, expects_json))


def _figures(family: str, samples: Sequence[Sample], expects_json: Sequence[bool]) -> FamilyFigures:
    answered = [sample for sample in samples if sample.answered]
    expected = [sample for sample in samples if expects_json[sample.item]]
    latencies = [sample.latency_ms for sample in answered]
    return FamilyFigures(
        family=family,
        n=len(samples),
        errors=_counts(sample.code for sample in samples if sample.code is not None),
        passed=sum(not sample.quality_failures for sample in answered),
        score_avg=sum(sample.quality_score or 0.0 for sample in answered) / len(samples),
        failures=_counts(code for sample in answered for code in sample.quality_failures),
        prompt_formats=_counts(sample.prompt_format for sample in answered if sample.prompt_format is not None),
        valid_json=sum(sample.valid_json is True for sample in expected),
        json_expected=len(expected),
        latency_p50_ms=median(latencies) if latencies else None,
        prompt_tokens=sum(sample.prompt_tokens or 0 for sample in answered),
        completion_tokens=sum(sample.completion_tokens or 0 for sample in answered),
    )


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def eval_document(report: EvalReport, generated_at: str | None = None) -> dict[str, object]:
    """The report as JSON data, the whole run in it."""
    run = report.run.to_document()
    settings = run.get("settings")
    return envelope(
        EVAL_KIND,
        rows_of(report),
        label=report.run.label,
        facts=report.run.facts,
        settings={**(settings if isinstance(settings, dict) else {}), "repeat": report.repeat},
        version=EVAL_VERSION,
        generated_at=generated_at or report.run.generated_at,
        parts={
            "families": [_family_document(one) for one in report.families],
            "total": _family_document(report.total),
            "run": run,
        },
    )


def _family_document(one: FamilyFigures) -> dict[str, object]:
    document = as_json(one)
    if not isinstance(document, dict):
        raise TypeError("figures become a JSON object")
    return {**document, "passRate": one.pass_rate}


def rows_of(report: EvalReport) -> list[Row]:
    """Score, pass rate and latency of every family and of the whole: what two reports are compared by."""
    rows = []
    # The whole has ids of its own: a family may be called `all`.
    for place, one in (("", report.total), *((f":{one.family}", one) for one in report.families)):
        # No spread: the items of a family are not repetitions of each other.
        score = single(one.score_avg)
        rows.append(Row(f"score{place}", f"score, {one.family}", "", score, more_is_better=True))
        # Counted over its requests, so two reports can tell a difference from chance.
        passed = Figure(one.pass_rate, one.pass_rate, one.pass_rate, one.n)
        rows.append(Row(f"passed{place}", f"passed, {one.family}", "%", passed, more_is_better=True))
        latency = None if one.latency_p50_ms is None else single(one.latency_p50_ms)
        note = "no answer" if latency is None else None
        rows.append(Row(f"latency{place}", f"latency p50, {one.family}", "ms", latency, note=note))
    return rows


def read_eval_report(document: object) -> tuple[Mapping[str, FamilyFigures], FamilyFigures, RunReport]:
    """Families by name, the whole, and the run out of a report's document. Raises `MeasurementError`."""
    part = Part.of(document, "report")
    kind = part.values.get("kind")
    if kind != EVAL_KIND:
        found = f'a report of kind "{kind}"' if isinstance(kind, str) else "no report"
        raise MeasurementError(f'this is {found}, not the "{EVAL_KIND}" that eval --output writes')
    version = part.count("version")
    if version != EVAL_VERSION:
        raise MeasurementError(
            f"the report has schema version {version}, and this Ray reads version {EVAL_VERSION}: measure again"
        )
    families = [_family(one) for one in part.parts("families")]
    run = RunReport.from_document(part.values.get("run"))
    return {one.family: one for one in families}, _family(part.part("total")), run


def load_eval_report(path: str) -> tuple[Mapping[str, FamilyFigures], FamilyFigures, RunReport]:
    """The same from a file. Raises `MeasurementError` that names it."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_REPORT_BYTES + 1)
    except OSError as error:
        raise MeasurementError(f"cannot read the report {path}: {error.strerror}") from error
    if len(content) > LARGEST_REPORT_BYTES:
        raise MeasurementError(f"{path}: larger than {LARGEST_REPORT_BYTES} bytes; is it a report of eval?")
    try:
        return read_eval_report(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise MeasurementError(f"{path}: not JSON ({error})") from None
    except MeasurementError as error:
        raise MeasurementError(f"{path}: {error}") from None


def _family(part: Part) -> FamilyFigures:
    n, passed = part.count("n"), part.count("passed")
    if n == 0 or passed > n:
        raise MeasurementError(f"{part.where}: passed must be at most n, and n at least 1")
    return FamilyFigures(
        family=part.text("family"),
        n=n,
        errors=_read_counts(part, "errors"),
        passed=passed,
        score_avg=part.number("scoreAvg"),
        failures=_read_counts(part, "failures"),
        prompt_formats=_read_counts(part, "promptFormats"),
        valid_json=part.count("validJson"),
        json_expected=part.count("jsonExpected"),
        latency_p50_ms=part.maybe_number("latencyP50Ms"),
        prompt_tokens=part.count("promptTokens"),
        completion_tokens=part.count("completionTokens"),
    )


def _read_counts(part: Part, key: str) -> dict[str, int]:
    counts = Part.of(part.values.get(key, {}), f"{part.where}.{key}")
    return {name: counts.count(name) for name in counts.values}


def score_change(before: RunReport, after: RunReport) -> Figure | None:
    """How the score of the whole has changed, with the bounds of chance. A request that failed scores 0. None when the
    requests differ, or the items are too few to tell."""
    if before.settings.workload_digest != after.settings.workload_digest:
        return None
    scores = [scores_by_item(run.samples, failed=0.0) for run in (before, after)]
    return paired_difference(scores[0], scores[1])


def family_changes(before: Mapping[str, FamilyFigures], after: Sequence[FamilyFigures]) -> list[FamilyChange]:
    """Every family of either report, those of `after` first."""
    now = {one.family: one for one in after}
    names = [*now, *(name for name in before if name not in now)]
    return [FamilyChange(name, before.get(name), now.get(name)) for name in names]
