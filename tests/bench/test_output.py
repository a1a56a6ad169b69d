"""Files of a report: every command that measures writes the same ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray.bench import __main__ as command
from ray.bench import gateway_bench
from ray.bench.commands import COMMANDS
from ray.bench.figures import single
from ray.bench.output import history_line
from ray.bench.report import Row
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


def test_what_cannot_be_written_is_a_failure_that_does_not_cost_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert command.main(["gateway", "--json", "--output", str(tmp_path / "file" / "report.json")]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["kind"] == "gateway-bench"
    assert "cannot write" in shown.err


def test_a_line_of_history_has_the_figures_but_no_single_measurement_at_any_depth() -> None:
    for document in (run_report(), prefix_report(), peers_report()):
        line = history_line(document)
        assert line["rows"] == document["rows"]
        assert not any(f'"{name}": [' in json.dumps(line) for name in ("samples", "queue", "passes", "pairs"))
        assert "samples" in json.dumps(line["rows"]), "of a row it is the number of them"
