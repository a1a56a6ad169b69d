"""The prefix bench with a real model: everything it shows is measured, and restored prefixes change no text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.integration.conftest import Backend

ROOT = Path(__file__).parents[2]


def test_a_quick_run_restores_prefixes_and_answers_with_equal_texts(backend: Backend) -> None:
    options = ["--llama-server", str(backend.binary), "--model", str(backend.model)]
    run = subprocess.run(
        [sys.executable, "-m", "ray.bench", "prefix", "--quick", "--json", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    rows = {row["id"]: row for row in document["rows"]}
    assert [name for name, row in rows.items() if "value" not in row] == []
    assert rows["other_texts"]["value"] == 0
    through = {one["pass"]: one for one in document["passes"] if one["side"] == "ray"}
    # Every family was seen before the restart, so none of its prefixes is read again after it.
    assert {request["prefix"] for request in through["restarted"]["requests"]} <= {"restored", "hot"}
    for one in document["passes"]:
        assert 0 <= one["reusedShare"] < 1
        assert one["backendPromptSeconds"] > 0
