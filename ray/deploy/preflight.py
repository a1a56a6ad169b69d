"""The facts as they stand in JSON (`preflight`). What is not known, or was not looked at, is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ray.deploy.account import Access
from ray.deploy.backend_facts import Backend
from ray.deploy.facts import Facts
from ray.deploy.installation import Installation
from ray.deploy.places import Place, Room
from ray.deploy.probes import Probe

Pairs = Iterator[tuple[str, object]]


def preflight_document(facts: Facts) -> dict[str, object]:
    """Flat, in a fixed order."""
    return {key: value for key, value in _pairs(facts) if value is not None}


def _pairs(facts: Facts) -> Pairs:
    settings, sizing, swap = facts.settings, facts.sizing, facts.swap
    yield "hostMemoryMiB", facts.machine.memory_mib
    yield "hostCpuCount", facts.machine.cpu_count
    yield "hostArchitecture", facts.machine.architecture
    yield "caddySiteAddress", settings.domain.text if facts.proxy else None
    yield "memoryBudgetMiB", sizing.budget_mib
    yield "memoryBudgetSource", sizing.budget_source
    yield "swapStatus", swap.status
    yield "swapTotalMiB", swap.total_mib
    yield "swapFreeMiB", swap.free_mib
    yield "swapError", swap.error
    yield "swappinessStatus", "unreadable" if swap.swappiness is None else "available"
    yield "swappiness", swap.swappiness
    yield "swappinessError", swap.swappiness_error
    if facts.env_file is not None:
        yield "envFilePath", facts.env_file.path
        yield "envFileStatus", _file_status(facts.env_file)
        yield "envFileMode", f"{facts.env_file.mode:04o}" if facts.env_file.status == "found" else None
        yield "envFileError", facts.env_file.error
    yield "serviceUser", settings.user
    if facts.installation is not None:
        yield from _installation(facts, facts.installation)
    if facts.backend is not None:
        yield from _backend(facts.backend)
    yield "prefixStoreVerdict", facts.store_verdict
    if facts.jobs is not None:
        yield from _job_storage(facts.jobs, facts.jobs_access)


def _installation(facts: Facts, found: Installation) -> Pairs:
    account = found.account
    yield "serviceUserStatus", account.status
    if account.status == "found":
        yield "serviceUserUid", account.uid
        yield "serviceUserGid", account.gid
        yield "serviceUserPrimaryGroup", account.group
        yield "serviceUserGroupIds", list(account.groups)
    yield "serviceUserError", account.error
    yield "systemdStatus", _tool_status(found.systemd) if found.systemd else "missing"
    yield "systemdVersion", found.systemd.first_line if found.systemd and found.systemd.is_ok else None
    yield "systemdError", (found.systemd.error if found.systemd else None) or found.systemd_place.error
    yield "systemdUnitStatus", found.units.status if found.units else None
    yield "systemdUnitError", found.units.error if found.units else None
    if found.caddy is not None:
        yield "caddyStatus", _tool_status(found.caddy)
        yield "caddyBinaryPath", facts.settings.caddy_binary
        yield "caddyVersion", found.caddy.first_line if found.caddy.is_ok else None
        yield "caddyError", found.caddy.error
        yield "caddyConfigStatus", found.caddyfile.status if found.caddyfile else None
        yield "caddyConfigError", found.caddyfile.error if found.caddyfile else None
    if found.caddy_storage is not None:
        yield from _storage("caddyStorage", found.caddy_storage)
    yield from _place("workingDirectory", found.working_directory, found.access.get("working_directory"))
    if found.working_directory_room is not None:
        yield "workingDirectoryStorageStatus", _room_status(found.working_directory_room)
        yield "workingDirectoryAvailableMiB", found.working_directory_room.available_mib
        yield "workingDirectoryStorageError", found.working_directory_room.error
    yield from _storage("systemLogStorage", found.log_room)
    yield "temporaryStorageChecks", [_storage_document(room) for room in found.temporary_rooms]
    yield from _place("configFile", found.config_file, found.access.get("config_file"))
    yield from _place("gatewayRuntimeBinary", found.runtime, found.access.get("runtime"))
    yield from _runtime(found)
    yield from _place("gatewayEntrypoint", found.entrypoint, found.access.get("entrypoint"))
    if found.import_probe is not None:
        yield "gatewayEntrypointImportStatus", "ok" if found.import_error is None else "failed"
        yield "gatewayEntrypointImportError", found.import_error


def _runtime(found: Installation) -> Pairs:
    version = found.version
    if version is not None:
        yield "gatewayRuntimeKind", "python"
        yield "gatewayRuntimeVersion", version.text
        status = "unreadable" if version.text is None else "ok" if version.is_supported else "too_old"
        yield "gatewayRuntimeVersionStatus", status
        yield "gatewayRuntimeVersionError", version.error


def _backend(found: Backend) -> Pairs:
    yield from _place("llamaCppBinary", found.binary, found.access.get("binary"))
    if found.probe is not None:
        yield "llamaCppBinaryProbeStatus", "ok" if found.probe.is_ok else "failed"
        yield "llamaCppBinaryProbeError", found.probe.error
        if found.probe.is_ok:
            unsupported = list(found.unsupported_flags)
            yield "llamaCppBinaryLaunchFlagsStatus", "unsupported" if unsupported else "ok"
            yield "llamaCppBinaryUnsupportedLaunchFlags", unsupported or None
    yield from _place("modelFile", found.model, found.access.get("model"))
    yield "modelFileBytes", found.model.size if found.model.is_file else None
    if found.model_file is not None:
        unusable = "unreadable" if found.model_file.is_unreadable else "invalid"
        yield "modelFileFormatStatus", "ok" if found.model_file.error is None else unusable
        yield "modelFileFormatError", found.model_file.error
        memory = found.model_file.memory
        yield "modelMemoryMiB", memory.total_mib if memory else None
        yield "modelLargestContext", found.model_file.largest_context
    if found.prefixes is not None:
        yield from _storage("prefixStoreStorage", found.prefixes)


def _job_storage(room: Room, access: Access | None) -> Pairs:
    stem = "asyncQueueStorage"
    yield f"{stem}Path", room.path
    yield f"{stem}CheckPath", room.place.path
    yield f"{stem}CheckRealPath", room.place.real_path
    yield f"{stem}Status", "not_directory" if _is_something_else(room) else _room_status(room)
    yield f"{stem}AvailableMiB", room.available_mib
    yield f"{stem}AvailableInodes", room.available_inodes
    yield f"{stem}Error", room.error
    yield from _access(stem, access)
    yield f"{stem}ManagedByStateDirectory", room.is_managed or None


def _place(stem: str, place: Place, access: Access | None) -> Pairs:
    yield f"{stem}Path", place.path
    yield f"{stem}RealPath", place.real_path
    yield f"{stem}Status", place.status
    yield f"{stem}Error", place.error
    yield from _access(stem, access)


def _access(stem: str, access: Access | None) -> Pairs:
    if access is not None:
        yield f"{stem}AccessStatus", access.status
        yield f"{stem}AccessError", access.error


def _storage(stem: str, room: Room) -> Pairs:
    for key, value in _storage_document(room).items():
        yield f"{stem}{key[0].upper()}{key[1:]}", value


def _storage_document(room: Room) -> Mapping[str, object]:
    document = {
        "path": room.path,
        "realPath": room.place.real_path if room.exists else None,
        "status": _room_status(room) if room.exists or room.place.status == "unreadable" else "missing",
        "availableMiB": room.available_mib if room.exists else None,
        "error": room.error,
    }
    return {key: value for key, value in document.items() if value is not None}


def _room_status(room: Room) -> str:
    if _is_something_else(room):
        return "not_directory"
    return "unreadable" if room.available_mib is None else "found"


def _is_something_else(room: Room) -> bool:
    return room.place.status == "found" and not room.place.is_directory


def _file_status(place: Place) -> str:
    return "unreadable" if place.status == "found" and not place.is_file else place.status


def _tool_status(probe: Probe) -> str:
    return {"ok": "available", "missing": "missing", "failed": "unreadable"}[probe.status]
