"""The command line: usage is 2, a failed measurement 1, a missed budget 1 only with `--check`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ray.bench import __main__ as command
from ray.bench.budgets import gateway_bench, prefix_bench
from ray.bench.budgets.prefix_bench import FULL, PASSES, QUICK, Measured, Pair, PrefixPlan
from ray.bench.budgets.prefix_command import prefix_plan
from ray.bench.budgets.prefix_sides import direct_side, ray_side
from ray.bench.command_line import parse_options
from ray.bench.commands import COMMANDS
from ray.bench.processes.process import MeasurementError
from ray.bench.report.figures import single
from ray.bench.report.report import Budget, Row
from ray.bench.report.shown import Shown, say_progress
from tests.bench.passes import some_asked, some_pass

PREFIX = ["prefix", "--llama-server", __file__, "--model", __file__]


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nothing"],
        ["gateway", "--fast"],
        ["gateway", "--connections", "0"],
        ["gateway", "--connections", "65"],
        ["gateway", "--connections", "many"],
        ["gateway", "--llama-server", __file__],
        ["gateway", "--model", __file__],
        ["gateway", "--llama-server", "/no/such/file", "--model", __file__],
        ["gateway", "--llama-server", __file__, "--model", "/no/such/file"],
        ["gateway", "--backend", "http://127.0.0.1:1", "--llama-server", __file__, "--model", __file__],
        ["gateway", "--backend", "https://127.0.0.1:1"],
        ["gateway", "--backend", "127.0.0.1:1"],
        ["gateway", "--backend", "http://127.0.0.1:99999"],
        ["gateway", "--backend", "http://127.0.0.1:1/v1"],
        ["gateway", "--backend", "http://user@127.0.0.1:1"],
        ["prefix"],
        ["prefix", "--model", __file__],
        [*PREFIX[:-1], "/no/such/file"],
        [*PREFIX, "--families", "0"],
        [*PREFIX, "--clients", "65"],
        [*PREFIX, "--slots", "9"],
        [*PREFIX, "--answer-tokens", "-3"],
        [*PREFIX, "--seed", "seven"],
        [*PREFIX, "--backend-env", "OMP_WAIT_POLICY"],
        [*PREFIX, "--backend-env", "=passive"],
        [*PREFIX, "--plot", "/no/such/directory/plot.svg"],
        [*PREFIX, "--slots", "8", "--prefix-tokens", "8000"],
    ],
)
def test_wrong_usage_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(argv)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_an_interpreter_that_does_not_run_ends_with_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command.main(["gateway", "--python", str(tmp_path / "python9")]) == 1
    shown = capsys.readouterr()
    assert "--python" in shown.err
    assert shown.out == ""


def _measuring(monkeypatch: pytest.MonkeyPatch, measure: Callable[..., list[Row]]) -> None:
    monkeypatch.setattr(gateway_bench, "measure_gateway", measure)


def _over(*_: object) -> list[Row]:
    return [Row("rss", "resident memory", "MB", single(31.0), Budget(30))]


def _interrupted(*_: object) -> list[Row]:
    raise KeyboardInterrupt


def _failing(*_: object) -> list[Row]:
    raise MeasurementError("no answer")


def test_a_missed_budget_is_only_a_failure_with_check(monkeypatch: pytest.MonkeyPatch) -> None:
    _measuring(monkeypatch, _over)
    assert command.main(["gateway"]) == 0
    assert command.main(["gateway", "--check"]) == 1


def test_a_failed_measurement_ends_with_1_and_no_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _measuring(monkeypatch, _failing)
    assert command.main(["gateway", "--json"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "no answer" in shown.err


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    _measuring(monkeypatch, _interrupted)
    assert command.main(["gateway"]) == 130


def test_the_json_goes_to_stdout_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _measuring(monkeypatch, _over)
    command.main(["gateway", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in document["rows"]] == ["rss", "tokens_ratio"]
    assert document["facts"]["used by other processes meanwhile"].endswith("% of the machine")


def test_the_table_is_the_default(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _measuring(monkeypatch, _over)
    command.main(["gateway"])
    shown = capsys.readouterr().out
    assert "resident memory" in shown
    assert "not measured" in shown


def test_the_workload_is_the_full_one_unless_sizes_are_given() -> None:
    assert prefix_plan(parse_options(PREFIX)) == FULL == PrefixPlan()
    given = prefix_plan(
        parse_options([*PREFIX, "--families", "3", "--answer-tokens", "64", "--seed", "9", "--no-store"])
    )
    assert given == PrefixPlan(families=3, answer_tokens=64, seed=9, store=False)


def test_a_quick_workload_can_be_resized_too() -> None:
    plan = prefix_plan(parse_options([*PREFIX, "--quick", "--clients", "2"]))
    assert (plan.clients, plan.requests) == (2, QUICK.requests)
    assert plan.requests < FULL.requests


def _slow_ray(*_: object) -> Measured:
    """A measurement in which Ray is as fast as the server alone, so that targets are missed."""
    passes = [
        some_pass(side, name, 10.0)
        for side, names in ((direct_side(0), PASSES[:2]), (direct_side(512), PASSES), (ray_side(True), PASSES))
        for name in names
    ]
    return Measured(passes, [Pair(some_asked(1.0), some_asked(1.0))], [], [])


def test_a_missed_target_is_only_a_failure_with_check_and_the_plot_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(prefix_bench, "measure_prefix", _slow_ray)
    plot = tmp_path / "plot.svg"
    assert command.main([*PREFIX, "--plot", str(plot)]) == 0
    assert "through Ray" in capsys.readouterr().out
    assert plot.read_text().startswith("<svg")
    assert command.main([*PREFIX, "--check", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["exceeded"] == ["steady_ratio", "steady_ram_ratio", "cold_ram_ratio", "restart_ratio"]
    assert document["facts"]["model"] == "test_main.py"


def test_a_plot_that_cannot_be_written_does_not_cost_the_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def measure(*given: object) -> object:
        (tmp_path / "plot.svg").mkdir()
        return _slow_ray(*given)

    monkeypatch.setattr(prefix_bench, "measure_prefix", measure)
    assert command.main([*PREFIX, "--plot", str(tmp_path / "plot.svg")]) == 1
    shown = capsys.readouterr()
    assert "through Ray" in shown.out
    assert "cannot write" in shown.err


def test_texts_of_others_reach_the_terminal_without_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def show(options: argparse.Namespace) -> Shown:
        say_progress("from a gateway: \x1b[2J")
        return Shown("a model's \x1b]0;words\n", {"kind": "x", "text": "\x1b"}, missed=False)

    monkeypatch.setitem(COMMANDS, "gateway", dataclasses.replace(COMMANDS["gateway"], show=show))
    assert command.main(["gateway"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, "\x1b" in shown.err) == ("a model's \ufffd]0;words\n", False)
