"""Readings of the machine. What cannot be read is absent; what a figure means is decided elsewhere."""

# The values are named tuples, not dataclasses: eight dataclasses would cost as much start-up time as the event loop.
from ray.host.cgroup import CgroupCpu, CgroupMemory, CgroupReader, CgroupReading, MemoryEvents
from ray.host.disk import DiskThread
from ray.host.process import ProcessReading, available_cpus, read_process, read_rss_bytes
from ray.host.psi import Psi, PsiReader, Stall
from ray.host.storage import StorageReading, read_storage

TYPE_CHECKING = False  # for type checkers it is true by its name; importing `typing` for it would cost 5 ms
if TYPE_CHECKING:
    from ray.host.systemd import ServiceManager, take_service_manager

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
    "ServiceManager",
    "Stall",
    "StorageReading",
    "available_cpus",
    "read_process",
    "read_rss_bytes",
    "read_storage",
    "take_service_manager",
]

_OF_SERVICES = frozenset({"ServiceManager", "take_service_manager"})


if not TYPE_CHECKING:  # who was not started by a service manager never loads the code for talking to one

    def __getattr__(name: str) -> object:
        if name not in _OF_SERVICES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from ray.host import systemd

        return getattr(systemd, name)
