"""Control groups read from recorded trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray.host import CgroupCpu, CgroupMemory, CgroupReader, CgroupReading, MemoryEvents
from tests.host.trees import SERVICE, FakeClock, Tree

MIB = 1024 * 1024


def cpu_stat(throttled: int, periods: int) -> str:
    return f"nr_periods {periods}\nnr_throttled {throttled}\n"


def memory_of(tree: Tree) -> CgroupMemory:
    memory = CgroupReader(tree.root).read().memory
    assert memory is not None
    return memory


def cpu_of(tree: Tree) -> CgroupCpu:
    cpu = CgroupReader(tree.root).read().cpu
    assert cpu is not None
    return cpu


# The files


def test_a_v2_service_is_read_whole(tmp_path: Path) -> None:
    tree = Tree("v2", tmp_path)
    assert CgroupReader(tree.root).read() == CgroupReading(
        CgroupMemory(
            current=760 * MIB,
            high=800 * MIB,
            limit=1000 * MIB,
            swap_current=128 * MIB,
            swap_limit=256 * MIB,
            events=MemoryEvents(high=1, max=0, oom=0, oom_kill=0),
        ),
        CgroupCpu(
            usage_usec=8_421_337,
            user_usec=6_201_000,
            system_usec=2_220_337,
            quota_usec=150_000,
            period_usec=100_000,
            periods=100,
            throttled_periods=60,
            throttled_usec=1_250_000,
        ),
    )


def test_a_v1_container_is_read_from_its_two_hierarchies(tmp_path: Path) -> None:
    tree = Tree("v1", tmp_path)
    assert CgroupReader(tree.root).read() == CgroupReading(
        # memsw is memory and swap together: 120 - 100 MiB used, 1000 - 500 MiB permitted.
        CgroupMemory(current=100 * MIB, limit=500 * MIB, swap_current=20 * MIB, swap_limit=500 * MIB),
        # A quota of -1 is none; 2500000600 ns are 2500001 us.
        CgroupCpu(period_usec=100_000, periods=5_000, throttled_periods=1_000, throttled_usec=2_500_001),
    )


def test_a_group_that_is_gone_is_absent(tmp_path: Path) -> None:
    assert CgroupReader(Tree("missing", tmp_path).root).read() == CgroupReading(None, None)


def test_a_machine_without_cgroups_is_absent(tmp_path: Path) -> None:
    assert CgroupReader(str(tmp_path)).read() == CgroupReading(None, None)


def test_of_malformed_files_only_what_is_well_formed_is_kept(tmp_path: Path) -> None:
    assert CgroupReader(Tree("malformed", tmp_path).root).read() == CgroupReading(
        CgroupMemory(current=MIB), CgroupCpu(quota_usec=100_000)
    )


@pytest.mark.parametrize(
    ("name", "field"),
    [("memory.high", "high"), ("memory.max", "limit"), ("memory.swap.max", "swap_limit")],
)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max\n", None),
        (str(1024**5), None),
        (str(1024**5 - 1), 1024**5 - 1),
        ("9223372036854771712", None),
        ("0", 0),
        (None, None),
    ],
    ids=["max", "1024**5", "just below", "v1's 2**63", "zero", "no file"],
)
def test_a_limit_of_a_pebibyte_or_more_is_no_limit(
    tmp_path: Path, name: str, field: str, text: str | None, expected: int | None
) -> None:
    tree = Tree("v2", tmp_path)
    if text is None:
        tree.remove(f"{SERVICE}/{name}")
    else:
        tree.write(f"{SERVICE}/{name}", text)
    assert getattr(memory_of(tree), field) == expected


def test_without_a_current_figure_there_is_no_memory_reading(tmp_path: Path) -> None:
    tree = Tree("v2", tmp_path)
    tree.write(f"{SERVICE}/memory.current", "1" * (64 * 1024 + 1))
    reading = CgroupReader(tree.root).read()
    assert reading.memory is None
    assert reading.cpu is not None


def test_a_huge_events_file_costs_the_events_only(tmp_path: Path) -> None:
    tree = Tree("v2", tmp_path)
    tree.write(f"{SERVICE}/memory.events", "high 1\n" * 10_000)
    memory = memory_of(tree)
    assert memory.events == MemoryEvents()
    assert memory.current == 760 * MIB


def test_a_v1_limit_below_usage_of_swap_is_floored_at_zero(tmp_path: Path) -> None:
    tree = Tree("v1", tmp_path)
    tree.write("sys/fs/cgroup/memory/docker/4f1e/memory.memsw.usage_in_bytes", "1")
    tree.write("sys/fs/cgroup/memory/docker/4f1e/memory.memsw.limit_in_bytes", "1")
    memory = memory_of(tree)
    assert (memory.swap_current, memory.swap_limit) == (0, 0)


def test_a_v1_group_without_limits_has_no_ratio(tmp_path: Path) -> None:
    tree = Tree("v1", tmp_path)
    for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        tree.write(f"sys/fs/cgroup/memory/docker/4f1e/{name}", "9223372036854771712\n")
    memory = memory_of(tree)
    assert (memory.limit, memory.swap_limit, memory.pressure_ratio) == (None, None, None)


# Ratios


@pytest.mark.parametrize(
    ("memory", "pressure", "swap"),
    [
        (CgroupMemory(760, high=800, limit=1000), 0.95, None),
        (CgroupMemory(760, limit=1000), 0.76, None),
        (CgroupMemory(760, high=0, limit=1000), 0.76, None),
        (CgroupMemory(760), None, None),
        (CgroupMemory(1, limit=3), 0.3333, None),
        (CgroupMemory(1, swap_current=5, swap_limit=10), None, 0.5),
        (CgroupMemory(1, swap_current=5, swap_limit=0), None, None),
        (CgroupMemory(1, swap_current=5), None, None),
        (CgroupMemory(1, swap_limit=5), None, None),
    ],
)
def test_memory_ratios_need_a_limit_and_prefer_the_soft_one(
    memory: CgroupMemory, pressure: float | None, swap: float | None
) -> None:
    assert memory.pressure_ratio == pressure
    assert memory.swap_pressure_ratio == swap


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("150000 100000\n", 1.5),
        ("100000 300000\n", 0.3333),
        ("max 100000\n", None),
        ("100000\n", None),
        ("100000 0\n", None),
        ("", None),
    ],
)
def test_quota_cores_are_quota_by_period(tmp_path: Path, text: str, cores: float | None) -> None:
    tree = Tree("v2", tmp_path)
    tree.write(f"{SERVICE}/cpu.max", text)
    assert cpu_of(tree).quota_cores == cores


# Discovery


def test_the_first_line_that_yields_data_wins(tmp_path: Path) -> None:
    tree = Tree("v2", tmp_path)
    tree.write(
        "proc/self/cgroup",
        "12:memory:/nowhere\n11:cpu,cpuacct:/nowhere\n0::/system.slice/ray-gateway.service\n",
    )
    assert memory_of(tree).current == 760 * MIB
    assert cpu_of(tree).periods == 100


def test_memory_and_cpu_may_come_from_different_versions(tmp_path: Path) -> None:
    tree = Tree("v2", tmp_path)
    tree.write("proc/self/cgroup", "11:cpu,cpuacct:/old\n0::/system.slice/ray-gateway.service\n")
    tree.write("sys/fs/cgroup/cpu/old/cpu.stat", cpu_stat(1, 2))
    assert cpu_of(tree).periods == 2
    assert memory_of(tree).current == 760 * MIB


def test_a_controller_is_matched_by_its_whole_name(tmp_path: Path) -> None:
    tree = Tree("missing", tmp_path)
    tree.write("proc/self/cgroup", "2:cpuacct:/a\n3:memory2:/a\n4:cpuset,name=memory:/a\n")
    tree.write("sys/fs/cgroup/cpu/a/cpu.stat", cpu_stat(1, 2))
    tree.write("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1")
    assert CgroupReader(tree.root).read() == CgroupReading(None, None)


def test_a_path_may_hold_colons(tmp_path: Path) -> None:
    tree = Tree("missing", tmp_path)
    tree.write("proc/self/cgroup", "0::/a:b/c:d\n")
    tree.write("sys/fs/cgroup/a:b/c:d/memory.current", "5")
    assert memory_of(tree).current == 5


def test_a_container_that_sees_its_own_group_as_the_root_is_read(tmp_path: Path) -> None:
    tree = Tree("missing", tmp_path)
    tree.write("proc/self/cgroup", "0::/\n")
    tree.write("sys/fs/cgroup/memory.current", "5")
    assert memory_of(tree).current == 5


@pytest.mark.parametrize(
    "path",
    ["/../outside", "/../../../outside", "/a/../../outside", "/../cgroup-twin", "/..", "/a\rb"],
)
def test_a_path_that_leads_out_of_the_hierarchy_is_dropped(tmp_path: Path, path: str) -> None:
    tree = Tree("missing", tmp_path)
    tree.write("proc/self/cgroup", f"0::{path}\n")
    for directory in ("sys/fs/outside", "outside", "sys/fs/cgroup-twin", "sys/fs", "sys/fs/cgroup/a\rb"):
        tree.write(f"{directory}/memory.current", "5")
    assert CgroupReader(tree.root).read().memory is None


def test_dots_that_stay_inside_are_resolved(tmp_path: Path) -> None:
    tree = Tree("missing", tmp_path)
    tree.write("proc/self/cgroup", "0::/a/../b\n")
    tree.write("sys/fs/cgroup/b/memory.current", "5")
    assert memory_of(tree).current == 5


# Time: the cache and the deltas


class Watched:
    """A reader on a tree with a clock that a test moves."""

    def __init__(self, tmp_path: Path, tree: str = "v2") -> None:
        self.tree = Tree(tree, tmp_path)
        self.clock = FakeClock()
        self.reader = CgroupReader(self.tree.root, self.clock)

    def throttled_ratio_after(self, seconds: float, stat: str) -> float | None:
        self.tree.write(f"{SERVICE}/cpu.stat", stat)
        cpu = self.read_after(seconds).cpu
        assert cpu is not None
        return cpu.throttled_ratio

    def events_after(self, seconds: float, text: str) -> MemoryEvents | None:
        self.tree.write(f"{SERVICE}/memory.events", text)
        memory = self.read_after(seconds).memory
        assert memory is not None
        return memory.recent_events

    def read_after(self, seconds: float) -> CgroupReading:
        self.clock.advance(seconds)
        return self.reader.read()


def test_within_250_ms_the_last_reading_answers(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    first = watched.reader.read()
    watched.tree.write(f"{SERVICE}/memory.current", "1")
    assert watched.read_after(0.249) is first
    later = watched.read_after(0.002).memory
    assert later is not None
    assert later.current == 1


def test_a_failed_reading_is_kept_for_250_ms_too(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "missing")
    assert watched.reader.read().memory is None
    watched.tree.write("sys/fs/cgroup/system.slice/gone.service (deleted)/memory.current", "1")
    assert watched.read_after(0.2).memory is None
    assert watched.read_after(0.1).memory is not None


def test_the_throttled_ratio_is_of_the_periods_since_the_previous_reading(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    assert watched.throttled_ratio_after(0, cpu_stat(60, 100)) is None  # the lifetime ratio says nothing about now
    assert watched.throttled_ratio_after(1, cpu_stat(61, 200)) == 0.01
    assert watched.throttled_ratio_after(1, cpu_stat(61, 200)) is None  # no new periods
    assert watched.throttled_ratio_after(1, cpu_stat(62, 203)) == 0.3333
    assert watched.throttled_ratio_after(1, cpu_stat(10, 300)) is None  # the counter was reset
    assert watched.throttled_ratio_after(1, cpu_stat(10, 20)) is None
    assert watched.throttled_ratio_after(60, cpu_stat(20, 30)) == 1.0
    assert watched.throttled_ratio_after(60.001, cpu_stat(30, 40)) is None  # too long ago to say anything about now
    assert watched.throttled_ratio_after(1, cpu_stat(32, 44)) == 0.5


def test_events_are_counted_since_the_previous_reading(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    assert watched.events_after(0, "high 1\nmax 0\noom 0\noom_kill 0\n") is None
    grown = watched.events_after(1, "high 3\nmax 0\noom 0\n")
    assert grown == MemoryEvents(high=2, max=0, oom=0, oom_kill=None)
    assert grown.any
    quiet = watched.events_after(1, "high 3\nmax 0\noom 0\noom_kill 4\n")
    assert quiet == MemoryEvents(high=0, max=0, oom=0, oom_kill=None)
    assert not quiet.any
    reset = watched.events_after(1, "high 1\nmax 0\noom 0\noom_kill 5\n")
    assert reset == MemoryEvents(high=None, max=0, oom=0, oom_kill=1)
    assert watched.events_after(60.001, "high 9\n") is None


def test_recent_events_stay_with_the_reading_while_it_is_cached(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.events_after(0, "high 1\n")
    watched.events_after(1, "high 3\n")
    assert watched.events_after(0.2, "high 3\n") == MemoryEvents(high=2)


def test_a_failed_reading_clears_the_base_of_the_deltas(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.read_after(0)
    watched.tree.write("proc/self/cgroup", "")
    assert watched.read_after(1) == CgroupReading(None, None)
    watched.tree.write("proc/self/cgroup", "0::/system.slice/ray-gateway.service\n")
    assert watched.events_after(1, "high 9\n") is None
    assert watched.throttled_ratio_after(0, cpu_stat(70, 200)) is None
