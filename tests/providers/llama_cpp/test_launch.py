"""llama-server's command line from a launch profile."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

import pytest

from examples.local_backend import find_llama_server
from ray.config import LaunchProfile, LlamaCppAdapter, PrefixStoreConfig, config_from_mapping
from ray.providers import launch_arguments, launch_command

PROFILE = LaunchProfile(
    preset="single-vps-1b-8gb",
    binary_path="/usr/local/bin/llama-server",
    model_path="/var/lib/ray/models/m.gguf",
    host="127.0.0.1",
    port=8081,
    alias="m",
    ctx_size=4096,
    parallel=2,
    threads=4,
    threads_batch=3,
    threads_http=2,
    batch_size=256,
    ubatch_size=128,
    cache_prompt=True,
    cache_reuse=256,
    cache_ram_mib=768,
    continuous_batching=True,
    enable_metrics=True,
    expose_slots=True,
    warmup=True,
    enable_unified_kv=True,
    cache_idle_slots=True,
    context_shift=True,
    extra_args=("--flash-attn", "on"),
)
SWITCHED_OFF = replace(
    PROFILE,
    alias=None,
    threads_batch=None,
    cache_prompt=False,
    cache_ram_mib=None,
    continuous_batching=False,
    enable_metrics=False,
    expose_slots=False,
    warmup=False,
    enable_unified_kv=False,
    cache_idle_slots=False,
    context_shift=False,
    extra_args=(),
)


ON = """
--model /var/lib/ray/models/m.gguf --alias m --host 127.0.0.1 --port 8081 --ctx-size 4096 --parallel 2 --threads 4
--threads-batch 3 --threads-http 6 --batch-size 256 --ubatch-size 128 --cache-prompt --cache-reuse 256 --cache-ram 768
--cont-batching --metrics --slots --warmup --kv-unified --cache-idle-slots --context-shift --no-ui --flash-attn on
"""
OFF = """
--model /var/lib/ray/models/m.gguf --host 127.0.0.1 --port 8081 --ctx-size 4096 --parallel 2 --threads 4
--threads-http 6 --batch-size 256 --ubatch-size 128 --no-cache-prompt --cache-reuse 256 --cache-ram 0
--no-cont-batching --no-slots --no-warmup --no-kv-unified --no-cache-idle-slots --no-context-shift --no-ui
"""


def test_given_a_profile_when_rendered_then_every_field_is_one_flag_in_order() -> None:
    assert launch_command(PROFILE) == ["/usr/local/bin/llama-server", *ON.split()]


def test_given_everything_off_when_rendered_then_the_flags_say_so_and_the_cache_does_not_grow_to_8_gib() -> None:
    assert launch_arguments(SWITCHED_OFF) == OFF.split()


@pytest.mark.parametrize(("configured", "rendered"), [(1, "6"), (6, "6"), (16, "16")])
def test_given_http_threads_when_rendered_then_four_are_left_beside_the_slots(configured: int, rendered: str) -> None:
    arguments = launch_arguments(replace(PROFILE, threads_http=configured))
    assert arguments[arguments.index("--threads-http") + 1] == rendered


def test_given_an_unlimited_ram_cache_when_rendered_then_it_is_passed_on() -> None:
    arguments = launch_arguments(replace(PROFILE, cache_ram_mib=-1))
    assert arguments[arguments.index("--cache-ram") + 1] == "-1"


STORE = config_from_mapping({"prefixStore": {"enabled": True, "storageDir": "/var/lib/ray/prefixes"}}).prefix_store


@pytest.mark.parametrize("profile", ["sub1b", "sub1b-cax11", "1b", "1b-8gb"])
def test_given_a_prefix_store_when_a_preset_is_rendered_then_snapshots_take_the_ram_caches_place(profile: str) -> None:
    adapter = config_from_mapping({"profile": profile}).model.adapter
    assert isinstance(adapter, LlamaCppAdapter)
    assert adapter.launch_profile is not None
    without = launch_arguments(adapter.launch_profile)
    assert without[without.index("--cache-ram") + 1] != "0"
    arguments = launch_arguments(adapter.launch_profile, STORE)
    assert arguments[arguments.index("--cache-ram") + 1] == "0"
    assert arguments[arguments.index("--slot-save-path") + 1] == "/var/lib/ray/prefixes/"
    assert "--no-cache-idle-slots" in arguments
    assert "--cache-idle-slots" not in arguments


@pytest.mark.parametrize(("pinned", "rendered"), [(256, "256"), (0, "0"), (None, "0"), (-1, "-1"), (768, "0")])
def test_given_a_prefix_store_when_the_ram_cache_is_pinned_then_the_operators_wish_holds(
    pinned: int | None, rendered: str
) -> None:
    arguments = launch_command(replace(PROFILE, cache_ram_mib=pinned), STORE)
    assert arguments[arguments.index("--cache-ram") + 1] == rendered


@pytest.mark.parametrize(
    ("profile", "store"),
    [
        (PROFILE, None),
        (PROFILE, replace(STORE, enabled=False)),
        (replace(PROFILE, cache_prompt=False), STORE),
    ],
)
def test_given_no_store_in_use_when_rendered_then_nothing_changes(
    profile: LaunchProfile, store: PrefixStoreConfig | None
) -> None:
    assert launch_arguments(profile, store) == launch_arguments(profile)


@pytest.mark.integration
@pytest.mark.parametrize("profile", [PROFILE, SWITCHED_OFF], ids=["on", "off"])
def test_given_the_real_program_when_its_help_is_read_then_it_knows_every_flag(profile: LaunchProfile) -> None:
    program = find_llama_server()
    if program is None:
        pytest.skip("needs a llama-server: name one in RAY_TEST_LLAMA_SERVER")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60, check=True)
    known = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", done.stdout))
    used = {word for word in launch_arguments(profile, STORE) if word.startswith("--")}
    assert used - known == set()
