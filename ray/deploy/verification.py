"""What systemd and Caddy themselves say about the files that `render` would write. Never raises."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ray.deploy.caddy import render_caddyfile
from ray.deploy.failures import DeployError
from ray.deploy.probes import Probe, excerpt, run_probe
from ray.deploy.settings import DeploySettings
from ray.deploy.sizing import Sizing
from ray.deploy.units import (
    BACKEND_UNIT,
    GATEWAY_UNIT,
    SOCKET_UNIT,
    render_gateway,
    render_llama_cpp,
    render_socket,
)

# Before it, faults in units of others count as faults of ours.
RECURSIVE_ERRORS_VERSION = 250
_VERSION = re.compile(r"systemd ([0-9]{1,6})")
_NOT_EXECUTABLE = re.compile(r"Command (.+) is not executable:")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`unreadable`: it could not be tried, and nothing is known."""

    status: Literal["valid", "invalid", "unreadable"]
    error: str | None = None


def verify_units(
    settings: DeploySettings, sizing: Sizing, systemd_version: str, missing_programs: tuple[str, ...] = ()
) -> Verdict:
    """`systemd-analyze verify` on the units, read by what it prints: its status is 0 for directives that it ignores.

    `missing_programs`: those that other findings speak of; that a unit starts one is no second fault.
    """
    try:
        units = {GATEWAY_UNIT: render_gateway(settings, sizing), SOCKET_UNIT: render_socket(settings)}
        backend = render_llama_cpp(settings, sizing)
    except DeployError as error:
        return Verdict("invalid", str(error))
    if backend is not None:
        units[BACKEND_UNIT] = backend

    def verify(directory: str) -> Verdict:
        found = _VERSION.search(systemd_version)
        quiet = ["--recursive-errors=no"] if found and int(found[1]) >= RECURSIVE_ERRORS_VERSION else []
        extra = {"SYSTEMD_UNIT_PATH": f"{directory}:"}  # the colon keeps the system's own path
        command = ["systemd-analyze", *quiet, "verify", *(f"{directory}/{name}" for name in units)]
        probe = run_probe(command, settings.process_environ, extra=extra, cwd=directory)
        return _units_verdict(probe, tuple(units), directory, missing_programs)

    return _in_directory("ray-systemd-verify-", units, verify)


def _units_verdict(probe: Probe, names: tuple[str, ...], directory: str, missing_programs: tuple[str, ...]) -> Verdict:
    if probe.status == "missing" or probe.code is None:
        return Verdict("unreadable", probe.error)
    lines = [line.strip().replace(f"{directory}/", "") for line in probe.output.splitlines() if line.strip()]
    known = [line for line in lines if not _is_about(line, missing_programs)]
    faults = [line for line in known if any(name in line for name in names)]
    if faults or (not probe.is_ok and known):
        return Verdict("invalid", excerpt("; ".join(faults or known)))
    if not probe.is_ok and not lines:
        return Verdict("invalid", probe.error)
    return Verdict("valid")


def _is_about(line: str, programs: tuple[str, ...]) -> bool:
    found = _NOT_EXECUTABLE.search(line)
    return found is not None and found[1] in programs


def verify_caddyfile(settings: DeploySettings) -> Verdict:
    """`caddy validate`, told that it is a Caddyfile, and with nowhere else to write than a directory that goes."""
    if settings.caddy_binary is None:
        return Verdict("unreadable", "caddy is not on the path")
    binary = settings.caddy_binary
    try:
        files = {"Caddyfile": render_caddyfile(settings)}
    except DeployError as error:
        return Verdict("invalid", str(error))

    def validate(directory: str) -> Verdict:
        command = [binary, "validate", "--adapter", "caddyfile", "--config", f"{directory}/Caddyfile"]
        extra = {"HOME": directory, "XDG_CONFIG_HOME": directory, "XDG_DATA_HOME": directory}
        probe = run_probe(command, settings.process_environ, extra=extra, cwd=directory)
        if probe.is_ok:
            return Verdict("valid")
        if probe.status == "missing":
            return Verdict("unreadable", probe.error)
        said = [line for line in probe.stderr.splitlines() if line.lower().startswith("error")]
        return Verdict("invalid", excerpt("; ".join(said).replace(f"{directory}/", "")) if said else probe.error)

    return _in_directory("ray-caddy-validate-", files, validate)


def _in_directory(prefix: str, files: Mapping[str, str], judge: Callable[[str], Verdict]) -> Verdict:
    """The verdict on files in a directory of their own, which is removed again."""
    try:
        with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as directory:
            for name, text in files.items():
                Path(directory, name).write_text(text, encoding="utf-8")
            return judge(directory)
    except OSError as error:
        return Verdict("unreadable", f"a temporary directory cannot be used: {error.strerror or error}")
