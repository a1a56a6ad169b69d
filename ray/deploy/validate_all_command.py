"""`validate-all`: every config of a directory, and for public ones the policy of what may face the internet.

The configs may be meant for other machines, so neither the environment nor the disks of this one count: only API keys
are taken from the environment, or a placeholder. An exception is one error of its file, and the others go on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from ray.deploy.checks import diagnose
from ray.deploy.config_files import add_directory_arguments, config_files, directories, shown
from ray.deploy.facts import gather
from ray.deploy.failures import DeployError
from ray.deploy.findings import Finding, count
from ray.deploy.machine import Machine, read_machine
from ray.deploy.output import MARKS, print_json
from ray.deploy.public_policy import is_public_name, policy_findings, unreadable_policy
from ray.deploy.settings import add_json_argument, load_settings
from ray.errors import RayError

KEYS_VARIABLE = "RAY_API_KEYS"
PLACEHOLDER_KEY = "ray-config-smoke"
DOMAIN = "ray.example.com"  # where a site is reached is not the config's business


@dataclass(frozen=True, slots=True)
class Result:
    """One file. `profile`: None when it could not be loaded."""

    path: str
    profile: str | None
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        return count(self.findings, "error")

    @property
    def warnings(self) -> int:
        return count(self.findings, "warn")

    def document(self) -> dict[str, object]:
        """As it stands in JSON."""
        return {
            "configPath": self.path,
            "profile": self.profile,
            "diagnostics": [finding.document() for finding in self.findings],
            "errorCount": self.errors,
            "warningCount": self.warnings,
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_directory_arguments(parser)
    parser.add_argument("--fail-on-warn", action="store_true", help="exit with 1 for warnings, too")
    parser.add_argument("--verbose", action="store_true", help="show warnings")
    add_json_argument(parser)


def run(options: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    cwd, directory = directories(options)
    keys = environ.get(KEYS_VARIABLE, "")
    results = validate_directory(cwd, directory, keys if keys.strip() else PLACEHOLDER_KEY, read_machine())
    errors, warnings = sum(result.errors for result in results), sum(result.warnings for result in results)
    is_ok = not errors and not (warnings and options.fail_on_warn)
    if options.json:
        document = {
            "ok": is_ok,
            "failOnWarn": options.fail_on_warn,
            "configCount": len(results),
            "errorCount": errors,
            "warningCount": warnings,
            "results": [result.document() for result in results],
        }
        print_json(document, out)
    else:
        out.write(_text(results, errors, warnings, with_warnings=options.verbose or options.fail_on_warn))
    return 0 if is_ok else 1


def validate_directory(cwd: str, directory: str, keys: str, machine: Machine) -> list[Result]:
    """Every `*.json` of `directory`, sorted. Raises `DeployError`: outside `cwd`, unreadable, none, or too many."""
    return [_validated(cwd, path, keys, machine) for path in config_files(cwd, directory)]


def _validated(cwd: str, path: str, keys: str, machine: Machine) -> Result:
    name = shown(path, cwd)
    problem = unreadable_policy(path) if is_public_name(path) else None
    if problem is not None:
        return Result(name, None, (problem,))
    options = argparse.Namespace(cwd=cwd, config=path, domain=DOMAIN)
    try:
        settings = load_settings(options, {KEYS_VARIABLE: keys})
        facts = gather(settings, strict=False, storage=False, machine=machine)
        findings = [*diagnose(facts), *policy_findings(path, settings.loaded.config)]
    except (RayError, DeployError) as error:
        return Result(name, None, (Finding("error", "config_validation_failed", str(error)),))
    return Result(name, settings.loaded.config.profile, tuple(findings))


def _text(results: list[Result], errors: int, warnings: int, *, with_warnings: bool) -> str:
    lines = []
    for result in results:
        mark = "FAIL" if result.errors else "WARN" if result.warnings else "OK"
        counts = f"{result.errors} errors, {result.warnings} warnings"
        lines.append(f"{mark:<4}  {result.path}  {result.profile or '-'}  {counts}")
        for finding in result.findings:
            if finding.level == "error" or (finding.level == "warn" and with_warnings):
                lines.append(f"      {MARKS[finding.level]}  {finding.code}  {finding.message}")
    lines.append(f"{len(results)} configs, {errors} errors, {warnings} warnings")
    if warnings and not with_warnings:
        lines.append("--verbose shows the warnings.")
    return "\n".join(lines) + "\n"
