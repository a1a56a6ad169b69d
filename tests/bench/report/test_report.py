"""The report: verdicts, the table for people, the JSON for tools."""

from __future__ import annotations

import json

import pytest

from ray.bench.report.figures import Figure, single
from ray.bench.report.report import (
    Budget,
    Report,
    Row,
    envelope,
    json_document,
    machine_facts,
    number,
    processor_name,
    text_table,
)


@pytest.mark.parametrize(
    ("value", "budget", "verdict"),
    [
        (249.0, Budget(250), "ok"),
        (250.0, Budget(250), "ok"),
        (250.1, Budget(250), "over"),
        (0.98, Budget(0.97, at_least=True), "ok"),
        (0.97, Budget(0.97, at_least=True), "ok"),
        (0.96, Budget(0.97, at_least=True), "under"),
        (1.0, None, None),
    ],
)
def test_a_verdict_compares_the_figure_with_its_budget(
    value: float, budget: Budget | None, verdict: str | None
) -> None:
    assert Row("x", "X", "ms", single(value), budget).verdict == verdict


def test_what_was_not_measured_has_no_verdict_and_exceeds_nothing() -> None:
    row = Row("x", "X", "", None, Budget(0.97, at_least=True), "needs a model")
    assert row.verdict is None
    assert Report("k", [row]).exceeded == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.4, "1234"),
        (100.0, "100"),
        (87.64, "87.6"),
        (5.432, "5.43"),
        (0.9824, "0.982"),
        (0.0, "0"),
        (1e308, "1e+308"),
    ],
)
def test_a_number_is_written_with_about_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def _report() -> Report:
    return Report(
        "gateway-bench",
        [
            Row("start", "cold start", "ms", Figure(181.2, 170.0, 260.0, 9), Budget(250)),
            Row("rss", "resident memory", "MB", single(31.4), Budget(30)),
            Row("ratio", "tokens per second", "", None, Budget(0.97, at_least=True), "needs a real model"),
            Row("rate", "requests", "/s", single(5123.0)),
        ],
        {"processor": "2 x Test"},
    )


def test_the_table_shows_figure_spread_budget_and_verdict_of_each_row() -> None:
    lines = text_table(_report()).splitlines()
    assert lines[0] == "processor: 2 x Test"
    assert [line.split("  ")[0] for line in lines[3:7]] == [
        "cold start",
        "resident memory",
        "tokens per second",
        "requests",
    ]
    assert lines[3].split()[2:] == ["181", "ms", "170..260", "<=", "250", "ok"]
    assert lines[4].split()[2:] == ["31.4", "MB", "<=", "30.0", "over"]
    assert lines[5].split()[3:] == ["not", "measured", ">=", "0.970"]
    assert lines[6].split()[1:] == ["5123", "/s"]


def test_the_table_says_why_something_was_not_measured_and_what_is_over() -> None:
    table = text_table(_report())
    assert "tokens per second: needs a real model" in table
    assert table.endswith("Over budget: resident memory\n")


def test_the_table_says_when_nothing_is_over() -> None:
    assert text_table(Report("k", [Row("x", "X", "ms", single(1.0), Budget(2))])).endswith("No budget exceeded.\n")


def test_the_json_survives_a_round_trip_and_leaves_out_what_was_not_measured() -> None:
    document = json.loads(json.dumps(json_document(_report())))
    assert document["kind"] == "gateway-bench"
    assert document["version"] == 1
    assert document["facts"] == {"processor": "2 x Test"}
    assert document["exceeded"] == ["rss"]
    start, _, ratio, rate = document["rows"]
    assert start == {
        "id": "start",
        "label": "cold start",
        "unit": "ms",
        "value": 181.2,
        "low": 170.0,
        "high": 260.0,
        "samples": 9,
        "budget": {"atMost": 250},
        "better": "less",
        "verdict": "ok",
    }
    assert "value" not in ratio
    assert ratio["budget"] == {"atLeast": 0.97}
    assert ratio["note"] == "needs a real model"
    assert "budget" not in rate


def test_the_processor_is_named_once_and_arm_without_a_name_is_no_error() -> None:
    assert (
        processor_name("processor\t: 0\nmodel name\t: Fast One\n\nprocessor\t: 1\nmodel name\t: Other\n") == "Fast One"
    )
    assert processor_name("processor\t: 0\nCPU implementer\t: 0x41\n") == "unnamed processor"


def test_the_facts_name_processors_and_kernel() -> None:
    facts = machine_facts()
    assert " x " in facts["processor"]
    assert facts["kernel"].startswith("Linux ")


@pytest.mark.parametrize(
    ("row", "direction"),
    [
        (Row("x", "X", "ms", single(1.0)), False),
        (Row("x", "X", "tok/s", single(1.0)), True),
        (Row("x", "X", "x", single(1.0), Budget(0.97, at_least=True)), True),
        (Row("x", "X", "", single(1.0), Budget(0)), False),
        (Row("x", "X", "%", single(1.0), more_is_better=True), True),
        (Row("x", "X", "ms", single(1.0), more_is_better=True), True),
        (Row("x", "X", "%", single(1.0)), None),
    ],
)
def test_which_way_is_better_is_said_or_follows_from_the_budget_or_the_unit(row: Row, direction: bool | None) -> None:
    assert row.direction is direction


def test_the_envelope_holds_the_parts_that_only_this_kind_has_and_leaves_out_the_empty_ones() -> None:
    document = envelope(
        "some-report",
        [Row("x", "X", "ms", single(3.0), Budget(2))],
        label="a try",
        facts={"Ray": "1"},
        settings={"rounds": 2},
        version=4,
        generated_at="2026-01-02T03:04:05.678Z",
        parts={"winner": {"clients": 2}, "broken": None},
    )
    assert {name: value for name, value in document.items() if name != "rows"} == {
        "kind": "some-report",
        "version": 4,
        "generatedAt": "2026-01-02T03:04:05.678Z",
        "label": "a try",
        "facts": {"Ray": "1"},
        "settings": {"rounds": 2},
        "exceeded": ["x"],
        "winner": {"clients": 2},
    }


def test_a_part_cannot_take_the_place_of_the_envelopes_own() -> None:
    with pytest.raises(ValueError, match="exceeded"):
        envelope("k", [], label="k", facts={}, settings={}, parts={"exceeded": []})
