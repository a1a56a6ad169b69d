"""Swap as /proc tells it, and files in its place that tell nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray.deploy.swap import MEMINFO_CAP_BYTES, read_swap

MEMINFO = "MemTotal:        3915776 kB\nSwapTotal:       1048572 kB\nSwapFree:         524287 kB\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    meminfo, swappiness = tmp_path / "meminfo", tmp_path / "swappiness"
    meminfo.write_text(MEMINFO)
    swappiness.write_text("10\n")
    return meminfo, swappiness


def test_figures_are_rounded_down_to_mib(files: tuple[Path, Path]) -> None:
    swap = read_swap(*map(str, files))

    assert (swap.status, swap.total_mib, swap.free_mib, swap.swappiness) == ("available", 1023, 511, 10)


def test_no_swap_is_missing(files: tuple[Path, Path]) -> None:
    files[0].write_text("SwapTotal: 0 kB\nSwapFree: 0 kB\n")

    assert read_swap(*map(str, files)).status == "missing"


@pytest.mark.parametrize("text", ["MemTotal: 1 kB\n", MEMINFO + " " * MEMINFO_CAP_BYTES, "SwapTotal: 5 kB\n", "\udcff"])
def test_unusable_figures_leave_the_swappiness(files: tuple[Path, Path], text: str) -> None:
    files[0].write_text(text, errors="surrogateescape")
    swap = read_swap(*map(str, files))

    assert (swap.status, swap.swappiness) == ("unreadable", 10)
    assert swap.error


@pytest.mark.parametrize("text", ["", "-1", "ten", "60 60", "1" * 2000])
def test_an_unusable_swappiness_leaves_the_figures(files: tuple[Path, Path], text: str) -> None:
    files[1].write_text(text)
    swap = read_swap(*map(str, files))

    assert (swap.swappiness, swap.total_mib) == (None, 1023)
    assert swap.swappiness_error


def test_missing_files_do_not_raise() -> None:
    swap = read_swap("/nowhere/meminfo", "/nowhere/swappiness")

    assert (swap.status, swap.swappiness) == ("unreadable", None)
