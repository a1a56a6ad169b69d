"""Report files that are whole or the old ones, and a history that two runs append to at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ray.bench.processes.process import MeasurementError
from ray.bench.report import report_file
from ray.bench.report.report_file import append_history, is_same_file, write_file

ROOT = Path(__file__).parents[3]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_report_is_written_with_its_directories_and_readable_by_all(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b.json"
    write_file(str(target), "{}\n")
    assert (target.read_text(), mode(target)) == ("{}\n", 0o644)


@pytest.mark.parametrize(("before", "after"), [(0o666, 0o644), (0o600, 0o600), (0o640, 0o640), (0o755, 0o644)])
def test_an_old_file_keeps_its_readers_and_loses_other_writers(before: int, after: int, tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")
    target.chmod(before)
    write_file(str(target), "new")
    assert (target.read_text(), mode(target)) == ("new", after)
    append_history(str(tmp_path), "report", {})


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MeasurementError, match="No space left"):
        write_file(str(target), "new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.json"]


def test_half_a_character_costs_neither_the_file_nor_the_line(tmp_path: Path) -> None:
    write_file(str(tmp_path / "page.html"), "file\udcff")
    append_history(str(tmp_path), "kind", {"label": "file\udcff"})
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "file?"
    assert json.loads((tmp_path / "kind.jsonl").read_text(encoding="utf-8")) == {"label": "file?"}


def test_the_history_grows_by_a_line_for_each_run(tmp_path: Path) -> None:
    for number in range(3):
        append_history(str(tmp_path / "h"), "benchmark-summary", {"run": number})
    lines = (tmp_path / "h" / "benchmark-summary.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"run": 0}, {"run": 1}, {"run": 2}]


def test_a_line_that_a_killed_run_left_unfinished_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "k.jsonl"
    path.write_text('{"run": 0}\n{"ru')
    append_history(str(tmp_path), "k", {"run": 2})
    assert path.read_text().splitlines() == ['{"run": 0}', '{"ru', '{"run":2}']


def test_a_full_history_loses_its_oldest_lines_and_no_parts_of_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_file, "MAX_HISTORY_BYTES", 100)
    monkeypatch.setattr(report_file, "KEPT_HISTORY_BYTES", 60)
    for number in range(40):
        append_history(str(tmp_path), "k", {"run": number})
        size = (tmp_path / "k.jsonl").stat().st_size
        assert size <= 100
    runs = [json.loads(line)["run"] for line in (tmp_path / "k.jsonl").read_text().splitlines()]
    assert runs == list(range(runs[0], 40))
    assert len(runs) >= 4


def test_a_history_of_one_endless_line_is_pruned_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_file, "MAX_HISTORY_BYTES", 100)
    monkeypatch.setattr(report_file, "KEPT_HISTORY_BYTES", 60)
    (tmp_path / "k.jsonl").write_bytes(b"x" * 120 + b"\n")
    append_history(str(tmp_path), "k", {"run": 1})
    assert (tmp_path / "k.jsonl").read_text() == '{"run":1}\n'


def test_one_line_larger_than_the_history_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_file, "MAX_HISTORY_BYTES", 100)
    with pytest.raises(MeasurementError, match="100 are possible"):
        append_history(str(tmp_path), "k", {"run": "x" * 100})
    assert os.listdir(tmp_path) == []


_APPEND = """
import sys
from ray.bench.report import report_file
report_file.MAX_HISTORY_BYTES, report_file.KEPT_HISTORY_BYTES = 4000, 3000
for number in range(150):
    report_file.append_history(sys.argv[1], "k", {"who": sys.argv[2], "run": number})
"""


def test_two_runs_that_append_at_once_keep_all_lines_whole_and_in_order(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _APPEND, str(tmp_path)]
    both = [subprocess.Popen([*command, who], cwd=ROOT) for who in ("a", "b")]
    assert [one.wait(60) for one in both] == [0, 0]
    lines = [json.loads(line) for line in (tmp_path / "k.jsonl").read_text().splitlines()]
    assert len(lines) > 50
    for who in ("a", "b"):
        runs = [line["run"] for line in lines if line["who"] == who]
        assert runs == list(range(150 - len(runs), 150))
    assert lines[-1]["run"] == 149


def test_two_paths_to_one_file_are_the_same(tmp_path: Path) -> None:
    file, link, hard = tmp_path / "ray.json", tmp_path / "link.json", tmp_path / "hard.json"
    file.write_text("{}")
    link.symlink_to(file)
    hard.hardlink_to(file)
    assert is_same_file(str(file), str(tmp_path / "." / "ray.json"))
    assert is_same_file(str(file), str(link))
    assert is_same_file(str(file), str(hard))
    assert not is_same_file(str(file), str(tmp_path / "other.json"))


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "stdout"
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(MeasurementError, match="a device, a pipe or a socket"):
            write_file(str(path), "report")
    assert pipe.is_fifo()
    assert link.is_symlink()
