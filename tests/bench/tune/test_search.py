"""The search with a made-up machine: it survives failing candidates, cuts losers off, and ends in time."""

from __future__ import annotations

import pytest

from ray.bench.processes.process import MeasurementError
from ray.bench.tune.rungs import Standing
from ray.bench.tune.search import NO_TIME, Outlook, Search, better_than_base, clear_winner_of, winner_of
from tests.bench.tune_fakes import FakeBox, candidates, no_one


def searched(box: FakeBox, *labels: str, items: int = 4, requests: int = 12, **changes: object) -> list[Standing]:
    standings = [Standing(one) for one in candidates(*labels)]
    search = Search("sweep", items, requests, box.ask, box.outlook, no_one, **changes)  # type: ignore[arg-type]
    search.run(standings)
    return standings


def outcomes(standings: list[Standing]) -> dict[str, str]:
    return {one.candidate.label: one.outcome for one in standings}


def test_the_fastest_wins_and_losers_are_asked_little() -> None:
    box = FakeBox({"base": 100, "a": 90, "b": 80, "c": 120, "d": 110})
    found = searched(box, "base", "a", "b", "c", "d")
    assert winner_of(found).candidate.label == "b"
    asked = {label: sum(count for name, count, _ in box.asked if name == label) for label in box.latencies}
    assert asked == {"base": 12, "b": 12, "a": 12, "c": 4, "d": 4}
    assert outcomes(found) == {"base": "ranked", "a": "ranked", "b": "ranked", "c": "pruned", "d": "pruned"}
    assert [one.candidate.label for one in better_than_base(found)] == ["b", "a"]


def test_later_rungs_go_on_where_the_earlier_ones_ended_in_the_workload() -> None:
    box = FakeBox({"base": 100, "a": 50})
    searched(box, "base", "a", items=4, requests=16)
    assert [one for one in box.asked if one[0] == "a"] == [("a", 4, 0), ("a", 4, 4), ("a", 8, 8)]


def test_the_base_is_asked_first_in_every_rung_and_never_cut_off() -> None:
    box = FakeBox({"base": 5000, "a": 10, "b": 20})
    found = searched(box, "base", "a", "b")
    assert box.labels() == ["base", "a", "b"] * 3
    assert box.limits["base"] == [None, None, None]
    assert winner_of(found).candidate.label == "a"


def test_a_candidate_that_takes_three_times_as_long_is_cut_off() -> None:
    box = FakeBox({"base": 1000, "a": 500, "slow": 9000})
    found = searched(box, "base", "a", "slow")
    assert outcomes(found)["slow"] == "cut off"
    # Three times what the fastest needed for four requests so far, and two seconds.
    assert box.limits["slow"] == [pytest.approx(8.0)]
    assert winner_of(found).candidate.label == "a"


def test_a_candidate_that_does_not_start_is_recorded_and_the_search_goes_on() -> None:
    reason = "llama-server ended by itself with exit code 42:\nno such model"
    box = FakeBox({"base": 100, "broken": 1, "b": 50}, broken={"broken": reason})
    found = searched(box, "base", "broken", "b")
    assert (found[1].outcome, found[1].reason) == ("failed", reason)
    assert winner_of(found).candidate.label == "b"


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        (4, "no request was answered (backend_unavailable)"),
        (1, "25% of its requests failed, 0% of the starting settings' (backend_unavailable 1)"),
    ],
)
def test_a_candidate_with_more_errors_than_the_base_is_out_however_fast(failing: int, reason: str) -> None:
    box = FakeBox({"base": 100, "hasty": 1}, failing={"hasty": failing})
    found = searched(box, "base", "hasty")
    assert (found[1].outcome, found[1].reason) == ("failed", reason)
    assert winner_of(found) is found[0]


def test_errors_that_the_base_has_too_put_nobody_out() -> None:
    box = FakeBox({"base": 100, "a": 50}, failing={"base": 1, "a": 1})
    assert winner_of(searched(box, "base", "a")).candidate.label == "a"


@pytest.mark.parametrize(
    "box", [FakeBox({"base": 1}, broken={"base": "exit code 1"}), FakeBox({"base": 1}, failing={"base": 9})]
)
def test_a_base_that_fails_ends_the_search_at_once_and_is_named(box: FakeBox) -> None:
    with pytest.raises(MeasurementError, match=r"the starting settings \(base\) cannot be measured"):
        searched(box, "base", "a")
    assert box.labels() == ["base"]


def test_what_does_not_fit_is_not_started() -> None:
    box = FakeBox({"base": 100, "a": 50, "b": 60})
    refusals = {"base": "too large", "a": "does not fit: needs 9 MiB of 8 MiB"}
    found = searched(box, "base", "a", "b", refusal=lambda one: refusals.get(one.label))
    assert "a" not in box.labels()
    assert (found[1].outcome, found[1].reason) == ("does not fit", "does not fit: needs 9 MiB of 8 MiB")
    assert winner_of(found).candidate.label == "b"


def test_of_equals_the_base_is_kept() -> None:
    box = FakeBox({"base": 50, "a": 50, "b": 50})
    found = searched(box, "base", "a", "b")
    assert winner_of(found) is found[0]
    assert better_than_base(found) == []


@pytest.mark.parametrize(("latency", "winner"), [(98.0, "base"), (90.0, "a"), (100.0, "base")])
def test_a_change_that_gains_next_to_nothing_is_not_made(latency: float, winner: str) -> None:
    found = searched(FakeBox({"base": 100, "a": latency}), "base", "a")
    assert clear_winner_of(found).candidate.label == winner


def test_alone_the_base_is_asked_once() -> None:
    box = FakeBox({"base": 50})
    assert winner_of(searched(box, "base")).candidate.label == "base"
    assert box.labels() == ["base"]


def test_luck_in_the_first_rung_does_not_last() -> None:
    box = FakeBox({"base": 100, "lucky": 100, "a": 90}, tilt={"lucky": (0.9, 2.0)})
    found = searched(box, "base", "lucky", "a", items=4, requests=16)
    assert winner_of(found).candidate.label == "a"


def test_with_a_time_limit_the_rest_is_not_tried_and_the_comparison_keeps_its_time() -> None:
    box = FakeBox({"base": 1000, "a": 900, "b": 800, "c": 700})
    box.outlook.limit_s = 16.0
    box.outlook.ahead["comparison"] = 4
    found = searched(box, "base", "a", "b", "c")
    assert outcomes(found) == {"base": "ranked", "a": "ranked", "b": "not tried", "c": "not tried"}
    assert found[3].reason == NO_TIME
    assert winner_of(found).candidate.label == "a"
    assert box.now + 4 * box.outlook.busy_s / box.outlook.done <= 16.0


def test_time_that_is_up_in_a_later_rung_leaves_those_with_fewer_requests_behind() -> None:
    box = FakeBox({"base": 1000, "a": 900, "b": 800, "c": 700})
    box.outlook.limit_s = 26.0
    found = searched(box, "base", "a", "b", "c")
    assert [one.rungs for one in found] == [2, 1, 1, 1]
    assert winner_of(found) is found[0]


def test_the_outlook_tells_how_long_the_rest_takes() -> None:
    now = [0.0]
    outlook = Outlook(lambda: now[0], limit_s=100.0, ahead={"search": 30, "comparison": 10})
    assert (outlook.left_s, outlook.about_left()) == (None, "")
    assert outlook.has_time_for(1_000_000)  # nobody knows yet how long anything takes
    outlook.worked(10, 20.0)
    now[0] = 20.0
    assert outlook.left_s == 80.0
    assert outlook.about_left() == ", about 80 s left"
    assert outlook.has_time_for(40)
    assert not outlook.has_time_for(41)
    assert outlook.has_time_for(30, kept_for="comparison")
    assert not outlook.has_time_for(31, kept_for="comparison")
    outlook.ahead["search"] = 200
    assert outlook.about_left() == ", about 7 min left"
