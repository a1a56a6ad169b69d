"""What the prefix bench makes of its measurements: ratios against targets, a table, JSON and a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from ray.bench.budgets.prefix_bench import COLD, RESTARTED, STEADY, Measured, Pair, PrefixPlan, Sample
from ray.bench.budgets.prefix_report import panels, pass_table, prefix_document, prefix_facts, prefix_text, rows_of
from ray.bench.budgets.prefix_sides import Model, direct_side, ray_side
from ray.bench.report.report import Report, Row
from tests.bench.passes import some_asked, some_pass

PLAN = PrefixPlan()


def _measured(
    samples: Sequence[Sample] = (), store: Sequence[Mapping[str, float]] = (), ray_seconds: float = 10
) -> Measured:
    passes = [
        some_pass(direct_side(0), COLD, 40),
        some_pass(direct_side(0), STEADY, 40),
        some_pass(direct_side(512), COLD, 20),
        some_pass(direct_side(512), STEADY, 15),
        some_pass(direct_side(512), RESTARTED, 18),
        some_pass(ray_side(True), COLD, 16),
        some_pass(ray_side(True), STEADY, ray_seconds),
        some_pass(ray_side(True), RESTARTED, 9),
    ]
    return Measured(
        passes, [Pair(some_asked(1.0), some_asked(1.0)), Pair(some_asked(1.0), some_asked(0.5))], samples, store
    )


def _rows(measured: Measured, plan: PrefixPlan = PLAN) -> dict[str, Row]:
    return {row.id: row for row in rows_of(plan, measured)}


@pytest.mark.parametrize(
    ("row", "ratio", "target"),
    [
        ("steady_ratio", 4.0, 3.5),
        ("steady_ram_ratio", 1.5, 1.05),
        ("cold_ratio", 2.5, None),
        ("cold_ram_ratio", 1.25, 1.25),
        ("restart_ratio", 2.0, 1.8),
        ("alone_ratio", 1.5, 0.97),
    ],
)
def test_ratios_are_tokens_per_second_through_ray_to_directly(row: str, ratio: float, target: float | None) -> None:
    shown = _rows(_measured())[row]
    assert shown.figure is not None
    assert shown.figure.value == pytest.approx(ratio)
    assert (shown.budget.limit if shown.budget else None) == target
    assert shown.verdict == ("ok" if target else None)


def test_a_ratio_of_several_rounds_is_the_median_of_the_rounds_own_ratios() -> None:
    rounds = [_measured(), _measured(ray_seconds=20), _measured(ray_seconds=8)]
    passes = [replace(one, round=turn) for turn, measured in enumerate(rounds) for one in measured.passes]
    row = _rows(replace(rounds[0], passes=passes))["steady_ratio"]
    assert row.figure is not None
    assert (row.figure.value, row.figure.low, row.figure.high, row.figure.samples) == (4.0, 2.0, 5.0, 3)
    assert "second (3)" in pass_table(passes, 2)
    assert [len(panel.series) for panel in panels(replace(rounds[0], passes=passes))] == [3, 3, 2]


def test_a_missed_target_is_named() -> None:
    rows = rows_of(PLAN, _measured(ray_seconds=12))
    assert [row.id for row in Report("prefix-bench", rows).exceeded] == ["steady_ratio"]


def test_the_share_of_reused_tokens_is_the_backends_own_count() -> None:
    assert some_pass(ray_side(True), COLD, 1).reused_share == 0.75


def _sample(read: str, restored: str, whole: str, states: tuple[str, str] = ("evaluated", "restored")) -> Sample:
    return Sample(some_asked(1, read, states[0]), some_asked(1, restored, states[1]), some_asked(1, whole))


def test_only_texts_read_before_and_restored_after_the_restart_are_compared() -> None:
    samples = [_sample("a", "a", "b"), _sample("a", "b", "a"), _sample("a", "x", "a", ("evaluated", "evaluated"))]
    row = _rows(_measured(samples))["other_texts"]
    assert row.figure is not None
    assert row.figure.value == 1
    assert row.verdict == "over"
    assert row.note is not None
    assert row.note.startswith("of 2 ")


def test_equal_texts_are_no_mismatch_even_when_a_whole_prompt_gives_another_one() -> None:
    rows = _rows(_measured([_sample("a", "a", "b"), _sample("c", "c", "c")]))
    assert rows["other_texts"].verdict == "ok"
    whole = rows["other_texts_whole"]
    assert whole.figure is not None
    assert (whole.figure.value, whole.verdict) == (1, None)


def test_a_store_that_restored_nothing_leaves_the_comparison_unmeasured_and_says_why() -> None:
    row = _rows(_measured([_sample("a", "a", "a", ("none", "none"))]))["other_texts"]
    assert row.figure is None
    assert row.note is not None
    assert "none/none" in row.note


def test_without_a_store_nothing_of_it_is_measured() -> None:
    rows = _rows(_measured(), replace(PLAN, store=False))
    assert rows["other_texts"].note == rows["store"].note == "the store is off"


def test_the_stores_metrics_are_shown_before_and_after_the_restart() -> None:
    rows = _rows(_measured(store=[{"saves": 6, "restores": 12}, {"restores": 30}]))
    found = {name: row.figure.value for name, row in rows.items() if name.startswith("store.") and row.figure}
    assert found == {"store.saves": 6, "store.restores": 12, "store.restores.restarted": 30}


def test_the_table_has_a_line_for_each_pass_with_aligned_columns() -> None:
    lines = pass_table(_measured().passes, 2).splitlines()
    assert lines[0].split()[:4] == ["side", "pass", "took", "tok/s"]
    assert len([line for line in lines if line.startswith(("directly", "through Ray"))]) == 8
    line = next(line for line in lines if line.startswith("through Ray") and STEADY in line)
    assert line.removeprefix("through Ray").split() == [
        *("second", "10.0", "12.0", "5.00", "7.50", "2.50", "3.75", "75%", "2.50", "1.50", "80%", "0.250", "4%")
    ]
    assert line.index("10.0") + 4 == lines[0].index("took") + 4


def test_the_text_shows_facts_then_passes_then_ratios() -> None:
    measured = _measured()
    report = Report("prefix-bench", rows_of(PLAN, measured), {"processor": "2 x Test"})
    shown = prefix_text(report, PLAN, measured)
    places = [shown.index(part) for part in ("processor: 2 x Test", "first token p50", "one family, one client")]
    assert places == sorted(places)
    assert "No budget exceeded." in shown


def test_the_json_holds_every_request_of_every_pass_but_no_texts() -> None:
    measured = _measured([_sample("SECRET", "SECRET", "SECRET")])
    report = Report("prefix-bench", rows_of(PLAN, measured))
    text = json.dumps(prefix_document(report, PLAN, measured))
    document = json.loads(text)
    assert "SECRET" not in text
    assert document["kind"] == "prefix-bench"
    assert document["plan"]["prefixTokens"] == 365
    assert [(one["side"], one["pass"]) for one in document["passes"]][:2] == [("direct_0", COLD), ("direct_0", STEADY)]
    first = document["passes"][0]
    assert first["reusedShare"] == 0.75
    assert first["latency"] == {"p50": 20.0, "p95": 30.0}
    assert [request["latency"] for request in first["requests"]] == [10.0, 20.0, 30.0, 40.0]
    assert len(document["pairs"]) == 2


def test_the_plot_has_a_panel_for_each_pass_and_a_series_for_each_side_in_it() -> None:
    shown = panels(_measured())
    assert [len(panel.series) for panel in shown] == [3, 3, 2]
    for panel in shown:
        assert len({series.place for series in panel.series}) == len(panel.series)
    assert shown[0].series[0].values == [10.0, 20.0, 30.0, 40.0]


def test_the_head_of_the_report_names_model_workload_and_environment_without_paths() -> None:
    facts = prefix_facts(PLAN, Model("/opt/llama-server", "/srv/models/a.gguf", {"GOMP_SPINCOUNT": "10000"}))
    assert facts["model"] == "a.gguf"
    assert "6 families of 365 tokens" in facts["workload"]
    assert "GOMP_SPINCOUNT=10000" in facts.values()
    assert prefix_facts(PLAN, Model("a", "b", {}))["environment of llama-server, both sides"] == "empty"
