"""`storage`: what is looked at, where, and what counts as too little."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ray.deploy import storage_command
from ray.deploy.storage_command import DEFAULT_PATHS
from ray.host import StorageReading
from tests.deploy.support import run

MIB = 1 << 20


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file system has 2000 MiB free, and a little."""
    monkeypatch.setattr(storage_command, "read_storage", lambda _: StorageReading(2_001 * MIB - 1, 9_000 * MIB, None))


def storage(*arguments: str, **environ: str) -> dict[str, object]:
    """The JSON answer; exit status and `ok` always agree."""
    status, text = run("storage", "--json", *arguments, environ=environ)
    document: dict[str, object] = json.loads(text)
    assert status == (0 if document["ok"] else 1)
    return document


def paths_of(document: dict[str, object]) -> list[str]:
    checks = document["checks"]
    assert isinstance(checks, list)
    return [check["path"] for check in checks]


def test_everything_a_deploy_writes_to_is_looked_at() -> None:
    document = storage()
    assert paths_of(document) == list(DEFAULT_PATHS)
    assert len(DEFAULT_PATHS) == 12
    assert document["minFreeStorageMiB"] == 1024


def test_what_is_not_there_is_looked_at_where_it_will_be(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").touch()
    asked = [tmp_path / "real/a/b", tmp_path / "link/a", tmp_path / "link", tmp_path / "file/a"]
    checks = storage(*(f"--path={path}" for path in asked))["checks"]
    assert checks == [
        {
            "path": str(path),
            "checkPath": str(place),
            **({} if real is None else {"checkRealPath": str(real)}),
            "minFreeStorageMiB": 1024,
            "availableMiB": 2000,
            "ok": True,
        }
        for path, place, real in [
            (asked[0], tmp_path / "real", None),
            (asked[1], tmp_path / "link", tmp_path / "real"),
            (asked[2], tmp_path / "link", tmp_path / "real"),
            (asked[3], tmp_path / "file", None),
        ]
    ]
    _, text = run("storage", *(f"--path={path}" for path in asked), environ={})
    assert f"/link/a (checked {tmp_path}/link -> {tmp_path}/real)" in text
    assert f"/link (resolves to {tmp_path}/real)" in text


@pytest.mark.parametrize(("threshold", "ok"), [("0", True), ("2000", True), ("2001", False)])
def test_free_space_is_rounded_down(threshold: str, ok: bool) -> None:
    assert storage("--path", "/", "--min-free-mib", threshold)["ok"] == ok


def test_too_little_is_named_with_the_remedy() -> None:
    status, text = run("storage", "--path", "/", environ={"RAY_DEPLOY_MIN_FREE_STORAGE_MIB": "5000"})
    assert status == 1
    assert text.startswith("LOW")
    assert "5000 MiB free (env): make room, or lower RAY_DEPLOY_MIN_FREE_STORAGE_MIB." in text


def test_the_threshold_comes_from_option_env_file_environment_default(tmp_path: Path) -> None:
    file = tmp_path / "ray.env"
    file.write_text("RAY_DEPLOY_MIN_FREE_STORAGE_MIB=3\n")
    named = f"--env-file={file}"
    assert storage(named, "--min-free-mib=2", RAY_DEPLOY_MIN_FREE_STORAGE_MIB="4")["minFreeStorageMiB"] == 2
    assert storage(named, RAY_DEPLOY_MIN_FREE_STORAGE_MIB="4")["minFreeStorageMiB"] == 3
    assert storage(RAY_DEPLOY_MIN_FREE_STORAGE_MIB="4")["minFreeStorageMiB"] == 4
    assert storage("--min-free-mib=2", RAY_DEPLOY_MIN_FREE_STORAGE_MIB="bad")["minFreeStorageMiB"] == 2


@pytest.mark.parametrize("text", ["many", "-1", "1048577", "007", "1.5"])
def test_a_bad_threshold_is_named(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("storage", environ={"RAY_DEPLOY_MIN_FREE_STORAGE_MIB": text})[0] == 1
    assert "RAY_DEPLOY_MIN_FREE_STORAGE_MIB" in capsys.readouterr().err
    assert run("storage", f"--min-free-mib={text}", environ={})[0] == 2


def test_the_env_file_adds_its_paths_in_order(tmp_path: Path) -> None:
    file = tmp_path / "ray.env"
    file.write_text(
        "RAY_MODEL_SOURCE_PATH=model.gguf\nRAY_LLAMA_CPP_BINARY_SOURCE_PATH=/tmp/llama-server\n"
        "RAY_ASYNC_QUEUE_STORAGE_DIR=/var/lib/ray/async-queue\nRAY_LLAMA_CPP_BINARY_PATH=/usr/local/bin/llama-server\n"
        'RAY_MODEL_PATH=" "\nRAY_LLAMA_CPP_MODEL_PATH=/var/lib/ray/models/a.gguf\nRAY_API_KEYS=a-secret\n'
    )
    document = storage("--env-file", str(file))
    assert paths_of(document)[len(DEFAULT_PATHS) :] == [
        "/var/lib/ray/models/a.gguf",
        "/usr/local/bin/llama-server",
        "/var/lib/ray/async-queue",
        "/tmp/llama-server",
        os.path.join(os.getcwd(), "model.gguf"),
    ]
    assert "a-secret" not in json.dumps(document)


def test_named_paths_replace_the_usual_ones_and_the_env_files(tmp_path: Path) -> None:
    file = tmp_path / "ray.env"
    file.write_text("RAY_MODEL_PATH=relative\nRAY_DEPLOY_MIN_FREE_STORAGE_MIB=77\n")
    document = storage("--env-file", str(file), "--path", "/tmp")
    assert paths_of(document) == ["/tmp"]
    assert document["minFreeStorageMiB"] == 77


def test_a_relative_path_of_the_service_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ray.env"
    file.write_text("RAY_MODEL_PATH=models/a.gguf\n")
    assert run("storage", "--env-file", str(file), environ={})[0] == 1
    assert "RAY_MODEL_PATH must be an absolute path" in capsys.readouterr().err


def test_twenty_paths_are_the_most() -> None:
    assert storage(*(f"--path=/tmp/{number}" for number in range(20)))["ok"]
    assert run("storage", *(f"--path=/tmp/{number}" for number in range(21)), environ={})[0] == 2


@pytest.mark.parametrize("path", ["relative", "", " /a", "/a\nb"])
def test_a_bad_path_is_wrong_usage(path: str) -> None:
    assert run("storage", f"--path={path}", environ={})[0] == 2


def test_a_path_that_does_not_answer_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert run("storage", "--path", f"{tmp_path}/loop/a", environ={})[0] == 1
    assert "cannot be looked at" in capsys.readouterr().err


def test_a_file_system_without_figures_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_command, "read_storage", lambda _: None)
    assert run("storage", "--path", "/", environ={})[0] == 1
