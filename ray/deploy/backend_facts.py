"""The backend that this machine runs: its program, its model file, its directory of prompt prefixes. Never raises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ray.config import LaunchProfile
from ray.deploy.account import Access, Account, Need, access_of, room_need
from ray.deploy.launch_flags import missing_flags, required_flags
from ray.deploy.places import Place, Room, look_at, room_at
from ray.deploy.probes import HELP_CAP_BYTES, LOOK_SECONDS, Probe, run_probe, within
from ray.deploy.settings import DeploySettings
from ray.deploy.sizing import Sizing
from ray.providers import (
    Gguf,
    GgufError,
    ModelMemory,
    largest_context,
    launch_arguments,
    memory_of,
    read_gguf,
    server_shape,
)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What the GGUF header says. `is_unreadable`: it could not be read; otherwise `error` is what is wrong with it.
    `memory`: None without a usable header. `largest_context`: the most tokens that fit the unit comfortably."""

    error: str | None = None
    is_unreadable: bool = False
    memory: ModelMemory | None = None
    largest_context: int | None = None


@dataclass(frozen=True, slots=True)
class Backend:
    """`model_file`: None when there is no such file. `probe` and `access` only in strict mode, where an account is."""

    launch: LaunchProfile
    binary: Place
    model: Place
    model_file: ModelFile | None
    prefixes: Room | None
    probe: Probe | None
    access: Mapping[str, Access]
    flags: tuple[str, ...]

    @property
    def unsupported_flags(self) -> tuple[str, ...]:
        """Flags of the generated command that the program's own help does not know, sorted."""
        if self.probe is None or not self.probe.is_ok:
            return ()
        return missing_flags(self.flags, self.probe.output)


def look_at_backend(
    settings: DeploySettings, launch: LaunchProfile, sizing: Sizing, account: Account | None
) -> Backend:
    """`account`: None when not strict; then nothing is run and no access is tried."""
    config = settings.loaded.config
    binary, model = look_at(launch.binary_path), look_at(launch.model_path)
    prefixes = room_at(config.prefix_store.storage_dir) if config.prefix_store.enabled else None
    wanted: dict[str, tuple[str, Need]] = {}
    if binary.is_program:
        wanted["binary"] = (binary.path, "x")
    if model.is_file:
        wanted["model"] = (model.path, "r")
    if prefixes is not None and prefixes.place.is_directory:
        wanted["prefixes"] = (prefixes.place.path, room_need(prefixes))
    access = access_of(account, wanted, settings.process_environ)
    probe = None
    if account is not None and account.identity is not None and binary.is_program:
        probe = run_probe(
            [launch.binary_path, "--help"],
            settings.process_environ,
            cap=HELP_CAP_BYTES,
            identity=account.identity,
            cwd="/",
        )
    return Backend(
        launch=launch,
        binary=binary,
        model=model,
        model_file=_model_file(settings, launch, sizing) if model.is_file else None,
        prefixes=prefixes,
        probe=probe,
        access=access,
        flags=required_flags(launch_arguments(launch, config.prefix_store)),
    )


def _model_file(settings: DeploySettings, launch: LaunchProfile, sizing: Sizing) -> ModelFile:
    return within(
        LOOK_SECONDS,
        lambda: _read_model(settings, launch, sizing),
        lambda error: ModelFile(error, is_unreadable=True),
    )


def _read_model(settings: DeploySettings, launch: LaunchProfile, sizing: Sizing) -> ModelFile:
    try:
        gguf = read_gguf(launch.model_path)
    except GgufError as error:
        return ModelFile(str(error), is_unreadable=isinstance(error.__cause__, OSError))
    shape = server_shape(launch, settings.loaded.config.prefix_store)
    try:
        memory = memory_of(gguf, shape)
        return ModelFile(memory=memory, largest_context=_largest(gguf, memory, sizing))
    except GgufError as error:
        return ModelFile(str(error))


def _largest(gguf: Gguf, memory: ModelMemory, sizing: Sizing) -> int | None:
    return None if sizing.backend is None else largest_context(gguf, memory.server, sizing.backend.high_mib)
