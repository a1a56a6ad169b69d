"""How the memory of one box is divided: the system's reserve, the gateway, and the rest for the backend.

Pure figures, all in MiB (1,048,576 bytes). A fifth of the budget, and at least 768 MiB, stays with the system; the
gateway's limit stands a fixed distance above its own pressure threshold; the backend gets what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ray.config import Config, LaunchProfile, LlamaCppAdapter
from ray.providers import launch_arguments
from ray.types import ceil_mib

SMALLEST_RESERVE_MIB = 768
RESERVE_DIVISOR = 5  # one fifth
GATEWAY_HIGH_ABOVE_THRESHOLD_MIB = 128
GATEWAY_MAX_ABOVE_THRESHOLD_MIB = 384
GATEWAY_SWAP_MIB = 128
GATEWAY_CPU_WEIGHT = 200
SMALLEST_BACKEND_MIB = 512
BACKEND_HIGH_PERCENT = 90
BACKEND_CPU_WEIGHT = 80
# Firmware and kernel keep part of what a provider sells: a "4 GB" box shows 3.7 to 3.9 GiB. The reserve covers it.
SOLD_MEMORY_TOLERANCE_PERCENT = 10
BACKEND_RUNTIME_MIB = 160
SMALL_PRESET_BUDGET_MIB = 4_096
LARGE_PRESET_BUDGET_MIB = 8_192
_LARGE_PRESETS = frozenset({"single-vps-1b-8gb", "single-vps-balanced"})

BudgetSource = Literal["override", "config", "preset", "host"]
Verdict = Literal["exceeded", "tight", "ok"]


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """What one unit may use: `MemoryHigh=`, `MemoryMax=`, `MemorySwapMax=` in MiB, and `CPUWeight=`."""

    high_mib: int
    max_mib: int
    swap_max_mib: int
    cpu_weight: int

    def document(self) -> dict[str, int]:
        """As it stands in the summary."""
        return {
            "memoryHighMiB": self.high_mib,
            "memoryMaxMiB": self.max_mib,
            "memorySwapMaxMiB": self.swap_max_mib,
            "cpuWeight": self.cpu_weight,
        }


@dataclass(frozen=True, slots=True)
class Sizing:
    """The division. `backend`, `budget_mib` and `budget_source` are None where Ray launches no backend."""

    host_mib: int
    gateway: MemoryLimits
    backend: MemoryLimits | None = None
    budget_mib: int | None = None
    budget_source: BudgetSource | None = None

    @property
    def reserve_mib(self) -> int:
        """What the system keeps of the budget; of the machine where there is no budget."""
        return reserve(self.host_mib if self.budget_mib is None else self.budget_mib)

    @property
    def floor_mib(self) -> int:
        """The smallest budget that holds the reserve, the gateway, and the smallest backend."""
        return self.reserve_mib + self.gateway.max_mib + SMALLEST_BACKEND_MIB

    @property
    def is_below_floor(self) -> bool:
        return self.budget_mib is not None and self.budget_mib < self.floor_mib

    @property
    def budget_exceeds_host(self) -> bool:
        """Was a target named that this machine does not have, even counted as it was sold?"""
        if self.budget_mib is None or self.budget_source != "override":
            return False
        return self.budget_mib * (100 - SOLD_MEMORY_TOLERANCE_PERCENT) > self.host_mib * 100

    @property
    def gateway_exceeds_host(self) -> bool:
        """Would the gateway alone reach into the machine's reserve?"""
        return self.gateway.max_mib > max(0, self.host_mib - reserve(self.host_mib))

    def document(self) -> dict[str, object]:
        """The `systemd` part of the summary."""
        parts: dict[str, object] = {"gateway": self.gateway.document()}
        return parts | ({} if self.backend is None else {"llamaCpp": self.backend.document()})


def size(config: Config, host_memory_mib: int, override_mib: int | None) -> Sizing:
    """Divide the memory. `override_mib`: a target from option or environment, taken as it is; otherwise the config's
    memory class or the preset's, at most what the machine has."""
    gateway = gateway_limits(config)
    launch = launch_profile(config)
    host_mib = max(1, host_memory_mib)
    if launch is None:
        return Sizing(host_mib, gateway)
    budget_mib, source = _budget(config, launch, host_mib, override_mib)
    backend = backend_limits(budget_mib, gateway.max_mib)
    return Sizing(host_mib, gateway, backend, budget_mib, source)


def launch_profile(config: Config) -> LaunchProfile | None:
    """The backend that this machine runs, if the config describes one."""
    adapter = config.model.adapter
    return adapter.launch_profile if isinstance(adapter, LlamaCppAdapter) else None


def _budget(config: Config, launch: LaunchProfile, host_mib: int, override_mib: int | None) -> tuple[int, BudgetSource]:
    if override_mib is not None:
        return override_mib, "override"
    base, source = preset_budget(launch), "preset"
    if config.model.operational is not None:
        base, source = config.model.operational.memory_class_mib, "config"
    if host_mib < base:
        return host_mib, "host"
    return base, "config" if source == "config" else "preset"


def preset_budget(launch: LaunchProfile) -> int:
    """The memory of the machine that a launch preset is made for."""
    return LARGE_PRESET_BUDGET_MIB if launch.preset in _LARGE_PRESETS else SMALL_PRESET_BUDGET_MIB


def reserve(memory_mib: int) -> int:
    """What the system keeps of so much memory."""
    return max(SMALLEST_RESERVE_MIB, -(-memory_mib // RESERVE_DIVISOR))


def gateway_limits(config: Config) -> MemoryLimits:
    """Above the threshold at which the gateway itself begins to degrade."""
    threshold = config.graceful_degradation.memory_rss_threshold_mib
    return MemoryLimits(
        high_mib=threshold + GATEWAY_HIGH_ABOVE_THRESHOLD_MIB,
        max_mib=threshold + GATEWAY_MAX_ABOVE_THRESHOLD_MIB,
        swap_max_mib=GATEWAY_SWAP_MIB,
        cpu_weight=GATEWAY_CPU_WEIGHT,
    )


def backend_limits(budget_mib: int, gateway_max_mib: int) -> MemoryLimits:
    """What reserve and gateway leave over. A budget below the floor still gives figures: a check refuses it."""
    most = max(SMALLEST_BACKEND_MIB, budget_mib - reserve(budget_mib) - gateway_max_mib)
    return MemoryLimits(
        high_mib=max(1, most * BACKEND_HIGH_PERCENT // 100),
        max_mib=most,
        swap_max_mib=min(1024, max(256, most // 4)),
        cpu_weight=BACKEND_CPU_WEIGHT,
    )


@dataclass(frozen=True, slots=True)
class WorkingSet:
    """What a backend needs by rule of thumb, for a model whose file says nothing more. All in MiB."""

    model_mib: int
    prompt_cache_mib: int
    kv_mib: int
    runtime_mib: int = BACKEND_RUNTIME_MIB

    @property
    def without_model_mib(self) -> int:
        return self.prompt_cache_mib + self.kv_mib + self.runtime_mib

    @property
    def total_mib(self) -> int:
        return self.model_mib + self.without_model_mib


def estimated_working_set(config: Config, launch: LaunchProfile, model_bytes: int) -> WorkingSet | None:
    """The rule of thumb. None when the prompt cache has no limit (`cacheRamMiB` -1): nothing can be promised then.

    Its KV cache counts the context once per slot and takes fixed bytes per token, which is more than any model of the
    preset's class needs: the figures of `fit`, read from the model file, take its place where the file is there.
    """
    prompt_cache_mib = prompt_cache(config, launch)
    if prompt_cache_mib is None:
        return None
    kv_bytes = launch.ctx_size * max(1, launch.parallel) * _kv_bytes_per_token(launch)
    return WorkingSet(ceil_mib(model_bytes), prompt_cache_mib, ceil_mib(kv_bytes))


def prompt_cache(config: Config, launch: LaunchProfile) -> int | None:
    """MiB that llama-server may use for cached prompts, by the flag it is really started with. None: no limit."""
    arguments = launch_arguments(launch, config.prefix_store)
    figure = int(arguments[arguments.index("--cache-ram") + 1])
    return None if figure < 0 else figure


def _kv_bytes_per_token(launch: LaunchProfile) -> int:
    if launch.preset == "single-vps-balanced":
        return 320 * 1024
    return 192 * 1024 if launch.preset.startswith("single-vps-1b-") else 128 * 1024


def verdict(total_mib: int, backend: MemoryLimits) -> Verdict:
    """Does a backend that needs so much fit its unit?"""
    if total_mib > backend.max_mib:
        return "exceeded"
    return "tight" if total_mib > backend.high_mib else "ok"


@dataclass(frozen=True, slots=True)
class GatewayShare:
    """What one thing may at most take of the gateway's memory, and how much of it there should be. In MiB."""

    name: Literal["cache", "rate-limit keys", "scheduler tokens", "request bodies"]
    estimate_mib: int
    limit_mib: int

    @property
    def is_high(self) -> bool:
        return self.estimate_mib > self.limit_mib


def gateway_shares(config: Config) -> tuple[GatewayShare, ...]:
    """The four things in the gateway that grow with their settings, at their largest."""
    limit = config.rate_limit
    scheduler = config.scheduler
    most = gateway_limits(config).max_mib
    tokens = scheduler.max_queued_tokens + scheduler.max_inflight_tokens
    bodies = config.server.request_body_limit_bytes * (scheduler.max_queue + scheduler.concurrency)
    return (
        GatewayShare("cache", ceil_mib(config.cache.max_bytes), max(128, most * 20 // 100)),
        GatewayShare("rate-limit keys", ceil_mib(limit.max_keys * 2048), max(16, most * 2 // 100)),
        GatewayShare("scheduler tokens", ceil_mib(tokens * 768), max(96, most * 15 // 100)),
        GatewayShare("request bodies", ceil_mib(bodies), max(32, most * 4 // 100)),
    )
