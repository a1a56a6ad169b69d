"""The division of memory, figure by figure."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray.config import Config, config_document, config_from_mapping, load_config
from ray.deploy.machine import read_machine
from ray.deploy.sizing import (
    MemoryLimits,
    WorkingSet,
    backend_limits,
    estimated_working_set,
    gateway_limits,
    gateway_shares,
    launch_profile,
    reserve,
    size,
    verdict,
)
from ray.types import MIB

EXAMPLES = Path(__file__).parents[2] / "examples/config"
PLENTY_MIB = 65_536


def config_of(profile: str) -> Config:
    return config_from_mapping({"profile": profile})


def working_set(config: Config, model_bytes: int) -> WorkingSet | None:
    launch = launch_profile(config)
    assert launch is not None
    return estimated_working_set(config, launch, model_bytes)


@pytest.mark.parametrize(
    ("memory_mib", "kept_mib"), [(1, 768), (3840, 768), (3841, 769), (4096, 820), (8192, 1639), (1_048_576, 209_716)]
)
def test_the_system_keeps_a_fifth_and_at_least_768(memory_mib: int, kept_mib: int) -> None:
    assert reserve(memory_mib) == kept_mib


@pytest.mark.parametrize(
    ("profile", "high_mib", "max_mib"),
    [
        ("tiny", 384, 640),
        ("sub1b", 640, 896),
        ("sub1b-cax11", 640, 896),
        ("1b", 640, 896),
        ("1b-8gb", 896, 1152),
        ("vps", 896, 1152),
        ("balanced", 1152, 1408),
    ],
)
def test_the_gateway_stands_above_its_own_threshold(profile: str, high_mib: int, max_mib: int) -> None:
    assert gateway_limits(config_of(profile)) == MemoryLimits(high_mib, max_mib, 128, 200)


@pytest.mark.parametrize(
    ("budget_mib", "gateway_mib", "limits"),
    [
        (2176, 896, (512, 460, 256)),
        (3072, 896, (1408, 1267, 352)),
        (4096, 896, (2380, 2142, 595)),
        (4096, 1152, (2124, 1911, 531)),
        (8192, 1152, (5401, 4860, 1024)),
        (8192, 896, (5657, 5091, 1024)),
        (1, 896, (512, 460, 256)),
    ],
)
def test_the_backend_gets_the_rest(budget_mib: int, gateway_mib: int, limits: tuple[int, int, int]) -> None:
    given = backend_limits(budget_mib, gateway_mib)
    assert (given.max_mib, given.high_mib, given.swap_max_mib) == limits
    assert given.cpu_weight == 80


@pytest.mark.parametrize(("budget_mib", "below"), [(1024, True), (2048, True), (2175, True), (2176, False)])
def test_a_budget_below_the_floor_says_so(budget_mib: int, below: bool) -> None:
    division = size(config_of("sub1b"), PLENTY_MIB, budget_mib)
    assert division.floor_mib == 2176
    assert division.is_below_floor is below


def test_the_budget_is_the_configs_memory_class_where_nothing_else_is_said() -> None:
    division = size(config_from_mapping({"model": {"operational": {"memoryClassMiB": 1536}}}), PLENTY_MIB, None)
    assert (division.budget_mib, division.budget_source) == (1536, "config")


@pytest.mark.parametrize(
    ("preset", "budget_mib"),
    [
        ("single-vps-sub1b", 4096),
        ("single-vps-sub1b-cx23", 4096),
        ("single-vps-sub1b-cax11", 4096),
        ("single-vps-1b-cx23", 4096),
        ("single-vps-1b-8gb", 8192),
        ("single-vps-balanced", 8192),
    ],
)
def test_without_a_memory_class_the_preset_says_it(preset: str, budget_mib: int) -> None:
    launch = launch_document() | {"preset": preset, "ctxSize": 8192}
    adapter = {"kind": "llama.cpp", "launchProfile": launch}
    division = size(config_from_mapping({"profile": "vps", "model": {"adapter": adapter}}), PLENTY_MIB, None)
    assert (division.budget_mib, division.budget_source) == (budget_mib, "preset")


def launch_document() -> dict[str, object]:
    """A launch profile as a config file has it."""
    document = config_document(config_of("sub1b"))["model"]
    assert isinstance(document, dict)
    launch: dict[str, object] = document["adapter"]["launchProfile"]
    return launch


def test_a_smaller_machine_bounds_what_the_config_asks_for_and_not_what_the_operator_does() -> None:
    bounded = size(config_of("sub1b"), 3000, None)
    assert (bounded.budget_mib, bounded.budget_source) == (3000, "host")
    wanted = size(config_of("sub1b"), 3000, 4096)
    assert (wanted.budget_mib, wanted.budget_source) == (4096, "override")


@pytest.mark.parametrize(
    ("host_mib", "exceeded"),
    [(4096, False), (3900, False), (3687, False), (3686, True), (2048, True)],
)
def test_a_box_sold_as_4_gb_has_4096_to_plan_with(host_mib: int, exceeded: bool) -> None:
    assert size(config_of("sub1b"), host_mib, 4096).budget_exceeds_host is exceeded
    assert size(config_of("sub1b"), host_mib, None).budget_exceeds_host is False


@pytest.mark.parametrize(("host_mib", "exceeded"), [(1663, True), (1664, False), (1, True), (0, True)])
def test_the_gateway_must_leave_the_reserve_of_the_machine(host_mib: int, exceeded: bool) -> None:
    assert size(config_of("sub1b"), host_mib, None).gateway_exceeds_host is exceeded


@pytest.mark.parametrize("profile", ["tiny", "vps", "balanced"])
def test_without_a_backend_of_our_own_there_is_no_budget(profile: str) -> None:
    division = size(config_of(profile), PLENTY_MIB, 4096)
    assert (division.backend, division.budget_mib, division.budget_source) == (None, None, None)
    assert not division.is_below_floor
    assert division.document().keys() == {"gateway"}


def test_the_summary_has_both_units() -> None:
    assert size(config_of("sub1b"), PLENTY_MIB, None).document() == {
        "gateway": {"memoryHighMiB": 640, "memoryMaxMiB": 896, "memorySwapMaxMiB": 128, "cpuWeight": 200},
        "llamaCpp": {"memoryHighMiB": 2142, "memoryMaxMiB": 2380, "memorySwapMaxMiB": 595, "cpuWeight": 80},
    }


@pytest.mark.parametrize(
    ("example", "other_mib", "largest_mib", "roomy_mib"),
    [
        ("ray.sub1b.public.json", 1440, 940, 702),
        ("ray.hetzner-cx23-qwen0.6b.public.json", 1440, 940, 702),
        ("ray.sub1b.cax11.public.json", 1056, 1324, 1086),
        ("ray.1b.public.json", 928, 1452, 1214),
        ("ray.1b.generic.public.json", 928, 1452, 1214),
        ("ray.1b.8gb.public.json", 2464, 2937, 2396),
        ("ray.1b.8gb.generic.public.json", 2464, 2937, 2396),
    ],
)
def test_the_rule_of_thumb_for_models(example: str, other_mib: int, largest_mib: int, roomy_mib: int) -> None:
    config = load_config(str(EXAMPLES / example), {}, "/").config
    backend = size(config, PLENTY_MIB, None).backend
    assert backend is not None

    def judged(model_bytes: int) -> str:
        needed = working_set(config, model_bytes)
        assert needed is not None
        assert needed.without_model_mib == other_mib
        return verdict(needed.total_mib, backend)

    assert judged(roomy_mib * MIB) == "ok"
    assert judged(roomy_mib * MIB + 1) == "tight"
    assert judged(largest_mib * MIB) == "tight"
    assert judged(largest_mib * MIB + 1) == "exceeded"


def cached(mib: int | None, **more: object) -> Config:
    launch = {} if mib is None else {"cacheRamMiB": mib}
    return config_from_mapping({"model": {"adapter": {"launchProfile": launch}}, **more})


def test_the_prompt_cache_counts_as_the_server_is_started() -> None:
    def prompt_cache_mib(config: Config) -> int | None:
        needed = working_set(config, 0)
        return None if needed is None else needed.prompt_cache_mib

    assert prompt_cache_mib(cached(0)) == 0
    assert prompt_cache_mib(cached(700)) == 700
    assert prompt_cache_mib(cached(-1)) is None
    # Snapshots on disk take the place of the preset's cache.
    assert prompt_cache_mib(cached(None, prefixStore={"enabled": True})) == 0


@pytest.mark.parametrize(
    ("gateway_threshold_mib", "limits"),
    [
        (256, (128, 16, 96, 32)),
        (512, (179, 17, 134, 35)),
        (768, (230, 23, 172, 46)),
        (1024, (281, 28, 211, 56)),
    ],
)
def test_the_gateways_shares_grow_with_its_memory(gateway_threshold_mib: int, limits: tuple[int, ...]) -> None:
    config = config_from_mapping({"gracefulDegradation": {"memoryRssThresholdMiB": gateway_threshold_mib}})
    assert tuple(share.limit_mib for share in gateway_shares(config)) == limits
    assert not any(share.is_high for share in gateway_shares(config))


def test_settings_that_can_outgrow_the_gateway_are_seen() -> None:
    config = config_from_mapping(
        {
            "server": {"requestBodyLimitBytes": 1_048_576},
            "scheduler": {
                "concurrency": 1,
                "maxQueue": 40,
                "maxQueuedTokens": 262_144,
                "maxInflightTokens": 65_536,
            },
            "model": {"adapter": {"kind": "openai-compatible", "baseUrl": "http://127.0.0.1:8081", "modelRef": "m"}},
            "cache": {"maxBytes": 268_435_456},
            "rateLimit": {"maxKeys": 16_384},
        }
    )
    shares = {share.name: share for share in gateway_shares(config)}
    assert {name: share.estimate_mib for name, share in shares.items()} == {
        "cache": 256,
        "rate-limit keys": 32,
        "scheduler tokens": 240,
        "request bodies": 41,
    }
    assert all(share.is_high for share in shares.values())


def test_this_machine_has_memory_and_a_processor() -> None:
    machine = read_machine()
    assert machine.memory_mib >= 1
    assert machine.cpu_count >= 1
    assert machine.architecture
