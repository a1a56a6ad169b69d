"""Readings of the machine. What cannot be read is absent; what a figure means is decided elsewhere."""

# The values are named tuples, not dataclasses: eight dataclasses would cost as much start-up time as the event loop.
from ray.host.cgroup import CgroupCpu, CgroupMemory, CgroupReader, CgroupReading, MemoryEvents
from ray.host.disk import DiskThread
from ray.host.process import ProcessReading, available_cpus, read_process, read_rss_bytes
from ray.host.psi import Psi, PsiReader, Stall
from ray.host.storage import StorageReading, read_storage

__all__ = [
    "CgroupCpu",
    "CgroupMemory",
    "CgroupReader",
    "CgroupReading",
    "DiskThread",
    "MemoryEvents",
    "ProcessReading",
    "Psi",
    "PsiReader",
    "Stall",
    "StorageReading",
    "available_cpus",
    "read_process",
    "read_rss_bytes",
    "read_storage",
]
