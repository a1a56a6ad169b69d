"""`model-stage`: install llama-server and a model where a config expects them.

Without an option of its own it only says what it would do; `--check-sources` looks at the files, `--apply` installs
them, `--commands-only` prints a shell script that does the same without Ray on the machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from os import geteuid
from typing import TextIO

from ray.deploy.failures import UsageError
from ray.deploy.machine import read_machine
from ray.deploy.output import print_json, table
from ray.deploy.principals import principal_problem
from ray.deploy.settings import DEFAULT_CONFIG, add_json_argument, load_settings
from ray.deploy.staging_apply import apply
from ray.deploy.staging_checks import check_sources, service_identity
from ray.deploy.staging_plan import StagingPlan, make_plan, read_sources
from ray.deploy.staging_script import staging_script, staging_steps
from ray.deploy.variables import (
    BINARY_SHA256_VARIABLE,
    BINARY_SOURCE_VARIABLE,
    DEFAULT_USER,
    MODEL_SHA256_VARIABLE,
    MODEL_SOURCE_VARIABLE,
    USER_VARIABLE,
)

REMINDER = "Run doctor before you restart ray-llama-cpp.service."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cwd", metavar="PATH", help="base of relative paths (default: this directory)")
    parser.add_argument("--config", metavar="PATH", help=f"Ray config (default: {DEFAULT_CONFIG})")
    parser.add_argument(
        "--env-file", "--ray-env-file", dest="env_file", metavar="PATH", help="read values from this env file"
    )
    parser.add_argument(
        "--user", metavar="NAME|UID", help=f"account of the services (default: {USER_VARIABLE}, or {DEFAULT_USER})"
    )
    parser.add_argument("--group", metavar="NAME|GID", help="group of the model (default: the account's primary group)")
    parser.add_argument(
        "--binary-source", metavar="PATH", help=f"the llama-server to install (default: {BINARY_SOURCE_VARIABLE})"
    )
    parser.add_argument("--binary-sha256", metavar="HEX", help=f"its SHA-256 (default: {BINARY_SHA256_VARIABLE})")
    parser.add_argument("--source", metavar="PATH", help=f"the GGUF to install (default: {MODEL_SOURCE_VARIABLE})")
    parser.add_argument("--sha256", metavar="HEX", help=f"its SHA-256 (default: {MODEL_SHA256_VARIABLE})")
    parser.add_argument("--check-sources", action="store_true", help="look at the files, and write nothing")
    parser.add_argument("--apply", action="store_true", help="look at the files and install them")
    parser.add_argument("--commands-only", action="store_true", help="print only the shell script")
    add_json_argument(parser)


def run(options: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    if options.commands_only and (options.json or options.apply):
        raise UsageError(f"--commands-only and {'--json' if options.json else '--apply'} do not go together")
    if options.group is not None and (problem := principal_problem(options.group)) is not None:
        raise UsageError(f"--group {problem}")
    settings = load_settings(options, environ)
    sources = read_sources(options, settings.environ, settings.cwd)
    plan = make_plan(settings, sources, read_machine().memory_mib)
    if options.apply:
        warnings = apply(plan, environ)
        _report(plan, warnings, options.json, out)
        return 0
    if options.check_sources:
        # Root never runs a program that is not installed yet; everybody else runs it as themselves.
        check_sources(plan, environ, service_identity(plan) if geteuid() == 0 else None)
    if options.commands_only:
        out.write(staging_script(plan))
    elif options.json:
        print_json(plan_document(plan), out)
    else:
        out.write(plan_text(plan, checked=options.check_sources))
    return 0


def plan_document(plan: StagingPlan) -> dict[str, object]:
    """The plan as JSON. `workingSetSource`: `model-file` when the figure comes from the model's header."""
    optional: dict[str, object | None] = {
        "binarySourcePath": plan.binary.source,
        "binarySha256": plan.binary.sha256,
        "sourcePath": plan.model.source,
        "sha256": plan.model.sha256,
    }
    memory: dict[str, object | None] = {
        "safeMemoryBudgetMiB": plan.limit_mib,
        "nonModelWorkingSetMiB": plan.without_model_mib,
        "workingSetSource": None if plan.limit_mib is None else "model-file" if plan.is_measured else "estimate",
    }
    return {
        "configPath": plan.config_path,
        "profile": plan.profile,
        "modelId": plan.model_id,
        "adapterKind": "llama.cpp",
        "modelRef": plan.model_ref,
        "alias": plan.launch.alias,
        "binaryPath": plan.binary.target,
        "binaryDirectory": plan.binary.directory,
        "modelPath": plan.model.target,
        "modelDirectory": plan.model.directory,
        "host": plan.launch.host,
        "port": plan.launch.port,
        "serviceUser": plan.user,
        "serviceGroup": plan.shown_group,
        **_present(optional),
        "memoryBudgetMiB": plan.budget_mib,
        "memoryBudgetSource": plan.budget_source,
        **_present(memory),
        "binaryStorageReserveMiB": plan.binary.reserve_mib,
        "modelStorageReserveMiB": plan.model.reserve_mib,
        "requiredLaunchFlags": list(plan.flags),
        "commands": staging_steps(plan),
        "script": staging_script(plan),
    }


def _present(values: Mapping[str, object | None]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def plan_text(plan: StagingPlan, *, checked: bool) -> str:
    """The plan for people: what, where, for whom, then the script."""
    binary, model = plan.binary, plan.model
    rows = [
        ("config", f"{plan.config_path} ({plan.profile})"),
        ("model", f"{plan.model_id}, asked for as {plan.model_ref}, served as {plan.launch.alias or plan.model_ref}"),
        ("backend", f"{plan.launch.host}:{plan.launch.port}, {binary.target}"),
        ("model file", model.target),
        ("owner", f"{plan.user}:{plan.shown_group}"),
        ("llama-server from", binary.source or f"(name it with {binary.option} or {binary.variable})"),
        ("GGUF from", model.source or f"(name it with {model.option} or {model.variable})"),
        *([("SHA-256 of llama-server", binary.sha256)] if binary.sha256 else []),
        *([("SHA-256 of the GGUF", model.sha256)] if model.sha256 else []),
        ("memory", _memory_words(plan)),
        ("launch flags", f"{len(plan.flags)} that llama-server must know"),
        ("sources", "both are what they should be" if checked else "not looked at (--check-sources)"),
    ]
    return (
        f"Staging plan\n\n{table(rows)}\n"
        "Run on the machine itself: the same command with --apply, or this script:\n\n"
        f"{staging_script(plan)}\n{REMINDER}\n"
    )


def _memory_words(plan: StagingPlan) -> str:
    target = f"target {plan.budget_mib} MiB ({plan.budget_source})"
    if plan.limit_mib is None:
        return f"{target}; the prompt cache has no limit, so nothing can be promised"
    how = "by the model's header" if plan.is_measured else "by rule of thumb, on the safe side"
    return f"{target}, llama-server may use {plan.limit_mib} MiB, {plan.without_model_mib} MiB beside the model ({how})"


def _report(plan: StagingPlan, warnings: list[str], as_json: bool, out: TextIO) -> None:
    if as_json:
        document: dict[str, object] = {"applied": True, "binaryProbeStatus": "ok", "modelReadStatus": "ok"}
        if warnings:
            document["warnings"] = warnings
        print_json(document | {"plan": plan_document(plan)}, out)
        return
    rows = [
        ("llama-server", plan.binary.target, "installed; it starts and knows its flags"),
        ("model", plan.model.target, "installed; the account of the service reads it"),
        ("owner", f"{plan.user}:{plan.shown_group}", "of the model"),
        *(("warning", text, "") for text in warnings),
    ]
    verified = [artifact.name for artifact in (plan.binary, plan.model) if artifact.sha256]
    unverified = [artifact.name for artifact in (plan.binary, plan.model) if not artifact.sha256]
    out.write(table(rows))
    if verified:
        out.write(f"SHA-256 verified, of source and copy: {', '.join(verified)}.\n")
    if unverified:
        out.write(f"No SHA-256 was given for: {', '.join(unverified)}.\n")
    out.write(f"{REMINDER}\n")
