"""The workload: the same for the same seed, and nothing to reuse but the families' system texts."""

from __future__ import annotations

from random import Random

import pytest

from ray.bench.budgets.workload import Workload, spread, system_text


def _words(text: str) -> int:
    return len(text.split())


def _half_words(text: str) -> int:
    """A tokenizer that makes two tokens of every word."""
    return 2 * len(text.split())


def _workload(seed: int = 7, families: int = 4) -> Workload:
    return Workload(families=families, tokens=120, seed=seed, count=_words)


def test_the_same_seed_gives_the_same_questions_again() -> None:
    assert _workload().questions(0, 20) == _workload().questions(0, 20)


def test_another_seed_gives_other_texts_and_another_order() -> None:
    one, other = _workload(7), _workload(8)
    assert set(one.systems).isdisjoint(other.systems)
    assert [q.family for q in one.questions(0, 20)] != [q.family for q in other.questions(0, 20)]


def test_questions_of_a_family_share_its_system_text_and_no_two_are_equal() -> None:
    workload = _workload()
    asked = [question for turn in range(5) for question in workload.questions(turn, 40)]
    assert {question.system for question in asked} == set(workload.systems)
    assert all(question.system == workload.systems[question.family] for question in asked)
    assert len({question.line for question in asked}) == len(asked)


def test_every_line_is_short_and_has_no_unfilled_field() -> None:
    for question in _workload().questions(0, 60):
        assert 4 <= _words(question.line) <= 16
        assert not set("{}") & set(question.line + question.system)


def test_families_differ_from_their_first_words_on_also_when_names_run_out() -> None:
    starts = [" ".join(text.split()[:5]) for text in _workload(families=30).systems]
    assert len(set(starts)) == 30


@pytest.mark.parametrize("count", [_words, _half_words])
@pytest.mark.parametrize("tokens", [20, 121, 365, 2_000])
def test_a_system_text_is_as_long_as_asked_for_in_the_models_own_tokens(tokens: int, count: object) -> None:
    measure = _half_words if count is _half_words else _words
    assert tokens - 1 <= measure(system_text(2, tokens, 7, measure)) <= tokens


def test_no_rule_of_a_system_text_repeats_a_line() -> None:
    lines = system_text(0, 900, 7, _words).splitlines()
    assert len(lines) > 20
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize(("families", "requests"), [(6, 32), (3, 3), (4, 2), (1, 5)])
def test_families_are_drawn_equally_often_in_random_order(families: int, requests: int) -> None:
    drawn = spread(Random(1), families, requests)
    counts = [drawn.count(family) for family in range(families)]
    assert sum(counts) == requests
    assert max(counts) - min(counts) <= 1
    assert families == 1 or requests < 10 or drawn != sorted(drawn)
