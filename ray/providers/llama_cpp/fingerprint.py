"""Which backend a snapshot belongs to: a KV cache means nothing to another model, build or cache layout.

Everything that can change what a snapshot holds goes in; one thing too many costs one evaluation, one too few would
restore nonsense.
"""

from __future__ import annotations

import json
import os
from hashlib import sha256

from ray.config import LaunchProfile
from ray.providers.llama_cpp.capabilities import Capabilities

# Version of this rule and of the manifests beside the snapshots.
FORMAT = 1


def backend_fingerprint(found: Capabilities, profile: LaunchProfile | None) -> str:
    """64 hex digits. Reads the size and time of the model file where they can be read (a blocking `stat`)."""
    build, model_path = found.fingerprint or (None, None)
    marks: dict[str, object] = {
        "format": FORMAT,
        "build": build,
        "model": model_path,
        "modelFile": _file_marks(model_path),
        "modelType": found.model_ftype,
        "slotWindow": found.slot_window,
        "slots": found.total_slots,
        "adapters": found.adapters,
    }
    if profile is not None:
        # Cache types, flash attention, full-size sliding windows and RoPE settings are all among the extra arguments.
        marks["launch"] = [profile.ctx_size, profile.parallel, profile.enable_unified_kv, *profile.extra_args]
    return sha256(json.dumps(marks, sort_keys=True).encode()).hexdigest()


def prefix_key(fingerprint: str, text: str) -> str:
    """The name of a prefix: 64 hex digits, the same for the same text on the same backend only."""
    return sha256(f"{fingerprint}\n{text}".encode("utf-8", "replace")).hexdigest()


def _file_marks(path: str | None) -> list[int] | None:
    """Size and modification time, None when the file cannot be seen from here."""
    if path is None:
        return None
    try:
        seen = os.stat(path)
    except (OSError, ValueError):
        return None
    return [seen.st_size, seen.st_mtime_ns]
