"""Candidates and answers made up for the tests of the search: no process, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ray.bench.processes.process import MeasurementError
from ray.bench.run.provider_tally import ProviderTally
from ray.bench.run.sample import Sample
from ray.bench.tune.rungs import Answers
from ray.bench.tune.search import Outlook, TooSlow
from ray.bench.tune.space import Candidate
from ray.config import Config, config_from_mapping

TINY = config_from_mapping({"profile": "tiny"})


def candidates(*labels: str) -> list[Candidate]:
    """Configs that differ, with these names."""
    return [
        Candidate(label, replace(TINY, scheduler=replace(TINY.scheduler, batch_window_ms=place)))
        for place, label in enumerate(labels)
    ]


def samples(
    count: int, latency_ms: float, *, first: int = 0, failed: int = 0, passed: bool = True, items: int = 4
) -> tuple[Sample, ...]:
    """One client's requests, the first `failed` of them without an answer."""
    return tuple(
        Sample(
            first + place,
            (first + place) % items,
            place * latency_ms,
            latency_ms,
            code="backend_unavailable" if place < failed else None,
            gateway_ms=latency_ms,
            queue_ms=0.0,
            completion_tokens=10,
            tokens_per_second=10_000 / latency_ms,
            quality_score=None if place < failed else 100.0 if passed else 50.0,
            quality_failures=() if passed else ("output_too_short",),
        )
        for place in range(count)
    )


class FakeBox:
    """A machine on which every candidate has its latency in ms; its clock moves only while somebody is asked.

    `broken`: what a candidate's start says; `failing`: how many of its requests fail; `tilt`: a candidate's latency is
    multiplied with these factors, one for each time it is asked, the last one for all later times.
    """

    def __init__(
        self,
        latencies: Mapping[str, float],
        *,
        broken: Mapping[str, str] | None = None,
        failing: Mapping[str, int] | None = None,
        tilt: Mapping[str, tuple[float, ...]] | None = None,
        bad_quality: frozenset[str] = frozenset(),
        start_s: float = 1.0,
    ) -> None:
        self.latencies, self.broken, self.failing = latencies, broken or {}, failing or {}
        self.tilt, self.bad_quality, self.start_s = tilt or {}, bad_quality, start_s
        self.now = 0.0
        self.asked: list[tuple[str, int, int]] = []
        self.limits: dict[str, list[float | None]] = {}
        self.outlook = Outlook(lambda: self.now)

    def ask(self, candidate: Candidate, requests: int, first: int, give_up_s: float | None) -> Answers:
        label = candidate.label
        times = sum(one[0] == label for one in self.asked)
        self.asked.append((label, requests, first))
        self.limits.setdefault(label, []).append(give_up_s)
        self.now += self.start_s
        if label in self.broken:
            raise MeasurementError(self.broken[label])
        factors = self.tilt.get(label, (1.0,))
        latency = self.latencies[label] * factors[min(times, len(factors) - 1)]
        seconds = requests * latency / 1000
        if give_up_s is not None and seconds > give_up_s:
            self.now += give_up_s
            raise TooSlow(f"given up after {give_up_s:.1f} s")
        self.now += seconds
        failed = min(requests, self.failing.get(label, 0))
        given = samples(requests, latency, first=first, failed=failed, passed=label not in self.bad_quality)
        return Answers(given, requests * latency, ProviderTally(), seconds)

    def labels(self) -> list[str]:
        return [label for label, _, _ in self.asked]


def no_one(text: str) -> None:
    """Progress that nobody reads."""


def config_with(**changes: Mapping[str, object]) -> Config:
    """The tiny profile with these sections over it."""
    return config_from_mapping({"profile": "tiny", **changes})
