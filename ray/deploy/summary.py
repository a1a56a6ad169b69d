"""The summary of a render: what was planned from, what was found, and what the units may use. It holds no secret."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ray.config import sanitised_config
from ray.deploy.findings import Finding
from ray.deploy.settings import DeploySettings
from ray.deploy.sizing import Sizing


def render_summary(
    settings: DeploySettings, sizing: Sizing, findings: Iterable[Finding], preflight: Mapping[str, object]
) -> dict[str, object]:
    """`profile`, `model` and `server` as `/v1/config` shows them (header values redacted), `diagnostics`, `preflight`
    (the facts that were looked at), and `systemd`, the limits of both units."""
    config = sanitised_config(settings.loaded.config)
    return {
        "profile": config["profile"],
        "model": config["model"],
        "server": config["server"],
        "diagnostics": [finding.document() for finding in findings],
        "preflight": dict(preflight),
        "systemd": sizing.document(),
    }
