"""The policy of the search, without any process: who is asked how much, who goes on, who is given up, who is ahead.

Successive halving: in the first rung every candidate gets a few requests; the better half goes on and is asked more,
and so on until the last ones have had them all. The config's own settings, the base, stand first and always go on,
because everything is measured against them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from ray.bench.run.provider_tally import ProviderTally
from ray.bench.run.sample import Sample
from ray.bench.run.summary import summary_of
from ray.bench.tune.space import Candidate

MOST_OF_FIRST_RUNG = 8
# A run that takes three times as long as the best one for the same requests has lost; the seconds are room for chance.
GIVE_UP_TIMES = 3.0
GIVE_UP_SPARE_SECONDS = 2.0
# What a start costs, in requests, until starts have been timed.
START_UNITS = 2

Outcome = Literal["ranked", "pruned", "cut off", "failed", "does not fit", "not tried"]


@dataclass(frozen=True, slots=True)
class Answers:
    """What one trial brought. `wall_ms`: of the measured part; `seconds`: of all asking, warm-up included."""

    samples: tuple[Sample, ...]
    wall_ms: float
    tally: ProviderTally
    seconds: float


@dataclass(frozen=True)
class Figures:
    """All trials of one candidate taken together."""

    samples: tuple[Sample, ...] = ()
    wall_ms: float = 0.0
    tally: ProviderTally = field(default_factory=ProviderTally)

    def with_answers(self, answers: Answers) -> Figures:
        tally = ProviderTally()
        tally.include(self.tally)
        tally.include(answers.tally)
        return Figures(self.samples + answers.samples, self.wall_ms + answers.wall_ms, tally)

    @cached_property
    def summary(self) -> Mapping[str, object]:
        return summary_of(self.samples, self.wall_ms, self.tally) if self.samples else {}

    @property
    def score(self) -> float:
        """By which candidates are ranked; larger is better."""
        return self.figure("score") or 0.0

    def figure(self, name: str) -> float | None:
        value = self.summary.get(name)
        return float(value) if isinstance(value, int | float) else None


@dataclass(slots=True)
class Standing:
    """How far a candidate has come. `rungs`: how many it was asked through; `outcome` and `reason`: what became of it;
    `seconds`: of its last trial's asking."""

    candidate: Candidate
    figures: Figures = field(default_factory=Figures)
    rungs: int = 0
    outcome: Outcome = "ranked"
    reason: str | None = None
    seconds: float = 0.0

    @property
    def is_in(self) -> bool:
        return self.outcome == "ranked"

    def leave(self, outcome: Outcome, reason: str) -> None:
        self.outcome, self.reason = outcome, reason


def rung_sizes(items: int, requests: int) -> tuple[int, ...]:
    """How many requests a candidate has had after each rung: once through the items but at most 8, then twice as many,
    and so on up to `requests`. A last step that is hardly one is joined with the one before."""
    size = max(1, min(items, requests, MOST_OF_FIRST_RUNG))
    sizes = []
    while size * 4 <= requests * 3:
        sizes.append(size)
        size *= 2
    return (*sizes, requests)


def survivors(standings: Sequence[Standing]) -> list[Standing]:
    """The better half of those that are still in, best first, and the base before all. Ties keep the earlier one."""
    base, others = standings[0], [one for one in standings if one.is_in]
    better = ranked(others)[: (len(others) + 1) // 2]
    return [base, *(one for one in better if one is not base)]


def ranked(standings: Sequence[Standing]) -> list[Standing]:
    """Best first: only those that were asked as much as anybody, because more requests are more to judge by."""
    asked = [one for one in standings if one.is_in and one.rungs]
    furthest = max((one.rungs for one in asked), default=0)
    return sorted((one for one in asked if one.rungs == furthest), key=lambda one: -one.figures.score)


def give_up_seconds(best_seconds: float | None) -> float | None:
    """How long a candidate may take for what the fastest one did in `best_seconds`; None while nobody is known."""
    return None if best_seconds is None else GIVE_UP_TIMES * best_seconds + GIVE_UP_SPARE_SECONDS


def too_many_errors(own: Figures, base: Figures) -> str | None:
    """Why a candidate's errors put it out; None when they do not."""
    failed, allowed = own.figure("errorRate") or 0.0, base.figure("errorRate") or 0.0
    if failed <= allowed:
        return None
    errors = own.summary.get("errors")
    codes = ", ".join(f"{code} {count}" for code, count in errors.items()) if isinstance(errors, Mapping) else ""
    return f"{failed:.0f}% of its requests failed, {allowed:.0f}% of the starting settings' ({codes})"


def units_to_come(sizes: Sequence[int], rung: int, waiting: int, going_on: int) -> int:
    """Work that is left, in requests: `waiting` candidates of this rung, and the later rungs that halve `going_on`."""
    units, before = 0, 0
    for number, size in enumerate(sizes):
        if number == rung:
            units += waiting * (size - before + START_UNITS)
        elif number > rung:
            going_on = (going_on + 1) // 2
            units += going_on * (size - before + START_UNITS)
        before = size
    return units
