"""The choice of who goes next, as tables of lines: hot prefixes, held relatives, lanes, age, the guard above all."""

from __future__ import annotations

import pytest

from ray.runtime.line import WEIGHTS, Waiting, choose, guard_seconds, score

# lane, cost, age in milliseconds, affinity
Place = tuple[str, int, float, str | None]


def line(*places: Place) -> list[Waiting]:
    """Places in order of arrival; now is second 100."""
    return [
        Waiting(cost, "short" if lane == "short" else "draft", 100 - age_ms / 1000, order, affinity)
        for order, (lane, cost, age_ms, affinity) in enumerate(places)
    ]


@pytest.mark.parametrize(
    ("places", "hot", "held", "lookahead", "expected"),
    [
        ([("draft", 1, 10, "a"), ("draft", 1, 5, "b")], {"b"}, set(), 8, 1),
        ([("short", 1, 10, "a"), ("draft", 1, 5, "b")], {"b"}, set(), 8, 1),
        ([("draft", 1, 10, "b"), ("short", 1, 5, "b")], {"b"}, set(), 8, 1),
        ([("draft", 1, 4_900, "a"), ("draft", 1, 0, "b")], {"b"}, set(), 8, 1),
        ([("short", 1, 2_600, "a"), ("draft", 1, 0, "b")], {"b"}, set(), 8, 0),
        ([("draft", 1, 10, "a"), ("draft", 1, 5, None)], {"b"}, set(), 8, 0),
        ([("draft", 1, 10, "a"), ("draft", 1, 5, "b")], set(), {"a"}, 8, 1),
        ([("short", 1, 10, "a"), ("draft", 1, 5, None)], set(), {"a"}, 8, 1),
        ([("draft", 1, 10, "a"), ("draft", 1, 5, "a")], set(), {"a"}, 8, None),
        ([("draft", 1, 10, "a"), ("draft", 1, 9, "a"), ("draft", 1, 5, "b")], set(), {"a"}, 2, 2),
        ([("draft", 1, 10, "a"), ("draft", 1, 9, "c"), ("draft", 1, 5, "b")], {"b"}, set(), 2, 0),
        ([("draft", 11, 10, "a"), ("draft", 1, 5, "b")], {"a"}, set(), 8, 1),
        ([("draft", 1, 10, "a"), ("draft", 1, 8, "b"), ("draft", 1, 5, "b")], set(), set(), 8, 1),
        ([("draft", 1, 2_100, "a"), ("draft", 1, 8, "b"), ("draft", 1, 5, "b")], set(), set(), 8, 0),
        ([("draft", 1, 10, None), ("draft", 1, 8, None), ("draft", 1, 5, "b")], set(), set(), 8, 0),
        ([("draft", 1, 10, "a"), ("draft", 1, 8, "b"), ("draft", 1, 5, "b")], {"a"}, set(), 8, 0),
    ],
    ids=[
        "hot before cold",
        "hot before short",
        "among hot ones short first",
        "hot before any age under the guard",
        "short and old together outweigh hot",
        "no affinity is never hot",
        "a relative of a prefilling one is passed over",
        "held ones do not hold their lane",
        "all held",
        "beyond the lookahead when all within it are held",
        "hot beyond the lookahead is not seen",
        "hot but too large for now",
        "company before a lonely one",
        "a lonely one has waited for company long enough",
        "no affinity is no company",
        "hot before company",
    ],
)
def test_choice_before_the_guard(
    places: list[Place], hot: set[str], held: set[str], lookahead: int, expected: int | None
) -> None:
    chosen = choose(line(*places), now=100, free_tokens=10, lookahead=lookahead, guard_s=5, hot=hot, held=held)
    assert (None if chosen is None else chosen.order) == expected


def test_who_continues_a_conversation_goes_before_relatives_that_would_wipe_it_out() -> None:
    relative = Waiting(1, "draft", 99.5, 0, "a")
    continues = Waiting(1, "draft", 99.6, 1, "a", "turns:x")
    places = [relative, continues]

    def chosen(hot: set[str]) -> Waiting | None:
        return choose(places, now=100, free_tokens=10, lookahead=8, guard_s=5, hot=hot)

    assert chosen({"a", "turns:x"}) is continues
    assert chosen({"turns:x"}) is continues
    assert chosen({"a"}) is relative
    assert chosen({"a", "turns:y"}) is relative


@pytest.mark.parametrize(
    ("places", "hot", "held", "expected"),
    [
        ([("draft", 1, 5_000, "a"), ("short", 1, 4_900, "b")], {"b"}, set(), 0),
        ([("draft", 1, 5_000, "a"), ("short", 1, 0, "b")], {"b"}, {"a"}, 0),
        ([("draft", 11, 5_000, "a"), ("short", 1, 0, "b")], {"b"}, {"a"}, None),
    ],
    ids=["before a hot one", "although it is held", "and its tokens are saved up although it is held"],
)
def test_choice_past_the_guard(places: list[Place], hot: set[str], held: set[str], expected: int | None) -> None:
    chosen = choose(line(*places), now=100, free_tokens=10, lookahead=8, guard_s=5, hot=hot, held=held)
    assert (None if chosen is None else chosen.order) == expected


def test_the_weights_stand_in_one_table_and_can_be_others() -> None:
    places = line(("draft", 1, 100, "a"), ("short", 1, 0, "b"))
    assert [score(place, 100, {"a"}) for place in places] == [pytest.approx(224), pytest.approx(120)]
    weights = WEIGHTS._replace(hot=0.0, short_lane=1_000.0)
    chosen = choose(places, now=100, free_tokens=10, lookahead=8, guard_s=5, hot={"a"}, weights=weights)
    assert chosen is places[1]


@pytest.mark.parametrize(("timeout_ms", "seconds"), [(8_000, 2.0), (20_000, 5.0), (120_000, 5.0), (100, 0.025)])
def test_the_guard_is_a_quarter_of_the_timeout_and_at_most_five_seconds(timeout_ms: int, seconds: float) -> None:
    assert guard_seconds(timeout_ms) == seconds


@pytest.mark.parametrize(
    ("places", "free", "lookahead", "expected"),
    [
        ([], 10, 8, None),
        ([("draft", 1, 10, None), ("draft", 1, 5, None)], 10, 8, 0),
        ([("draft", 1, 10, None), ("short", 1, 0, None)], 10, 8, 1),
        ([("draft", 1, 3_001, None), ("short", 1, 0, None)], 10, 8, 0),
        ([("draft", 1, 3_000, None), ("short", 1, 0, None)], 10, 8, 1),
        ([("draft", 11, 10, None), ("draft", 5, 0, None)], 10, 8, 1),
        ([("draft", 11, 10, None), ("draft", 12, 5, None), ("draft", 5, 0, None)], 10, 1, 2),
        ([("short", 11, 10, None), ("draft", 5, 0, None)], 10, 8, 1),
        ([("draft", 11, 10, None)], 10, 8, None),
    ],
    ids=[
        "nobody waits",
        "same lane: arrival",
        "short before draft",
        "three seconds outweigh the lane",
        "a tie goes to short",
        "what does not fit is passed over",
        "beyond the lookahead when nothing within it fits",
        "the other lane when nothing of this one fits",
        "nothing fits",
    ],
)
def test_choice_by_lane_age_and_fit(places: list[Place], free: int, lookahead: int, expected: int | None) -> None:
    chosen = choose(line(*places), now=100, free_tokens=free, lookahead=lookahead, guard_s=5)
    assert (None if chosen is None else chosen.order) == expected


@pytest.mark.parametrize(
    ("places", "free", "expected"),
    [
        ([("draft", 1, 5_000, None), ("short", 1, 4_999, None)], 10, 0),
        ([("draft", 11, 5_000, None), ("short", 1, 4_999, None)], 10, None),
        ([("draft", 11, 6_000, None), ("short", 1, 5_500, None)], 10, None),
        ([("draft", 11, 4_999, None), ("short", 1, 0, None)], 10, 1),
    ],
    ids=["the oldest goes first", "its tokens are saved up", "also from other old ones", "not yet past the guard"],
)
def test_past_the_guard_nobody_is_overtaken(places: list[Place], free: int, expected: int | None) -> None:
    chosen = choose(line(*places), now=100, free_tokens=free, lookahead=8, guard_s=5)
    assert (None if chosen is None else chosen.order) == expected


def test_a_short_job_is_three_seconds_of_waiting_ahead() -> None:
    short, draft = line(("short", 1, 0, None), ("draft", 1, 3_000, None))
    assert score(short, 100) == pytest.approx(score(draft, 100)) == pytest.approx(120)
