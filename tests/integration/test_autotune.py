"""A short search with a real `llama-server` and a real model: it ends, and what it recommends loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ray.config import load_config
from tests.integration.conftest import Backend

ROOT = Path(__file__).parents[2]


def test_a_short_search_measures_launch_profiles_and_schedulers_and_proves_what_it_recommends(
    backend: Backend, tmp_path: Path
) -> None:
    source, target, workload = tmp_path / "ray.json", tmp_path / "tuned.json", tmp_path / "workload.jsonl"
    launch = {
        "binaryPath": str(backend.binary),
        "modelPath": str(backend.model),
        "ctxSize": 2048,
        "parallel": 1,
        "threads": 1,
    }
    model = {"id": "small", "adapter": {"modelRef": "small", "launchProfile": launch}}
    # One slot and one place for two clients: there is something to find, whatever this machine is doing meanwhile.
    document = {"profile": "sub1b", "model": model, "scheduler": {"concurrency": 1, "maxInflightTokens": 2048}}
    source.write_text(json.dumps(document))
    workload.write_text(
        "".join(json.dumps({"input": f"Name a colour, number {n}.", "maxTokens": 8}) + "\n" for n in range(3))
    )
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "ray.bench", "autotune", "--json", "--config", str(source), "--write", str(target)),
            *("--workload", str(workload), "--clients", "2", "--requests", "3", "--turns", "1"),
            *("--launch-candidates", "2", "--max-candidates", "2"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    tried = found["launchResults"] + found["schedulerResults"]
    assert (len(found["launchResults"]), len(found["schedulerResults"])) == (2, 2)
    assert found["launchResults"][0]["outcome"] == "ranked"
    # With other tests beside it any but the first may look far too slow, and be given up.
    assert {one["outcome"] for one in tried} <= {"ranked", "cut off"}
    assert all(one["summary"]["errorRate"] == 0 for one in tried if one["outcome"] == "ranked")
    assert found["notes"][-1].startswith("memory for llama-server: ")
    assert not found["notes"][-1].endswith("cannot be told")
    # Six answers are too few to prove anything by, and it is not pretended that they are enough.
    assert found["recommendedPatch"] == {}
    assert load_config(str(target), {}, ".").config == load_config(str(source), {}, ".").config
