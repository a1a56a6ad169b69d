"""The proof: starting settings against new ones in a fresh comparison, in turns, each turn with new processes.

A search picks the best of many, so its best one is partly the luckiest one. Nothing that was measured in the search
counts here. Who goes first alternates, so that what slows the machine down for a while hits both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ray.bench.processes.process import MeasurementError
from ray.bench.reading.compare_runs import RunComparison, compare_runs
from ray.bench.reading.comparison import comparison_document
from ray.bench.report.report import number
from ray.bench.run.provider_tally import ProviderTally
from ray.bench.run.report import RunReport, RunSettings
from ray.bench.run.summary import summary_of
from ray.bench.run.workload_file import Workload
from ray.bench.tune.rungs import START_UNITS, Answers
from ray.bench.tune.search import Ask, BackendGone, Outlook
from ray.bench.tune.space import Candidate
from ray.bench.tune.verdict import Turn, Verdict, pooled, verdict_of
from ray.clock import iso_now

STAGE = "comparison"
FEWEST_PAIRS = 2
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Duel:
    """`runs`: the pooled turns of both, None when one side could not be asked, and then `failed` says why. `by_base`:
    it was the starting settings that failed. `pairs`: of turns that were asked for."""

    base: Candidate
    rival: Candidate
    pairs: int
    runs: tuple[RunReport, RunReport] | None
    verdict: Verdict | None
    failed: str | None = None
    by_base: bool = False

    @property
    def won(self) -> bool:
        """Whether the new settings are to be recommended."""
        return self.verdict is not None and self.verdict.better

    @property
    def reason(self) -> str:
        if self.verdict is not None:
            return self.verdict.reason
        return self.failed or "there was no time to compare"

    def comparison(self) -> RunComparison | None:
        return None if self.runs is None else compare_runs(*self.runs)

    def document(self) -> dict[str, object]:
        document: dict[str, object] = {
            "base": self.base.label,
            "winner": self.rival.label,
            "better": self.won,
            "reason": self.reason,
        }
        if self.verdict is not None:
            document |= _verdict_document(self.verdict)
        comparison = self.comparison()
        if comparison is not None:
            document["runs"] = comparison_document(comparison)
        return document


def _verdict_document(verdict: Verdict) -> dict[str, object]:
    document: dict[str, object] = {"pairs": verdict.pairs, "pairsWon": verdict.pairs_won}
    for name, figure in (("speedRatio", verdict.speed), ("latencyP95Ratio", verdict.latency)):
        if figure is not None:
            bounded = figure.samples > 1 and math.isfinite(figure.high)
            bounds = {"low": figure.low, "high": figure.high} if bounded else {}
            document[name] = {"value": figure.value, **bounds, "samples": figure.samples}
    for name, shares in (("qualityPassRate", verdict.quality), ("errorRate", verdict.errors)):
        if shares[0] is not None and shares[1] is not None:
            document[name] = {"base": shares[0], "winner": shares[1]}
    return document


@dataclass(frozen=True, slots=True)
class Proof:
    """How two candidates are compared, and what both are asked. `requests`: of one turn; `pairs`: turns of each side;
    `no_cache`: as it was sent."""

    workload: Workload
    clients: int
    requests: int
    pairs: int
    no_cache: bool
    ask: Ask
    outlook: Outlook
    facts: Mapping[str, str]
    progress: Progress

    @property
    def units(self) -> int:
        """The work of a whole duel, as the outlook counts it."""
        return self.pairs * 2 * (self.requests + START_UNITS)

    @property
    def has_time(self) -> bool:
        """Whether there is time for the fewest pairs that say anything."""
        return self._has_time_after(0)

    def _has_time_after(self, pairs: int) -> bool:
        return self.outlook.has_time_for(max(1, self.fewest_pairs - pairs) * self.units // self.pairs)

    @property
    def fewest_pairs(self) -> int:
        return min(FEWEST_PAIRS, self.pairs)

    def compare(self, base: Candidate, rival: Candidate) -> Duel:
        """Both in turns: A B, B A, A B and so on. With a time limit fewer pairs, at least two or none."""
        turns: tuple[list[Answers], list[Answers]] = ([], [])
        sides = (base, rival)
        for pair in range(self.pairs):
            self.outlook.ahead[STAGE] = self.units * (self.pairs - pair) // self.pairs
            if not self._has_time_after(pair):
                self.progress(f"comparison: no time for more than {pair} of {self.pairs} pairs of turns")
                break
            for side in (0, 1) if pair % 2 == 0 else (1, 0):
                began = self.outlook.clock()
                try:
                    turns[side].append(self._turn(sides[side], pair))
                except BackendGone:
                    raise
                except MeasurementError as error:
                    who = "the starting settings" if side == 0 else sides[side].label
                    failed = f"{who} failed in the comparison: {error}"
                    return Duel(base, rival, self.pairs, None, None, failed, by_base=side == 0)
                self.outlook.worked(self.requests + START_UNITS, self.outlook.clock() - began)
            self.outlook.ahead[STAGE] = self.units * (self.pairs - pair - 1) // self.pairs
            self.progress(f"comparison: pair {pair + 1} of {self.pairs} done{self.outlook.about_left()}")
        self.outlook.ahead.pop(STAGE, None)
        if not turns[0]:
            return Duel(base, rival, self.pairs, None, None)
        runs = self._report("starting settings", turns[0]), self._report(rival.label, turns[1])
        before, after = ([Turn(one.samples, one.wall_ms) for one in side] for side in turns)
        verdict = verdict_of(before, after, fewest_pairs=self.fewest_pairs)
        return Duel(base, rival, self.pairs, runs, verdict)

    def _turn(self, candidate: Candidate, pair: int) -> Answers:
        answers = self.ask(candidate, self.requests, pair * self.requests, None)
        if not any(one.answered for one in answers.samples):
            raise MeasurementError("no request was answered")
        return answers

    def _report(self, label: str, turns: list[Answers]) -> RunReport:
        whole = pooled([Turn(one.samples, one.wall_ms) for one in turns])
        tally = ProviderTally()
        for one in turns:
            tally.include(one.tally)
        return RunReport(
            label=label,
            generated_at=iso_now(),
            settings=RunSettings(
                target="started for each turn",
                workload=self.workload.name,
                workload_digest=self.workload.digest,
                items=len(self.workload.items),
                requests=len(whole.samples),
                clients=self.clients,
                warmup=1,
                no_cache=self.no_cache,
            ),
            wall_ms=whole.wall_ms,
            samples=whole.samples,
            facts=self.facts,
            summary=summary_of(whole.samples, whole.wall_ms, tally),
        )


def told_bounds(verdict: Verdict) -> str:
    """The speed ratio for a line of text."""
    speed = verdict.speed
    if speed is None:
        return "n/a"
    bounds = f" ({number(speed.low)}..{number(speed.high)})" if speed.samples > 1 else ""
    return f"{number(speed.value)} x{bounds}"
