"""`run` as a command: exit codes, files, baselines, and the real gateway behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ray.bench import __main__ as command
from ray.bench.command_line import parse_options
from ray.bench.processes.gateway_process import LIVEZ
from ray.bench.processes.gateway_process import answers as answers_livez
from ray.bench.processes.process import free_port
from ray.bench.run import command as run_command
from ray.bench.run.driver import Measured, Progress, RunPlan
from ray.bench.run.gateway_under_test import Target
from ray.bench.run.provider_tally import ProviderTally
from ray.bench.run.report import load_run_report
from ray.bench.run.sample import Sample
from ray.bench.run.workload_file import load_workload
from tests.bench.polling import until

ROOT = Path(__file__).parents[3]
TINY = str(ROOT / "examples/config/ray.tiny.json")


@pytest.mark.parametrize(
    "argv",
    [
        ["--clients", "0"],
        ["--concurrency", "65"],
        ["--clients", "2.5"],
        ["--requests", "10001"],
        ["--requests", "٣"],
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--rate", "1001"],
        ["--rate", "1", "--clients", "2"],
        ["--warmup", "-1"],
        ["--workload"],
        ["--workload", "--clients", "2"],
        ["--workload", " w.json"],
        ["--workload", ""],
        ["--output", "a\nb"],
        ["--label", " "],
        ["--label", "x" * 257],
        ["--url", "ftp://h"],
        ["--url", "http://user:secret@h"],
        ["--url", "http://h/?debug=true"],
        ["--url", " http://h"],
        ["--url", "h:3000"],
        ["--assert-baseline"],
        ["--tolerance", "-5"],
        ["--write-baseline", "box.json"],
        ["--passes", "2"],
        ["--passes", "2", "--config", "c.json", "--url", "http://h"],
        ["--passes", "21", "--no-cache"],
        ["--timeout-ms", "600001"],
        ["bare"],
    ],
)
def test_wrong_usage_ends_with_2_and_shows_no_secret(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["run", *argv])
    assert ended.value.code == 2


def test_options_become_a_plan() -> None:
    workload = load_workload(None)
    plan = run_command.plan_of(parse_options(["run"]), workload)
    assert (plan.requests, plan.clients, plan.rate, plan.warmup, plan.no_cache) == (4, 1, None, 0, False)
    given = ["--rate", "2.5", "--requests", "9", "--warmup", "2", "--no-cache", "--timeout-ms", "5", "--seed", "3"]
    plan = run_command.plan_of(parse_options(["run", *given]), workload)
    assert (plan.requests, plan.clients, plan.rate, plan.warmup, plan.no_cache) == (9, None, 2.5, 2, True)
    assert (plan.timeout_ms, plan.seed) == (5, 3)
    assert parse_options(["run", "--base-url", "http://h/ray/"]).url == "http://h/ray"


def answers(count: int, latency: float, code: str | None = None) -> tuple[Sample, ...]:
    return tuple(
        Sample(n, n % 4, n * 1.0, latency, latency / 4, code, gateway_ms=latency, quality_score=100)
        for n in range(count)
    )


def measuring(monkeypatch: pytest.MonkeyPatch, samples: tuple[Sample, ...], broken_off: str | None = None) -> None:
    """Nothing is sent; this comes out."""

    async def ready(target: Target, progress: Progress) -> None:
        return None

    async def canned(plan: RunPlan, url: str, key: str | None, progress: Progress) -> Measured:
        return Measured(samples, (), 1_000.0, ProviderTally(), broken_off)

    monkeypatch.setattr(run_command, "wait_until_ready", ready)
    monkeypatch.setattr(run_command, "drive", canned)


def test_a_run_writes_its_report_page_history_and_baseline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measuring(monkeypatch, answers(4, 100.0))
    files = [str(tmp_path / name) for name in ("out/report.json", "page.html", "h", "box.json")]
    argv = [
        "run",
        "--output",
        files[0],
        "--html",
        files[1],
        "--history-dir",
        files[2],
        "--write-baseline",
        files[3],
        "--no-cache",
    ]
    assert command.main([*argv, "--label", "my box"]) == 0
    assert "label: my box" in capsys.readouterr().out
    report = load_run_report(files[0])
    assert (report.label, len(report.samples), report.settings.mode) == ("my box", 4, "closed")
    assert "<html" in Path(files[1]).read_text()
    line = json.loads(Path(files[2], "benchmark-summary.jsonl").read_text())
    assert line["summary"]["latencyP50Ms"] == 100
    assert "samples" not in line
    assert json.loads(Path(files[3]).read_text())["label"] == "box"


def test_a_missed_baseline_is_only_a_failure_when_asserted_and_stands_in_the_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = str(tmp_path / "box.json")
    measuring(monkeypatch, answers(4, 100.0))
    assert command.main(["run", "--no-cache", "--write-baseline", baseline]) == 0
    assert command.main(["run", "--no-cache", "--baseline", baseline, "--assert-baseline"]) == 0
    measuring(monkeypatch, answers(4, 300.0))
    assert command.main(["run", "--no-cache", "--baseline", baseline]) == 0
    capsys.readouterr()
    assert command.main(["run", "--no-cache", "--baseline", baseline, "--assert-baseline", "--json"]) == 1
    comparison = json.loads(capsys.readouterr().out)["comparison"]
    assert comparison["passed"] is False
    assert comparison["passes"] == 5
    assert {check["metric"] for check in comparison["checks"] if not check["passed"]} == {
        "typicalLatencyMs",
        "typicalTtftMs",
    }


def test_the_best_of_several_passes_is_held_against_a_baseline_and_written_into_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paces = iter([300.0, 100.0, 100.0, 900.0, 110.0, 150.0, 100.0])

    def run(*argv: str) -> int:
        async def canned(*_: object) -> Measured:
            return Measured(answers(4, next(paces)), (), 1_000.0, ProviderTally(), None)

        measuring(monkeypatch, ())
        monkeypatch.setattr(run_command, "drive", canned)
        return command.main(["run", "--no-cache", *argv])

    baseline = str(tmp_path / "box.json")
    assert run("--passes", "3", "--write-baseline", baseline) == 0
    assert "write it when the machine is quiet" in capsys.readouterr().err
    assert json.loads(Path(baseline).read_text())["assertions"]["maxTypicalLatencyMs"] == 100 * 1.35 + 5
    assert run("--baseline", baseline, "--assert-baseline", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["comparison"]["passes"] == 2
    assert "pass 2 of 5 at most" in shown.err
    assert run("--baseline", baseline) == 0, "without the assertion one pass is enough"
    assert next(paces) == 100.0


def test_a_baseline_of_another_schema_version_is_refused_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = tmp_path / "box.json"
    baseline.write_text('{"version": 2}')
    assert command.main(["run", "--baseline", str(baseline)]) == 1
    assert "schema version is 2" in capsys.readouterr().err


def test_a_run_that_was_broken_off_reports_what_it_has_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measuring(monkeypatch, answers(4, 100.0), "the gateway is gone")
    report, baseline = tmp_path / "report.json", tmp_path / "box.json"
    assert command.main(["run", "--output", str(report)]) == 1
    shown = capsys.readouterr().out
    assert "answered: 4 of 4" in shown
    assert "BROKEN OFF: the gateway is gone." in shown
    assert load_run_report(str(report)).broken_off == "the gateway is gone"
    assert command.main(["run", "--no-cache", "--write-baseline", str(baseline)]) == 1
    assert not baseline.exists()


def test_a_run_in_which_nothing_was_answered_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measuring(monkeypatch, answers(3, 1.0, "unauthorized"))
    assert command.main(["run"]) == 1
    assert "unauthorized 3" in capsys.readouterr().out


def test_some_errors_are_counted_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measuring(monkeypatch, (*answers(3, 1.0), Sample(3, 3, 3.0, 1.0, code="queue_full")))
    assert command.main(["run"]) == 0
    assert "errors: 25.0 % (queue_full 1)" in capsys.readouterr().out


def test_a_gateway_that_is_not_there_is_told_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["run", "--url", f"http://127.0.0.1:{free_port()}"]) == 1
    assert "start it, or give --config" in capsys.readouterr().err


@pytest.mark.integration
def test_a_run_starts_a_gateway_from_a_config_and_measures_it(tmp_path: Path) -> None:
    workload = tmp_path / "w.jsonl"
    workload.write_text('{"input": "Say one."}\n{"input": "Say two.", "benchmark": {"minOutputChars": 1}}\n')
    argv = ["run", "--config", TINY, "--workload", str(workload), "--requests", "6", "--rate", "50", "--json"]
    run = subprocess.run(
        [sys.executable, "-m", "ray.bench", *argv], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    assert document["kind"] == "benchmark-summary"
    assert document["summary"]["requests"] == 6
    assert all(sample["ttftMs"] <= sample["latencyMs"] for sample in document["samples"])


_TALKATIVE = """
import sys
from ray.bench.run import driver
from ray.bench import __main__
driver.PROGRESS_SECONDS = 0.1
sys.exit(__main__.main(sys.argv[1:]))
"""


@pytest.mark.integration
def test_a_gateway_that_is_killed_during_the_command_leaves_a_report_and_exit_code_1(tmp_path: Path) -> None:
    port, config = free_port(), tmp_path / "config.json"
    model = {"adapter": {"kind": "mock", "latencyMs": 200}}
    config.write_text(json.dumps({"profile": "tiny", "server": {"port": port}, "model": model}))
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    with (tmp_path / "log").open("wb") as log:
        gateway = subprocess.Popen(
            [sys.executable, "-m", "ray", "--config", str(config)], env=environ, stdout=log, stderr=log
        )
    argv = ["run", "--url", f"http://127.0.0.1:{port}", "--requests", "5000", "--clients", "2", "--no-cache", "--json"]
    try:
        until(lambda: answers_livez(("127.0.0.1", port), LIVEZ))
        with (tmp_path / "out").open("wb") as out:
            run = subprocess.Popen(
                [sys.executable, "-c", _TALKATIVE, *argv], cwd=ROOT, stdout=out, stderr=subprocess.PIPE
            )
        assert run.stderr is not None
        for line in run.stderr:
            if b" of 5000 requests" in line and not line.strip().startswith(b"0 "):
                break
    finally:
        gateway.send_signal(signal.SIGKILL)
        gateway.wait()
    run.stderr.read()
    run.stderr.close()
    assert run.wait(60) == 1
    document = json.loads((tmp_path / "out").read_bytes())
    assert "the gateway is gone" in document["brokenOff"]
    assert 0 < document["summary"]["requests"] < 5_000
