"""The snapshot directory: private, self-cleaning, and never believed without a digest."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from pathlib import Path

import pytest

from ray.providers.llama_cpp.snapshot_files import (
    DirectoryRefused,
    Snapshot,
    SnapshotFiles,
    snapshot_name,
    unfinished_name,
)

KEY, OTHER = "a" * 64, "b" * 64
DATA = b"keys and values " * 100


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    opened = SnapshotFiles(str(tmp_path / "store"))
    opened.open()
    return opened


def saved(files: SnapshotFiles, key: str = KEY, data: bytes = DATA) -> Snapshot:
    Path(files.directory, unfinished_name(key)).write_bytes(data)
    return files.adopt(key, 7)


def path_of(files: SnapshotFiles, key: str = KEY) -> Path:
    return Path(files.directory, snapshot_name(key))


def test_given_no_directory_when_opened_then_it_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "var" / "lib" / "prefixes"
    old = os.umask(0)
    try:
        inventory = SnapshotFiles(str(directory)).open()
    finally:
        os.umask(old)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert (inventory.snapshots, inventory.removed, inventory.unknown_files) == ((), 0, 0)


def test_given_an_open_directory_that_is_empty_when_opened_then_it_becomes_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    SnapshotFiles(str(tmp_path)).open()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_given_somebodys_open_directory_when_opened_then_it_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(DirectoryRefused, match="chmod 700"):
        SnapshotFiles(str(tmp_path)).open()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_given_a_link_in_place_of_the_directory_when_opened_then_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OSError):  # noqa: PT011 - ELOOP or ENOTDIR, by kernel
        SnapshotFiles(str(tmp_path / "link")).open()


def test_given_a_directory_in_use_when_another_opens_it_then_it_is_refused_until_the_first_has_gone(
    files: SnapshotFiles,
) -> None:
    unfinished = Path(files.directory, unfinished_name(KEY))
    unfinished.write_bytes(b"being written")
    other = SnapshotFiles(files.directory)
    with pytest.raises(DirectoryRefused, match="used by another gateway"):
        other.open()
    assert unfinished.exists()
    files.open()
    files.close()
    other.open()
    assert not unfinished.exists()
    other.close()


def test_given_a_file_system_without_locks_when_opened_then_the_directory_is_used_all_the_same(
    files: SnapshotFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert SnapshotFiles(files.directory).open().snapshots == ()


def test_given_a_saved_snapshot_when_the_process_starts_again_then_it_is_there_and_verified(
    files: SnapshotFiles,
) -> None:
    snapshot = saved(files)
    assert (snapshot.size, snapshot.tokens) == (len(DATA), 7)
    files.close()
    [found] = SnapshotFiles(files.directory).open().snapshots
    assert found.marks is None
    assert files.verified(found) == snapshot
    assert not Path(files.directory, unfinished_name(KEY)).exists()


def test_given_a_crash_between_the_steps_when_opened_then_the_remains_go_and_unknown_files_stay(
    files: SnapshotFiles,
) -> None:
    saved(files)
    directory = Path(files.directory)
    for name in (unfinished_name(OTHER), f"{OTHER}.kv.json", f"{OTHER}.kv.json.part"):
        (directory / name).write_bytes(b"half")
    (directory / f"{'c' * 64}.kv").write_bytes(b"no manifest")
    for name in ("notes.txt", "short.kv", f"{'A' * 64}.kv"):
        (directory / name).write_bytes(b"not ours")
    inventory = files.open()
    assert [snapshot.key for snapshot in inventory.snapshots] == [KEY]
    assert (inventory.removed, inventory.unknown_files) == (1, 3)
    left = {path.name for path in directory.iterdir()}
    assert left == {f"{KEY}.kv", f"{KEY}.kv.json", "notes.txt", "short.kv", f"{'A' * 64}.kv"}


def _truncate(path: Path) -> None:
    os.truncate(path, len(DATA) // 2)


def _replace(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"x" * len(DATA))


def _flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(50)
        file.write(b"\xff")


def _flip_and_set_the_time_back(path: Path) -> None:
    seen = path.stat()
    _flip(path)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [_truncate, _replace, _flip, _flip_and_set_the_time_back, _link, _pipe, Path.unlink])
def test_given_a_file_that_is_not_what_was_saved_when_verified_then_it_is_not_believed(
    files: SnapshotFiles, damage: object
) -> None:
    snapshot = saved(files)
    assert callable(damage)
    damage(path_of(files))
    assert files.verified(snapshot) is None


def test_given_an_intact_file_when_verified_again_then_it_is_not_read_again(
    files: SnapshotFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = saved(files)
    monkeypatch.setattr("ray.providers.llama_cpp.snapshot_files._digest", None)
    assert files.verified(snapshot) == snapshot


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 4000,
        json.dumps({"bytes": len(DATA), "tokens": 7}).encode(),
        json.dumps({"bytes": len(DATA), "tokens": True, "sha256": "0"}).encode(),
        json.dumps({"bytes": len(DATA), "tokens": 0, "sha256": "0"}).encode(),
        json.dumps({"bytes": 1, "tokens": 7, "sha256": "0"}).encode(),
        json.dumps({"bytes": "1600", "tokens": 7, "sha256": "0"}).encode(),
    ],
)
def test_given_a_manifest_that_cannot_be_right_when_opened_then_the_snapshot_is_removed(
    files: SnapshotFiles, manifest: bytes
) -> None:
    saved(files)
    Path(files.directory, f"{KEY}.kv.json").write_bytes(manifest)
    inventory = files.open()
    assert (inventory.snapshots, inventory.removed) == ((), 1)
    assert list(Path(files.directory).iterdir()) == []


def test_given_several_snapshots_when_opened_then_the_least_recently_used_comes_first(files: SnapshotFiles) -> None:
    for age, key in ((30, KEY), (10, OTHER), (20, "c" * 64)):
        saved(files, key)
        os.utime(Path(files.directory, f"{key}.kv.json"), (1_000_000 - age, 1_000_000 - age))
    assert [snapshot.key[0] for snapshot in files.open().snapshots] == ["a", "c", "b"]
    snapshot = files.open().snapshots[0]
    files.verified(snapshot)
    assert [snapshot.key[0] for snapshot in files.open().snapshots] == ["c", "b", "a"]


def test_given_nothing_was_written_when_adopted_then_it_says_so(files: SnapshotFiles) -> None:
    with pytest.raises(FileNotFoundError):
        files.adopt(KEY, 7)


def test_given_a_link_that_was_written_when_adopted_then_it_is_refused(files: SnapshotFiles, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(DATA)
    Path(files.directory, unfinished_name(KEY)).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):  # noqa: PT011 - ELOOP, by name on some systems only
        files.adopt(KEY, 7)


def test_given_a_snapshot_when_deleted_then_both_files_go_and_a_second_time_is_fine(files: SnapshotFiles) -> None:
    saved(files)
    files.delete(KEY)
    files.delete(KEY)
    assert os.listdir(files.directory) == []
