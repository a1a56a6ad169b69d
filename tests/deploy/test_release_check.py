"""`release-check`: a tree that is ready, and each thing that may be missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ray.version import VERSION
from tests.deploy.support import ROOT, run

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")

PROJECT = """\
[project]
name = "x"
dynamic = ["version"]

[tool.setuptools.dynamic]
version = { attr = "ray.version.VERSION" }
"""


def git(tree: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main")
    subprocess.run(["git", "-C", tree, *identity, *arguments], check=True, capture_output=True, timeout=30)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Ready for 1.2.3."""
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray/version.py").write_text('"""Doc."""\n\nVERSION = "1.2.3"\n')
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 (2026-01-02)\n\n- All.\n\n## 1.2.2 (2026-01-01)\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "All")
    return tmp_path


def errors(tree: Path, version: str = "1.2.3") -> list[str]:
    status, text = run("release-check", version, "--cwd", str(tree), "--json")
    document = json.loads(text)
    found = [finding["code"] for finding in document["diagnostics"] if finding["level"] == "error"]
    assert (status, document["ok"]) == ((1, False) if found else (0, True))
    return found


def commit(tree: Path) -> None:
    git(tree, "commit", "-q", "-a", "-m", "More")


def test_given_a_tree_that_is_ready_when_checked_then_the_command_to_tag_it_is_shown(tree: Path) -> None:
    assert errors(tree) == []

    status, text = run("release-check", "--", "1.2.3", "--cwd", str(tree))
    assert status == 0
    assert text.endswith("Ready: git tag -a v1.2.3 -m 'Ray 1.2.3'\n")


@pytest.mark.parametrize(
    ("file", "text", "code"),
    [
        ("ray/version.py", 'VERSION = "1.2.2"\n', "release_version_mismatch"),
        ("ray/version.py", "VERSION = f()\n", "release_version_mismatch"),
        ("CHANGELOG.md", "# Changelog\n\n## 1.2.2 (2026-01-01)\n\n- All.\n", "release_changelog_missing"),
        ("CHANGELOG.md", "## 1.2.3 (unreleased)\n\n- All.\n", "release_changelog_undated"),
        ("CHANGELOG.md", "## 1.2.3 (2026-01-02)\n\n## 1.2.2 (2026-01-01)\n\n- All.\n", "release_changelog_empty"),
        ("pyproject.toml", PROJECT.replace("dynamic = [", 'version = "1"\ndynamic = ['), "release_packaging_version"),
        ("pyproject.toml", PROJECT.replace("ray.version", "other"), "release_packaging_version"),
        (
            "pyproject.toml",
            PROJECT.replace("dynamic = [", 'dependencies = ["a"]\ndynamic = ['),
            "release_packaging_dependencies",
        ),
        ("pyproject.toml", "[project", "release_packaging_invalid"),
    ],
)
def test_given_a_file_that_is_not_ready_when_checked_then_it_is_named(
    file: str, text: str, code: str, tree: Path
) -> None:
    (tree / file).write_text(text)
    commit(tree)

    assert errors(tree) == [code]


@pytest.mark.parametrize("heading", ["## [1.2.3] - 2026-01-02", "## 1.2.3 (2026-01-02)", "## 1.2.3 - 2026-01-02"])
def test_given_a_heading_as_changelogs_have_them_when_checked_then_it_is_found(heading: str, tree: Path) -> None:
    (tree / "CHANGELOG.md").write_text(f"{heading}\r\n\r\n- All.\r\n")
    commit(tree)

    assert errors(tree) == []


def test_given_changes_when_checked_then_the_tree_is_not_clean(tree: Path) -> None:
    (tree / "new.txt").touch()
    assert errors(tree) == ["release_tree_dirty"]

    (tree / "new.txt").unlink()
    git(tree, "mv", "CHANGELOG.md", "CHANGES.md")
    git(tree, "mv", "CHANGES.md", "CHANGELOG.md")
    assert errors(tree) == []


def test_given_a_tag_of_that_version_when_checked_then_it_is_taken(tree: Path) -> None:
    git(tree, "tag", "v1.2.3")

    assert errors(tree) == ["release_tag_exists"]


def test_given_git_variables_of_another_repository_when_checked_then_they_are_not_followed(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = {"GIT_DIR": str(tmp_path_factory.mktemp("other"))}

    status, _ = run("release-check", "1.2.3", "--cwd", str(tree), environ=elsewhere)

    assert status == 0


def test_given_no_repository_or_no_git_when_checked_then_that_is_said(tree: Path) -> None:
    shutil.rmtree(tree / ".git")

    assert errors(tree) == ["release_git_unusable"]


def test_given_a_directory_without_ray_when_checked_then_the_missing_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("release-check", "1.2.3", "--cwd", str(tmp_path))[0] == 1
    assert "version.py" in capsys.readouterr().err


@pytest.mark.parametrize("version", ["v1.2.3", "1.2", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "1.2.3 ", "", "1" * 70])
def test_given_a_version_that_is_none_when_checked_then_it_is_wrong_usage(version: str, tree: Path) -> None:
    assert run("release-check", version, "--cwd", str(tree))[0] == 2


@pytest.mark.parametrize("version", ["1.2.3-rc.1", "1.2.3+build.5", "1.2.3-0.x-y+z"])
def test_given_a_version_with_more_parts_when_checked_then_it_is_one(version: str, tree: Path) -> None:
    assert errors(tree, version) == ["release_version_mismatch", "release_changelog_missing"]


def test_this_repository_can_be_released_as_far_as_its_files_go() -> None:
    _, text = run("release-check", VERSION, "--cwd", str(ROOT), "--json")
    codes = {finding["code"] for finding in json.loads(text)["diagnostics"] if finding["level"] == "error"}

    # What changes while one works: a date that is not set yet, files that are not committed, a tag that is set.
    assert codes <= {"release_changelog_undated", "release_tree_dirty", "release_tag_exists", "release_git_unusable"}


@pytest.mark.parametrize("name", ["ray/version.py", "pyproject.toml", "CHANGELOG.md"])
def test_given_a_pipe_in_the_place_of_a_file_when_checked_then_it_is_named_and_not_waited_for(
    tree: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / name).unlink()
    os.mkfifo(tree / name)

    assert run("release-check", "1.2.3", "--cwd", str(tree)) == (1, "")

    assert f"{tree / name} is no regular file" in capsys.readouterr().err
