"""What is installed on this host: service manager, proxy, interpreter, checkout. Only looked at in strict mode.

Everything that the service will run is tried as the service's account. Where there is no such account, nothing is
tried: as root it would prove nothing, and it would run programs as root that were not meant to be.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ray.deploy.account import Access, Account, Need, access_of, read_account
from ray.deploy.places import Place, Room, look_at, room_at
from ray.deploy.probes import VERSION_CAP_BYTES, Probe, run_probe
from ray.deploy.settings import DeploySettings
from ray.deploy.sizing import Sizing, launch_profile
from ray.deploy.verification import Verdict, verify_caddyfile, verify_units

MIN_PYTHON = (3, 11)
_VERSION = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})\.[0-9]{1,3}")
_VERSION_CODE = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
# What a complete checkout and a complete standard library have to give; ssl is missing in some small builds of Python.
_IMPORT_CODE = "import ray, ray.__main__, ray.cli, ray.gateway, ray.jobs, ssl, hashlib, hmac; print(ray.__file__)"
# Another package of this name exists on PyPI. -I leaves out the working directory, so what this finds is installed.
_OTHER_CODE = (
    "import importlib.util as u; s = u.find_spec('ray'); "
    "print(s and (s.origin or list(s.submodule_search_locations)[0]))"
)


@dataclass(frozen=True, slots=True)
class HostPlaces:
    """Where things of the machine lie. Tests name others."""

    systemd: str = "/run/systemd/system"
    caddy_storage: str = "/var/lib/caddy"
    log: str = "/var/log"
    temporary: tuple[str, ...] = ("/tmp", "/var/tmp")


@dataclass(frozen=True, slots=True)
class Version:
    """What an interpreter says it is. `text`: None when it does not say."""

    text: str | None
    error: str | None = None

    @property
    def is_supported(self) -> bool:
        found = _VERSION.fullmatch(self.text or "")
        return found is not None and (int(found[1]), int(found[2])) >= MIN_PYTHON


@dataclass(frozen=True, slots=True)
class Installation:
    """Probes and accesses are None where there was nothing to try, or nobody to try it as."""

    account: Account
    systemd_place: Place
    systemd: Probe | None
    units: Verdict | None
    caddy: Probe | None
    caddyfile: Verdict | None
    caddy_storage: Room | None
    working_directory: Place
    working_directory_room: Room | None
    log_room: Room
    temporary_rooms: tuple[Room, ...]
    config_file: Place
    runtime: Place
    version: Version | None
    other_ray: str | None
    entrypoint: Place
    import_probe: Probe | None
    access: Mapping[str, Access]

    @property
    def import_error(self) -> str | None:
        """Why `import ray` does not give the checkout in the working directory; None when it does or was not tried."""
        probe = self.import_probe
        if probe is None:
            return None
        if not probe.is_ok:
            return probe.error
        origin = os.path.realpath(probe.stdout.strip() or "/")
        if origin.startswith(os.path.realpath(self.working_directory.path).rstrip("/") + "/"):
            return None
        return f"`import ray` gives {origin}, which is not the checkout in {self.working_directory.path}"


def look_at_installation(
    settings: DeploySettings, sizing: Sizing, places: HostPlaces, *, proxy: bool = True
) -> Installation:
    """`proxy`: False where another proxy than Caddy is used. Never raises."""
    environ = settings.process_environ
    account = read_account(settings.user)
    working_directory = look_at(settings.cwd)
    runtime = look_at(settings.runtime_binary)
    entrypoint = look_at(posixpath.join(settings.cwd, "ray/__main__.py"))
    config_file = look_at(settings.config_path)
    needs: dict[str, tuple[Place, Need]] = {
        "working_directory": (working_directory, "rx"),
        "config_file": (config_file, "r"),
        "runtime": (runtime, "x"),
        "entrypoint": (entrypoint, "r"),
    }
    wanted = {name: (place.path, need) for name, (place, need) in needs.items() if place.status == "found"}
    access = access_of(account, wanted, environ)
    is_tried = runtime.is_program and account.identity is not None
    version = _version(settings, account) if is_tried else None
    is_imported = is_tried and entrypoint.is_file and version is not None and version.is_supported
    systemd_place = look_at(places.systemd)
    systemd = None
    if systemd_place.is_directory:
        systemd = run_probe(["systemctl", "--version"], environ, cap=VERSION_CAP_BYTES)
    caddy = _caddy(settings) if proxy else None
    return Installation(
        account=account,
        systemd_place=systemd_place,
        systemd=systemd,
        units=_units(settings, sizing, systemd, runtime),
        caddy=caddy,
        caddyfile=verify_caddyfile(settings) if caddy is not None and caddy.is_ok else None,
        caddy_storage=room_at(places.caddy_storage) if caddy is not None and caddy.is_ok else None,
        working_directory=working_directory,
        working_directory_room=room_at(settings.cwd) if working_directory.is_directory else None,
        log_room=room_at(places.log),
        temporary_rooms=tuple(map(room_at, places.temporary)),
        config_file=config_file,
        runtime=runtime,
        version=version,
        other_ray=_other_ray(settings, account) if is_tried else None,
        entrypoint=entrypoint,
        import_probe=_import(settings, account) if is_imported else None,
        access=access,
    )


def _units(settings: DeploySettings, sizing: Sizing, systemd: Probe | None, runtime: Place) -> Verdict | None:
    if systemd is None or not systemd.is_ok:
        return None
    launch = launch_profile(settings.loaded.config)
    programs = [runtime, *([look_at(launch.binary_path)] if launch else [])]
    missing = tuple(program.path for program in programs if not program.is_program)
    return verify_units(settings, sizing, systemd.first_line, missing)


def _caddy(settings: DeploySettings) -> Probe:
    if settings.caddy_binary is None:
        return Probe("missing", error="caddy is not on the path")
    return run_probe([settings.caddy_binary, "version"], settings.process_environ, cap=VERSION_CAP_BYTES)


def _version(settings: DeploySettings, account: Account) -> Version:
    command = [settings.runtime_binary, "-I", "-S", "-c", _VERSION_CODE]
    probe = run_probe(command, settings.process_environ, cap=VERSION_CAP_BYTES, identity=account.identity, cwd="/")
    if not probe.is_ok:
        return Version(None, probe.error)
    text = probe.stdout.strip()
    if not _VERSION.fullmatch(text):
        return Version(None, f"{settings.runtime_binary} gave no version of Python")
    return Version(text)


def _import(settings: DeploySettings, account: Account) -> Probe:
    """-S leaves out installed packages, which proves that none is needed; -B leaves no files of the wrong owner."""
    command = [settings.runtime_binary, "-S", "-B", "-c", _IMPORT_CODE]
    return run_probe(command, settings.process_environ, identity=account.identity, cwd=settings.cwd)


def _other_ray(settings: DeploySettings, account: Account) -> str | None:
    """Where this interpreter has a package named `ray` installed that is not this checkout."""
    command = [settings.runtime_binary, "-I", "-B", "-c", _OTHER_CODE]
    probe = run_probe(command, settings.process_environ, identity=account.identity, cwd="/")
    origin = probe.stdout.strip() if probe.is_ok else ""
    if not origin or origin == "None":
        return None
    here = os.path.realpath(settings.cwd).rstrip("/") + "/"
    return None if os.path.realpath(origin).startswith(here) else origin
