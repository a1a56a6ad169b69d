"""Looking at the files to install, before anything is written. A checksum comes before the first run of a program."""

from __future__ import annotations

import grp
import hashlib
import os
from collections.abc import Mapping, Sequence
from io import FileIO

from ray.deploy.account import read_account
from ray.deploy.failures import DeployError
from ray.deploy.launch_flags import MAX_NAMED_FLAGS, missing_flags
from ray.deploy.probes import HELP_CAP_BYTES, Identity, run_probe
from ray.deploy.reading import open_regular
from ray.deploy.staging_plan import LARGEST_BINARY_BYTES, Artifact, StagingPlan
from ray.deploy.variables import ARTIFACTS_DIRECTORY, MEMORY_VARIABLE
from ray.providers import GgufError, read_gguf
from ray.types import ceil_mib

GGUF_MAGIC = b"GGUF"
CHUNK_BYTES = 1 << 20
READ_SECONDS = 3.0


def check_sources(plan: StagingPlan, environ: Mapping[str, str], identity: Identity | None) -> None:
    """Are both files what they should be, and is there memory for them? Raises `DeployError` with the remedy.

    `identity`: whom the program runs as while it is asked for its flags; None: whoever runs this.
    """
    for artifact in (plan.binary, plan.model):
        if artifact.source is None:
            raise DeployError(f"No {artifact.name} to install: name it with {artifact.option} or {artifact.variable}")
    binary, model = source_of(plan.binary), source_of(plan.model)
    binary_bytes = source_bytes(binary)
    if binary_bytes > LARGEST_BINARY_BYTES:
        raise DeployError(f"{binary} has {binary_bytes} bytes; a llama-server has at most {LARGEST_BINARY_BYTES}")
    check_sha256(binary, plan.binary.sha256)
    check_memory(plan, source_bytes(model))
    check_program(binary, plan.flags, environ, identity)
    check_gguf(model)
    check_sha256(model, plan.model.sha256)


def source_of(artifact: Artifact) -> str:
    """The source of an artifact of which it is known that it has one."""
    assert artifact.source is not None
    return artifact.source


def service_identity(plan: StagingPlan) -> Identity:
    """The account of the services, without further groups. Raises `DeployError` when there is no such account or group.

    A number without an account is taken as it is where a group is named.
    """
    account = read_account(plan.user)
    if account.status == "unreadable":
        raise DeployError(f"The account {plan.user} cannot be looked up: {account.error}")
    if account.status == "missing" and not (plan.user.isdigit() and plan.group is not None):
        create = "name its group with --group" if plan.user.isdigit() else f"useradd --system {plan.user}"
        raise DeployError(f"There is no account {plan.user}: create it first ({create}), or name another with --user")
    uid = account.uid if account.status == "found" else int(plan.user)
    if plan.group is None:
        return Identity(uid, account.gid)
    gid = _group_number(plan.group)
    if gid is None:
        raise DeployError(f"There is no group {plan.group}: create it first, or name another with --group")
    return Identity(uid, gid)


def _group_number(group: str) -> int | None:
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None


def open_source(path: str) -> FileIO:
    """A regular file open for reading, symbolic links followed. Raises `DeployError`."""
    try:
        return open_regular(path)
    except OSError as error:
        raise DeployError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as problem:
        raise DeployError(f"{path} {problem}") from None


def source_bytes(path: str) -> int:
    """The size of a source. Raises `DeployError` as `open_source` does."""
    with open_source(path) as file:
        return os.fstat(file.fileno()).st_size


def check_memory(plan: StagingPlan, model_bytes: int) -> None:
    """Does llama-server stay within its unit with this model? Nothing is known when its prompt cache has no limit."""
    if plan.limit_mib is None or plan.without_model_mib is None:
        return
    model_mib = max(1, ceil_mib(model_bytes))
    needed = model_mib + plan.without_model_mib
    if needed > plan.limit_mib:
        raise DeployError(
            f"The model does not fit into memory: {model_mib} MiB of file and {plan.without_model_mib} MiB beside it "
            f"make {needed} MiB, and llama-server may use {plan.limit_mib} MiB of a target of {plan.budget_mib} MiB "
            f"({plan.budget_source}). Take a smaller model or context (`fit` says which), or a larger machine "
            f"({MEMORY_VARIABLE})."
        )


def check_sha256(path: str, expected: str | None) -> None:
    """Has the file this SHA-256, if one is expected? Raises `DeployError`."""
    if expected is None:
        return
    digest = hashlib.sha256()
    with open_source(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        raise DeployError(f"{path} has SHA-256 {digest.hexdigest()}, not {expected}: fetch it again")


def check_gguf(path: str) -> None:
    """Is it a complete GGUF file? A download that broke off shows by its header. Raises `DeployError`."""
    with open_source(path) as file:
        magic = file.read(len(GGUF_MAGIC))
    if len(magic) < len(GGUF_MAGIC):
        raise DeployError(f"{path} is no GGUF file: it has {len(magic)} bytes, less than the header")
    if magic != GGUF_MAGIC:
        raise DeployError(f"{path} is no GGUF file: it does not begin with GGUF")
    try:
        read_gguf(path)
    except GgufError as error:
        raise DeployError(str(error)) from None


def check_program(path: str, flags: Sequence[str], environ: Mapping[str, str], identity: Identity | None) -> None:
    """Does the program start, and does its help name all `flags`? Raises `DeployError` with what it said."""
    if not os.stat(path).st_mode & 0o111:
        raise DeployError(f"{path} is not executable: chmod +x")
    probe = run_probe([path, "--help"], environ, cap=HELP_CAP_BYTES, identity=identity, cwd="/")
    if not probe.is_ok:
        who = ""
        if identity is not None and os.geteuid() == 0:
            who = f" (run as uid {identity.uid}, which has to reach it: {ARTIFACTS_DIRECTORY} is a good place)"
        raise DeployError(f"The startup probe failed{who}: {probe.error}")
    missing = missing_flags(flags, probe.output)
    if missing:
        named = " ".join(missing[:MAX_NAMED_FLAGS]) + (" ..." if len(missing) > MAX_NAMED_FLAGS else "")
        raise DeployError(f"{path} does not know {named}: install a newer llama-server")


def check_service_reads(path: str, environ: Mapping[str, str], identity: Identity) -> None:
    """Can the service read the model? Its first bytes are read as that account. Raises `DeployError`."""
    command = ["head", "-c", str(len(GGUF_MAGIC)), "--", path]
    probe = run_probe(command, environ, seconds=READ_SECONDS, identity=identity, cwd="/")
    if not probe.is_ok or probe.stdout.encode() != GGUF_MAGIC:
        raise DeployError(
            f"The account of the service (uid {identity.uid}, gid {identity.gid}) cannot read {path}: "
            f"{probe.error or 'it reads something else'}. Open the directories above it to that account."
        )
