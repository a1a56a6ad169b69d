"""What the tests of checks share: facts of a config, with the machine they are to be about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ray.deploy.account import Account
from ray.deploy.checks import diagnose
from ray.deploy.facts import Facts, gather
from ray.deploy.findings import Finding
from ray.deploy.installation import Installation
from ray.deploy.machine import Machine
from ray.deploy.places import Place, Room
from ray.deploy.probes import Probe
from ray.deploy.settings import DeploySettings
from ray.deploy.swap import Swap
from tests.deploy.support import KEYS, settings_for

Document = dict[str, object]
BIG = Machine(memory_mib=64_000, cpu_count=8, architecture="x64")
FOUR_GB = Machine(memory_mib=3_910, cpu_count=2, architecture="x64")
SWAP = Swap("available", 1_024, 1_024, None, 10)
# Where a checkout lies must not matter: some places are themselves a finding.
ARGUMENTS = ("--domain", "ray.example.com", "--cwd", "/srv/ray")


def settings_of(
    directory: Path,
    document: Document,
    arguments: tuple[str, ...] = ARGUMENTS,
    environ: Mapping[str, str] = KEYS,
) -> DeploySettings:
    """Settings for a config that is written into `directory`."""
    path = directory / "ray.json"
    path.write_text(json.dumps(document))
    return settings_for(["--config", str(path), *arguments], environ)


def facts_of(settings: DeploySettings, machine: Machine = BIG) -> Facts:
    """What `validate` knows, on a machine with swap, without a look at its disks."""
    return replace(gather(settings, strict=False, storage=False, machine=machine), swap=SWAP)


def codes(findings: list[Finding], *levels: str) -> list[str]:
    """The codes in order; of `levels`, or all."""
    return [finding.code for finding in findings if not levels or finding.level in levels]


def complaints(facts: Facts) -> list[str]:
    return codes(diagnose(facts), "error", "warn")


def found(path: str, *, mode: int = 0o644, size: int = 0, real: str | None = None) -> Place:
    return Place(path, "found", "file", real, mode, size)


def directory(path: str, *, mode: int = 0o755, real: str | None = None) -> Place:
    return Place(path, "found", "directory", real, mode)


def room(path: str, available_mib: int | None = 50_000, *, inodes: int | None = 1_000_000) -> Room:
    return Room(path, directory(path), available_mib, inodes)


RAY = Account("ray", "found", 990, 990, "ray", (990,))


def good_installation(settings: DeploySettings) -> Installation:
    """A host on which everything is in order."""
    return Installation(
        account=RAY,
        systemd_place=directory("/run/systemd/system"),
        systemd=Probe("ok", "systemd 252 (252.39-1~deb12u1)\n"),
        units=None,
        caddy=Probe("ok", "v2.6.2\n"),
        caddyfile=None,
        caddy_storage=room("/var/lib/caddy"),
        working_directory=directory(settings.cwd),
        working_directory_room=room(settings.cwd),
        log_room=room("/var/log"),
        temporary_rooms=(room("/tmp"), room("/var/tmp")),
        config_file=found("/etc/ray/ray.json", mode=0o640),
        runtime=found("/usr/bin/python3", mode=0o755),
        version=None,
        other_ray=None,
        entrypoint=found(f"{settings.cwd}/ray/__main__.py"),
        import_probe=None,
        access={},
    )
