"""Finding the configs of a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray.deploy.config_files import config_files, shown
from ray.deploy.failures import DeployError


def test_regular_files_with_the_ending_sorted(tmp_path: Path) -> None:
    for name in ("b.json", "a.public.json", "c.txt"):
        (tmp_path / name).touch()
    (tmp_path / "d.json").mkdir()
    (tmp_path / "e.json").symlink_to("b.json")
    assert config_files(str(tmp_path), ".") == [str(tmp_path / "a.public.json"), str(tmp_path / "b.json")]
    assert config_files(str(tmp_path), ".", ".public.json") == [str(tmp_path / "a.public.json")]


@pytest.mark.parametrize("directory", ["..", "/etc", "link"])
def test_a_directory_outside_is_refused_also_behind_a_link(tmp_path: Path, directory: str) -> None:
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd/link").symlink_to("/etc")
    with pytest.raises(DeployError, match="must lie inside"):
        config_files(str(tmp_path / "cwd"), directory)


def test_no_config_and_too_many_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="no file named"):
        config_files(str(tmp_path), ".")
    for number in range(129):
        (tmp_path / f"{number}.json").touch()
    with pytest.raises(DeployError, match="more than 128"):
        config_files(str(tmp_path), ".")


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="nowhere cannot be read: No such file"):
        config_files(str(tmp_path), "nowhere")


@pytest.mark.parametrize(
    ("path", "text"), [("/a/b/c", "b/c"), ("/a", "/a"), ("/ab/c", "/ab/c"), ("/x", "/x"), ("/a/b", "b")]
)
def test_paths_are_shown_relative_where_they_lie_inside(path: str, text: str) -> None:
    assert shown(path, "/a") == text
