"""`swap-plan`: print a shell script that adds a swap file and makes the kernel use it late. It changes nothing."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TextIO

from ray.deploy.env_file import read_env_file
from ray.deploy.failures import DeployError, UsageError
from ray.deploy.numbers import count_problem
from ray.deploy.output import mib, print_json, table
from ray.deploy.paths import path_option
from ray.deploy.settings import LARGEST_MIB, add_json_argument
from ray.deploy.swap_plan import (
    DEFAULT_MIN_FREE_AFTER_MIB,
    DEFAULT_PATH,
    DEFAULT_SIZE_MIB,
    DEFAULT_SWAPPINESS,
    LARGEST_SIZE_MIB,
    LARGEST_SWAPPINESS,
    SwapPlan,
    swap_path_problem,
    swap_script,
    swap_steps,
)
from ray.deploy.variables import MIN_FREE_VARIABLE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--path", metavar="PATH", help=f"the swap file (default: {DEFAULT_PATH})")
    parser.add_argument("--size-mib", metavar="N", help=f"its size (default: {DEFAULT_SIZE_MIB})")
    parser.add_argument(
        "--min-free-after-mib",
        metavar="N",
        help=f"what stays free on the disk (default: {MIN_FREE_VARIABLE}, or {DEFAULT_MIN_FREE_AFTER_MIB})",
    )
    parser.add_argument("--swappiness", metavar="N", help=f"vm.swappiness (default: {DEFAULT_SWAPPINESS})")
    parser.add_argument("--sysctl-only", action="store_true", help="only the swappiness, for a machine with swap")
    parser.add_argument(
        "--env-file", "--ray-env-file", dest="env_file", metavar="PATH", help="read values from this env file"
    )
    add_json_argument(parser)


def run(options: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    plan = _plan(options, environ)
    if options.json:
        print_json(_document(plan), out)
    else:
        out.write(_text(plan))
    return 0


def _plan(options: argparse.Namespace, environ: Mapping[str, str]) -> SwapPlan:
    swappiness = _number(options.swappiness, "--swappiness", DEFAULT_SWAPPINESS, 0, LARGEST_SWAPPINESS)
    if options.sysctl_only:
        for option in ("path", "size_mib", "min_free_after_mib"):
            if getattr(options, option) is not None:
                raise UsageError(f"--sysctl-only and --{option.replace('_', '-')} do not go together")
        return SwapPlan(swappiness=swappiness, sysctl_only=True)
    path = DEFAULT_PATH if options.path is None else options.path
    problem = swap_path_problem(path)
    if problem is not None:
        raise UsageError(f"--path {problem}")
    return SwapPlan(
        path=path,
        size_mib=_number(options.size_mib, "--size-mib", DEFAULT_SIZE_MIB, 1, LARGEST_SIZE_MIB),
        min_free_after_mib=_min_free(options, environ),
        swappiness=swappiness,
    )


def _min_free(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """The variable is judged only when its option is absent."""
    env_file = None if options.env_file is None else path_option(options.env_file, "--env-file")
    default = DEFAULT_MIN_FREE_AFTER_MIB
    if options.min_free_after_mib is None:
        values = dict(environ)
        if env_file is not None:
            values |= read_env_file(env_file).values
        text = values.get(MIN_FREE_VARIABLE, "").strip()
        if text and (problem := count_problem(text, 0, LARGEST_MIB)) is not None:
            raise DeployError(f"{MIN_FREE_VARIABLE} {problem}", code="deploy_variable_invalid")
        default = int(text) if text else default
    return _number(options.min_free_after_mib, "--min-free-after-mib", default, 0, LARGEST_MIB)


def _number(text: str | None, option: str, default: int, least: int, most: int) -> int:
    if text is None:
        return default
    problem = count_problem(text, least, most)
    if problem is not None:
        raise UsageError(f"{option} {problem}")
    return int(text)


def _document(plan: SwapPlan) -> dict[str, object]:
    return {
        "path": plan.path,
        "sizeMiB": plan.size_mib,
        "minFreeAfterMiB": plan.min_free_after_mib,
        "swappiness": plan.swappiness,
        "sysctlOnly": plan.sysctl_only,
        "commands": swap_steps(plan),
        "script": swap_script(plan),
    }


def _text(plan: SwapPlan) -> str:
    file_rows = [("file", plan.path), ("size", mib(plan.size_mib)), ("stays free", mib(plan.min_free_after_mib))]
    rows = [*([] if plan.sysctl_only else file_rows), ("swappiness", str(plan.swappiness))]
    return f"Swap plan\n\n{table(rows)}\nRun on the machine itself:\n\n{swap_script(plan)}\nThen run doctor again.\n"
