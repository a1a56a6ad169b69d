"""`model-stage-smoke`: every public config can be staged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.deploy.support import EXAMPLES, ROOT, run

PUBLIC = sorted(EXAMPLES.glob("*.public.json"))


def test_every_public_config_can_be_staged() -> None:
    status, text = run("model-stage-smoke", "--cwd", str(ROOT), "--json")
    summary = json.loads(text)
    assert status == 0
    assert {key: summary[key] for key in ("ok", "configCount", "stagedCount", "errorCount")} == {
        "ok": True,
        "configCount": len(PUBLIC),
        "stagedCount": len(PUBLIC),
        "errorCount": 0,
    }
    assert {result["commandCount"] for result in summary["results"]} == {10}
    assert [result["configPath"] for result in summary["results"]] == [
        f"examples/config/{path.name}" for path in PUBLIC
    ]


def test_nothing_of_the_environment_leaks_in() -> None:
    plain = run("model-stage-smoke", "--cwd", str(ROOT), "--json")
    environ = {"RAY_DEPLOY_MEMORY_MIB": "1", "RAY_MODEL_PATH": "relative", "RAY_LLAMA_CPP_CTX_SIZE": "not-a-number"}
    assert run("model-stage-smoke", "--cwd", str(ROOT), "--json", environ=environ) == plain


def test_a_config_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    shutil.copy(PUBLIC[0], tmp_path / "good.public.json")
    shutil.copy(EXAMPLES / "ray.tiny.json", tmp_path / "mock.public.json")
    (tmp_path / "broken.public.json").write_text("{")
    (tmp_path / "link.public.json").symlink_to(PUBLIC[0])  # does not count
    status, text = run("model-stage-smoke", "--cwd", str(tmp_path), "--config-dir", ".", "--json")
    summary = json.loads(text)
    assert status == 1
    assert (summary["configCount"], summary["stagedCount"], summary["errorCount"]) == (3, 1, 2)
    assert "launchProfile" in summary["results"][2]["errorMessage"]
    status, text = run("model-stage-smoke", "--cwd", str(tmp_path), "--config-dir=.")
    assert status == 1
    assert "1 of 3 configs can be staged" in text


def test_a_directory_outside_the_working_directory_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("model-stage-smoke", "--cwd", str(tmp_path), "--config-dir", str(EXAMPLES))[0] == 1
    assert "must lie inside" in capsys.readouterr().err
