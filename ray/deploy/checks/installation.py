"""What `doctor` finds on the host: service manager, proxy, storage, account, files, interpreter, checkout."""

from __future__ import annotations

from ray.deploy.checks.catalogue import ERROR, INFO, WARN, Catalogue, Found
from ray.deploy.facts import Facts
from ray.deploy.installation import MIN_PYTHON, Installation
from ray.deploy.output import mib
from ray.deploy.paths import HOME_PROTECTED, PRIVATE_TMP
from ray.deploy.places import Place, Room

INSTALLATION = Catalogue()
SMALLEST_WORKING_ROOM_MIB = 512
SUPPORTED_PYTHON = ".".join(map(str, MIN_PYTHON))


def installed(facts: Facts) -> Installation:
    assert facts.installation is not None  # these checks are strict
    return facts.installation


def storage_codes(stem: str, missing: str = ERROR) -> dict[str, str]:
    """The codes of a directory that needs room."""
    return {
        f"{stem}_missing": missing,
        f"{stem}_not_directory": ERROR,
        f"{stem}_unreadable": ERROR,
        f"{stem}_low": ERROR,
        f"{stem}_ok": INFO,
    }


def storage_finding(stem: str, room: Room, least_mib: int) -> tuple[str, str]:
    """What is to say about a directory that has to exist and have `least_mib` free; 0 asks for none."""
    if room.place.status == "unreadable":
        return f"{stem}_unreadable", f"{room.path} cannot be looked at: {room.error}"
    if not room.exists or room.place.status == "missing":
        is_blocked = room.place.status == "found" and not room.place.is_directory
        return f"{stem}_missing", f"{room.path} does not exist" + (
            f": {room.place.path} is not a directory" if is_blocked else ""
        )
    if not room.place.is_directory:
        return f"{stem}_not_directory", f"{room.place.shown} is not a directory"
    if room.available_mib is None:
        return f"{stem}_unreadable", f"The free space of {room.place.shown} cannot be read: {room.error}"
    if room.available_mib < least_mib:
        said = f"{room.place.shown} has {mib(room.available_mib)} free, and {mib(least_mib)} have to be"
        return f"{stem}_low", said
    return f"{stem}_ok", f"{room.place.shown} has {mib(room.available_mib)} free"


@INSTALLATION.check(
    {"systemd_host_missing": ERROR, "systemd_host_unreadable": ERROR, "systemd_host_ok": INFO},
    inspects="`/run/systemd/system` and `systemctl --version`",
    remedy="Run doctor on the machine that will run the services, started by systemd (a container often is not)",
    strict=True,
)
def systemd_host(facts: Facts) -> Found:
    place, probe = installed(facts).systemd_place, installed(facts).systemd
    if place.status == "unreadable":
        yield "systemd_host_unreadable", f"{place.path} cannot be looked at: {place.error}"
    elif not place.is_directory:
        yield "systemd_host_missing", f"This machine does not run systemd: {place.path} is not there"
    elif probe is None or probe.status == "missing":
        yield "systemd_host_missing", "systemctl is not on the path"
    elif not probe.is_ok:
        yield "systemd_host_unreadable", f"systemctl does not answer: {probe.error}"
    else:
        yield "systemd_host_ok", probe.first_line


@INSTALLATION.check(
    {"systemd_units_invalid": ERROR, "systemd_units_unreadable": ERROR, "systemd_units_ok": INFO},
    inspects="`systemd-analyze verify` on the units that `render` would write, by what it prints",
    remedy="Change the setting that it names; `render --output-dir DIR` and `systemd-analyze verify DIR/*.service` "
    "show all of it",
    strict=True,
)
def systemd_units(facts: Facts) -> Found:
    verdict = installed(facts).units
    if verdict is None:
        return
    if verdict.status == "valid":
        yield "systemd_units_ok", "systemd takes the units without a word"
    elif verdict.status == "invalid":
        yield "systemd_units_invalid", f"systemd does not take the units: {verdict.error}"
    else:
        yield "systemd_units_unreadable", f"The units could not be verified: {verdict.error}"


@INSTALLATION.check(
    {"caddy_runtime_missing": ERROR, "caddy_runtime_unreadable": ERROR, "caddy_runtime_ok": INFO},
    inspects="`caddy version`",
    remedy="Install it (`apt-get install caddy`), name it with --caddy-binary, or pass --no-caddy when another proxy "
    "faces the network",
    strict=True,
)
def caddy_runtime(facts: Facts) -> Found:
    probe = installed(facts).caddy
    if probe is None:
        return
    if probe.status == "missing":
        yield "caddy_runtime_missing", f"There is no Caddy: {probe.error}"
    elif not probe.is_ok:
        yield "caddy_runtime_unreadable", f"Caddy does not work: {probe.error}"
    else:
        yield "caddy_runtime_ok", f"{facts.settings.caddy_binary}: Caddy {probe.first_line}"


@INSTALLATION.check(
    {"caddy_config_invalid": ERROR, "caddy_config_unreadable": ERROR, "caddy_config_ok": INFO},
    inspects="`caddy validate` on the Caddyfile that `render` would write",
    remedy="Change what it names, or install the Caddy that Debian 12 has, or a newer one; `render --output-dir DIR` "
    "and `caddy validate --adapter caddyfile --config DIR/Caddyfile` show all of it",
    strict=True,
)
def caddy_config(facts: Facts) -> Found:
    verdict = installed(facts).caddyfile
    if verdict is None:
        return
    if verdict.status == "valid":
        yield "caddy_config_ok", "Caddy takes the Caddyfile"
    elif verdict.status == "invalid":
        yield "caddy_config_invalid", f"Caddy does not take the Caddyfile: {verdict.error}"
    else:
        yield "caddy_config_unreadable", f"The Caddyfile could not be validated: {verdict.error}"


@INSTALLATION.check(
    storage_codes("caddy_storage", missing=WARN),
    inspects="`/var/lib/caddy`, where certificates are kept",
    remedy="Keep /var/lib/caddy, owned by Caddy's account, on a disk that lasts and has room: without it certificates "
    "are asked for again until the authority refuses",
    strict=True,
)
def caddy_storage(facts: Facts) -> Found:
    room = installed(facts).caddy_storage
    if room is not None:
        yield storage_finding("caddy_storage", room, facts.settings.min_free_mib)


@INSTALLATION.check(
    {
        "working_directory_missing": ERROR,
        "working_directory_not_directory": ERROR,
        "working_directory_unreadable": ERROR,
        "working_directory_home_protected": ERROR,
        "working_directory_private_tmp": ERROR,
        "working_directory_service_user_inaccessible": ERROR,
        "working_directory_ok": INFO,
    },
    inspects="the working directory of the gateway (`--cwd`)",
    remedy="Copy Ray's directory to /srv/ray with `umask 022`, or with `rsync --chmod=Du=rwx,Dgo=rx,Fu=rw,Fgo=r`, and "
    "pass --cwd /srv/ray: {user} has to read it, and a hardened service sees neither homes nor /tmp",
    strict=True,
)
def working_directory(facts: Facts) -> Found:
    place = installed(facts).working_directory
    if place.status == "missing":
        yield "working_directory_missing", f"The working directory {place.path} does not exist"
    elif place.status == "unreadable":
        yield "working_directory_unreadable", f"The working directory {place.path} cannot be looked at: {place.error}"
    elif not place.is_directory:
        yield "working_directory_not_directory", f"The working directory {place.shown} is not a directory"
    else:
        yield _seen(facts, "working_directory", place, "The working directory")


def _seen(facts: Facts, stem: str, place: Place, what: str) -> tuple[str, str]:
    """Whether a hardened service running as its account sees and may use what is there."""
    if (home := place.hidden_under(HOME_PROTECTED)) is not None:
        return f"{stem}_home_protected", f"{what} {place.shown} lies under {home}, which ProtectHome= hides"
    if (temporary := place.hidden_under(PRIVATE_TMP)) is not None:
        return f"{stem}_private_tmp", f"{what} {place.shown} lies under {temporary}, which PrivateTmp= hides"
    access = installed(facts).access.get(stem.removeprefix("gateway_"))
    if access is not None and access.status == "blocked":
        said = f"{what} {place.shown} is closed to {facts.settings.user}: {access.error}"
        return f"{stem}_service_user_inaccessible", said
    return f"{stem}_ok", f"{what} is {place.shown}"


@INSTALLATION.check(
    {
        "working_directory_storage_unreadable": ERROR,
        "working_directory_storage_low": ERROR,
        "working_directory_storage_ok": INFO,
    },
    inspects="free space at the working directory: the cushion, and at least 512 MiB",
    remedy="Free space there (`df -h`, `du -xsh`), or lower RAY_DEPLOY_MIN_FREE_STORAGE_MIB; 512 MiB have to stay",
    strict=True,
)
def working_directory_storage(facts: Facts) -> Found:
    room = installed(facts).working_directory_room
    if room is not None:
        least = max(SMALLEST_WORKING_ROOM_MIB, facts.settings.min_free_mib)
        code, said = storage_finding("working_directory_storage", room, least)
        gone = code.endswith(("_missing", "_not_directory"))  # since it was found a moment ago
        yield ("working_directory_storage_unreadable" if gone else code), said


@INSTALLATION.check(
    storage_codes("system_log_storage"),
    inspects="free space at `/var/log`",
    remedy="Make /var/log a directory with room for the journal (`journalctl --vacuum-size=200M`)",
    strict=True,
)
def system_log_storage(facts: Facts) -> Found:
    yield storage_finding("system_log_storage", installed(facts).log_room, facts.settings.min_free_mib)


@INSTALLATION.check(
    storage_codes("temporary_storage"),
    inspects="free space at `/tmp` and `/var/tmp`",
    remedy="Make both directories with mode 1777 and room in them; upgrades and staging need it",
    strict=True,
)
def temporary_storage(facts: Facts) -> Found:
    for room in installed(facts).temporary_rooms:
        yield storage_finding("temporary_storage", room, facts.settings.min_free_mib)


@INSTALLATION.check(
    {"env_file_missing_on_disk": ERROR, "env_file_unreadable": ERROR, "env_file_permissions_open": WARN},
    inspects="the file of `EnvironmentFile=`: there, regular, mode 0600",
    remedy="`install -D -m 0600 -o root -g root ray.env.example {env_file}`, or `chmod 600` for one that is there: "
    "only systemd, as root, reads it",
    strict=True,
)
def env_file(facts: Facts) -> Found:
    place = facts.env_file
    if place is None:
        return
    if place.status == "missing":
        yield "env_file_missing_on_disk", f"The env file {place.path} does not exist, so the service would not start"
    elif not place.is_file:
        yield "env_file_unreadable", f"The env file {place.path} {place.error or 'is not a regular file'}"
    elif place.mode & 0o077:
        yield "env_file_permissions_open", f"The env file {place.path} has mode {place.mode:04o}, open to others"


@INSTALLATION.check(
    {"service_user_missing": ERROR, "service_user_unreadable": ERROR, "service_user_ok": INFO},
    inspects="the account of the services",
    remedy="`useradd --system --home {cwd} --shell /usr/sbin/nologin {user}`, or name another account with --user "
    "(until it exists, nothing is tried in its name)",
    strict=True,
)
def service_user(facts: Facts) -> Found:
    account = installed(facts).account
    if account.status == "missing":
        yield "service_user_missing", f"There is no account {account.user}"
    elif account.status == "unreadable":
        yield "service_user_unreadable", f"The account {account.user} cannot be looked up: {account.error}"
    else:
        yield "service_user_ok", f"{account.user} has uid {account.uid} and group {account.group or account.gid}"


@INSTALLATION.check(
    {
        "config_file_home_protected": ERROR,
        "config_file_private_tmp": ERROR,
        "config_file_missing": ERROR,
        "config_file_unreadable": ERROR,
        "config_file_service_user_inaccessible": ERROR,
        "config_file_ok": INFO,
    },
    inspects="the config file, as the service will read it",
    remedy="`install -D -m 0640 -o root -g {group} {config} /etc/ray/ray.json`, then --config /etc/ray/ray.json",
    strict=True,
)
def config_file(facts: Facts) -> Found:
    place = installed(facts).config_file
    code, said = _seen(facts, "config_file", place, "The config file")
    is_hidden = code.endswith(("_home_protected", "_private_tmp"))
    if not is_hidden and place.status == "missing":
        yield "config_file_missing", f"The config file {place.path} does not exist"
    elif not is_hidden and not place.is_file:
        yield "config_file_unreadable", f"The config file {place.shown} {place.error or 'is not a regular file'}"
    else:
        yield code, said


@INSTALLATION.check(
    {
        "gateway_runtime_home_protected": ERROR,
        "gateway_runtime_private_tmp": ERROR,
        "gateway_runtime_missing": ERROR,
        "gateway_runtime_unreadable": ERROR,
        "gateway_runtime_service_user_inaccessible": ERROR,
        "gateway_runtime_ok": INFO,
    },
    inspects="the interpreter of the gateway (`--gateway-runtime-binary`)",
    remedy="`apt-get install python3`, or name a Python of 3.11 or newer at a system path with "
    "--gateway-runtime-binary",
    strict=True,
)
def gateway_runtime(facts: Facts) -> Found:
    place = installed(facts).runtime
    code, said = _seen(facts, "gateway_runtime", place, "The interpreter")
    version = installed(facts).version
    if code != "gateway_runtime_ok" and place.status == "found":
        yield code, said
    elif place.status == "missing":
        yield "gateway_runtime_missing", f"There is no interpreter at {place.path}"
    elif not place.is_program:
        yield "gateway_runtime_unreadable", f"The interpreter {place.shown} {place.error or 'is not executable'}"
    elif version is None or version.is_supported:  # with an unsupported one there is nothing good to say
        yield code, said


@INSTALLATION.check(
    {
        "gateway_runtime_version_unsupported": ERROR,
        "gateway_runtime_version_unreadable": ERROR,
        "gateway_runtime_version_ok": INFO,
    },
    inspects="the interpreter's version, asked as the service's account",
    remedy=f"Install Python {SUPPORTED_PYTHON} or newer (Debian 12 and Ubuntu 24.04 have it) and name it with "
    "--gateway-runtime-binary; it has to start as {user}",
    strict=True,
)
def gateway_runtime_version(facts: Facts) -> Found:
    version, place = installed(facts).version, installed(facts).runtime
    access = installed(facts).access.get("runtime")
    if version is None or (access is not None and access.status == "blocked"):
        return
    if version.text is None:
        yield "gateway_runtime_version_unreadable", f"{place.path} does not say its version: {version.error}"
    elif not version.is_supported:
        yield "gateway_runtime_version_unsupported", f"{place.shown} is Python {version.text}, which is too old"
    else:
        yield "gateway_runtime_version_ok", f"{place.shown} is Python {version.text}"


@INSTALLATION.check(
    {
        "gateway_entrypoint_missing": ERROR,
        "gateway_entrypoint_unreadable": ERROR,
        "gateway_entrypoint_home_protected": ERROR,
        "gateway_entrypoint_private_tmp": ERROR,
        "gateway_entrypoint_service_user_inaccessible": ERROR,
        "gateway_entrypoint_ok": INFO,
    },
    inspects="`ray/__main__.py` in the working directory",
    remedy="Copy the whole of Ray's directory there with readable modes: `umask 022`, or "
    "`rsync --chmod=Du=rwx,Dgo=rx,Fu=rw,Fgo=r`",
    strict=True,
)
def gateway_entrypoint(facts: Facts) -> Found:
    place = installed(facts).entrypoint
    if place.status == "missing":
        yield "gateway_entrypoint_missing", f"There is no Ray in the working directory: {place.path} does not exist"
    elif not place.is_file:
        yield "gateway_entrypoint_unreadable", f"{place.shown} {place.error or 'is not a regular file'}"
    else:
        yield _seen(facts, "gateway_entrypoint", place, "The gateway's entry point")


@INSTALLATION.check(
    {"gateway_entrypoint_import_failed": ERROR, "gateway_entrypoint_import_ok": INFO},
    inspects="`import ray` by that interpreter, as that account, without installed packages",
    remedy="Copy Ray's directory again, completely, and use a complete Python (Debian's python3 has all that Ray "
    "needs); `sudo -u {user} {runtime} -S -c 'import ray.gateway, ssl'` in {cwd} shows all of it",
    strict=True,
)
def gateway_import(facts: Facts) -> Found:
    if installed(facts).import_probe is None:
        return
    error = installed(facts).import_error
    if error is None:
        yield "gateway_entrypoint_import_ok", f"The checkout in {facts.settings.cwd} can be imported"
    else:
        yield "gateway_entrypoint_import_failed", f"The gateway cannot be imported: {error}"


@INSTALLATION.check(
    {"other_ray_installed": WARN},
    inspects="whether another package named `ray` is installed for that interpreter",
    remedy="`{runtime} -m pip uninstall ray`, or use an interpreter without it; the gateway itself is found first only "
    "because it runs in {cwd}, so start every command of Ray there",
    strict=True,
)
def other_ray(facts: Facts) -> Found:
    origin = installed(facts).other_ray
    if origin is not None:
        yield "other_ray_installed", f"Another package named ray (PyPI's is a different program) is installed: {origin}"
