"""Whether a launch candidate's llama-server fits into this machine's memory, beside the system and the gateway.

Divided as the deployed units divide it: a fifth of the memory, and at least 768 MiB, stays with the system; the gateway
may use 384 MiB more than the threshold at which it begins to shorten answers; llama-server gets the rest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ray.bench.processes.process import MeasurementError
from ray.bench.tune.space import launch_profile_of
from ray.config import Config
from ray.host import CgroupReader
from ray.providers import model_memory
from ray.types import MIB

SMALLEST_RESERVE_MIB = 768
RESERVE_DIVISOR = 5
GATEWAY_ABOVE_THRESHOLD_MIB = 384


@dataclass(frozen=True, slots=True)
class MemoryRoom:
    """MiB: of the machine or of the control group that this runs in, whichever is less, and what is kept of it."""

    whole_mib: int
    system_mib: int
    gateway_mib: int

    @property
    def backend_mib(self) -> int:
        """What is left for llama-server."""
        return max(0, self.whole_mib - self.system_mib - self.gateway_mib)

    def refusal(self, need_mib: int | None) -> str | None:
        """Why so much does not fit; None when it does, or when nobody can say how much it is."""
        if need_mib is None or need_mib <= self.backend_mib:
            return None
        return (
            f"does not fit: needs {need_mib} MiB of {self.backend_mib} MiB ({self.whole_mib} less {self.system_mib} "
            f"for the system and {self.gateway_mib} for the gateway)"
        )

    def document(self) -> dict[str, int]:
        return {
            "wholeMiB": self.whole_mib,
            "systemMiB": self.system_mib,
            "gatewayMiB": self.gateway_mib,
            "backendMiB": self.backend_mib,
        }


def divided(whole_mib: int, config: Config) -> MemoryRoom:
    """So much memory, divided for this config."""
    return MemoryRoom(
        whole_mib,
        max(SMALLEST_RESERVE_MIB, -(-whole_mib // RESERVE_DIVISOR)),
        config.graceful_degradation.memory_rss_threshold_mib + GATEWAY_ABOVE_THRESHOLD_MIB,
    )


def machine_memory_mib(root: str = "") -> int:
    """The machine's memory, or the control group's limit where that is less. `root`: put before the group's paths."""
    try:
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError) as error:
        raise MeasurementError(f"cannot tell how much memory this machine has: {error}") from error
    memory = CgroupReader(root).read().memory
    limit = None if memory is None else memory.limit
    return min(whole, limit or whole) // MIB


def needed_mib(config: Config) -> int | None:
    """What llama-server needs at most with the config's model and launch profile; None when that cannot be told: no
    model file that can be read, or a prompt cache without limit."""
    launch = launch_profile_of(config)
    if launch is None:
        return None
    memory = model_memory(launch.model_path, launch, config.prefix_store)
    return None if memory is None else memory.total_mib
