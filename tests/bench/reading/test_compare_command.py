"""`compare` as a command: two files of any kind, what is refused, and what `--check` calls a failure."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from ray.bench import __main__ as command
from ray.bench.report.figures import Figure
from ray.bench.report.report import Row, envelope
from tests.bench.some_runs import some_run


def _run_file(directory: Path, name: str, seed: int, **change: object) -> str:
    random = Random(seed)
    run = some_run([random.lognormvariate(5, 0.1) for _ in range(120)], label=f"run {seed}")
    return _file(directory, name, {**run.to_document(), **change})


def _rows_file(directory: Path, name: str, value: float, **change: object) -> str:
    row = Row("start", "cold start", "ms", Figure(value, value - 5, value + 5, 9))
    document = envelope("gateway-bench", [row], label="gateway", facts={"Ray": "1"}, settings={"quick": False})
    return _file(directory, name, {**document, **change})


def _file(directory: Path, name: str, document: dict[str, object]) -> str:
    (directory / name).write_text(json.dumps(document))
    return str(directory / name)


def test_two_runs_are_compared_by_their_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [_run_file(tmp_path, "a.json", 1), _run_file(tmp_path, "b.json", 2)]
    assert command.main(["compare", *files, "--check", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["of"], document["a"]["label"], document["b"]["label"]) == ("benchmark-summary", "run 1", "run 2")


def test_two_reports_of_rows_are_compared_and_worse_is_only_a_failure_with_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [_rows_file(tmp_path, "a.json", 100.0), _rows_file(tmp_path, "b.json", 150.0)]
    assert command.main(["compare", *files]) == 0
    assert "B is worse in: cold start" in capsys.readouterr().out
    assert command.main(["compare", *files, "--check"]) == 1
    assert command.main(["compare", *files[::-1], "--check"]) == 0
    assert "B is better in: cold start" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 2}, "b.json: the report has schema version 2"),
        ({"kind": "jobs-bench"}, 'the kinds differ: A is a "gateway-bench", B a "jobs-bench"; --force'),
        ({"settings": {"quick": True}}, "quick: A False, B True; --force"),
    ],
)
def test_reports_of_different_things_are_refused_unless_forced(
    change: dict[str, object], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [_rows_file(tmp_path, "a.json", 100.0), _rows_file(tmp_path, "b.json", 101.0, **change)]
    assert command.main(["compare", *files]) == 1
    assert told in capsys.readouterr().err
    assert command.main(["compare", *files, "--force"]) == 0


def test_a_run_of_another_schema_version_is_refused_unless_forced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [_run_file(tmp_path, "a.json", 1), _run_file(tmp_path, "b.json", 2, version=2)]
    assert command.main(["compare", *files]) == 1
    assert "b.json: the report has schema version 2" in capsys.readouterr().err
    assert command.main(["compare", *files, "--force"]) == 0


def test_a_run_that_was_written_without_rows_is_compared_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = json.loads(Path(_run_file(tmp_path, "a.json", 1)).read_text())
    del old["rows"], old["exceeded"]
    assert command.main(["compare", _file(tmp_path, "old.json", old), _run_file(tmp_path, "b.json", 2)]) == 0
    assert "latency, cold, p50" in capsys.readouterr().out
