"""Files of a report: every command that measures writes the same ones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ray.bench import __main__ as command
from ray.bench.budgets import gateway_bench
from ray.bench.commands import COMMANDS
from ray.bench.output import history_line
from ray.bench.report.figures import single
from ray.bench.report.report import Row
from tests.bench.some_reports import peers_report, prefix_report, run_report

MEASURING = sorted(set(COMMANDS) - {"compare", "page"})


@pytest.fixture(autouse=True)
def _nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_bench, "measure_gateway", lambda *_: [Row("x", "X", "ms", single(1.0))])


@pytest.mark.parametrize("name", MEASURING)
def test_every_command_that_measures_has_the_same_options_for_its_results(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main([name, "--help"])
    help_text = capsys.readouterr().out
    for option in ("--json", "--label TEXT", "--output FILE", "--html FILE", "--history-dir DIR"):
        assert option in help_text


def test_a_report_is_written_as_json_as_a_page_and_into_a_history(tmp_path: Path) -> None:
    report, page, history = (tmp_path / name for name in ("new/report.json", "report.html", "history"))
    argv = ["gateway", "--label", "before", "--output", str(report), "--html", str(page), "--history-dir", str(history)]
    assert command.main(argv) == 0
    assert command.main(argv) == 0
    document = json.loads(report.read_text())
    assert (document["kind"], document["label"]) == ("gateway-bench", "before")
    assert "<h1>Bench of before</h1>" in page.read_text()
    lines = (history / "gateway-bench.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["before", "before"]


def test_the_page_of_a_written_report_is_the_page_that_was_written_with_it(tmp_path: Path) -> None:
    report, page, later = (tmp_path / name for name in ("report.json", "report.html", "later.html"))
    command.main(["gateway", "--output", str(report), "--html", str(page)])
    assert command.main(["page", str(report), str(later)]) == 0
    assert later.read_text() == page.read_text()


@pytest.mark.parametrize(
    "argv",
    [
        ["gateway", "--output", "file/report.json"],
        ["gateway", "--html", "file/deeper/page.html"],
        ["gateway", "--history-dir", "file"],
        ["gateway", "--output", "."],
        ["gateway", "--output", "/proc/report.json"],
        ["run", "--write-baseline", "file/box.json", "--no-cache"],
        ["eval", "--write-baseline", "file/box.json", "--workload", "w.jsonl"],
        ["peers", "--peer", "http://h", "--output-dir", "file/d"],
        ["gateway", "--output", "/dev/null"],
        ["gateway", "--output", "report.json", "--html", "./report.json"],
        ["autotune", "--config", "file", "--output", "file"],
        ["autotune", "--config", "file", "--workload", "w.jsonl", "--html", "w.jsonl"],
        ["autotune", "--config", "file", "--write", "new.json", "--output", "new.json"],
    ],
)
def test_what_cannot_be_written_is_known_before_anything_is_measured(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    never = dataclasses.replace(COMMANDS[argv[0]], show=lambda options: pytest.fail("it was measured"))
    monkeypatch.setitem(COMMANDS, argv[0], never)
    assert command.main(argv) == 1
    assert "cannot write" in capsys.readouterr().err


def test_looking_in_advance_makes_nothing_and_leaves_what_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    report.write_text("of yesterday")

    def measure(*_: object) -> list[Row]:
        assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
        assert report.read_text() == "of yesterday"
        return [Row("x", "X", "ms", single(1.0))]

    monkeypatch.setattr(gateway_bench, "measure_gateway", measure)
    argv = ["--output", str(report), "--html", str(tmp_path / "new/page.html"), "--history-dir", str(tmp_path / "h")]
    assert command.main(["gateway", *argv]) == 0
    assert json.loads(report.read_text())["kind"] == "gateway-bench"


def test_a_file_that_cannot_be_written_after_all_costs_neither_the_report_nor_the_other_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, page, history = (tmp_path / name for name in ("report.json", "page.html", "h"))

    def measure(*_: object) -> list[Row]:
        report.mkdir()
        return [Row("x", "X", "ms", single(1.0))]

    monkeypatch.setattr(gateway_bench, "measure_gateway", measure)
    argv = ["--json", "--output", str(report), "--html", str(page), "--history-dir", str(history)]
    assert command.main(["gateway", *argv]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["kind"] == "gateway-bench"
    assert f"cannot write {report}" in shown.err
    assert "<h1>" in page.read_text()
    assert (history / "gateway-bench.jsonl").is_file()


def test_a_line_of_history_has_the_figures_but_no_single_measurement_at_any_depth() -> None:
    for document in (run_report(), prefix_report(), peers_report()):
        line = history_line(document)
        assert line["rows"] == document["rows"]
        assert not any(f'"{name}": [' in json.dumps(line) for name in ("samples", "queue", "passes", "pairs"))
        assert "samples" in json.dumps(line["rows"]), "of a row it is the number of them"
