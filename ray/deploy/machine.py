"""This machine, as far as plans depend on it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

from ray.types import MIB

# The names that launch presets use.
_ARCHITECTURES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Machine:
    """`memory_mib`: physical memory, rounded down. `cpu_count`: the processors this process may use."""

    memory_mib: int
    cpu_count: int
    architecture: str


def read_machine() -> Machine:
    """The machine this process runs on."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    name = platform.machine()
    return Machine(max(1, memory_bytes // MIB), max(1, len(os.sched_getaffinity(0))), _ARCHITECTURES.get(name, name))
