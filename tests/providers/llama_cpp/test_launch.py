"""llama-server's command line from a launch profile."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace

import pytest

from ray.config import LaunchProfile
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


@pytest.mark.integration
@pytest.mark.skipif(not os.environ.get("RAY_TEST_LLAMA_SERVER"), reason="RAY_TEST_LLAMA_SERVER names no llama-server")
@pytest.mark.parametrize("profile", [PROFILE, SWITCHED_OFF], ids=["on", "off"])
def test_given_the_real_program_when_its_help_is_read_then_it_knows_every_flag(profile: LaunchProfile) -> None:
    program = os.environ["RAY_TEST_LLAMA_SERVER"]
    done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=30, check=True)
    known = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", done.stdout))
    used = {word for word in launch_arguments(profile) if word.startswith("--")}
    assert used - known == set()
