"""A sweep of prompt formats for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from ray.bench.formats.report import FALLBACK, FormatResult, Sweep, score_difference
from ray.bench.report.aligned import aligned
from ray.bench.run.paired import with_bounds
from ray.bench.run.text import figure_text

_HEAD = (
    "prompt format",
    "n",
    "errors",
    "used in",
    "score",
    "passed",
    "valid JSON",
    "p50 ms",
    "answers/h",
    "against own",
)


def sweep_text(sweep: Sweep) -> str:
    """The whole sweep, ending with a newline."""
    lines = [f"{name}: {value}" for name, value in sweep.facts.items()]
    lines += [
        f"label: {sweep.label}",
        f"gateway: {sweep.target}",
        f"asked: {sweep.requests} requests for each format, {sweep.items} items of {sweep.workload}, "
        f"{sweep.clients} at once, past the response cache",
        "",
        *aligned([_HEAD, *(_cells(one, sweep) for one in sweep.results)]),
        "",
        *(f"{one.prompt_format}: {one.problem}" for one in sweep.results if one.problem is not None),
    ]
    if sweep.broken_off is not None:
        lines.append(f"BROKEN OFF: {sweep.broken_off}. The figures are of what was measured until then.")
    lines += [*_advice(sweep)]
    return "\n".join(lines) + "\n"


def _cells(one: FormatResult, sweep: Sweep) -> tuple[str, ...]:
    # The figures of a format that was not used are another format's.
    summary = one.report.summary if one.was_used else {}
    own = next((other for other in sweep.results if other.prompt_format == sweep.recommendation.own), None)
    against = "own" if own is one else ""
    if own is not None and own is not one and one.problem is None:
        found = score_difference(own, one)
        against = "too few items" if found is None else with_bounds(found)
    return (
        one.prompt_format,
        str(len(one.report.samples)),
        str(sum(one.errors.values())),
        f"{one.used} of {one.answers}",
        figure_text(summary, "qualityScoreAvg"),
        figure_text(summary, "qualityPassRate", " %"),
        figure_text(summary, "validJsonRate", " %"),
        figure_text(summary, "clientLatencyP50Ms"),
        figure_text(summary, "emailsPerHour"),
        against,
    )


def _advice(sweep: Sweep) -> Iterator[str]:
    found = sweep.recommendation
    if found.prompt_format is None:
        yield f"No format is recommended: {found.why}."
    else:
        yield f"Recommended: {found.prompt_format}; {found.why}."
    unused = [one for one in sweep.results if one.answers and not one.used]
    if not sweep.settable and unused:
        yield (
            "This gateway did not write every format it was asked for: its config decides. Give --config FILE to have "
            "gateways started whose formats can be set."
        )
    elif sweep.settable and found.prompt_format not in (None, found.own):
        setting = "plain-completion" if found.prompt_format == FALLBACK else "native-template"
        yield f'In the config: model.operational.recommendedPromptFormat "{setting}".'
