"""Free space, asked from the real file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ray.host import read_storage


def test_the_file_system_under_a_directory_is_asked(tmp_path: Path) -> None:
    reading = read_storage(str(tmp_path))
    stat = os.statvfs(tmp_path)
    assert reading is not None
    assert reading.total_bytes == stat.f_blocks * stat.f_frsize
    assert 0 < reading.available_bytes <= reading.total_bytes


def test_it_is_the_space_an_unprivileged_process_has(monkeypatch: pytest.MonkeyPatch) -> None:
    # 1000 blocks of 4 KiB, 100 free, 40 of those kept for root; blocks are counted in f_frsize, not f_bsize.
    values = (65_536, 4_096, 1_000, 100, 60, 0, 0, 0, 0, 255)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(values))
    reading = read_storage("/anywhere")
    assert reading is not None
    assert reading.available_bytes == 60 * 4_096
    assert reading.available_inodes is None


@pytest.mark.parametrize("directory", ["/nowhere/at/all", "/proc/self/nothing", "a\0b", ""])
def test_a_directory_that_cannot_be_asked_is_absent(directory: str) -> None:
    assert read_storage(directory) is None
