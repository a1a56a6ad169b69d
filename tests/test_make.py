"""The Makefile and `.ci/run`: every target is listed, runs what exists, and the gate leaves nothing out."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from ray.bench.command_line import parse_options
from ray.deploy.commands import command_module

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = re.findall(r"^([a-z0-9-]+):(?!=)", MAKEFILE, re.MULTILINE)
SMALLEST = "examples/config/ray.tiny.json"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run make as at a shell: what another make above this test has set does not count."""
    environ = {"PATH": path or os.environ["PATH"], "HOME": "/nonexistent"}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def planned(*arguments: str) -> str:
    """What a target would do."""
    done = make("-n", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def deploy_commands(plan: str) -> list[list[str]]:
    """The deploy commands in it, as words, after checking that each command takes its options."""
    found = []
    for line in re.findall(r"-m ray\.deploy (.*)", plan):
        words = shlex.split(line.partition(" > ")[0])
        parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
        command_module(words[0]).add_arguments(parser)
        parser.parse_args(words[1:])
        found.append(words)
    return found


def test_given_no_target_when_made_then_every_target_for_people_is_listed() -> None:
    listed = set(re.findall(r"^  make ([a-z0-9-]+)  ", make().stdout, re.MULTILINE))

    assert listed == set(TARGETS) - {"python"}


def test_every_target_is_made_whatever_files_there_are() -> None:
    phony = {name for line in re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE) for name in line.split()}

    assert phony == set(TARGETS)


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("validate-all", ["validate-all"]),
        ("deploy-smoke", ["smoke"]),
        ("smoke", ["gateway-smoke", "--config", SMALLEST]),
        ("smoke-public", ["gateway-smoke", "--config", SMALLEST, "--public-safety"]),
        ("smoke-async", ["gateway-smoke", "--config", SMALLEST, "--async-queue"]),
        ("smoke-public-async", ["gateway-smoke", "--config", SMALLEST, "--public-safety", "--async-queue"]),
        ("docs-links", ["docs-links"]),
        ("model-stage", ["model-stage"]),
        ("model-stage-smoke", ["model-stage-smoke"]),
        ("swap-plan", ["swap-plan"]),
        ("storage", ["storage"]),
    ],
)
def test_given_a_target_when_made_then_it_is_this_command(target: str, command: list[str]) -> None:
    assert deploy_commands(planned(target)) == [command]


@pytest.mark.parametrize("target", ["smoke", "smoke-public-async", "model-stage"])
def test_given_a_config_when_made_then_the_command_is_about_it_whatever_its_name(target: str) -> None:
    (command,) = deploy_commands(planned(target, "CONFIG=/srv/my configs/ray.json"))

    assert command[1:3] == ["--config", "/srv/my configs/ray.json"]


def bench_options(plan: str) -> argparse.Namespace:
    """The options of the one bench command in it, read as the bench reads them."""
    (words,) = re.findall(r"-m ray\.bench (.*)", plan.replace("\\\n", " "))
    return parse_options(shlex.split(words))


BASELINES = "examples/benchmarks/baselines"
HISTORY = ".ray/benchmarks/history"


@pytest.mark.parametrize(
    ("target", "workload", "clients", "requests", "history"),
    [
        ("bench-email", "email-workload", 2, 5, None),
        ("bench-1b", "email-1b-workload", 1, 5, HISTORY),
        ("bench-assert-cx23", "email-workload", 2, 16, None),
        ("bench-assert-cax11", "email-workload", 2, 16, None),
        ("bench-assert-cx23-1b", "email-1b-workload", 1, 10, HISTORY),
        ("bench-assert-8gb-1b", "email-1b-workload", 2, 16, HISTORY),
    ],
)
def test_a_named_run_sends_this_load_to_the_model(
    target: str, workload: str, clients: int, requests: int, history: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    options = bench_options(planned(target))

    assert (options.command, options.workload) == ("run", f"examples/workloads/{workload}.jsonl")
    assert (options.clients, options.requests, options.no_cache) == (clients, requests, True)
    assert (options.history_dir, options.url, options.config) == (history, None, None)


@pytest.mark.parametrize(
    ("target", "config", "workload", "clients", "requests"),
    [
        ("autotune-email", "ray.hetzner-cx23-qwen0.6b", "email-workload", 2, 16),
        ("autotune-1b", "ray.1b", "email-1b-workload", 1, 10),
        ("autotune-1b-8gb", "ray.1b.8gb", "email-1b-workload", 2, 16),
    ],
)
def test_a_named_search_begins_with_this_config(
    target: str, config: str, workload: str, clients: int, requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    options = bench_options(planned(target))

    assert (options.command, options.config) == ("autotune", f"examples/config/{config}.json")
    assert options.workload == f"examples/workloads/{workload}.jsonl"
    assert (options.clients, options.requests, options.scope, options.write) == (clients, requests, "auto", None)

    given = bench_options(planned(target, "CONFIG=/srv/my configs/ray.json", "OPTIONS=--write tuned.json"))
    assert (given.config, given.write) == ("/srv/my configs/ray.json", "tuned.json")


@pytest.mark.parametrize(
    ("target", "label"),
    [
        ("bench-assert-cx23", "hetzner-cx23-sub1b"),
        ("bench-assert-cax11", "hetzner-cax11-sub1b"),
        ("bench-assert-cx23-1b", "hetzner-cx23-1b"),
        ("bench-assert-8gb-1b", "single-node-8gb-1b"),
    ],
)
def test_an_asserted_run_is_one_that_its_baseline_is_about(target: str, label: str) -> None:
    options = bench_options(planned(target))
    baseline = json.loads((ROOT / f"{BASELINES}/{label}.json").read_text("utf-8"))

    assert (options.label, options.baseline, options.assert_baseline) == (label, f"{BASELINES}/{label}.json", True)
    assert options.output == f".ray/benchmarks/{label}.latest.json"
    assert (options.clients, options.requests) == (baseline["concurrency"], baseline["requests"])
    assert options.workload == baseline["workloadPath"]


def test_the_sweep_and_the_eval_have_files_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    sweep, golden = bench_options(planned("bench-formats-1b")), bench_options(planned("eval-1b"))

    assert (sweep.command, sweep.clients, sweep.requests, sweep.history_dir) == ("formats", 1, 10, HISTORY)
    assert (sweep.label, sweep.config) == ("email-1b-prompt-formats", "examples/config/ray.1b.json")
    assert sweep.output == ".ray/benchmarks/email-1b-prompt-formats.latest.json"
    assert (golden.command, golden.clients, golden.repeat, golden.history_dir) == ("eval", 1, 1, ".ray/evals/history")
    assert (golden.label, golden.config) == ("email-prompt-families-1b", None)
    assert golden.output == ".ray/evals/email-prompt-families-1b.latest.json"
    assert "/.ray/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


@pytest.mark.parametrize("target", ["bench-email", "bench-formats-1b", "eval-1b", "bench-assert-8gb-1b"])
def test_given_a_gateway_or_a_config_when_measured_then_it_is_that_one(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    running = bench_options(planned(target, "URL=http://box:3000"))
    started = bench_options(planned(target, "CONFIG=/srv/my configs/ray.json", "OPTIONS=--timeout-ms 5"))

    assert (running.url, running.config) == ("http://box:3000", None)
    assert (started.url, started.config, started.timeout_ms) == (None, "/srv/my configs/ray.json", 5)


def test_given_a_version_when_checked_then_it_is_handed_on_and_without_one_the_form_is_told() -> None:
    assert deploy_commands(planned("release-check", "VERSION=1.2.3")) == [["release-check", "1.2.3"]]

    done = make("release-check")
    assert done.returncode != 0
    assert "make release-check VERSION=1.2.3" in done.stdout


def test_the_gate_runs_everything_and_in_the_order_from_cheap_to_dear_faults() -> None:
    plan = planned("gate")
    commands = deploy_commands(plan)

    assert [words[0] for words in commands] == [
        "storage",
        "validate-all",
        "validate",
        *["gateway-smoke"] * 4,
        "smoke",
        "model-stage-smoke",
        "docs-links",
    ]
    modes = [frozenset(words[1:]) for words in commands if words[0] == "gateway-smoke"]
    assert len(set(modes)) == 4
    steps = [plan.index(step) for step in ("compileall", "ruff check", "ruff format --check", "/mypy", "/pytest")]
    assert steps == sorted(steps)
    assert plan.index("/pytest") < plan.index("ray.deploy validate-all")


def test_the_gate_validates_a_public_config_with_a_key() -> None:
    assert (
        "RAY_API_KEYS=smoke python3 -m ray.deploy validate --config examples/config/ray.sub1b.public.json"
        in planned("gate", "PYTHON=python3")
    )


def test_given_a_python_that_is_too_old_when_made_then_the_remedy_is_told(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    old.chmod(0o755)

    done = make("storage", f"PYTHON={old}")

    assert done.returncode != 0
    assert "make PYTHON=python3.12 storage" in done.stdout


NEEDED = {"caddy", "systemd-analyze", "systemd-socket-activate", "git", "curl", "openssl"}
# For machines within the machine, which only root can make.
NEEDED_BY_ROOT = {"ip", "ssh-keygen", "unshare", "useradd"}
SYSTEM_PYTHON = Path("/usr/bin/python3")  # looked for by its path, which no PATH changes


class Machine:
    """A PATH with what `.ci/run` needs, an `apt-get` that does as it is told, and a `make` that only says so."""

    def __init__(self, directory: Path, *, without: str, apt: str) -> None:
        if os.geteuid() == 0 and not SYSTEM_PYTHON.exists():
            pytest.skip(f"needs {SYSTEM_PYTHON}: apt-get install python3")
        self.programs = directory / "bin"
        self.programs.mkdir()
        for name in ("bash", "dirname", "realpath", "timeout", "chmod", "cp"):
            found = shutil.which(name)
            assert found is not None
            (self.programs / name).symlink_to(found)
        for name in (NEEDED | NEEDED_BY_ROOT) - {without}:
            self.script(name, "exit 0")
        self.script("make", 'echo "made $*"')
        self.script("apt-get", apt)

    def script(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(f"#!{shutil.which('bash')}\n{text}\n")
        path.chmod(0o755)

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.programs / "bash"), str(ROOT / ".ci/run")],
            env={"PATH": str(self.programs), "BIN": str(self.programs)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


# Installs what `make` here is: any program will do.
INSTALLS = 'case "$*" in *install*) cp "$BIN/make" "$BIN/caddy";; esac'
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root installs packages")


def test_given_every_tool_when_continuous_integration_runs_then_nothing_is_installed(tmp_path: Path) -> None:
    done = Machine(tmp_path, without="nothing", apt="echo asked >&2; exit 1").run()

    assert (done.returncode, done.stdout, done.stderr) == (0, "made test\n", "")


@needs_root
def test_given_a_missing_tool_when_continuous_integration_runs_then_it_is_installed(tmp_path: Path) -> None:
    done = Machine(tmp_path, without="caddy", apt=INSTALLS).run()

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("made test\n")


@needs_root
@pytest.mark.parametrize(
    ("apt", "said"),
    [
        ("exit 100", "the package caddy cannot be had"),
        ("exit 0", "installed, and caddy is still not on PATH"),
    ],
)
def test_given_a_tool_that_cannot_be_had_when_continuous_integration_runs_then_it_fails_clearly_and_at_once(
    apt: str, said: str, tmp_path: Path
) -> None:
    done = Machine(tmp_path, without="caddy", apt=apt).run()

    assert done.returncode == 1
    assert said in done.stderr
    assert "made" not in done.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may install")
def test_given_a_missing_tool_and_no_root_when_continuous_integration_runs_then_the_command_is_told(
    tmp_path: Path,
) -> None:
    done = Machine(tmp_path, without="caddy", apt=INSTALLS).run()

    assert done.returncode == 1
    assert "apt-get install caddy" in done.stderr


WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_job_of_a_workflow_has_a_time_limit_and_no_more_rights_than_it_says(workflow: Path) -> None:
    text = workflow.read_text("utf-8")
    jobs = text.partition("\njobs:\n")[2]
    blocks = re.split(r"^  [a-z][a-z0-9_-]*:$", jobs, flags=re.MULTILINE)[1:]

    assert blocks
    assert all(re.search(r"^    timeout-minutes: [0-9]+$", block, re.MULTILINE) for block in blocks)
    assert re.search(r"^permissions:\n  contents: read\n(?!  )", text, re.MULTILINE)


def test_only_the_quality_workflow_starts_by_itself() -> None:
    for workflow in WORKFLOWS:
        triggers = workflow.read_text("utf-8").partition("\non:")[2].partition("\n\n")[0]
        assert workflow.name == "quality.yml" or not re.search(r"push|pull_request|schedule|release", triggers)


def test_continuous_integration_runs_the_gate_on_every_python_that_is_promised() -> None:
    text = (ROOT / ".github/workflows/quality.yml").read_text("utf-8")
    promised = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text("utf-8"))

    assert re.search(r"^      - run: \.ci/run$", text, re.MULTILINE)
    assert re.findall(r'"(3\.\d+)"', text) == promised


def test_continuous_integration_runs_as_root_what_takes_root() -> None:
    """As anybody else it is skipped, and nobody would notice."""
    text = (ROOT / ".github/workflows/quality.yml").read_text("utf-8")
    (command,) = re.findall(r"run: >-\n((?: {10}.*\n)+)", text)
    run = {path for path in command.split() if path.endswith(".py")}
    tests = (ROOT / "tests/integration").glob("test_*.py")
    takes_root = {str(path.relative_to(ROOT)) for path in tests if "unshare" in path.read_text("utf-8")}

    assert command.split()[:2] == ["sudo", "RAY_REQUIRE_BACKEND=1"]
    assert run == takes_root
