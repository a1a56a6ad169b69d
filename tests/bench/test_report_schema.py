"""`docs/bench-report.schema.json` says what every report is: documents that the code makes keep to it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from ray.bench.output import history_line
from ray.bench.reading.compare_rows import compare_rows
from ray.bench.reading.comparison import comparison_document
from ray.bench.reading.read_report import read_report
from ray.bench.run.report import RunSettings
from ray.bench.run.sample import Sample
from tests.bench.some_reports import Document, all_reports, rows_report, run_report

SCHEMA = Path(__file__).parents[2] / "docs" / "bench-report.schema.json"


@pytest.fixture(scope="module")
def problems() -> Callable[[object], list[str]]:
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    validator = jsonschema_rs.Draft202012Validator(json.loads(SCHEMA.read_text()))
    return lambda document: [
        f"{error.instance_path}: {error.message}" for error in validator.iter_errors(json.loads(json.dumps(document)))
    ]


@pytest.mark.parametrize("document", all_reports(), ids=lambda document: str(document["kind"]))
def test_every_report_keeps_to_the_schema(document: Document, problems: Callable[[object], list[str]]) -> None:
    assert problems(document) == []


def test_a_comparison_keeps_to_the_schema(problems: Callable[[object], list[str]]) -> None:
    for document in all_reports():
        report = read_report(document)
        assert problems(comparison_document(compare_rows(report, report))) == []


def test_a_report_of_a_kind_without_parts_of_its_own_keeps_it_in_a_history_too(
    problems: Callable[[object], list[str]],
) -> None:
    assert problems(history_line(rows_report())) == []


def _without(key: str) -> Callable[[Document], None]:
    return lambda document: document.__delitem__(key)


def _row(**change: object) -> Callable[[Document], None]:
    def wrong(document: Document) -> None:
        assert isinstance(document["rows"], list)
        document["rows"][0].update(change)

    return wrong


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            _without(key)
            for key in ("kind", "version", "label", "facts", "settings", "rows", "generatedAt", "exceeded")
        ),
        _without("samples"),
        _without("wallMs"),
        _row(value="fast"),
        _row(better="bigger"),
        _row(budget={"atMost": 1, "atLeast": 1}),
        _row(samples=0),
        lambda document: document.update(settings={"target": "http://a"}),
        lambda document: document.update(facts={"cores": 2}),
    ],
)
def test_what_is_no_report_does_not_keep_to_it(
    wrong: Callable[[Document], None], problems: Callable[[object], list[str]]
) -> None:
    document = copy.deepcopy(run_report())
    wrong(document)
    assert problems(document) != []


@pytest.mark.parametrize(("kind", "name"), [(Sample, "sample"), (RunSettings, "runSettings")])
def test_every_key_of_a_run_is_in_the_schema(kind: type, name: str) -> None:
    described = json.loads(SCHEMA.read_text())["$defs"][name]["properties"]
    keys = [entry.name.split("_") for entry in fields(kind)]
    assert {head + "".join(word.capitalize() for word in rest) for head, *rest in keys} == set(described)


def test_every_kind_that_is_documented_is_one_that_is_written() -> None:
    text = (SCHEMA.parent / "benchmarks.md").read_text().partition("### The document")[2]
    assert [str(one["kind"]) for one in all_reports() if f"`{one['kind']}`" not in text] == []
