"""The metrics of the prefix store: how prompt prefixes came into the KV cache, and what that saved."""

from __future__ import annotations

from ray.telemetry.metric import OTHER, Metric, counter, gauge

# What can go wrong without a request failing.
OPERATIONS = (
    "save",
    "restore",
    "erase",
    "evaluate",
    "read",
    "delete",
    "directory",
    "corrupt",
    "disk_full",
    "too_large",
    "busy",
    "slot_ignored",
    OTHER,
)

PREFIX_METRICS: tuple[Metric, ...] = (
    counter(
        "prefix_store.hits",
        "ray_prefix_store_hits_total",
        "Generations whose prefix was not read again, by where it was found.",
        state=("hot", "restored"),
    ),
    counter(
        "prefix_store.misses",
        "ray_prefix_store_misses_total",
        "Generations whose prefix had to be read, or that had none.",
        state=("evaluated", "none"),
    ),
    counter("prefix_store.restores", "ray_prefix_store_restores_total", "Snapshots read back into a slot."),
    counter("prefix_store.saves", "ray_prefix_store_saves_total", "Snapshots written."),
    counter("prefix_store.saved_bytes", "ray_prefix_store_written_bytes_total", "Bytes of the snapshots written."),
    counter("prefix_store.evictions", "ray_prefix_store_evictions_total", "Snapshots deleted to make room."),
    counter(
        "prefix_store.tokens_saved",
        "ray_prefix_store_saved_tokens_total",
        "Prompt tokens of prefixes that were not read again.",
    ),
    counter(
        "prefix_store.seconds_saved",
        "ray_prefix_store_saved_seconds_total",
        "Reading time of these tokens, by the backend's measured speed.",
    ),
    counter(
        "prefix_store.proof_failures",
        "ray_prefix_store_proof_failures_total",
        "Answers for which the backend read a restored prefix again.",
    ),
    counter(
        "prefix_store.failures",
        "ray_prefix_store_failures_total",
        "Operations of the store that failed; the requests went on.",
        operation=OPERATIONS,
    ),
    gauge("prefix_store.bytes", "ray_prefix_store_size_bytes", "Size of all snapshots."),
    gauge("prefix_store.entries", "ray_prefix_store_entries", "Snapshots in the store."),
    gauge(
        "prefix_store.unknown_files", "ray_prefix_store_unknown_files", "Files in its directory that are not its own."
    ),
    gauge("prefix_store.enabled", "ray_prefix_store_enabled", "Whether the store is in use: 1, or 0 when it is off."),
)
