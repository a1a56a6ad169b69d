"""A machine made of files: a service of 800 MiB in a recorded tree, whose figures a test sets."""

from __future__ import annotations

from pathlib import Path

from ray.runtime import HostPressure
from tests.host.trees import SERVICE, FakeClock, Tree

MIB = 1024 * 1024
CALM_STALLS = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


class Machine:
    """The service and its counters, calm at first; every figure that is set lets a quarter of a second pass."""

    def __init__(self, directory: Path) -> None:
        self.tree = Tree("v2", directory)
        self.clock = FakeClock()
        self.throttled = self.periods = 0
        self.host = HostPressure(self.tree.root, self.clock)
        self.memory(400)
        self.events(high=1)
        self.run(periods=100, throttled=0)
        self.stalls("memory", CALM_STALLS)
        self.stalls("cpu", CALM_STALLS)

    def memory(self, mib: int) -> None:
        self._write(f"{SERVICE}/memory.current", f"{mib * MIB}\n")

    def swap(self, mib: int) -> None:
        """Of 256 MiB."""
        self._write(f"{SERVICE}/memory.swap.current", f"{mib * MIB}\n")

    def events(self, high: int) -> None:
        self._write(f"{SERVICE}/memory.events", f"high {high}\nmax 0\noom 0\noom_kill 0\n")

    def run(self, periods: int, throttled: int) -> None:
        """So many quota periods pass, and in some of them the service is throttled."""
        self.periods += periods
        self.throttled += throttled
        self._write(f"{SERVICE}/cpu.stat", f"nr_periods {self.periods}\nnr_throttled {self.throttled}\n")

    def stalls(self, resource: str, text: str) -> None:
        self._write(f"proc/pressure/{resource}", text)

    def resident(self, mib: int) -> None:
        pages = mib * MIB // 4096
        self._write("proc/self/statm", f"{pages * 2} {pages} 0 0 0 0 0\n")

    def _write(self, path: str, text: str) -> None:
        self.tree.write(path, text)
        self.clock.advance(0.25)
