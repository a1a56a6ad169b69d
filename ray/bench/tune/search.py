"""The search itself: rung after rung, with whoever asks a candidate given from outside.

A candidate that fails is recorded and the search goes on; when the base fails there is nothing to compare with, and it
ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ray.bench.processes.process import MeasurementError
from ray.bench.report.progress import about_left
from ray.bench.tune.rungs import (
    START_UNITS,
    Answers,
    Standing,
    give_up_seconds,
    ranked,
    rung_sizes,
    survivors,
    too_many_errors,
    units_to_come,
)
from ray.bench.tune.space import Candidate

Progress = Callable[[str], None]
CLEARLY = 1.05
NO_TIME = "the time limit came first"


class TooSlow(MeasurementError):
    """A trial was ended because it had lost already."""


class BackendGone(MeasurementError):
    """The one backend that all are tried before does not answer any more: it is no candidate's fault."""


class Ask(Protocol):
    """Start the candidate, ask it `requests` of the workload from the `first` on, stop it. Raises `TooSlow` when asking
    takes longer than `give_up_s` (None: as long as it takes), `BackendGone`, which ends everything, and
    `MeasurementError` when the candidate cannot be asked."""

    def __call__(self, candidate: Candidate, requests: int, first: int, give_up_s: float | None) -> Answers: ...


@dataclass(slots=True)
class Outlook:
    """How much is left to do, and whether there is time for more. Work is counted in requests, a start as some of them.

    `clock`: seconds; `limit_s`: of everything, None without a limit. `ahead`: the work left in each stage, by name.
    """

    clock: Callable[[], float]
    limit_s: float | None = None
    ahead: dict[str, int] = field(default_factory=dict)
    began: float = field(init=False)
    done: int = 0
    busy_s: float = 0.0

    def __post_init__(self) -> None:
        self.began = self.clock()

    def worked(self, units: int, seconds: float) -> None:
        self.done += units
        self.busy_s += seconds

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest takes when it goes on like this; None before anything is known."""
        return None if not self.done else sum(self.ahead.values()) * self.busy_s / self.done

    def about_left(self) -> str:
        """For a line of progress."""
        return about_left(self.left_s)

    def has_time_for(self, units: int, *, kept_for: str | None = None) -> bool:
        """Whether so much work fits into the limit, and after it the stage `kept_for`."""
        if self.limit_s is None or not self.done:
            return True
        kept = 0 if kept_for is None else self.ahead.get(kept_for, 0)
        return self.clock() - self.began + (units + kept) * self.busy_s / self.done <= self.limit_s


@dataclass(frozen=True, slots=True)
class Search:
    """One sweep. `name`: of its stage in the outlook, and in the progress; `items`: of the workload; `requests`: the
    most that one candidate is asked; `refusal`: why a candidate is not even started, None when it is."""

    name: str
    items: int
    requests: int
    ask: Ask
    outlook: Outlook
    progress: Progress
    refusal: Callable[[Candidate], str | None] = lambda candidate: None
    kept_for: str = "comparison"

    def run(self, standings: Sequence[Standing]) -> None:
        """Ask all, the first of whom is the base, and keep in their standings what became of them. Raises
        `MeasurementError` when the base fails, or the backend of all."""
        for standing in standings[1:]:
            reason = self.refusal(standing.candidate)
            if reason is not None:
                standing.leave("does not fit", reason)
        runners = [one for one in standings if one.is_in]
        sizes = rung_sizes(self.items, self.requests)
        before = 0
        for rung, size in enumerate(sizes):
            told = f"{self.name}, rung {rung + 1} of {len(sizes)}"
            if not self._rung(runners, rung, sizes, before, told):
                break
            before = size
            if rung + 1 < len(sizes):
                going_on = survivors(runners)
                for one in runners:
                    if one.is_in and one not in going_on:
                        one.leave("pruned", f"not in the better half after {size} requests")
                runners = going_on
                if len(runners) == 1:
                    break  # nobody is left to be better than the base
        self.outlook.ahead.pop(self.name, None)

    def _rung(self, runners: Sequence[Standing], rung: int, sizes: Sequence[int], before: int, told: str) -> bool:
        """Ask all once; False when time ran out."""
        requests, best_seconds = sizes[rung] - before, None
        for place, standing in enumerate(runners):
            self.outlook.ahead[self.name] = units_to_come(sizes, rung, len(runners) - place, len(runners))
            is_base = place == 0
            if not is_base and not self.outlook.has_time_for(requests + START_UNITS, kept_for=self.kept_for):
                for late in runners[place:]:
                    if not late.rungs:
                        late.leave("not tried", NO_TIME)
                self.progress(f"{told}: no time for {len(runners) - place} more")
                return False
            self._trial(standing, runners[0], requests, before, None if is_base else give_up_seconds(best_seconds))
            if standing.is_in:
                best_seconds = min(standing.seconds, best_seconds or standing.seconds)
            self.outlook.ahead[self.name] = units_to_come(sizes, rung, len(runners) - place - 1, len(runners))
            self.progress(f"{told}: {place + 1} of {len(runners)}, {_line(standing)}{self.outlook.about_left()}")
        return True

    def _trial(self, standing: Standing, base: Standing, requests: int, first: int, give_up_s: float | None) -> None:
        began = self.outlook.clock()
        try:
            answers = self.ask(standing.candidate, requests, first, give_up_s)
            if not any(one.answered for one in answers.samples):
                raise MeasurementError(f"no request was answered ({_codes(answers)})")
        except BackendGone:
            raise
        except MeasurementError as error:
            if standing is base:
                raise MeasurementError(
                    f"the starting settings ({standing.candidate.label}) cannot be measured: {error}"
                ) from error
            # How long it took says nothing about how long the others take.
            standing.leave("cut off" if isinstance(error, TooSlow) else "failed", str(error))
            return
        self.outlook.worked(requests + START_UNITS, self.outlook.clock() - began)
        standing.figures = standing.figures.with_answers(answers)
        standing.seconds = answers.seconds
        standing.rungs += 1
        reason = None if standing is base else too_many_errors(standing.figures, base.figures)
        if reason is not None:
            standing.leave("failed", reason)


def winner_of(standings: Sequence[Standing]) -> Standing:
    """The best, which may be the base."""
    return ranked(standings)[0]


def clear_winner_of(standings: Sequence[Standing]) -> Standing:
    """The best, but the base when that one is hardly behind: a change that gains nothing is not worth making."""
    best, base = winner_of(standings), standings[0]
    return best if not base.rungs or best.figures.score >= CLEARLY * base.figures.score else base


def better_than_base(standings: Sequence[Standing]) -> list[Standing]:
    """Those ahead of the base, best first."""
    order = ranked(standings)
    return order[: order.index(standings[0])] if standings[0] in order else []


def _line(standing: Standing) -> str:
    if not standing.is_in:
        return f"{standing.candidate.label} {standing.outcome}: {first_line(standing.reason or '')}"
    return f"{standing.candidate.label} score {standing.figures.score:.1f}"


def first_line(text: str) -> str:
    """For places where a whole log does not fit."""
    return text.strip().split("\n", 1)[0]


def _codes(answers: Answers) -> str:
    return ", ".join(sorted({one.code for one in answers.samples if one.code is not None})) or "nothing was sent"
