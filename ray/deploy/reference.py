"""The files under `deploy/vps`: what `render` writes for the default config on the machine it is made for.

They are there to be read before anything is installed, and they follow the code: `smoke` compares, `smoke --update`
writes them anew.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ray.deploy.bundle import make_bundle
from ray.deploy.caddy import POOL_FILE
from ray.deploy.failures import DeployError
from ray.deploy.findings import Finding
from ray.deploy.machine import Machine
from ray.deploy.reading import read_text
from ray.deploy.settings import load_settings
from ray.deploy.sizing import size
from ray.deploy.units import BACKEND_UNIT, GATEWAY_UNIT, SOCKET_UNIT
from ray.deploy.writing import write_file
from ray.errors import RayError

DIRECTORY = "deploy/vps"
CONFIG_NAME = "ray.sub1b.public.json"
INSTALLED_AT = "/srv/ray"
INSTALLED_CONFIG = "/etc/ray/ray.json"
ENV_FILE = "/etc/ray/ray.env"
DOMAIN = "ray.example.com"
NODES = ("10.0.0.11:3000", "10.0.0.12:3000")
MAX_FILE_BYTES = 262_144
# What every example is made for, or has room on: plans for it do not depend on where they are made.
MACHINE = Machine(memory_mib=8_192, cpu_count=4, architecture="x64")

# File name: its key in the smoke's JSON, and the code when it is not what is rendered now.
FILES: Mapping[str, tuple[str, str]] = {
    GATEWAY_UNIT: ("servicePath", "static_vps_gateway_service_drift"),
    SOCKET_UNIT: ("socketPath", "static_vps_gateway_socket_drift"),
    BACKEND_UNIT: ("llamaCppServicePath", "static_vps_llama_cpp_service_drift"),
    "Caddyfile": ("caddyfilePath", "static_vps_caddyfile_drift"),
    POOL_FILE: ("caddyfilePoolPath", "static_vps_caddyfile_pool_drift"),
    "ray.env.example": ("envFileExamplePath", "static_vps_env_example_drift"),
}
UNEXPECTED_BACKEND = "static_vps_llama_cpp_service_unexpected"
UNUSABLE = "static_vps_examples_invalid"
REMEDY = "`python -m ray.deploy smoke --update` writes it anew"


@dataclass(frozen=True, slots=True)
class Reference:
    """The files as they lie there, compared. `paths`: shown paths by key."""

    paths: Mapping[str, str]
    findings: tuple[Finding, ...]

    def document(self) -> dict[str, object]:
        """The `staticExample` of the smoke."""
        return {
            **self.paths,
            "diagnostics": [finding.document() for finding in self.findings],
            "errorCount": len(self.findings),
        }


def reference_files(cwd: str, config_directory: str) -> dict[str, str]:
    """Text by file name, rendered from the config in `config_directory` of `cwd`. Raises `DeployError`, RayError."""
    options = argparse.Namespace(
        cwd=cwd,
        config=os.path.join(config_directory, CONFIG_NAME),
        domain=DOMAIN,
        systemd_env_file=ENV_FILE,
    )
    settings = load_settings(options, {})
    settings = replace(settings, cwd=INSTALLED_AT, config_path=INSTALLED_CONFIG)
    sizing = size(settings.loaded.config, MACHINE.memory_mib, None)
    return {artifact.file_name: artifact.text for artifact in make_bundle(settings, sizing, (), {}, NODES).artifacts}


def compare_reference(cwd: str, config_directory: str) -> Reference:
    """The files of `cwd` against what is rendered now. Never raises."""
    paths = {key: os.path.join(DIRECTORY, name) for name, (key, _) in FILES.items()}
    try:
        wanted = reference_files(cwd, config_directory)
    except (DeployError, RayError) as error:
        return Reference(paths, (Finding("error", UNUSABLE, f"Nothing to compare {DIRECTORY} with: {error}"),))
    found = (_compared(cwd, name, wanted.get(name)) for name in FILES)
    return Reference(paths, tuple(finding for finding in found if finding is not None))


def write_reference(cwd: str, config_directory: str) -> list[str]:
    """Write the files anew, into `cwd`; their shown paths. Raises `DeployError`, RayError, OSError."""
    directory = os.path.join(cwd, DIRECTORY)
    wanted = reference_files(cwd, config_directory)
    os.makedirs(directory, exist_ok=True)
    for name, text in wanted.items():
        write_file(directory, name, text)
    return [os.path.join(DIRECTORY, name) for name in wanted]


def _compared(cwd: str, name: str, wanted: str | None) -> Finding | None:
    path = os.path.join(cwd, DIRECTORY, name)
    shown = os.path.join(DIRECTORY, name)
    if wanted is None:
        if name == BACKEND_UNIT and os.path.lexists(path):
            return Finding("error", UNEXPECTED_BACKEND, f"{shown} is there, and {CONFIG_NAME} launches no backend")
        return None
    try:
        text = read_text(path, MAX_FILE_BYTES)
    except OSError as error:
        reason = error.strerror or str(error)
        return Finding("error", UNUSABLE, f"{shown} cannot be read ({reason}): {REMEDY}")
    except ValueError as error:
        return Finding("error", UNUSABLE, f"{shown} {error}: {REMEDY}")
    if text == wanted:
        return None
    return Finding("error", FILES[name][1], f"{shown} is not what is rendered from {CONFIG_NAME} now: {REMEDY}")
