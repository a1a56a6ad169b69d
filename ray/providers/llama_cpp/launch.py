"""The command line of llama-server for a launch profile.

Flags only: an environment variable such as `LLAMA_ARG_NO_…` acts by merely being present, and several names of earlier
releases no longer exist.
"""

from __future__ import annotations

from ray.config import LaunchProfile, PrefixStoreConfig

# llama-server needs HTTP threads beyond one per slot, or a health probe waits for a generation.
SPARE_HTTP_THREADS = 4
# What the presets give for `cacheRamMiB`. A config does not tell a preset's value from the same one written by an
# operator, so exactly these count as nobody's wish.
PRESET_CACHE_RAM_MIB = {
    "single-vps-sub1b-cx23": 512,
    "single-vps-sub1b-cax11": 512,
    "single-vps-1b-cx23": 384,
    "single-vps-1b-8gb": 768,
}


def launch_command(profile: LaunchProfile, prefix_store: PrefixStoreConfig | None = None) -> list[str]:
    """The program and its arguments."""
    return [profile.binary_path, *launch_arguments(profile, prefix_store)]


def launch_arguments(profile: LaunchProfile, prefix_store: PrefixStoreConfig | None = None) -> list[str]:
    """The arguments in a fixed order, one argv word each; the operator's `extraArgs` come last, as they are.

    What differs from the profile's letter: `--threads-http` is at least `parallel` + 4, `--cache-ram` is always given
    because llama-server's own default is 8 GiB (0, off, if the profile leaves it open), and `--no-ui` is added: nobody
    looks at a backend's web page through a gateway. A `contextShift` that is on is passed on, although it silently
    drops the oldest part of a conversation; off is the better choice.

    With the prefix store on, Ray names the slots, and snapshots take the RAM cache's place: `--slot-save-path` is
    added, idle slots are not emptied into the RAM cache, and that is off unless `cacheRamMiB` differs from its
    preset's value.
    """
    has_store = prefix_store is not None and prefix_store.enabled and profile.cache_prompt
    cache_ram_mib = profile.cache_ram_mib or 0
    if has_store and cache_ram_mib == PRESET_CACHE_RAM_MIB.get(profile.preset):
        cache_ram_mib = 0
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
    value("--cache-ram", cache_ram_mib)
    switch("cont-batching", profile.continuous_batching)
    if profile.enable_metrics:
        arguments.append("--metrics")
    switch("slots", profile.expose_slots)
    switch("warmup", profile.warmup)
    switch("kv-unified", profile.enable_unified_kv)
    switch("cache-idle-slots", profile.cache_idle_slots and not has_store)
    switch("context-shift", profile.context_shift)
    if prefix_store is not None and has_store:
        # The server appends the bare file name to this, so the slash belongs to it.
        value("--slot-save-path", prefix_store.storage_dir.rstrip("/") + "/")
    arguments.append("--no-ui")
    return [*arguments, *profile.extra_args]
