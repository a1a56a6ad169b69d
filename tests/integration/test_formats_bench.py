"""The sweep of prompt formats and the eval with a real model: what the config says is what the answers name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.integration.backend import LlamaServerProcess, llama_cpp_config

ROOT = Path(__file__).parents[2]
ITEMS: list[dict[str, object]] = [
    {
        "templateId": "email.reply_rewrite.v1",
        "templateVariables": {"rewriteGoal": "calm", "replyText": "No. Never ask again about the delivery date."},
        "maxTokens": 8,
        "seed": 4,
    },
    {"input": "Name one colour.", "maxTokens": 8, "seed": 5, "benchmark": {"minOutputChars": 1}},
]


def bench(command: str, server: LlamaServerProcess, directory: Path, *more: str) -> dict[str, object]:
    config, workload = directory / "config.json", directory / "w.json"
    config.write_text(json.dumps(llama_cpp_config(server)))
    workload.write_text(json.dumps(ITEMS))
    options = ["--config", str(config), "--workload", str(workload), "--json", *more]
    run = subprocess.run(
        [sys.executable, "-m", "ray.bench", command, *options], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    assert isinstance(document, dict)
    return document


def test_the_gateways_of_a_sweep_write_what_their_configs_say(llama_server: LlamaServerProcess, tmp_path: Path) -> None:
    document = bench("formats", llama_server, tmp_path, "--requests", "4")
    results = document["results"]
    assert isinstance(results, list)
    named = {one["promptFormat"]: one["named"] for one in results}
    natural = {"llama.cpp-template": 2, "prompt-scaffold": 2}
    assert named == {
        "llama.cpp-template": natural,
        "prompt-scaffold": natural,
        "ray-chat-fallback": {"ray-chat-fallback": 4},
    }
    assert document["ownPromptFormat"] in natural
    # Two short answers are no ground to leave what the operator has set.
    assert document["recommendedPromptFormat"] == document["ownPromptFormat"]


def test_an_eval_has_the_figures_of_each_family(llama_server: LlamaServerProcess, tmp_path: Path) -> None:
    families = bench("eval", llama_server, tmp_path, "--repeat", "2")["families"]
    assert isinstance(families, list)
    mail, other = families
    assert (mail["family"], other["family"]) == ("email.reply_rewrite.v1", "other")
    assert mail["promptFormats"] == {"llama.cpp-template": 1, "prompt-scaffold": 1}, "the second one is put together"
    assert other["promptFormats"] == {"llama.cpp-template": 2}
    for family in families:
        assert (family["n"], family["errors"]) == (2, {})
        assert 0 < family["completionTokens"] <= 16
        assert family["promptTokens"] > family["completionTokens"]
