"""When new settings are taken: faster beyond noise, and no worse in what speed must not cost."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest

from ray.bench.tune.verdict import Turn, pairs_to_win, pooled, ratios, speed_of, verdict_of
from tests.bench.tune_fakes import samples


def turns(
    latency_ms: float,
    pairs: int = 4,
    requests: int = 8,
    *,
    passed: bool = True,
    failed: int = 0,
    noise: float = 0.0,
    seed: int = 0,
) -> list[Turn]:
    random, made = Random(seed), []
    for _ in range(pairs):
        given = []
        for one in samples(requests, latency_ms, failed=failed, passed=passed):
            latency = latency_ms * random.uniform(1 - noise, 1 + noise)
            given.append(replace(one, latency_ms=latency, gateway_ms=latency))
        made.append(Turn(tuple(given), sum(one.latency_ms for one in given)))
    return made


def test_clearly_faster_settings_are_taken() -> None:
    verdict = verdict_of(turns(100, noise=0.2), turns(70, noise=0.2, seed=1))
    assert verdict.better
    assert verdict.speed is not None
    assert verdict.speed.low > 1
    assert (verdict.pairs, verdict.pairs_won) == (4, 4)


def test_of_twenty_equal_pairs_of_settings_at_most_one_is_taken_for_faster() -> None:
    taken = [
        verdict_of(turns(100, noise=0.5, seed=2 * seed), turns(100, noise=0.5, seed=2 * seed + 1)).better
        for seed in range(20)
    ]
    assert sum(taken) <= 1


def test_slower_settings_are_not_taken() -> None:
    verdict = verdict_of(turns(100), turns(120))
    assert (verdict.better, verdict.reason) == (False, "not faster beyond noise")


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (turns(50, passed=False), "fewer answers pass the quality checks: 0.0% instead of 100.0%"),
        (turns(50, failed=2), "more requests failed: 25% instead of 0%"),
        (turns(50, failed=8), "more requests failed: 100% instead of 0%"),
    ],
)
def test_speed_does_not_pay_for_quality_or_errors(after: list[Turn], reason: str) -> None:
    assert verdict_of(turns(100), after).reason == reason


def test_better_quality_alone_is_no_speed() -> None:
    verdict = verdict_of(turns(100, passed=False), turns(100))
    assert (verdict.better, verdict.quality) == (False, (0.0, 100.0))


def test_a_much_longer_tail_is_not_taken_however_fast_the_rest_is() -> None:
    def with_tail(tail_ms: float, others_ms: float) -> list[Turn]:
        given = [*samples(32, others_ms), *samples(8, tail_ms, first=32)]
        return [Turn(tuple(given), 32 * others_ms + 8 * tail_ms)] * 4

    verdict = verdict_of(with_tail(150, 100), with_tail(300, 10))
    assert verdict.speed is not None
    assert verdict.speed.low > 1
    assert not verdict.better
    assert "95th percentile of latency" in verdict.reason


@pytest.mark.parametrize(("lucky", "others"), [(1, 101), (3, 101), (3, 100)])
def test_lucky_starts_do_not_win(lucky: int, others: float) -> None:
    verdict = verdict_of(turns(100), [*turns(10, pairs=lucky), *turns(others, pairs=4 - lucky)])
    assert verdict.speed is not None
    assert verdict.speed.low > 1
    assert verdict.reason == f"faster in only {lucky} of 4 pairs of turns"


@pytest.mark.parametrize(("pairs", "needed"), [(0, 0), (1, 1), (4, 4), (6, 6), (7, 6), (8, 7), (12, 10), (100, 59)])
def test_chance_alone_seldom_wins_enough_pairs(pairs: int, needed: int) -> None:
    assert pairs_to_win(pairs) == needed


def test_of_equal_settings_whose_starts_differ_one_in_ten_is_taken_at_most() -> None:
    def started(random: Random) -> list[Turn]:
        return [turns(100 * math.exp(random.gauss(0, 0.1)), pairs=1, noise=0.1)[0] for _ in range(4)]

    taken = [verdict_of(started(Random(2 * seed)), started(Random(2 * seed + 1))).better for seed in range(60)]
    assert sum(taken) <= 6


def test_a_comparison_that_was_cut_short_concludes_nothing() -> None:
    verdict = verdict_of(turns(100, pairs=1), turns(50, pairs=1), fewest_pairs=2)
    assert (verdict.better, verdict.reason) == (False, "fewer than 2 pairs of turns are too few to tell")


def test_five_answers_are_too_few_to_tell() -> None:
    verdict = verdict_of(turns(100, pairs=1, requests=5), turns(10, pairs=1, requests=5))
    assert (verdict.better, verdict.reason) == (False, "fewer than 6 answers on one side are too few to tell")
    assert verdict.speed is not None
    assert verdict.speed.samples == 1


def test_equal_turns_give_equal_bounds() -> None:
    one, other = pooled(turns(100, noise=0.3)), pooled(turns(90, noise=0.3, seed=7))
    assert ratios(one, other) == ratios(one, other)


def test_items_that_differ_in_length_are_no_noise() -> None:
    def mixed(factor: float) -> Turn:
        given = [one for place in range(4) for one in samples(6, factor * 10 ** (place % 2 + 1), first=place, items=1)]
        given = [replace(one, item=place // 6) for place, one in enumerate(given)]
        return Turn(tuple(given), sum(one.latency_ms for one in given))

    both = ratios(mixed(1.0), mixed(0.98))
    assert both is not None
    # Each item always takes the same time, so two percent are not chance.
    assert 1 < both[0].low <= both[0].value <= both[0].high < 1.05


def test_a_turn_without_an_answer_has_no_speed() -> None:
    nothing = Turn(samples(3, 10, failed=3), 30)
    assert speed_of(nothing) == 0
    assert ratios(nothing, pooled(turns(10))) is None


def test_pooled_turns_follow_one_another() -> None:
    whole = pooled(turns(10, pairs=2, requests=2))
    assert [one.started_ms for one in whole.samples] == [0, 10, 20, 30]
    assert whole.wall_ms == 40
