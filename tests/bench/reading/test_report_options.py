"""`compare` and `page` as commands: usage, exit codes and what they write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray.bench import __main__ as command
from ray.bench.run.report import RunReport
from tests.bench.some_runs import some_run


def _file(directory: Path, name: str, run: RunReport) -> str:
    path = directory / name
    path.write_text(json.dumps(run.to_document()))
    return str(path)


@pytest.fixture
def fast(tmp_path: Path) -> str:
    return _file(tmp_path, "fast.json", some_run([100.0 + number % 7 for number in range(80)]))


@pytest.fixture
def slow(tmp_path: Path) -> str:
    return _file(tmp_path, "slow.json", some_run([300.0 + number % 7 for number in range(80)]))


@pytest.mark.parametrize(
    "argv",
    [
        ["compare"],
        ["compare", __file__],
        ["compare", __file__, "/no/such/file"],
        ["compare", __file__, __file__, "--margin", "-1"],
        ["compare", __file__, __file__, "--margin", "nan"],
        ["compare", __file__, __file__, "--margin", "much"],
        ["page", __file__],
        ["page", "/no/such/file", "page.html"],
        ["page", __file__, __file__],
        ["gateway", "--label", "\udcff"],
        ["page", __file__, "/no/such/directory/page.html"],
    ],
)
def test_wrong_usage_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(argv)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_worse_run_is_only_a_failure_with_check(fast: str, slow: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["compare", fast, slow]) == 0
    assert "B is worse in: latency" in capsys.readouterr().out
    assert command.main(["compare", fast, slow, "--check"]) == 1
    assert command.main(["compare", slow, fast, "--check"]) == 0
    assert command.main(["compare", fast, slow, "--check", "--margin", "100"]) == 1
    capsys.readouterr()
    assert command.main(["compare", fast, slow, "--json"]) == 0
    assert "latency_p50" in json.loads(capsys.readouterr().out)["worse"]


@pytest.mark.parametrize("name", ["compare", "page"])
def test_a_file_that_is_no_report_of_a_run_ends_with_1(
    name: str, fast: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"kind": "some-notes", "version": 1}')
    page = tmp_path / "page.html"
    assert command.main([name, str(other), fast if name == "compare" else str(page)]) == 1
    assert 'kind "some-notes"' in capsys.readouterr().err
    assert not page.exists()


def test_the_page_of_a_report_is_written(fast: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert command.main(["page", fast, str(page)]) == 0
    assert capsys.readouterr().out == f"wrote {page}\n"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
