"""`eval` as a command: what is sent, exit codes, files, and the real gateway behind it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ray.bench import __main__ as command
from ray.bench.command_line import parse_options
from ray.bench.eval import command as eval_command
from ray.bench.eval.command import GOLDEN_SET
from ray.bench.processes.process import MeasurementError
from ray.bench.run import command as run_command
from ray.bench.run.driver import Measured, Progress, RunPlan
from ray.bench.run.gateway_under_test import Target
from ray.bench.run.provider_tally import ProviderTally
from ray.bench.run.repetition import repeated_workload
from ray.bench.run.sample import Sample
from ray.bench.run.workload_file import load_workload, parse_items, workload_of

ROOT = Path(__file__).parents[3]
TINY = str(ROOT / "examples/config/ray.tiny.json")
FAMILIES = ["cold_outreach", "follow_up", "reply_classification", "reply_rewrite", "section_generation"]


class Asked:
    """A gateway whose answers all have this score; `plans` says what was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *failures: str, score: float = 100.0) -> None:
        self.failures, self.score = failures, score
        self.code: str | None = None
        self.cached = False
        self.broken_off: str | None = None
        self.plans: list[RunPlan] = []
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(run_command, "wait_until_ready", self._ready)
        monkeypatch.setattr(run_command, "drive", self._drive)

    async def _ready(self, target: Target, progress: Progress) -> None:
        return None

    async def _drive(self, plan: RunPlan, url: str, key: str | None, progress: Progress) -> Measured:
        self.plans.append(plan)
        samples: list[Sample] = []
        # The answers to several clients come in any order.
        for number in reversed(range(plan.requests)):
            sample = Sample(number, number % len(plan.workload.items), 0.0, 100.0, code=self.code)
            if sample.answered:
                sample = Sample(
                    number, sample.item, 0.0, 100.0,
                    cached=self.cached, quality_score=self.score, quality_failures=self.failures,
                )  # fmt: skip
                if plan.seen is not None:
                    plan.seen(sample, f"text {number} \x1b[31mred")
            samples.insert(0, sample)
        return Measured(tuple(samples), (), 1_000.0, ProviderTally(), self.broken_off)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


@pytest.mark.parametrize(
    "argv",
    [
        ["--repeat", "0"],
        ["--repeat", "1001"],
        ["--repeat", "2.5"],
        ["--clients", "65"],
        ["--min-score", "101"],
        ["--min-score", "-1"],
        ["--min-pass-rate", "nan"],
        ["--min-pass-rate", "good"],
        ["--workload", ""],
        ["--url", "ftp://h"],
        ["--assert-baseline"],
        ["--write-baseline", "b.json", "--use-cache"],
        ["--compare-with", "/no/such/file"],
        ["--show-answers", "--json"],
        ["--rate", "1"],
        ["bare"],
    ],
)
def test_wrong_usage_ends_with_2(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        command.main(["eval", *argv])
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_without_the_golden_set_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        command.main(["eval"])
    assert ended.value.code == 2
    assert f"there is no {GOLDEN_SET} below the current directory" in capsys.readouterr().err


def test_the_golden_set_is_asked_once_past_the_response_cache(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["eval"]) == 0
    (plan,) = asked.plans
    assert (plan.requests, plan.clients, plan.no_cache, plan.warmup, plan.seen) == (5, 1, True, 0, None)
    assert plan.workload == load_workload(GOLDEN_SET)
    shown = capsys.readouterr().out
    assert all(f"eval.email.{name}" in shown for name in FAMILIES)
    assert "past the response cache" in shown


def test_clients_warmup_and_time_limit_are_those_that_were_asked_for(asked: Asked) -> None:
    assert command.main(["eval", "--clients", "3", "--warmup", "2", "--timeout-ms", "5000"]) == 0
    (plan,) = asked.plans
    assert (plan.clients, plan.warmup, plan.timeout_ms) == (3, 2, 5_000)


def test_answers_are_shown_in_the_order_of_asking_below_their_families(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["eval", "--repeat", "2", "--show-answers"]) == 0
    heads = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("--- ")]
    names = [f"--- eval.email.{name}" for name in [*FAMILIES, *FAMILIES]]
    assert heads == [f"{name}, request {number}" for number, name in enumerate(names, start=1)]


def test_a_baseline_that_cannot_be_made_ends_with_1(
    asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked.cached = True
    assert command.main(["eval", "--write-baseline", str(tmp_path / "box.json")]) == 1
    assert "the model answered nothing" in capsys.readouterr().err


def test_the_response_cache_may_be_used(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["eval", "--use-cache"]) == 0
    assert not asked.plans[0].no_cache
    assert "the response cache may answer" in capsys.readouterr().out


def test_repetitions_have_other_seeds_which_are_always_the_same_ones(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["eval", "--repeat", "3", "--json"]) == 0
    plan = asked.plans[0]
    seeds = [item.fields["seed"] for item in plan.workload.items]
    assert seeds == [first + turn for turn in range(3) for first in (301, 302, 303, 304, 305)]
    document = json.loads(capsys.readouterr().out)
    assert [family["n"] for family in document["families"]] == [3] * 5
    assert [sample["item"] for sample in document["run"]["samples"]] == [0, 1, 2, 3, 4] * 3
    assert document["run"]["settings"]["items"] == 5


def test_an_item_without_a_seed_gets_none_and_the_largest_one_starts_anew() -> None:
    golden = workload_of("w", parse_items('{"input": "a"}\n{"input": "b", "seed": 9007199254740991}'))
    items = repeated_workload(golden, 2).items
    assert [item.fields.get("seed") for item in items] == [None, 2**53 - 1, None, 0]
    assert repeated_workload(golden, 1) is golden


def test_too_many_requests_are_refused_before_one_is_sent(
    asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = tmp_path / "many.jsonl"
    many.write_text('{"input": "a"}\n' * 11)
    assert command.main(["eval", "--workload", str(many), "--repeat", "1000"]) == 1
    assert "more than 10000 requests" in capsys.readouterr().err
    assert asked.plans == []


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        ([], 0),
        (["--min-score", "80"], 0),
        (["--min-score", "80.5"], 1),
        (["--min-pass-rate", "0"], 0),
        (["--min-pass-rate", "1"], 1),
    ],
)
def test_a_score_or_pass_rate_that_is_too_low_ends_with_1_and_is_told(
    argv: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Asked(monkeypatch, "missing_cta", score=80.0)
    assert command.main(["eval", *argv]) == code
    assert ("FAIL:" in capsys.readouterr().out) == (code == 1)


def test_errors_count_as_nothing_scored(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    asked.code = "queue_full"
    assert command.main(["eval", "--min-score", "1"]) == 1
    shown = capsys.readouterr().out
    assert "queue_full 1" in shown
    assert "the mean score is 0.0" in shown


def test_a_gateway_that_answered_nothing_or_went_away_ends_with_1(
    asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked.broken_off = "the gateway is gone"
    assert command.main(["eval"]) == 1
    assert "BROKEN OFF" in capsys.readouterr().out
    assert command.main(["eval", "--write-baseline", str(tmp_path / "new/box.json")]) == 1
    shown = capsys.readouterr()
    assert "no baseline written" in shown.err
    assert "BROKEN OFF" in shown.out, "what was measured is shown all the same"
    asked.broken_off, asked.code = None, "unauthorized"
    assert command.main(["eval"]) == 1


def test_report_page_history_and_baseline_are_written_without_texts(
    asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(tmp_path / name) for name in ("out/report.json", "page.html", "h", "box.json")]
    argv = ["eval", "--output", files[0], "--html", files[1], "--history-dir", files[2], "--write-baseline", files[3]]
    assert command.main([*argv, "--label", "wording 2", "--show-answers"]) == 0
    shown = capsys.readouterr()
    assert "text 3 \ufffd[31mred" in shown.out, "a model's control characters do not reach the terminal"
    assert "--- eval.email.reply_rewrite, request 4: score 100, passed" in shown.out
    document = json.loads(Path(files[0]).read_text())
    assert (document["kind"], document["label"]) == ("eval-report", "wording 2")
    line = json.loads(Path(files[2], "eval-report.jsonl").read_text())
    assert line["total"]["scoreAvg"] == 100
    assert "samples" not in line["run"]
    assert json.loads(Path(files[3]).read_text())["requests"] == 5
    assert not any("text 3" in path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert command.main(["eval", "--baseline", files[3], "--assert-baseline"]) == 0
    assert "baseline box" in capsys.readouterr().out
    asked.score = 10.0
    assert command.main(["eval", "--baseline", files[3], "--assert-baseline"]) == 1


def test_a_report_is_compared_with_an_earlier_one(
    asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = str(tmp_path / "before.json")
    assert command.main(["eval", "--output", before]) == 0
    asked.score, asked.failures = 75.0, ("email_wrapper",)
    capsys.readouterr()
    assert command.main(["eval", "--compare-with", before]) == 0
    shown = capsys.readouterr().out
    assert "-25.0" in shown
    assert "new in eval.email.follow_up: email_wrapper" in shown
    assert "The score is worse by more than noise: -25.0 (-25.0..-25.0) over 5 items." in shown
    assert command.main(["eval", "--compare-with", before, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["scoreChange"] == {"value": -25, "low": -25, "high": -25, "samples": 5}
    change = document["changes"][0]
    assert (change["scoreBefore"], change["scoreNow"], change["newFailures"]) == (100, 75, ["email_wrapper"])


def test_a_report_of_another_kind_is_refused_before_anything_is_asked(
    asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "run.json"
    other.write_text('{"kind": "benchmark-summary", "version": 1}')
    assert command.main(["eval", "--compare-with", str(other)]) == 1
    assert 'of kind "benchmark-summary"' in capsys.readouterr().err
    assert command.main(["eval", "--baseline", str(other)]) == 1
    assert "baselines come from --write-baseline" in capsys.readouterr().err
    other.write_text('{"version": 1}')
    assert command.main(["eval", "--compare-with", str(other)]) == 1
    assert "this is no report" in capsys.readouterr().err
    assert asked.plans == []


def test_the_plan_refuses_what_no_option_can_say() -> None:
    options = parse_options(["eval", "--workload", "w.json", "--repeat", "1000"])
    golden = workload_of("w", parse_items('{"input": "a"}\n' * 11))
    with pytest.raises(MeasurementError, match="11 items 1000 times"):
        eval_command.plan_of(options, golden, None)


@pytest.mark.integration
def test_the_golden_set_against_a_gateway_that_is_started_for_it() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ray.bench", "eval", "--config", TINY, "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    assert [family["family"] for family in document["families"]] == [f"eval.email.{name}" for name in FAMILIES]
    # The mock model says the prompt back, and that is what the checks are there to see.
    assert all(family["failures"]["prompt_echo"] == 1 for family in document["families"])
    assert not any(sample["cached"] for sample in document["run"]["samples"])
