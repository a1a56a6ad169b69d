"""What `autotune` found: for people as tables and a patch, for tools as one document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ray.bench.reading.comparison import changes_as_rows, comparison_text
from ray.bench.report.figures import Figure, single
from ray.bench.report.report import Row, envelope, number
from ray.bench.tune.duel import Duel, told_bounds
from ray.bench.tune.rungs import Outcome, Standing, ranked
from ray.bench.tune.search import first_line
from ray.bench.tune.space import launch_profile_of
from ray.config import Config, config_document

AUTOTUNE_KIND = "autotune-report"
SHOWN = 5
LARGEST_REASON_CHARS = 2_000
NOTHING = "Nothing can be recommended: the starting settings failed in the comparison."
_NOT_RANKED: tuple[tuple[Outcome, str], ...] = (
    ("failed", "failed"),
    ("cut off", "given up: far too slow"),
    ("does not fit", "not started: does not fit"),
    ("not tried", "not tried"),
)
_SCHEDULER = ("concurrency", "batchWindowMs", "affinityLookahead", "maxInflightTokens", "shortJobMaxTokens")
_COLUMNS = ("score", "answers/h", "latency p95", "queue p95", "tok/s", "requests")


@dataclass(slots=True)
class Findings:
    """What is known so far; an interrupted search has only part of it. `patch` None: nothing can be said."""

    base: Config
    scope: str
    settings: Mapping[str, object]
    launch: Sequence[Standing] = ()
    scheduler: Sequence[Standing] = ()
    duels: list[Duel] = field(default_factory=list)
    patch: Mapping[str, object] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def won(self) -> Duel | None:
        return next((duel for duel in self.duels if duel.won), None)

    @property
    def failed(self) -> bool:
        """Whether the starting settings stopped working, so that nothing can be recommended."""
        return self.patch is None


def findings_text(found: Findings, facts: Mapping[str, str]) -> str:
    """The report for a terminal, ending with a newline."""
    shown = [*(f"{name}: {value}" for name, value in facts.items()), *found.notes, ""]
    for title, standings in (("Launch profiles", found.launch), ("Schedulers", found.scheduler)):
        if standings:
            shown += [*_sweep(title, standings), ""]
    for duel in found.duels:
        shown += [*_duel(duel), ""]
    if found.patch is not None:
        shown += [_recommendation(found), json.dumps(found.patch, indent=2)]
    else:
        shown.append(NOTHING)
    return "\n".join(shown) + "\n"


def ranking_text(found: Findings) -> str:
    """The sweeps alone: what is known when the search is stopped."""
    shown: list[str] = []
    for title, standings in (("Launch profiles", found.launch), ("Schedulers", found.scheduler)):
        if any(one.rungs for one in standings):
            shown += _sweep(title, standings)
    return "\n".join(shown)


def _sweep(title: str, standings: Sequence[Standing]) -> list[str]:
    # Behind those of the last rung come those that were pruned, the later the better.
    order = sorted((one for one in standings if one.rungs and one.outcome in ("ranked", "pruned")), key=_by_rank)
    lines: list[tuple[str, ...]] = [("", title, *_COLUMNS)]
    for place, standing in enumerate(order[:SHOWN]):
        label = standing.candidate.label + (" (as in the config)" if standing is standings[0] else "")
        # A score of fewer requests does not compare with the others, so it has no place among them.
        lines.append((str(place + 1) if standing.is_in else "-", label, *_figures(standing)))
    shown = _table(lines)
    pruned = sum(one.outcome == "pruned" for one in standings)
    if pruned:
        shown.append(f"{pruned} of {len(standings)} were pruned: not in the better half of their rung")
    for outcome, told in _NOT_RANKED:
        of_outcome = [one for one in standings if one.outcome == outcome]
        if outcome == "not tried" and of_outcome:
            labels = ", ".join(one.candidate.label for one in of_outcome)
            shown.append(f"not tried ({of_outcome[0].reason}): {labels}")
            continue
        shown += [f"{told}: {one.candidate.label}: {_short(one.reason or '')}" for one in of_outcome]
    return shown


def _by_rank(standing: Standing) -> tuple[bool, int, float]:
    return standing.outcome == "pruned", -standing.rungs, -standing.figures.score


def _figures(standing: Standing) -> tuple[str, ...]:
    names = (
        ("score", ""),
        ("emailsPerHour", ""),
        ("latencyP95Ms", " ms"),
        ("queueDelayP95Ms", " ms"),
        ("completionTokensPerSecondAvg", ""),
    )
    values = [(standing.figures.figure(name), unit) for name, unit in names]
    shown = ["n/a" if value is None else f"{number(value)}{unit}" for value, unit in values]
    return (*shown, str(len(standing.figures.samples)))


def _table(lines: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return [
        "  ".join(
            cell.ljust(widths[column]) if column == 1 else cell.rjust(widths[column])
            for column, cell in enumerate(line)
        ).rstrip()
        for line in lines
    ]


def _short(reason: str) -> str:
    """A reason on one line: its first, and of a log behind it the last."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    return first_line(reason) if len(lines) < 2 else f"{lines[0]} … {lines[-1][-200:]}"


def _duel(duel: Duel) -> list[str]:
    shown = [f"Starting settings (A) against {duel.rival.label} (B), fresh and in turns"]
    comparison = duel.comparison()
    if comparison is not None:
        # The first lines name the two runs, which the title does already.
        shown += comparison_text(comparison).rstrip("\n").split("\n")[2:]
    if duel.verdict is not None:
        verdict = duel.verdict
        won = f"{verdict.pairs_won} of {verdict.pairs} pairs of turns won"
        shown.append(f"Speed, B to A: {told_bounds(verdict)}; {won}.")
    shown.append(f"B is {'taken' if duel.won else 'not taken'}: {_short(duel.reason)}.")
    return shown


def _recommendation(found: Findings) -> str:
    if found.won is not None:
        return f"Recommended: {found.won.rival.label}. The patch:"
    if found.duels:
        why = "Nothing is proven to be better"
    elif any(one.rungs for one in (*found.launch[1:], *found.scheduler[1:])):
        why = "Nothing that was tried is ahead of them"
    else:
        why = "No others could be measured"
    return f"Recommended: keep the starting settings. {why}. The patch is empty:"


def findings_document(found: Findings, label: str, facts: Mapping[str, str]) -> dict[str, object]:
    """The report as JSON data, in the envelope of all reports."""
    comparison = found.won or (found.duels[-1] if found.duels else None)
    earlier = [duel.document() for duel in found.duels if duel is not comparison]
    return envelope(
        AUTOTUNE_KIND,
        _rows(found, comparison),
        label=label,
        facts=facts,
        settings=found.settings,
        parts={
            "args": dict(found.settings),
            "launchResults": [_result(one, launch=True) for one in found.launch] or None,
            "schedulerResults": [_result(one, launch=False) for one in found.scheduler],
            "comparison": None if comparison is None else comparison.document(),
            "earlierComparisons": earlier or None,
            "recommendedPatch": found.patch or {},
            "notes": [*found.notes, *([NOTHING] if found.failed else [])] or None,
        },
    )


def _rows(found: Findings, duel: Duel | None) -> list[Row]:
    """The figures that two reports are compared by: what the starting settings do, and what the best ones gain."""
    base = next(iter(found.launch or found.scheduler), None)
    score = None if base is None or not base.rungs else single(base.figures.score)
    rows = [
        Row("base_score", "score of the starting settings in the search", "", score, more_is_better=True),
        Row("best_score", "best score in the search", "", _best(found), more_is_better=True),
    ]
    verdict = None if duel is None else duel.verdict
    if verdict is not None:
        rows.append(Row("speed_ratio", "speed, new to starting settings", "x", verdict.speed, more_is_better=True))
    comparison = None if duel is None else duel.comparison()
    return rows if comparison is None else [*rows, *changes_as_rows(comparison)]


def _best(found: Findings) -> Figure | None:
    order = ranked(found.scheduler) or ranked(found.launch)
    return single(order[0].figures.score) if order else None


def _result(standing: Standing, *, launch: bool) -> dict[str, object]:
    config = standing.candidate.config
    profile = launch_profile_of(config)
    document: dict[str, object] = {"label": standing.candidate.label}
    if launch and profile is not None:
        document["profile"] = profile_document(config)
    elif not launch:
        document["schedulerOverride"] = scheduler_document(config)
    document |= {"outcome": standing.outcome, "rungs": standing.rungs, "summary": dict(standing.figures.summary)}
    if standing.reason is not None:
        document["reason"] = standing.reason[:LARGEST_REASON_CHARS]
    return document


def profile_document(config: Config) -> dict[str, object]:
    """The launch profile as it stands in a config file."""
    value: object = config_document(config)
    for key in ("model", "adapter", "launchProfile"):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def scheduler_document(config: Config) -> dict[str, object]:
    """The five settings of the scheduler that are searched."""
    scheduler = config_document(config).get("scheduler")
    return {name: scheduler[name] for name in _SCHEDULER} if isinstance(scheduler, dict) else {}
