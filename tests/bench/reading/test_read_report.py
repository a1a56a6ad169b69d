"""Reports read back: the rows are the ones that were written, and older documents are still read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray.bench.processes.process import MeasurementError
from ray.bench.reading.read_report import load_report, read_report
from ray.bench.report.figures import Figure
from ray.bench.report.report import Budget, Row
from tests.bench.some_reports import Document, all_reports, rows_report, run_report


@pytest.mark.parametrize("document", all_reports(), ids=lambda document: str(document["kind"]))
def test_every_report_survives_the_way_through_its_file(document: Document, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document))
    report = load_report(str(path))
    assert report.document == document
    assert (report.kind, report.label, report.generated_at) == tuple(
        document[key] for key in ("kind", "label", "generatedAt")
    )
    assert isinstance(document["rows"], list)
    assert [row.id for row in report.rows] == [row["id"] for row in document["rows"]]


def test_a_row_is_read_as_it_was() -> None:
    rows = {row.id: row for row in read_report(rows_report()).rows}
    assert rows["start"] == Row(
        "start", "cold start", "ms", Figure(181.2, 170.0, 260.0, 9), Budget(250), more_is_better=False
    )
    assert rows["ratio"].figure is None
    assert rows["ratio"].budget == Budget(0.97, at_least=True)
    assert rows["added"].figure == Figure(9.0, -3.0, 80.0, 16)
    assert rows["other"].direction is False
    assert rows["share"].direction is True


@pytest.mark.parametrize("number", [10**400, -(10**400), float("inf"), float("nan"), True, "1"])
def test_a_value_that_is_no_number_of_this_machine_is_named(number: object) -> None:
    document = rows_report()
    assert isinstance(document["rows"], list)
    with pytest.raises(MeasurementError, match=r"rows\[0\]\.value must be a number"):
        read_report({**document, "rows": [{**document["rows"][0], "value": number}]})
    with pytest.raises(MeasurementError, match="wallMs must be a number"):
        read_report({**run_report(), "wallMs": number if number != -(10**400) else 10**309})


def test_a_report_from_before_there_were_labels_and_settings_is_read() -> None:
    old = {key: part for key, part in rows_report().items() if key not in ("label", "settings", "exceeded")}
    report = read_report({**old, "plan": {"rounds": 2}})
    assert (report.label, report.settings) == ("gateway-bench", {"rounds": 2})


def test_a_run_from_before_it_had_rows_has_them() -> None:
    old = {key: part for key, part in run_report().items() if key not in ("rows", "exceeded")}
    assert [row.id for row in read_report(old).rows][:3] == ["latency_p50", "latency_p95", "latency_p99"]


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(rows_report()))
    monkeypatch.setattr("ray.bench.reading.read_report.LARGEST_REPORT_BYTES", path.stat().st_size)
    load_report(str(path))
    monkeypatch.setattr("ray.bench.reading.read_report.LARGEST_REPORT_BYTES", path.stat().st_size - 1)
    with pytest.raises(MeasurementError, match=r"report\.json: larger than"):
        load_report(str(path))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"kind": "x", "version": 1}', "[" * 100_000])
def test_what_is_no_report_is_refused_with_the_files_name(content: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(MeasurementError, match=r"other\.json"):
        load_report(str(path))
