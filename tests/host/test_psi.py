"""Pressure stall information read from recorded trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray.host import Psi, PsiReader, Stall
from ray.host.psi import parse_psi
from tests.host.trees import FakeClock, Tree


def test_memory_and_cpu_are_read_whole(tmp_path: Path) -> None:
    tree = Tree("v2", tmp_path)
    assert PsiReader("memory", tree.root).read() == Psi(
        some=Stall(12.34, 3.45, 0.67, 4_125_572), full=Stall(1.0, 0.5, 0.1, 1_888_436)
    )
    assert PsiReader("cpu", tree.root).read() == Psi(
        some=Stall(51.0, 20.1, 5.02, 98_765_432), full=Stall(0.0, 0.0, 0.0, 0)
    )


def test_of_malformed_lines_only_what_is_well_formed_is_kept(tmp_path: Path) -> None:
    tree = Tree("malformed", tmp_path)
    assert PsiReader("memory", tree.root).read() is None
    assert PsiReader("cpu", tree.root).read() == Psi(some=Stall(avg10=7.01, total_usec=12))


def test_a_kernel_without_psi_is_absent(tmp_path: Path) -> None:
    assert PsiReader("memory", Tree("v1", tmp_path).root).read() is None


def test_a_huge_memory_file_leaves_cpu_readable(tmp_path: Path) -> None:
    tree = Tree("v2", tmp_path)
    tree.write("proc/pressure/memory", "some avg10=1.00\n" + "x" * (64 * 1024))
    assert PsiReader("memory", tree.root).read() is None
    assert PsiReader("cpu", tree.root).read() is not None


@pytest.mark.parametrize(
    ("text", "avg10"),
    [
        ("0.00", 0.0),
        ("100", 100.0),
        ("100.00", 100.0),
        ("7.006", 7.01),
        ("100.01", None),
        ("-1.00", None),
        ("nan", None),
        ("inf", None),
        ("1e1", None),
        ("1_0", None),
        ("1.", None),
        (".5", None),
        ("٣.0", None),
        ("1.2.3", None),
        ("0." + "1" * 40, None),
        ("", None),
    ],
)
def test_an_average_is_a_plain_decimal_from_0_to_100(text: str, avg10: float | None) -> None:
    assert parse_psi(f"some avg10={text} total=1") == Psi(some=Stall(avg10=avg10, total_usec=1))


def test_a_kernel_that_offers_only_some_has_no_full() -> None:
    # Before Linux 5.13 /proc/pressure/cpu had one line.
    assert parse_psi("some avg10=1.00 avg60=0.00 avg300=0.00 total=5\n") == Psi(some=Stall(1.0, 0.0, 0.0, 5))


@pytest.mark.parametrize("text", ["", "\n\n", "nothing here", "some", "full avg10", "something avg10=1.00"])
def test_a_text_that_says_nothing_is_absent(text: str) -> None:
    assert parse_psi(text) is None


def test_readings_and_failures_are_kept_for_250_ms(tmp_path: Path) -> None:
    tree, clock = Tree("v1", tmp_path), FakeClock()
    reader = PsiReader("cpu", tree.root, clock)
    assert reader.read() is None
    tree.write("proc/pressure/cpu", "some avg10=1.00\n")
    clock.advance(0.249)
    assert reader.read() is None
    clock.advance(0.001)
    first = reader.read()
    assert first == Psi(some=Stall(avg10=1.0))
    tree.write("proc/pressure/cpu", "some avg10=2.00\n")
    clock.advance(0.2)
    assert reader.read() is first
    clock.advance(0.1)
    assert reader.read() == Psi(some=Stall(avg10=2.0))
