"""`autotune` as a command: usage, and whole searches with real processes."""

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
from ray.bench.run.workload_file import load_workload
from ray.bench.tune.command import is_full_scope, task_of
from ray.config import config_from_mapping, load_config
from tests.bench.polling import until

ROOT = Path(__file__).parents[3]
TINY = str(ROOT / "examples/config/ray.tiny.json")
SUB1B = str(ROOT / "examples/config/ray.sub1b.json")


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--config", TINY, "--scope", "full"],
        ["--config", TINY, "--scope", "half"],
        ["--config", TINY, "--max-candidates", "257"],
        ["--config", TINY, "--autotune-max-candidates", "0"],
        ["--config", TINY, "--clients", "65"],
        ["--config", TINY, "--requests", "2.5"],
        ["--config", TINY, "--turns", "0"],
        ["--config", TINY, "--time-limit-s", "-1"],
        ["--config", TINY, "--backend-env", "NAME"],
        ["--config", TINY, "--force"],
        ["--config", TINY, "--write", TINY],
        ["--config", TINY, "--write", TINY, "--force"],
        ["--config", TINY, "--write", SUB1B],
        ["--config", TINY, "--write", str(ROOT)],
    ],
)
def test_wrong_usage_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["autotune", *argv])
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("profile", "scope", "full"),
    [("sub1b", "auto", True), ("sub1b", "full", True), ("sub1b", "gateway", False), ("tiny", "auto", False)],
)
def test_auto_is_full_where_the_config_has_a_launch_profile(profile: str, scope: str, full: bool) -> None:
    assert is_full_scope(scope, config_from_mapping({"profile": profile})) is full


@pytest.mark.parametrize(
    ("given", "requests", "clients", "limits"),
    [
        ([], 12, 1, (64, 8)),
        (["--requests", "5", "--concurrency", "3"], 5, 3, (64, 8)),
        (["--autotune-max-candidates", "9", "--launch-candidates", "2"], 12, 1, (9, 2)),
    ],
)
def test_options_become_a_task(given: list[str], requests: int, clients: int, limits: tuple[int, int]) -> None:
    options = parse_options(["autotune", "--config", TINY, "--autotune-scope", "gateway", *given])
    task = task_of(options, config_from_mapping({"profile": "tiny"}), False, load_workload(None))
    assert (task.requests, task.load.clients, (task.scheduler_limit, task.launch_limit)) == (requests, clients, limits)
    assert len(task.load.answer_limits) == 4


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("absent.json", "absent.json"),
        # A backend that is not running, and one that could not be started.
        (str(ROOT / "examples/config/ray.vps.json"), "start the backend"),
        (SUB1B, "launchProfile.binaryPath"),
    ],
)
def test_what_cannot_work_ends_with_1_before_anything_starts(
    config: str, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.bench.tune.command.backend_answers", lambda config: False)
    assert command.main(["autotune", "--config", config]) == 1
    assert told in capsys.readouterr().err


def run(*argv: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "ray.bench", "autotune", *argv]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.mark.integration
def test_two_clients_get_two_places_and_the_copy_of_the_config_says_so(tmp_path: Path) -> None:
    """The mock takes as long for two as for one, and the config lets one ask at a time: there is something to find, and
    it takes long enough that a busy machine does not hide it."""
    source, target, output = tmp_path / "ray.json", tmp_path / "tuned.json", tmp_path / "report.json"
    document = {"profile": "tiny", "tags": {"box": "mine"}, "model": {"adapter": {"latencyMs": 200}}}
    source.write_text(json.dumps(document))
    ended = run(
        *("--config", str(source), "--clients", "2", "--requests", "4", "--turns", "2", "--max-candidates", "5"),
        *("--write", str(target), "--output", str(output), "--label", "mine", "--history-dir", str(tmp_path / "h")),
    )
    assert ended.returncode == 0, ended.stderr
    document = json.loads(output.read_text())
    assert document["recommendedPatch"]["scheduler"]["concurrency"] == 2
    assert document["comparison"]["better"] is True
    assert document["args"]["scope"] == "gateway"
    assert len(document["schedulerResults"]) == 5
    assert json.loads(ended.stdout[ended.stdout.index("\n{") :]) == document["recommendedPatch"]
    assert load_config(str(target), {}, ".").config.scheduler.concurrency == 2
    assert list(json.loads(target.read_text())) == ["profile", "tags", "model", "scheduler"]
    assert (tmp_path / "h" / "autotune-report.jsonl").read_text().count("\n") == 1
    assert "left" in ended.stderr


@pytest.mark.integration
def test_a_gateway_with_auth_is_asked_with_the_key_of_the_bench(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_BENCHMARK_API_KEY", "key-of-the-bench")
    source = tmp_path / "ray.json"
    source.write_text(json.dumps({"profile": "tiny", "auth": {"enabled": True, "apiKeyEnv": "KEYS_OF_THE_BOX"}}))
    argv = ["--config", str(source), "--requests", "8", "--turns", "1", "--max-candidates", "1", "--json"]
    assert command.main(["autotune", *argv]) == 0
    shown = capsys.readouterr()
    (base,) = json.loads(shown.out)["schedulerResults"]
    assert base["summary"]["errorRate"] == 0
    assert "key-of-the-bench" not in shown.out + shown.err


@pytest.mark.integration
def test_a_full_search_survives_servers_that_do_not_start(tmp_path: Path) -> None:
    """The fake server starts with two slots only: every candidate with another number is recorded and left behind."""
    program, model, source = tmp_path / "llama-server", tmp_path / "model.gguf", tmp_path / "ray.json"
    program.write_text(
        "#!/bin/sh\n"
        'case "$*" in *"--parallel 2"*) ;; *) echo "error: only two slots here" >&2; exit 42 ;; esac\n'
        f'PYTHONPATH="{ROOT}" exec "{sys.executable}" -m tests.bench.fake_llama_program "$@"\n'
    )
    program.chmod(0o755)
    model.write_bytes(b"GGUF")
    launch = {"binaryPath": str(program), "modelPath": str(model)}
    source.write_text(json.dumps({"profile": "sub1b", "model": {"adapter": {"launchProfile": launch}}}))
    ended = run(
        *("--config", str(source), "--clients", "2", "--requests", "2", "--turns", "1"),
        *("--launch-candidates", "3", "--max-candidates", "2", "--json"),
    )
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    of_label = {one["label"]: one for one in document["launchResults"]}
    broken = of_label["ctx3072-p1-t2-b256-u128"]
    assert broken["outcome"] == "failed"
    assert "exit code 42" in broken["reason"]
    assert "error: only two slots here" in broken["reason"]
    assert of_label["ctx3072-p2-t2-b256-u128"]["profile"]["parallel"] == 2
    assert len(document["schedulerResults"]) == 2


@pytest.mark.integration
def test_starting_settings_that_fail_end_the_search_with_1(tmp_path: Path) -> None:
    program, model, source = tmp_path / "llama-server", tmp_path / "model.gguf", tmp_path / "ray.json"
    program.write_text("#!/bin/sh\necho 'error: no such model' >&2\nexit 42\n")
    program.chmod(0o755)
    model.write_bytes(b"GGUF")
    launch = {"binaryPath": str(program), "modelPath": str(model)}
    source.write_text(json.dumps({"profile": "sub1b", "model": {"adapter": {"launchProfile": launch}}}))
    ended = run("--config", str(source), "--write", str(tmp_path / "tuned.json"))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "the starting settings (ctx3072-p2-t2-b256-u128) cannot be measured" in ended.stderr
    assert "exit code 42" in ended.stderr
    assert "error: no such model" in ended.stderr
    assert not (tmp_path / "tuned.json").exists()


@pytest.mark.integration
def test_a_stopped_search_tells_its_ranking_and_leaves_nobody_behind(tmp_path: Path) -> None:
    said, place = tmp_path / "stderr", tmp_path / "temporary"
    place.mkdir()
    words = ["--config", TINY, "--clients", "2", "--requests", "2000", "--max-candidates", "4"]
    with said.open("wb") as stderr:
        search = subprocess.Popen(
            [sys.executable, "-m", "ray.bench", "autotune", *words],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(place)},
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    try:
        until(lambda: "2 of 4" in said.read_text() or search.poll() is not None)
        search.send_signal(signal.SIGINT)
        stdout, _ = search.communicate(timeout=60)
    finally:
        search.kill()
    assert (search.returncode, stdout) == (130, b"")
    told = said.read_text()
    assert "(as in the config)" in told
    assert told.endswith("ray.bench: stopped\n")
    assert list(place.iterdir()) == []
    assert processes_about(str(place)) == []


def processes_about(path: str) -> list[str]:
    """The running processes that have this path in their command."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace") if entry.name.isdecimal() else ""
        except OSError:
            continue
        if path in words:
            found.append(words)
    return found
