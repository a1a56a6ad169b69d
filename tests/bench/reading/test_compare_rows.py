"""Comparing reports row by row: what lies apart is told, what overlaps is noise, what was taken once proves nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from ray.bench.processes.process import MeasurementError
from ray.bench.reading.compare_rows import compare_rows
from ray.bench.reading.comparison import Compared, changes_as_rows, comparison_document, comparison_text
from ray.bench.reading.read_report import ReadReport, read_report
from ray.bench.report.figures import Figure, repeated, single
from ray.bench.report.report import Budget, Row, envelope


def _report(*rows: Row, settings: dict[str, object] | None = None, facts: dict[str, str] | None = None) -> ReadReport:
    return read_report(
        envelope("some-bench", rows, label="some", facts=facts or {}, settings=settings or {}, parts={"x": 1})
    )


def _one(before: Row, after: Row, margin: float = 5.0) -> Compared:
    (row,) = compare_rows(_report(before), _report(after), margin=margin).rows
    return row


def _ms(*samples: float) -> Row:
    return Row("x", "X", "ms", repeated(samples))


def _share(percent: float, count: int) -> Row:
    return Row("x", "X", "%", Figure(percent, percent, percent, count), more_is_better=True)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (_ms(10, 11, 12, 13), _ms(20, 21, 22, 23), "worse"),
        (_ms(20, 21, 22, 23), _ms(10, 11, 12, 13), "better"),
        (_ms(10, 11, 12, 13), _ms(12, 14, 15, 16), "same"),
        # They lie apart, but by less than the margin.
        (_ms(10.0, 10.1, 10.2, 10.3), _ms(10.4, 10.5, 10.6, 10.7), "same"),
        # 2 / C(6, 3) is 10 %, 2 / C(8, 3) is 3.6 %.
        (_ms(10, 11, 12), _ms(20, 21, 22), "too few"),
        (_ms(10, 11, 12), _ms(20, 21, 22, 23, 24), "worse"),
        (Row("x", "X", "ms", single(10)), Row("x", "X", "ms", single(20)), "too few"),
        (Row("x", "X", "ms", single(10)), Row("x", "X", "ms", single(10)), "same"),
        # So many of 50: chance is that of counting.
        (_share(90, 50), _share(80, 50), "same"),
        (_share(90, 50), _share(40, 50), "worse"),
        (_share(90, 1), _share(40, 1), "too few"),
        (Row("x", "X", "tok/s", Figure(10, 9, 11, 5)), Row("x", "X", "tok/s", Figure(20, 19, 21, 5)), "better"),
        (Row("x", "X", "x", Figure(1, 0.9, 1.1, 5)), Row("x", "X", "x", Figure(2, 1.9, 2.1, 5)), "differs"),
        (
            Row("x", "X", "x", Figure(1, 0.9, 1.1, 5), Budget(0.97, at_least=True)),
            Row("x", "X", "x", Figure(2, 1.9, 2.1, 5), Budget(0.97, at_least=True)),
            "better",
        ),
        (_ms(10, 11, 12, 13), Row("x", "X", "ms", None, note="no model"), None),
    ],
)
def test_rows_differ_when_their_spreads_lie_apart_and_were_repeated_enough(
    before: Row, after: Row, verdict: str | None
) -> None:
    assert _one(before, after).verdict == verdict


_NOTHING_WORSE = "B is worse in nothing that these reports can tell."
_FAST, _SLOW, _ONCE = (10, 11, 12, 13), (20, 21, 22, 23), (10,)


@pytest.mark.parametrize(
    ("rows", "conclusion"),
    [
        ([(_ms(*_FAST), _ms(*_FAST))], [_NOTHING_WORSE]),
        ([(_ms(*_FAST), _ms(*_SLOW))], ["B is worse in: X"]),
        (
            [(_ms(*_ONCE), _ms(20))],
            ["Nothing could be judged: too few repetitions or samples to tell a change from chance."],
        ),
        (
            [(_ms(*_SLOW), _ms(*_FAST)), (_ms(*_ONCE), _ms(20))],
            [
                "B is better in: X",
                _NOTHING_WORSE,
                "1 of 2 rows could not be judged: too few repetitions or samples to tell a change from chance.",
            ],
        ),
        (
            [(Row("x", "X", "x", repeated(_FAST)), Row("x", "X", "x", repeated(_SLOW)))],
            ["B differs in: X", _NOTHING_WORSE],
        ),
        (
            [(_ms(*_FAST), Row("x", "X", "ms", None))],
            ["Nothing could be judged: the reports have no figure in common."],
        ),
    ],
)
def test_the_last_lines_say_what_the_verdicts_come_to_and_what_could_not_be_judged(
    rows: list[tuple[Row, Row]], conclusion: list[str]
) -> None:
    before, after = (
        _report(*(replace(pair[side], id=str(number)) for number, pair in enumerate(rows))) for side in (0, 1)
    )
    _, _, told = comparison_text(compare_rows(before, after)).rpartition("\n\n")
    assert told.splitlines() == conclusion


def test_the_bounds_of_the_ratio_are_those_of_the_spreads() -> None:
    change = _one(_ms(10, 11, 12, 20), _ms(22, 30, 33, 40)).change
    assert change is not None
    assert (change.low, change.high) == (22 / 20, 40 / 10)


def test_what_may_be_zero_or_less_is_compared_by_its_difference() -> None:
    row = _one(_ms(-1, 0, 1, 2), _ms(8, 9, 10, 11))
    assert (row.difference, row.verdict) == (True, "worse")
    assert row.change is not None
    assert row.change.value == 9.0
    assert _one(Row("x", "X", "", single(0)), Row("x", "X", "", single(0))).verdict == "same"
    assert _one(Row("x", "X", "", single(0)), Row("x", "X", "", single(2))).verdict == "too few"


def test_shares_are_compared_in_points() -> None:
    low, high = (Row("x", "X", "%", Figure(value, value - 2, value + 2, 9)) for value in (50.0, 80.0))
    row = _one(low, high)
    assert (row.points, row.verdict) == (True, "differs")
    text = comparison_text(compare_rows(_report(low), _report(high)))
    assert "+30.0 points" in text


def test_a_row_that_one_report_lacks_is_shown_without_a_verdict() -> None:
    comparison = compare_rows(_report(_ms(1, 2)), _report(Row("y", "Y", "ms", single(3))))
    assert [(row.id, row.before, row.after, row.verdict) for row in comparison.rows] == [
        ("x", 1.5, None, None),
        ("y", None, 3.0, None),
    ]
    json.dumps(comparison_document(comparison), allow_nan=False)


def test_what_broke_off_and_another_version_are_noted() -> None:
    whole = envelope("some-bench", [_ms(*_FAST)], label="some", facts={}, settings={})
    broken = read_report({**whole, "version": 2, "brokenOff": "it went away"}, any_version=True)
    notes = compare_rows(read_report(whole), broken, force=True).notes
    assert notes == ["the schema versions differ: A has 1, B 2", "B was broken off: it went away"]


def test_bounds_without_an_end_stay_out_of_json() -> None:
    row = _one(_ms(*_FAST), _ms(*_SLOW))
    assert row.change is not None
    endless = replace(row, change=replace(row.change, high=math.inf))
    comparison = replace(compare_rows(_report(_ms(*_FAST)), _report(_ms(*_SLOW))), rows=[endless])
    assert "Infinity" not in json.dumps(comparison_document(comparison))
    (shown,) = changes_as_rows(comparison)
    assert shown.figure == single(row.change.value)


def test_other_settings_are_refused_and_another_place_is_not() -> None:
    one = _report(_ms(1, 2), settings={"rounds": 2, "target": "http://a"})
    assert compare_rows(one, _report(_ms(1, 2), settings={"rounds": 2, "target": "http://b"})).notes == []
    other = _report(_ms(1, 2), settings={"rounds": 3, "target": "http://a"})
    with pytest.raises(MeasurementError, match="rounds: A 2, B 3; --force"):
        compare_rows(one, other)
    assert compare_rows(one, other, force=True).notes == ["rounds: A 2, B 3"]


def test_where_the_workload_has_a_digest_that_one_decides_and_the_rest_is_noted() -> None:
    one = _report(_ms(1, 2), settings={"workload": "w", "workloadDigest": "aa", "clients": 1}, facts={"Ray": "1"})
    same = _report(_ms(1, 2), settings={"workload": "v", "workloadDigest": "aa", "clients": 2}, facts={"Ray": "2"})
    assert compare_rows(one, same).notes == ["workload: A w, B v", "clients: A 1, B 2", "Ray: A 1, B 2"]
    other = _report(_ms(1, 2), settings={"workload": "w", "workloadDigest": "bb", "clients": 1})
    with pytest.raises(MeasurementError, match="the workloads differ"):
        compare_rows(one, other)
