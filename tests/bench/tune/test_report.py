"""What the report of a search says to people and to tools."""

from __future__ import annotations

import json

from ray.bench.run.workload_file import load_workload
from ray.bench.tune.duel import Duel, Proof
from ray.bench.tune.patch import patch_between
from ray.bench.tune.report import NOTHING, Findings, findings_document, findings_text, ranking_text
from ray.bench.tune.rungs import Standing
from ray.bench.tune.search import Search
from tests.bench.tune_fakes import TINY, FakeBox, candidates, no_one

LABELS = ("base", "a", "b", "c", "d", "broken")
LOG = "llama-server ended by itself with exit code 42:\nloading\nerror: no such model"


def found_by(box: FakeBox, *, rival: str | None = None) -> Findings:
    standings = [Standing(one) for one in candidates(*LABELS)]
    Search("schedulers", 4, 8, box.ask, box.outlook, no_one).run(standings)
    found = Findings(TINY, "gateway", {"scope": "gateway", "requests": 8}, scheduler=standings, patch={})
    if rival is not None:
        of_label = {one.candidate.label: one.candidate for one in standings}
        found.duels.append(compared(box, rival))
        if found.duels[0].won:
            found.patch = patch_between(TINY, of_label[rival].config)
    return found


def compared(box: FakeBox, rival: str) -> Duel:
    named = {one.label: one for one in candidates(*LABELS)}
    proof = Proof(load_workload(None), 1, 8, 2, True, box.ask, box.outlook, {}, no_one)
    return proof.compare(named["base"], named[rival])


def box() -> FakeBox:
    return FakeBox({"base": 100, "a": 90, "b": 80, "c": 150, "d": 9000, "broken": 1}, broken={"broken": LOG})


def test_the_text_ranks_explains_and_ends_with_the_patch() -> None:
    text = findings_text(found_by(box(), rival="b"), {"took": "9 s"})
    lines = text.splitlines()
    assert lines[0] == "took: 9 s"
    ranking = [line.split()[:2] for line in lines if line[:1] in "123-" and "ms" in line]
    assert ranking == [["1", "b"], ["2", "a"], ["3", "base"], ["-", "c"]]
    assert "given up: far too slow: d: given up after" in text
    # Of a log the first and the last line; the whole is in the document.
    assert "failed: broken: llama-server ended by itself with exit code 42: … error: no such model" in text
    assert "1 of 6 were pruned: not in the better half of their rung" in lines
    assert "B is taken: faster beyond noise." in lines
    assert json.loads(text[text.index("\n{") :]) == {"scheduler": {"batchWindowMs": 2}}


def test_nothing_better_is_said_plainly() -> None:
    text = findings_text(found_by(FakeBox(dict.fromkeys(LABELS, 100.0))), {})
    assert "Recommended: keep the starting settings. Nothing that was tried is ahead of them." in text
    assert text.endswith("\n{}\n")
    unproven = findings_text(found_by(box(), rival="c"), {})
    assert "B is not taken: not faster beyond noise." in unproven
    assert "Recommended: keep the starting settings. Nothing is proven to be better." in unproven


def test_a_search_in_which_only_the_starting_settings_could_be_measured_does_not_call_them_the_best() -> None:
    broken = dict.fromkeys(LABELS[1:], LOG)
    text = findings_text(found_by(FakeBox(dict.fromkeys(LABELS, 100.0), broken=broken)), {})
    assert "Recommended: keep the starting settings. No others could be measured." in text


def test_the_document_is_whole_and_strict_json() -> None:
    found = found_by(box(), rival="b")
    document = findings_document(found, "mine", {"Ray": "0"})
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert (document["kind"], document["version"], document["label"]) == ("autotune-report", 1, "mine")
    assert document["args"] == {"scope": "gateway", "requests": 8}
    assert document["recommendedPatch"] == {"scheduler": {"batchWindowMs": 2}}
    assert "launchResults" not in document
    results = document["schedulerResults"]
    assert isinstance(results, list)
    assert [one["outcome"] for one in results] == ["ranked", "ranked", "ranked", "pruned", "cut off", "failed"]
    assert results[5]["reason"] == LOG
    assert results[2]["schedulerOverride"] == {
        "concurrency": 1,
        "batchWindowMs": 2,
        "affinityLookahead": 8,
        "maxInflightTokens": 2500,
        "shortJobMaxTokens": 96,
    }
    comparison = document["comparison"]
    assert isinstance(comparison, dict)
    assert (comparison["winner"], comparison["better"]) == ("b", True)
    rows = document["rows"]
    assert isinstance(rows, list)
    assert {"base_score", "best_score", "speed_ratio", "latency_p95"} <= {row["id"] for row in rows}


def test_without_a_patch_nothing_is_recommended() -> None:
    found = found_by(box())
    found.patch = None
    assert found.failed
    assert findings_text(found, {}).endswith(f"{NOTHING}\n")
    document = findings_document(found, "mine", {})
    assert (document["recommendedPatch"], document["notes"]) == ({}, [NOTHING])


def test_an_interrupted_search_shows_the_ranking_so_far() -> None:
    found = found_by(box())
    assert "1  b" in ranking_text(found)
    assert ranking_text(Findings(TINY, "gateway", {})) == ""
