"""The quarantine: bounded, the oldest go first, what others put there is not touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ray.jobs.directory import close_storage, open_storage
from ray.jobs.disk import RealDisk
from ray.jobs.quarantine import MAX_BYTES, MAX_FILES, HeldFile, Quarantine, evicted, held_name, is_held_name


def held(count: int, size: int = 1) -> list[HeldFile]:
    return [HeldFile(held_name(f"job_{number}.json", number), size) for number in range(count)]


@pytest.mark.parametrize(
    ("files", "incoming", "gone"),
    [
        (held(0), 10, 0),
        (held(MAX_FILES - 1), 10, 0),
        (held(MAX_FILES), 10, 1),
        (held(MAX_FILES + 5), 10, 6),
        (held(8, MAX_BYTES // 8), 1, 1),
        (held(8, MAX_BYTES // 8), MAX_BYTES, 8),
        (held(7, MAX_BYTES // 8), MAX_BYTES // 8, 0),
        (held(3), MAX_BYTES + 1, 3),
    ],
)
def test_given_files_in_quarantine_then_the_oldest_make_room(files: list[HeldFile], incoming: int, gone: int) -> None:
    assert evicted(list(reversed(files)), incoming) == files[:gone]


@pytest.mark.parametrize("name", ["job_1.json", "x" * 250 + ".json", "é" * 120 + ".json", "\udcff.json"])
def test_given_any_file_name_then_its_name_in_quarantine_fits_and_is_known_again(name: str) -> None:
    kept = held_name(name, 1_795_283_514.25)
    assert is_held_name(kept)
    assert len(os.fsencode(kept)) <= 255
    assert kept.startswith("1795283514250-")
    assert kept.endswith(".json")


def test_given_what_an_operator_put_there_then_it_is_neither_counted_nor_removed(tmp_path: Path) -> None:
    disk = RealDisk()
    storage = open_storage(disk, str(tmp_path))
    try:
        (tmp_path / "quarantine" / "notes.txt").write_text("keep")
        for number in range(MAX_FILES):
            (tmp_path / "quarantine" / held_name("old.json", number)).write_text("x")
        (tmp_path / "jobs" / "bad.json").write_text("no record")
        quarantine = Quarantine(disk, storage)
        quarantine.look()
        assert (quarantine.files, quarantine.size) == (MAX_FILES, MAX_FILES)
        assert quarantine.take("bad.json", 5_000_000.0)
        assert quarantine.files == MAX_FILES
    finally:
        close_storage(disk, storage)
    names = os.listdir(tmp_path / "quarantine")
    assert len(names) == MAX_FILES + 1
    assert "notes.txt" in names
    assert held_name("old.json", 0) not in names
    assert held_name("bad.json", 5_000_000.0) in names
