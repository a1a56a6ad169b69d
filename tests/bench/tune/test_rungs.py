"""The policy of the search as tables: sizes of rungs, who goes on, who is given up."""

from __future__ import annotations

import pytest

from ray.bench.run.provider_tally import ProviderTally
from ray.bench.tune.rungs import (
    Answers,
    Figures,
    Outcome,
    Standing,
    give_up_seconds,
    ranked,
    rung_sizes,
    survivors,
    too_many_errors,
    units_to_come,
)
from tests.bench.tune_fakes import candidates, samples


def figures(latency_ms: float, *, failed: int = 0) -> Figures:
    return Figures().with_answers(Answers(samples(4, latency_ms, failed=failed), 4 * latency_ms, ProviderTally(), 1.0))


def standing(label: str, latency_ms: float, rungs: int = 1, outcome: Outcome = "ranked") -> Standing:
    return Standing(candidates(label)[0], figures(latency_ms), rungs, outcome)


def labels(standings: list[Standing]) -> list[str]:
    return [one.candidate.label for one in standings]


@pytest.mark.parametrize(
    ("items", "requests", "sizes"),
    [
        (5, 16, (5, 10, 16)),
        (5, 15, (5, 10, 15)),
        (4, 12, (4, 8, 12)),
        (5, 6, (6,)),
        (5, 5, (5,)),
        (5, 2, (2,)),
        (1, 1, (1,)),
        (1, 12, (1, 2, 4, 8, 12)),
        (100, 300, (8, 16, 32, 64, 128, 300)),
    ],
)
def test_each_rung_doubles_the_requests_up_to_all_of_them(items: int, requests: int, sizes: tuple[int, ...]) -> None:
    assert rung_sizes(items, requests) == sizes


@pytest.mark.parametrize(
    ("latencies", "on"),
    [
        # The base first, whatever its place; then the better half, best first.
        ({"base": 50, "a": 40, "b": 30, "c": 20}, ["base", "c", "b"]),
        ({"base": 10, "a": 40, "b": 30, "c": 20}, ["base", "c"]),
        ({"base": 30, "a": 20}, ["base", "a"]),
        ({"base": 10, "a": 20}, ["base"]),
        ({"base": 10}, ["base"]),
        # Of equals the earlier one is kept.
        ({"base": 20, "a": 20, "b": 20, "c": 20, "d": 20}, ["base", "a", "b"]),
    ],
)
def test_the_better_half_and_the_base_go_on(latencies: dict[str, float], on: list[str]) -> None:
    assert labels(survivors([standing(label, latency) for label, latency in latencies.items()])) == on


def test_who_is_out_takes_no_place_among_those_who_go_on() -> None:
    field = [standing("base", 50), standing("gone", 1, outcome="failed"), standing("a", 40), standing("b", 30)]
    assert labels(survivors(field)) == ["base", "b", "a"]


def test_only_those_who_were_asked_as_much_as_anybody_are_ranked() -> None:
    field = [standing("base", 50, rungs=2), standing("lucky", 1, rungs=1), standing("a", 40, rungs=2)]
    assert labels(ranked(field)) == ["a", "base"]


def test_nobody_is_ranked_before_anybody_was_asked() -> None:
    assert ranked([Standing(one) for one in candidates("base", "a")]) == []


@pytest.mark.parametrize(("best", "limit"), [(None, None), (0.1, 2.3), (10.0, 32.0)])
def test_three_times_the_best_time_and_a_little_is_too_long(best: float | None, limit: float | None) -> None:
    assert give_up_seconds(best) == pytest.approx(limit)


@pytest.mark.parametrize(
    ("own", "base", "reason"),
    [
        (0, 0, None),
        (2, 2, None),
        (1, 2, None),
        (2, 1, "50% of its requests failed, 25% of the starting settings' (backend_unavailable 2)"),
    ],
)
def test_more_errors_than_the_base_put_a_candidate_out(own: int, base: int, reason: str | None) -> None:
    assert too_many_errors(figures(20, failed=own), figures(20, failed=base)) == reason


def test_figures_of_several_trials_are_taken_together() -> None:
    both = figures(20).with_answers(Answers(samples(4, 60), 240.0, ProviderTally(), 1.0))
    assert both.summary["requests"] == 8
    assert both.summary["wallTimeMs"] == 320
    assert both.figure("clientLatencyP95Ms") == 60
    assert Figures().summary == {}
    assert Figures().score == 0


@pytest.mark.parametrize(
    ("rung", "waiting", "going_on", "units"),
    [
        # A start counts as two requests: 4 x (5+2), then 2 x (5+2), then 1 x (6+2).
        (0, 4, 4, 28 + 14 + 8),
        (0, 1, 4, 7 + 14 + 8),
        (1, 2, 2, 14 + 8),
        (2, 1, 1, 8),
        (2, 0, 1, 0),
    ],
)
def test_the_work_that_is_left_counts_the_halving(rung: int, waiting: int, going_on: int, units: int) -> None:
    assert units_to_come((5, 10, 16), rung, waiting, going_on) == units
