"""What has to be installed for a config's backend: which files, where, for whom, and whether there is memory for them.

The plan is made from the config and its environment. Where the model file to install can be read, its header says what
it needs in memory (`fit`); otherwise the rule of thumb of `sizing` does.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ray.config import LaunchProfile, LlamaCppAdapter
from ray.deploy.account import read_account
from ray.deploy.config_files import shown
from ray.deploy.failures import DeployError, UsageError
from ray.deploy.launch_flags import required_flags
from ray.deploy.paths import absolute, normalised, path_problem
from ray.deploy.settings import DeploySettings
from ray.deploy.sizing import Sizing, estimated_working_set, launch_profile, size
from ray.deploy.variables import (
    BINARY_SHA256_VARIABLE,
    BINARY_SOURCE_VARIABLE,
    MEMORY_VARIABLE,
    MIN_FREE_VARIABLE,
    MODEL_SHA256_VARIABLE,
    MODEL_SOURCE_VARIABLE,
)
from ray.providers import launch_arguments, model_memory
from ray.types import ceil_mib

SMALLEST_BINARY_RESERVE_MIB = 64
SMALLEST_MODEL_RESERVE_MIB = 256
LARGEST_BINARY_BYTES = 512 << 20
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

BudgetSource = Literal["env", "config", "host"]


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file to install. `source`: absolute, None when none was named. `reserve_mib`: what has to stay free beside
    it. `option`, `variable`: how its source is named."""

    name: Literal["llama-server", "model"]
    target: str
    source: str | None
    sha256: str | None
    reserve_mib: int
    option: str
    variable: str

    @property
    def directory(self) -> str:
        return os.path.dirname(self.target)

    @property
    def is_in_place(self) -> bool:
        """Is the source the target itself, so that there is nothing to copy?"""
        return self.source is not None and _place(self.source) == _place(self.target)

    @property
    def temporary_prefix(self) -> str:
        """How the names of half-made copies beside the target begin."""
        # A name has at most 255 bytes, and the end of this one must be free for something random.
        base = os.fsencode(os.path.basename(self.target))[:180]
        return f".ray-stage-{base.decode('utf-8', 'ignore')}-"


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingPlan:
    """`group`: None when none was named; `shown_group` is then the primary group of the account, or its name where
    there is no such account yet. `limit_mib`, `without_model_mib`: the backend's `MemoryMax=`, and what it needs of it
    beside the model file; None when its prompt cache has no limit. `is_measured`: that was read from the model file."""

    config_path: str
    profile: str
    model_id: str
    launch: LaunchProfile
    model_ref: str
    user: str
    group: str | None
    shown_group: str
    binary: Artifact
    model: Artifact
    budget_mib: int
    budget_source: BudgetSource
    limit_mib: int | None
    without_model_mib: int | None
    is_measured: bool
    flags: tuple[str, ...]

    @property
    def share_a_directory(self) -> bool:
        return self.binary.directory == self.model.directory


@dataclass(frozen=True, slots=True)
class Sources:
    """What the operator wants to install, and for whom; paths absolute, checksums in lower case."""

    binary: str | None = None
    binary_sha256: str | None = None
    model: str | None = None
    model_sha256: str | None = None
    group: str | None = None


def read_sources(options: argparse.Namespace, environ: Mapping[str, str], cwd: str) -> Sources:
    """Options, else variables. Raises `UsageError` for a bad option, `DeployError` naming a bad variable."""
    return Sources(
        binary=_path(options.binary_source, "--binary-source", environ, BINARY_SOURCE_VARIABLE, cwd),
        binary_sha256=_sha256(options.binary_sha256, "--binary-sha256", environ, BINARY_SHA256_VARIABLE),
        model=_path(options.source, "--source", environ, MODEL_SOURCE_VARIABLE, cwd),
        model_sha256=_sha256(options.sha256, "--sha256", environ, MODEL_SHA256_VARIABLE),
        group=options.group,
    )


def _path(option: str | None, name: str, environ: Mapping[str, str], variable: str, cwd: str) -> str | None:
    if option is not None:
        problem = path_problem(option)
        if problem is not None:
            raise UsageError(f"{name} {problem}")
        return absolute(option, cwd)
    text = environ.get(variable, "")
    if not text.strip():
        return None
    problem = path_problem(text) or ("must not contain control characters" if _CONTROL.search(text) else None)
    if problem is not None:
        raise DeployError(f"{variable} {problem}", code="deploy_variable_invalid")
    return absolute(text, cwd)


def _sha256(option: str | None, name: str, environ: Mapping[str, str], variable: str) -> str | None:
    text = (environ.get(variable, "") if option is None else option).strip()
    if _SHA256.fullmatch(text):
        return text.lower()
    if option is not None:
        raise UsageError(f"{name} must be a SHA-256: 64 hexadecimal digits")
    if text:
        raise DeployError(f"{variable} must be a SHA-256: 64 hexadecimal digits", code="deploy_variable_invalid")
    return None


def make_plan(settings: DeploySettings, sources: Sources, host_memory_mib: int | None) -> StagingPlan:
    """The plan. `host_memory_mib`: memory of the machine it is for, None when it is for none in particular.

    Raises `DeployError` when the config launches no backend, a target path cannot be used, or the memory target holds
    no backend at all.
    """
    config = settings.loaded.config
    launch = launch_profile(config)
    if launch is None or not isinstance(config.model.adapter, LlamaCppAdapter):
        raise DeployError(
            f"{settings.config_path} starts no llama-server: staging needs model.adapter.kind llama.cpp with a "
            "launchProfile"
        )
    sizing = _sizing(settings, host_memory_mib)
    assert sizing.backend is not None  # there is a launch profile
    assert sizing.budget_mib is not None
    binary, model = _artifacts(launch, sources, _deploy_reserve(settings))
    estimate = estimated_working_set(config, launch, 0)  # None: without limit, whatever the header says
    measured = None if estimate is None else _measured(model, settings, launch)
    return StagingPlan(
        config_path=shown(settings.config_path, settings.cwd),
        profile=config.profile,
        model_id=config.model.id,
        launch=launch,
        model_ref=config.model.adapter.model_ref,
        user=settings.user,
        group=sources.group,
        shown_group=sources.group or _primary_group(settings.user),
        binary=binary,
        model=model,
        budget_mib=sizing.budget_mib,
        budget_source=_budget_source(sizing),
        limit_mib=None if estimate is None else sizing.backend.max_mib,
        without_model_mib=estimate.without_model_mib if estimate is not None and measured is None else measured,
        is_measured=measured is not None,
        flags=required_flags(launch_arguments(launch, config.prefix_store)),
    )


def _artifacts(launch: LaunchProfile, sources: Sources, deploy_reserve_mib: int) -> tuple[Artifact, Artifact]:
    binary = Artifact(
        "llama-server",
        _target(launch.binary_path, "launchProfile.binaryPath"),
        sources.binary,
        sources.binary_sha256,
        max(SMALLEST_BINARY_RESERVE_MIB, deploy_reserve_mib),
        "--binary-source",
        BINARY_SOURCE_VARIABLE,
    )
    model = Artifact(
        "model",
        _target(launch.model_path, "launchProfile.modelPath"),
        sources.model,
        sources.model_sha256,
        max(SMALLEST_MODEL_RESERVE_MIB, deploy_reserve_mib),
        "--source",
        MODEL_SOURCE_VARIABLE,
    )
    return binary, model


def _target(path: str, key: str) -> str:
    problem = path_problem(path)
    if problem is None and not path.startswith("/"):
        problem = "must be an absolute path"
    if problem is None and (path.endswith("/") or normalised(path) == "/"):
        problem = "must name a file"
    if problem is not None:
        raise DeployError(f"{key} {problem}, to install something there")
    return normalised(path)


def _sizing(settings: DeploySettings, host_memory_mib: int | None) -> Sizing:
    # Without a machine the target is taken as it is: no machine has less than this.
    sizing = size(settings.loaded.config, host_memory_mib or 1 << 40, settings.memory_mib)
    if sizing.is_below_floor:
        raise DeployError(
            f"A memory target of {sizing.budget_mib} MiB is too small: {sizing.reserve_mib} MiB for the system, "
            f"{sizing.gateway.max_mib} MiB for the gateway and 512 MiB for llama-server make {sizing.floor_mib} MiB. "
            f"Take a larger machine, or correct {MEMORY_VARIABLE}."
        )
    return sizing


def _budget_source(sizing: Sizing) -> BudgetSource:
    if sizing.budget_source == "override":
        return "env"
    return "host" if sizing.budget_source == "host" else "config"


def _deploy_reserve(settings: DeploySettings) -> int:
    """`RAY_DEPLOY_MIN_FREE_STORAGE_MIB` where it is set: unlike elsewhere its default is no reserve of its own."""
    if settings.min_free_problem is not None:
        raise DeployError(f"{MIN_FREE_VARIABLE} {settings.min_free_problem}", code="deploy_variable_invalid")
    return settings.min_free_mib if settings.environ.get(MIN_FREE_VARIABLE, "").strip() else 0


def _measured(model: Artifact, settings: DeploySettings, launch: LaunchProfile) -> int | None:
    """MiB beside the model file, by its header; None when that cannot be read or the prompt cache has no limit."""
    if model.source is None:
        return None
    memory = model_memory(model.source, launch, settings.loaded.config.prefix_store)
    if memory is None or memory.total_mib is None:
        return None
    try:
        return max(0, memory.total_mib - ceil_mib(os.stat(model.source).st_size))
    except OSError:
        return None


def _primary_group(user: str) -> str:
    account = read_account(user)
    if account.status != "found":
        return user
    return account.group or str(account.gid)


def _place(path: str) -> str:
    """Where a file of this name stands, whichever way its directory is reached."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
