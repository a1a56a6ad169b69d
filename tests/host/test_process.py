"""The process's own figures, from the real kernel and from recorded files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ray.host import available_cpus, read_process, read_rss_bytes

ROOT = Path(__file__).resolve().parents[2]

PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1024 * 1024


def write(root: Path, name: str, text: str) -> None:
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self" / name).write_text(text)


def test_resident_memory_follows_what_the_process_holds() -> None:
    before = read_rss_bytes()
    held = bytearray(os.urandom(1) * (64 * MIB))
    during = read_rss_bytes()
    del held
    assert during - before > 48 * MIB
    # The present, not the peak.
    assert read_rss_bytes() < during - 48 * MIB


def test_memory_is_counted_in_pages(tmp_path: Path) -> None:
    write(tmp_path, "statm", "300 200 50 1 0 100 0\n")
    reading = read_process(str(tmp_path))
    assert (reading.rss_bytes, reading.virtual_bytes) == (200 * PAGE, 300 * PAGE)


@pytest.mark.parametrize("statm", ["", "300", "a b c", "300 -2"])
def test_memory_that_cannot_be_read_is_zero(tmp_path: Path, statm: str) -> None:
    write(tmp_path, "statm", statm)
    assert read_rss_bytes(str(tmp_path)) == 0


def test_without_proc_everything_the_kernel_alone_knows_is_absent(tmp_path: Path) -> None:
    reading = read_process(str(tmp_path))
    assert (reading.rss_bytes, reading.virtual_bytes) == (0, None)
    assert (reading.open_fds, reading.started_at) == (None, None)
    assert reading.cpu_user_seconds > 0


def test_an_opened_file_is_one_more_descriptor() -> None:
    # In a process of its own: here a server of an earlier test may still be closing its sockets.
    program = (
        "import os\n"
        "from ray.host import read_process\n"
        "before = read_process().open_fds\n"
        "os.open(os.devnull, os.O_RDONLY)\n"
        "print(read_process().open_fds - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_the_start_lies_in_the_past_and_a_step_of_the_wall_clock_does_not_move_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = read_process().started_at
    now = time.time()
    assert first is not None
    assert now - 86_400 < first <= now
    monkeypatch.setattr(time, "time", lambda: now + 3_600)
    assert read_process().started_at == first


def test_the_start_is_found_after_a_command_name_with_spaces_and_parentheses(tmp_path: Path) -> None:
    ticks = int((time.clock_gettime(time.CLOCK_BOOTTIME) - 100) * os.sysconf("SC_CLK_TCK"))
    middle = " ".join(["S", *["0"] * 18])
    write(tmp_path, "stat", f"42 (odd) name (x) {middle} {ticks} 0 0\n")
    started = read_process(str(tmp_path)).started_at
    assert started is not None
    assert abs(time.time() - 100 - started) < 30


@pytest.mark.parametrize("stat", ["", "42 name S 0", "42 (name) S 0 0"])
def test_a_start_that_cannot_be_read_is_absent(tmp_path: Path, stat: str) -> None:
    write(tmp_path, "stat", stat)
    assert read_process(str(tmp_path)).started_at is None


def test_the_cpus_are_those_this_process_may_use() -> None:
    assert available_cpus() == len(os.sched_getaffinity(0))
