"""The comparison at the end: fresh, in turns, and honest about what went wrong."""

from __future__ import annotations

import json

from ray.bench.run.workload_file import load_workload
from ray.bench.tune.duel import Duel, Proof, told_bounds
from tests.bench.tune_fakes import FakeBox, candidates, no_one


def compared(box: FakeBox, *, pairs: int = 4, requests: int = 8) -> Duel:
    base, rival = candidates("base", "new")
    proof = Proof(load_workload(None), 1, requests, pairs, True, box.ask, box.outlook, {"Ray": "0"}, no_one)
    return proof.compare(base, rival)


def test_the_sides_take_turns_and_swap_who_goes_first() -> None:
    box = FakeBox({"base": 100, "new": 50})
    duel = compared(box)
    assert box.labels() == ["base", "new", "new", "base", "base", "new", "new", "base"]
    # Both sides are asked the same part of the workload in each pair.
    assert [first for label, _, first in box.asked if label == "base"] == [0, 8, 16, 24]
    assert [first for label, _, first in box.asked if label == "new"] == [0, 8, 16, 24]
    assert duel.won
    assert duel.runs is not None
    assert [len(run.samples) for run in duel.runs] == [32, 32]


def test_nothing_is_cut_off_in_the_comparison() -> None:
    box = FakeBox({"base": 10, "new": 10_000})
    duel = compared(box)
    assert set(box.limits["new"]) == {None}
    assert (duel.won, duel.reason) == (False, "not faster beyond noise")


def test_new_settings_that_fail_are_not_taken_and_the_reason_is_kept() -> None:
    duel = compared(FakeBox({"base": 10, "new": 1}, broken={"new": "exit code 42"}))
    assert (duel.won, duel.by_base, duel.reason) == (False, False, "new failed in the comparison: exit code 42")
    assert duel.document() == {
        "base": "base",
        "winner": "new",
        "better": False,
        "reason": "new failed in the comparison: exit code 42",
    }


def test_starting_settings_that_fail_are_named() -> None:
    duel = compared(FakeBox({"base": 10, "new": 1}, failing={"base": 8}))
    assert (duel.won, duel.by_base) == (False, True)
    assert duel.reason == "the starting settings failed in the comparison: no request was answered"


def test_a_time_limit_leaves_whole_pairs_out() -> None:
    box = FakeBox({"base": 1000, "new": 500})
    box.outlook.limit_s = 50.0
    box.outlook.worked(10, 10.0)
    duel = compared(box)
    assert duel.verdict is not None
    assert duel.verdict.pairs == 3
    assert box.now <= 50.0


def test_without_time_for_two_pairs_there_is_no_verdict() -> None:
    box = FakeBox({"base": 1000, "new": 500})
    box.outlook.limit_s = 30.0
    box.outlook.worked(10, 10.0)
    duel = compared(box)
    assert box.asked == []
    assert (duel.won, duel.reason) == (False, "there was no time to compare")


def test_the_document_has_the_ratio_its_bounds_and_both_runs() -> None:
    document = compared(FakeBox({"base": 100, "new": 50})).document()
    json.dumps(document, allow_nan=False)
    assert (document["better"], document["pairs"], document["pairsWon"]) == (True, 4, 4)
    speed = document["speedRatio"]
    assert isinstance(speed, dict)
    assert speed["low"] > 1.5
    assert document["qualityPassRate"] == {"base": 100.0, "winner": 100.0}
    assert isinstance(document["runs"], dict)


def test_the_ratio_is_told_with_its_bounds() -> None:
    duel = compared(FakeBox({"base": 100, "new": 50}))
    assert duel.verdict is not None
    assert told_bounds(duel.verdict) == "2.10 x (2.10..2.10)"
