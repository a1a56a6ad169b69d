"""The whole story of the prefix bench: with a fake server as a program, and that nothing of it stays behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ray.bench.budgets.prefix_bench import COLD, PASSES, RESTARTED, STEADY, pass_turn, sides_in_turn

ROOT = Path(__file__).parents[3]


@pytest.fixture
def fake_program(tmp_path: Path) -> Path:
    program = tmp_path / "llama-server"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m tests.bench.fake_llama_program "$@"\n'
    )
    program.chmod(0o755)
    return program


def test_each_pass_of_each_round_asks_other_questions() -> None:
    turns = [pass_turn(turn, name) for turn in range(4) for name in PASSES]
    assert len(set(turns)) == 12


def test_the_sides_swap_their_order_from_round_to_round() -> None:
    even, odd = ([side.id for side in sides_in_turn(turn, store=True)] for turn in (0, 1))
    assert even == ["direct_0", "direct_512", "ray"]
    assert odd == even[::-1]


@pytest.mark.integration
def test_a_quick_run_asks_every_side_in_every_pass_and_draws_it(fake_program: Path, tmp_path: Path) -> None:
    model, plot = tmp_path / "model.gguf", tmp_path / "plot.svg"
    model.write_bytes(b"GGUF")
    options = ["--llama-server", str(fake_program), "--model", str(model), "--plot", str(plot), "--no-store"]
    run = subprocess.run(
        [sys.executable, "-m", "ray.bench", "prefix", "--quick", "--json", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    assert [(one["side"], one["pass"]) for one in document["passes"]] == [
        ("direct_0", COLD),
        ("direct_512", COLD),
        ("ray", COLD),
        ("direct_0", STEADY),
        ("direct_512", STEADY),
        ("ray", STEADY),
        ("direct_512", RESTARTED),
        ("ray", RESTARTED),
    ]
    families = [[request["family"] for request in one["requests"]] for one in document["passes"]]
    assert families[0] == families[1] == families[2]
    assert families[3] == families[4] == families[5]
    assert families[6] == families[7]
    for one in document["passes"]:
        assert len(one["requests"]) == document["plan"]["requests"]
        assert one["answerTokens"] == 4 * len(one["requests"])
        assert one["tokensPerSecond"] > 0
    assert len(document["pairs"]) == document["plan"]["pairs"]
    assert plot.read_text().count("<circle") == 1 + 3 * document["plan"]["requests"]
    assert str(tmp_path) not in run.stdout


@pytest.mark.integration
def test_a_server_that_does_not_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    program, model = tmp_path / "llama-server", tmp_path / "model.gguf"
    program.write_text("#!/bin/sh\necho no such model >&2\nexit 3\n")
    program.chmod(0o755)
    model.write_bytes(b"GGUF")
    run = subprocess.run(
        [sys.executable, "-m", "ray.bench", "prefix", "--llama-server", str(program), "--model", str(model)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert "llama-server ended by itself with exit code 3:\nno such model" in run.stderr
