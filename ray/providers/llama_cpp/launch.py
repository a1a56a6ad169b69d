"""The command line of llama-server for a launch profile.

Flags only: an environment variable such as `LLAMA_ARG_NO_…` acts by merely being present, and several names of earlier
releases no longer exist.
"""

from __future__ import annotations

from ray.config import LaunchProfile

# llama-server needs HTTP threads beyond one per slot, or a health probe waits for a generation.
SPARE_HTTP_THREADS = 4


def launch_command(profile: LaunchProfile) -> list[str]:
    """The program and its arguments."""
    return [profile.binary_path, *launch_arguments(profile)]


def launch_arguments(profile: LaunchProfile) -> list[str]:
    """The arguments in a fixed order, one argv word each; the operator's `extraArgs` come last, as they are.

    What differs from the profile's letter: `--threads-http` is at least `parallel` + 4, `--cache-ram` is always given
    because llama-server's own default is 8 GiB (0, off, if the profile leaves it open), and `--no-ui` is added: nobody
    looks at a backend's web page through a gateway. A `contextShift` that is on is passed on, although it silently
    drops the oldest part of a conversation; off is the better choice.
    """
    arguments: list[str] = []

    def value(flag: str, given: str | int) -> None:
        arguments.extend((flag, str(given)))

    def switch(flag: str, on: bool) -> None:
        arguments.append(f"--{flag}" if on else f"--no-{flag}")

    value("--model", profile.model_path)
    if profile.alias:
        value("--alias", profile.alias)
    value("--host", profile.host)
    value("--port", profile.port)
    value("--ctx-size", profile.ctx_size)
    value("--parallel", profile.parallel)
    value("--threads", profile.threads)
    if profile.threads_batch is not None:
        value("--threads-batch", profile.threads_batch)
    value("--threads-http", max(profile.threads_http, profile.parallel + SPARE_HTTP_THREADS))
    value("--batch-size", profile.batch_size)
    value("--ubatch-size", profile.ubatch_size)
    switch("cache-prompt", profile.cache_prompt)
    value("--cache-reuse", profile.cache_reuse)
    value("--cache-ram", profile.cache_ram_mib or 0)
    switch("cont-batching", profile.continuous_batching)
    if profile.enable_metrics:
        arguments.append("--metrics")
    switch("slots", profile.expose_slots)
    switch("warmup", profile.warmup)
    switch("kv-unified", profile.enable_unified_kv)
    switch("cache-idle-slots", profile.cache_idle_slots)
    switch("context-shift", profile.context_shift)
    arguments.append("--no-ui")
    return [*arguments, *profile.extra_args]
