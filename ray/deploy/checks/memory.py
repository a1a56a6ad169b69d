"""Whether the model fits: the division of the memory, what the backend needs, and swap as a cushion."""

from __future__ import annotations

from ray.config import LaunchProfile
from ray.deploy.checks.backend import SMALL_PRESETS
from ray.deploy.checks.catalogue import ERROR, INFO, WARN, WORSE_ON_HOST, Catalogue, Found
from ray.deploy.facts import Facts
from ray.deploy.output import mib
from ray.deploy.sizing import (
    SMALL_PRESET_BUDGET_MIB,
    WorkingSet,
    estimated_working_set,
    launch_profile,
    prompt_cache,
    verdict,
)
from ray.providers import ModelMemory
from ray.types import ceil_mib

MEMORY = Catalogue()
ADVISED_SWAP_MIB = 1_024
LEAST_FREE_SWAP_MIB = 256
ADVISED_SWAPPINESS = 20
SWAP_PLAN = "`python3 -m ray.deploy swap-plan` prints the commands for a swap file of 1024 MiB"


@MEMORY.check(
    {"memory_budget_exceeds_host_memory": WORSE_ON_HOST},
    inspects="the memory target (`--memory-mib`, `RAY_DEPLOY_MEMORY_MIB`) against this machine, with 10 % tolerance",
    remedy="Lower RAY_DEPLOY_MEMORY_MIB, or leave it out: then it follows the config and this machine",
)
def budget_on_host(facts: Facts) -> Found:
    budget = facts.sizing.budget_mib
    if budget is not None and facts.sizing.budget_exceeds_host:
        said = f"The memory target is {mib(budget)}, and this machine has {mib(facts.sizing.host_mib)}"
        yield "memory_budget_exceeds_host_memory", said


@MEMORY.check(
    {"memory_budget_below_systemd_floor": ERROR},
    inspects="the memory target against reserve, gateway and the smallest backend",
    remedy="Raise RAY_DEPLOY_MEMORY_MIB, lower RAY_DEGRADATION_MEMORY_RSS_THRESHOLD_MIB, or take a larger machine",
)
def budget_floor(facts: Facts) -> Found:
    sizing = facts.sizing
    if sizing.is_below_floor and sizing.budget_mib is not None:
        said = (
            f"{mib(sizing.budget_mib)} do not hold the system's {mib(sizing.reserve_mib)}, the gateway's "
            f"{mib(sizing.gateway.max_mib)} and the smallest backend: {mib(sizing.floor_mib)} are needed"
        )
        yield "memory_budget_below_systemd_floor", said


@MEMORY.check(
    {"memory_fit_unbounded": ERROR},
    inspects="`launchProfile.cacheRamMiB` of -1",
    remedy="Give RAY_LLAMA_CPP_CACHE_RAM_MIB a limit, for example 512",
)
def unlimited_cache(facts: Facts) -> Found:
    config = facts.settings.loaded.config
    launch = launch_profile(config)
    if launch is not None and prompt_cache(config, launch) is None:
        yield "memory_fit_unbounded", "The prompt cache has no limit, so nothing can be promised about memory"


@MEMORY.check(
    {"memory_fit_exceeded": ERROR, "memory_fit_tight": WARN, "memory_fit_ok": INFO},
    inspects="what the backend needs with this model file against its unit's `MemoryMax=`, when the file is there",
    remedy="Lower RAY_LLAMA_CPP_CTX_SIZE or RAY_LLAMA_CPP_CACHE_RAM_MIB, or take a smaller model or a larger machine; "
    "`python3 -m ray.deploy fit` shows each part",
)
def fit(facts: Facts) -> Found:
    launch, backend, limits = launch_profile(facts.settings.loaded.config), facts.backend, facts.sizing.backend
    if launch is None or backend is None or limits is None or not backend.model.is_file:
        return
    needed = _needed(facts, launch, backend.model_file.memory if backend.model_file else None)
    if needed is None:
        return  # without a limit there is no sum; another check says so
    total, parts = needed
    outcome = verdict(total, limits)
    said = f"The backend needs {mib(total)} of {mib(limits.max_mib)} ({parts}{_division(facts)})"
    largest = backend.model_file.largest_context if backend.model_file else None
    if outcome != "ok" and largest and largest < launch.ctx_size:
        said += f"; a context of {largest:,} tokens fits, and {launch.ctx_size:,} are configured"
    yield f"memory_fit_{outcome}", said


def _needed(facts: Facts, launch: LaunchProfile, memory: ModelMemory | None) -> tuple[int, str] | None:
    """MiB in all, and the parts: by the file's header, else by rule of thumb."""
    if memory is not None:
        total = memory.total_mib
        if total is None:
            return None
        parts = [(name, ceil_mib(size)) for name, size in memory.parts() if size]
        return total, "by the file's header: " + ", ".join(f"{name} {mib(size)}" for name, size in parts)
    assert facts.backend is not None  # asked for its model file
    size = facts.backend.model.size
    rough: WorkingSet | None = estimated_working_set(facts.settings.loaded.config, launch, size)
    if rough is None:
        return None
    parts_text = (
        f"estimated: model {mib(rough.model_mib)}, cache-ram {mib(rough.prompt_cache_mib)}, kv {mib(rough.kv_mib)}, "
        f"llama-runtime {mib(rough.runtime_mib)}"
    )
    return rough.total_mib, parts_text


def _division(facts: Facts) -> str:
    sizing = facts.sizing
    return f"; gateway {mib(sizing.gateway.max_mib)}, system {mib(sizing.reserve_mib)}"


def _wants_swap(facts: Facts) -> bool:
    """Small machines only: there a loading model and an upgrade together may need more than there is."""
    launch = launch_profile(facts.settings.loaded.config)
    budget = facts.sizing.budget_mib
    return launch is not None and launch.preset in SMALL_PRESETS and (budget or 0) <= SMALL_PRESET_BUDGET_MIB


@MEMORY.check(
    {"swap_missing": WARN, "swap_low": WARN, "swap_free_low": WARN, "swap_ok": INFO, "swap_unreadable": WARN},
    inspects="`/proc/meminfo`, on machines of up to 4 GB",
    remedy=SWAP_PLAN,
    strict=True,
)
def swap(facts: Facts) -> Found:
    found = facts.swap
    if not _wants_swap(facts):
        return
    if found.total_mib is None or found.free_mib is None:
        yield "swap_unreadable", f"Swap space cannot be read: {found.error}"
    elif found.total_mib == 0:
        yield "swap_missing", "There is no swap: a moment of too little memory ends a service"
    elif found.total_mib < ADVISED_SWAP_MIB:
        yield "swap_low", f"There are {mib(found.total_mib)} of swap"
    elif found.free_mib < LEAST_FREE_SWAP_MIB:
        yield "swap_free_low", f"Of {mib(found.total_mib)} of swap {mib(found.free_mib)} are free"
    else:
        yield "swap_ok", f"{mib(found.total_mib)} of swap, {mib(found.free_mib)} free"


@MEMORY.check(
    {"swap_swappiness_high": WARN, "swap_swappiness_ok": INFO, "swap_swappiness_unreadable": WARN},
    inspects="`/proc/sys/vm/swappiness`, where there is swap",
    remedy="`python3 -m ray.deploy swap-plan --sysctl-only` prints the commands that set it to 10",
    strict=True,
)
def swappiness(facts: Facts) -> Found:
    found = facts.swap
    if not _wants_swap(facts) or found.status == "missing":
        return
    if found.swappiness is None:
        yield "swap_swappiness_unreadable", f"Swappiness cannot be read: {found.swappiness_error}"
    elif found.swappiness > ADVISED_SWAPPINESS:
        yield "swap_swappiness_high", f"Swappiness is {found.swappiness}: the model is swapped out while it is idle"
    else:
        yield "swap_swappiness_ok", f"Swappiness is {found.swappiness}"
