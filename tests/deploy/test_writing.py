"""Files are there whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ray.deploy.writing import write_file


def test_a_file_is_replaced_and_nobody_else_may_write_it(tmp_path: Path) -> None:
    target = tmp_path / "Caddyfile"
    target.write_text("old")
    target.chmod(0o666)
    before = os.umask(0)
    try:
        assert write_file(str(tmp_path), "Caddyfile", "new \u00e4\n") == str(target)
    finally:
        os.umask(before)
    assert target.read_text("utf-8") == "new \u00e4\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["Caddyfile"]


def test_the_umask_counts(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_file(str(tmp_path), "x", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


def test_a_link_is_replaced_and_what_it_points_at_is_left_alone(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "x").symlink_to(victim)
    write_file(str(tmp_path), "x", "new")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "x").is_symlink()


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    (tmp_path / "x").write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"os.{step}", fail)
    with pytest.raises(OSError, match="No space"):
        write_file(str(tmp_path), "x", "new")
    assert (tmp_path / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(str(tmp_path / "none"), "x", "")
