"""Prompt formats beside each other: which of them were really used, and whether one is better than the gateway's own.

A difference counts when it is more than noise: the answers to the same items are compared, and all of the bounds of
their mean difference must lie above zero. Pure functions and values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray.bench.report.aligned import counted
from ray.bench.report.figures import Figure, single
from ray.bench.report.report import Row, envelope
from ray.bench.run.paired import FEWEST_ITEMS, paired_difference, scores_by_item, with_bounds
from ray.bench.run.report import RunReport

FORMATS_KIND = "prompt-format-sweep"
FORMATS_VERSION = 1
# What llama.cpp's adapter calls them in an answer's diagnostics, and in metadata.rayPromptFormat.
NATIVE_TEMPLATE = "llama.cpp-template"
SCAFFOLD = "prompt-scaffold"
FALLBACK = "ray-chat-fallback"
FORMATS = (NATIVE_TEMPLATE, SCAFFOLD, FALLBACK)


@dataclass(frozen=True, slots=True)
class FormatResult:
    """One format as it was asked for. `own`: the gateway wrote its prompts as it does without being asked for a
    format. `report`: of its requests."""

    prompt_format: str
    report: RunReport
    own: bool

    @property
    def answers(self) -> int:
        return sum(sample.answered for sample in self.report.samples)

    @property
    def named(self) -> Mapping[str, int]:
        """The formats that the answers name, and how often."""
        names = (sample.prompt_format for sample in self.report.samples if sample.answered)
        return dict(Counter(name for name in names if name is not None).most_common())

    @property
    def used(self) -> int:
        """Answers that name the format which was asked for."""
        return self.named.get(self.prompt_format, 0)

    @property
    def was_used(self) -> bool:
        """At least half of the answers have it: scaffolds, for one, are only made for requests with a template."""
        return 0 < self.answers <= 2 * self.used

    @property
    def errors(self) -> Mapping[str, int]:
        return dict(Counter(one.code for one in self.report.samples if one.code is not None).most_common())

    @property
    def problem(self) -> str | None:
        """Why this format cannot be recommended, None when it can."""
        problems = []
        if self.errors:
            problems.append(f"requests failed: {counted(self.errors)}")
        if not self.answers:
            problems.append("not used: there are no answers")
        elif not self.named:
            problems.append("not used: the answers name no prompt format")
        elif not self.was_used:
            wrote = f"the gateway wrote {counted(self.named)}"
            problems.append(f"not used: {self.used} of {self.answers} answers had it; {wrote}")
        return "; ".join(problems) or None

    @property
    def quality(self) -> float:
        return _figure(self.report.summary, "qualityScoreAvg")

    @property
    def score(self) -> float:
        return _figure(self.report.summary, "score")


@dataclass(frozen=True, slots=True)
class Recommendation:
    """`prompt_format`: None when no format can be recommended; `own`: the gateway's own format, None when that is not
    known; `why`: in words."""

    prompt_format: str | None
    own: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """All formats in the order they stand in `FORMATS`. `settable`: the sweep started the gateways and so could set
    their formats; `broken_off`: why it ended early."""

    label: str
    target: str
    workload: str
    workload_digest: str
    items: int
    requests: int
    clients: int
    settable: bool
    results: tuple[FormatResult, ...]
    recommendation: Recommendation
    facts: Mapping[str, str]
    broken_off: str | None = None


def own_format(results: Sequence[FormatResult], without_asking: Mapping[str, int]) -> str | None:
    """The format that the gateway writes by itself. `without_asking`: the formats of answers to the unchanged items.

    The first prompts of a template are named by the server's own template even where later ones are not, so what was
    named there has to have been used later on as well; otherwise it is the own result with the most answers in its
    format.
    """
    candidates = [one for one in results if one.own and one.problem is None]
    for name, _ in sorted(without_asking.items(), key=lambda one: -one[1]):
        if any(one.prompt_format == name for one in candidates):
            return name
    return max(candidates, key=lambda one: one.used).prompt_format if candidates else None


def recommend(results: Sequence[FormatResult], own: str | None) -> Recommendation:
    """The best format that was used and never failed: the gateway's own unless another one's answers are better by more
    than noise. None where the own one was not measured: nobody should leave it for what it was not compared with."""
    usable = [one for one in results if one.problem is None]
    if not usable:
        return Recommendation(None, own, "no format was used without errors")
    mine = next((one for one in usable if one.prompt_format == own), None)
    if mine is None:
        return Recommendation(
            None,
            own,
            "the format that the gateway writes by itself was not used without errors, so the others can be compared "
            "with nothing; measure again",
        )
    if len(usable) == 1:
        return Recommendation(
            own, own, "the only format that was used without errors: there was nothing to compare it with"
        )
    # The best quality, then the best score, then the first: `max` keeps the first of equals.
    better = [one for one in usable if one is not mine and _is_better(score_difference(mine, one))]
    if not better:
        if all(score_difference(mine, one) is None for one in usable if one is not mine):
            few = f"with fewer than {FEWEST_ITEMS} items nobody can tell whether another is better"
            return Recommendation(own, own, f"this is the gateway's own; {few}")
        return Recommendation(
            own, own, "no format is better than the others here, beyond the noise: this is the gateway's own"
        )
    winner = max(better, key=lambda one: (one.quality, one.score))
    found = score_difference(mine, winner)
    gain = "" if found is None else f"{with_bounds(found)} over {found.samples} items "
    return Recommendation(winner.prompt_format, own, f"its score is {gain}against {own}")


def score_difference(before: FormatResult, after: FormatResult) -> Figure | None:
    """How much better the answers to the same items are; None when too few items have answers of both."""
    return paired_difference(scores_by_item(before.report.samples), scores_by_item(after.report.samples))


def _is_better(difference: Figure | None) -> bool:
    return difference is not None and difference.low > 0


def _figure(summary: Mapping[str, object], key: str) -> float:
    value = summary.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def sweep_document(sweep: Sweep) -> dict[str, object]:
    """The sweep as JSON data."""
    asked = {"concurrency": sweep.clients, "requests": sweep.requests, "label": sweep.label}
    results = []
    for one in sweep.results:
        document: dict[str, object] = {
            "promptFormat": one.prompt_format,
            "usedIn": one.used,
            "named": one.named,
            "summary": dict(one.report.summary),
        }
        results.append(document if one.problem is None else {**document, "notRecommendedBecause": one.problem})
    return envelope(
        FORMATS_KIND,
        rows_of(sweep),
        label=sweep.label,
        facts=sweep.facts,
        settings={
            "target": sweep.target,
            "workload": sweep.workload,
            "workloadDigest": sweep.workload_digest,
            "items": sweep.items,
            "requests": sweep.requests,
            "clients": sweep.clients,
        },
        version=FORMATS_VERSION,
        parts={
            "args": {"baseUrl": sweep.target, "workloadPath": sweep.workload, **asked},
            "results": results,
            "ownPromptFormat": sweep.recommendation.own,
            "recommendedPromptFormat": sweep.recommendation.prompt_format,
            "why": sweep.recommendation.why,
            "brokenOff": sweep.broken_off,
        },
    )


def rows_of(sweep: Sweep) -> list[Row]:
    """Quality, pass rate and latency of each format; without a figure where the format was not used."""
    rows = []
    for one in sweep.results:
        for key, label, unit, better in (
            ("qualityScoreAvg", "score", "", True),
            ("qualityPassRate", "passed", "%", True),
            ("clientLatencyP50Ms", "latency p50", "ms", False),
        ):
            value = one.report.summary.get(key)
            known = one.problem is None and isinstance(value, int | float)
            figure = single(_figure(one.report.summary, key)) if known else None
            note = None if known else one.problem or "not measured"
            rows.append(
                Row(
                    f"{key}:{one.prompt_format}", f"{label}, {one.prompt_format}", unit, figure,
                    note=note, more_is_better=better,
                )
            )  # fmt: skip
    return rows
