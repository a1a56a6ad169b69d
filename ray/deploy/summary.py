"""The summary of a render: what was planned from, what was found, and what the units may use. It holds no secret."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ray.config import sanitised_config
from ray.deploy.findings import Finding
from ray.deploy.settings import DeploySettings
from ray.deploy.sizing import Sizing, launch_profile, verdict
from ray.providers import model_memory


def render_summary(
    settings: DeploySettings, sizing: Sizing, findings: Iterable[Finding], preflight: Mapping[str, object]
) -> dict[str, object]:
    """`profile`, `model` and `server` as `/v1/config` shows them (header values redacted), `diagnostics`, `preflight`
    (the facts that were looked at), `systemd`, the limits of both units, and, where the model file is there,
    `modelMemory`: what the backend needs by its header."""
    config = sanitised_config(settings.loaded.config)
    summary: dict[str, object] = {
        "profile": config["profile"],
        "model": config["model"],
        "server": config["server"],
        "diagnostics": [finding.document() for finding in findings],
        "preflight": dict(preflight),
        "systemd": sizing.document(),
    }
    needed = _model_memory(settings, sizing)
    return summary if needed is None else summary | {"modelMemory": needed}


def _model_memory(settings: DeploySettings, sizing: Sizing) -> dict[str, object] | None:
    config = settings.loaded.config
    launch = launch_profile(config)
    if launch is None or sizing.backend is None:
        return None
    memory = model_memory(launch.model_path, launch, config.prefix_store)
    if memory is None:
        return None
    total_mib = memory.total_mib
    return {
        "modelPath": launch.model_path,
        "totalMiB": total_mib,
        "verdict": "unlimited" if total_mib is None else verdict(total_mib, sizing.backend),
    }
