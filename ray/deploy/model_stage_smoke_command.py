"""`model-stage-smoke`: can every public config be staged? Plans are made with an empty environment, for no machine."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TextIO

from ray.deploy.config_files import add_directory_arguments, config_files, directories, shown
from ray.deploy.failures import DeployError, UsageError
from ray.deploy.output import print_json, table
from ray.deploy.principals import principal_problem
from ray.deploy.settings import add_json_argument, load_settings
from ray.deploy.staging_plan import Sources, make_plan
from ray.deploy.staging_script import staging_steps
from ray.deploy.variables import DEFAULT_USER
from ray.errors import RayError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_directory_arguments(parser)
    parser.add_argument("--user", metavar="NAME|UID", default=DEFAULT_USER, help=f"(default: {DEFAULT_USER})")
    parser.add_argument("--group", metavar="NAME|GID", help="(default: the account's primary group)")
    add_json_argument(parser)


def run(options: argparse.Namespace, _environ: Mapping[str, str], out: TextIO) -> int:
    for option, problem in (
        ("--user", principal_problem(options.user)),
        ("--group", principal_problem(options.group or DEFAULT_USER)),
    ):
        if problem is not None:
            raise UsageError(f"{option} {problem}")
    cwd, directory = directories(options)
    paths = config_files(cwd, directory, ".public.json")
    results = [_result(path, cwd, options) for path in paths]
    errors = sum("errorMessage" in result for result in results)
    if options.json:
        counts = {"configCount": len(results), "stagedCount": len(results) - errors, "errorCount": errors}
        print_json({"ok": errors == 0, **counts, "results": results}, out)
    else:
        headings = ("", "CONFIG", "TARGET", "LLAMA-SERVER", "BESIDE THE MODEL", "STEPS")
        out.write(table([_row(result) for result in results], headings))
        out.write(f"{len(results) - errors} of {len(results)} configs can be staged\n")
    return 1 if errors else 0


def _result(path: str, cwd: str, options: argparse.Namespace) -> dict[str, object]:
    """One config's figures; with `errorMessage` when no plan can be made."""
    name = shown(path, cwd)
    chosen = argparse.Namespace(cwd=cwd, config=path, user=options.user)
    try:
        plan = make_plan(load_settings(chosen, {}), Sources(group=options.group), None)
    except (DeployError, RayError, OSError) as error:
        return {"configPath": name, "commandCount": 0, "errorCount": 1, "errorMessage": str(error)}
    figures = {"safeMemoryBudgetMiB": plan.limit_mib, "nonModelWorkingSetMiB": plan.without_model_mib}
    return {
        "configPath": name,
        "profile": plan.profile,
        "modelId": plan.model_id,
        "modelPath": plan.model.target,
        "binaryPath": plan.binary.target,
        "memoryBudgetMiB": plan.budget_mib,
        **{key: figure for key, figure in figures.items() if figure is not None},
        "commandCount": len(staging_steps(plan)),
        "errorCount": 0,
    }


def _row(result: Mapping[str, object]) -> tuple[str, ...]:
    if "errorMessage" in result:
        return ("ERROR", str(result["configPath"]), "", "", "", str(result["errorMessage"]))
    keys = ("memoryBudgetMiB", "safeMemoryBudgetMiB", "nonModelWorkingSetMiB")
    figures = (f"{result[key]} MiB" if key in result else "no limit" for key in keys)
    return ("ok", str(result["configPath"]), *figures, str(result["commandCount"]))
