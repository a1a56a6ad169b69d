"""How often a whole search is right on a made-up machine, whose answers and starts vary by chance. Seeds are fixed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random

import pytest

from ray.bench.run.provider_tally import ProviderTally
from ray.bench.run.workload_file import load_workload
from ray.bench.tune.duel import Proof
from ray.bench.tune.report import Findings
from ray.bench.tune.rungs import Answers
from ray.bench.tune.search import Ask, Outlook
from ray.bench.tune.space import Candidate, Load
from ray.bench.tune.stages import Asks, Task, tune
from ray.config import Config, config_from_mapping
from tests.bench.tune_fakes import no_one, samples

SUB1B = config_from_mapping({"profile": "sub1b"})
REQUESTS = 12
# Standard deviations of the logarithm: of one answer's time, and of all times of one start.
ANSWER_NOISE, START_NOISE = 0.10, 0.05


class ChancyMachine:
    """`latency`: of a config's answers on average, in ms; `passes`: whether they are right."""

    def __init__(self, seed: int, latency: Callable[[Config], float], passes: Callable[[Config], bool]) -> None:
        self.random, self.latency, self.passes, self.now = Random(seed), latency, passes, 0.0

    def ask(self, candidate: Candidate, requests: int, first: int, give_up_s: float | None) -> Answers:
        of_start = self.latency(candidate.config) * math.exp(self.random.gauss(0, START_NOISE))
        given = []
        for one in samples(requests, of_start, first=first, passed=self.passes(candidate.config)):
            latency = of_start * math.exp(self.random.gauss(0, ANSWER_NOISE))
            given.append(replace(one, latency_ms=latency, gateway_ms=latency, tokens_per_second=10_000 / latency))
        wall_ms = sum(one.latency_ms for one in given)
        self.now += wall_ms / 1000
        return Answers(tuple(given), wall_ms, ProviderTally(), wall_ms / 1000)

    @contextmanager
    def schedulers(self, config: Config) -> Iterator[Ask]:
        yield self.ask


def taken(
    searches: int, latency: Callable[[Config], float], passes: Callable[[Config], bool] = lambda config: True
) -> list[Config | None]:
    """What each of the searches recommends; None for the starting settings."""
    recommended = []
    for seed in range(searches):
        machine = ChancyMachine(seed, latency, passes)
        task = Task(SUB1B, False, Load(2, (96, 160)), 4, REQUESTS, 8, 1, cpus=2)
        outlook = Outlook(lambda machine=machine: machine.now)  # type: ignore[misc]  # its own machine, not the last
        proof = Proof(load_workload(None), 2, REQUESTS, 4, True, machine.ask, outlook, {}, no_one)
        found = Findings(SUB1B, "gateway", {})
        tune(task, Asks(machine.ask, machine.schedulers, machine.ask), None, proof, found, no_one)
        recommended.append(found.won.rival.config if found.won else None)
    return recommended


def has_short_window(config: Config) -> bool:
    return config.scheduler.batch_window_ms == 0


def test_of_equal_settings_the_starting_ones_are_kept_in_nine_of_ten_searches() -> None:
    changed = [config for config in taken(30, lambda config: 100.0) if config is not None]
    assert len(changed) <= 3


def test_settings_that_need_a_fifth_less_time_are_found_in_nine_of_ten_searches() -> None:
    found = taken(10, lambda config: 80.0 if has_short_window(config) else 100.0)
    assert sum(config is not None and has_short_window(config) for config in found) >= 9


@pytest.mark.parametrize("factor", [0.3, 0.7])
def test_settings_that_are_fast_and_wrong_are_never_taken(factor: float) -> None:
    found = taken(
        10, lambda config: 100.0 * (factor if has_short_window(config) else 1.0), lambda c: not has_short_window(c)
    )
    assert not any(config is not None and has_short_window(config) for config in found)
