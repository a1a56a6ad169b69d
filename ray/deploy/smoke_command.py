"""`smoke`: render every public config as for a machine it is made for, and compare the reference files with a render.

Nothing is written, and nothing of this machine counts: no `RAY_*` variable, no disk, no processor. No secrets are
needed, so that public configs warn of keys that could not be verified.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from ray.deploy.bundle import make_bundle
from ray.deploy.checks import diagnose
from ray.deploy.config_files import add_directory_arguments, config_files, directories, shown
from ray.deploy.facts import gather
from ray.deploy.failures import DeployError
from ray.deploy.findings import Finding, count
from ray.deploy.output import MARKS, mib, print_json, table
from ray.deploy.paths import absolute
from ray.deploy.reference import DOMAIN, ENV_FILE, MACHINE, Reference, compare_reference, write_reference
from ray.deploy.settings import add_json_argument, load_settings
from ray.deploy.sizing import Sizing
from ray.deploy.variables import DEFAULT_RUNTIME, DEFAULT_USER
from ray.errors import RayError

PUBLIC_SUFFIX = ".public.json"
# Examples for backends of their own, which are meant to face the internet behind Caddy as well.
MORE_CONFIGS = ("ray.vps.json", "ray.balanced.json")


@dataclass(frozen=True, slots=True)
class Rendered:
    """One config. `profile`, `sizing`: None when it could not be rendered."""

    path: str
    profile: str | None
    sizing: Sizing | None
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        return count(self.findings, "error")

    @property
    def warnings(self) -> int:
        return count(self.findings, "warn")

    def document(self) -> dict[str, object]:
        """As it stands in JSON."""
        backend = self.sizing.backend if self.sizing else None
        return {
            "configPath": self.path,
            "profile": self.profile,
            "hasLlamaCppService": backend is not None,
            **self._limits(),
            "diagnostics": [finding.document() for finding in self.findings],
            "errorCount": self.errors,
            "warningCount": self.warnings,
        }

    def _limits(self) -> dict[str, int]:
        if self.sizing is None:
            return {}
        gateway, backend = self.sizing.gateway, self.sizing.backend
        limits = {"gatewayMemoryMaxMiB": gateway.max_mib, "gatewayMemorySwapMaxMiB": gateway.swap_max_mib}
        if backend is None:
            return limits
        return limits | {"llamaCppMemoryMaxMiB": backend.max_mib, "llamaCppMemorySwapMaxMiB": backend.swap_max_mib}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_directory_arguments(parser)
    parser.add_argument("--domain", metavar="ADDR", default=DOMAIN, help=f"address of the site (default: {DOMAIN})")
    parser.add_argument(
        "--gateway-runtime-binary",
        "--gateway-runtime",
        metavar="PATH",
        default=DEFAULT_RUNTIME,
        help=f"interpreter of the gateway (default: {DEFAULT_RUNTIME})",
    )
    parser.add_argument("--user", metavar="NAME|UID", default=DEFAULT_USER, help=f"account (default: {DEFAULT_USER})")
    parser.add_argument(
        "--systemd-env-file", metavar="PATH", default=ENV_FILE, help=f"path for EnvironmentFile= (default: {ENV_FILE})"
    )
    parser.add_argument("--update", action="store_true", help="write the reference files anew, then compare")
    parser.add_argument("--verbose", action="store_true", help="show warnings")
    add_json_argument(parser)


def run(options: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """0: everything renders, and the reference files are what is rendered now."""
    cwd, directory = directories(options)
    paths = _configs(cwd, directory)
    if options.update:
        write_reference(cwd, directory)
    clean = {name: text for name, text in environ.items() if not name.startswith("RAY_")}
    results = [_rendered(path, cwd, options, clean) for path in paths]
    reference = compare_reference(cwd, directory)
    errors = sum(result.errors for result in results) + len(reference.findings)
    warnings = sum(result.warnings for result in results)
    if options.json:
        document = {
            "ok": not errors,
            "configCount": len(results),
            "errorCount": errors,
            "warningCount": warnings,
            "results": [result.document() for result in results],
            "staticExample": reference.document(),
        }
        print_json(document, out)
    else:
        out.write(_text(results, reference, verbose=options.verbose))
        out.write(f"{len(results)} configs, {errors} errors, {warnings} warnings\n")
    return 1 if errors else 0


def _configs(cwd: str, directory: str) -> list[str]:
    public = config_files(cwd, directory, PUBLIC_SUFFIX)
    more = [os.path.join(absolute(directory, cwd), name) for name in MORE_CONFIGS]
    return public + [path for path in more if os.path.isfile(path)]


def _rendered(path: str, cwd: str, options: argparse.Namespace, environ: Mapping[str, str]) -> Rendered:
    """One config, as far as it can be rendered. Raises `UsageError` for an option that no config could use."""
    told = argparse.Namespace(
        cwd=cwd,
        config=path,
        domain=options.domain,
        user=options.user,
        gateway_runtime_binary=options.gateway_runtime_binary,
        systemd_env_file=options.systemd_env_file,
    )
    try:
        settings = load_settings(told, environ)
        facts = gather(settings, strict=False, storage=False, machine=MACHINE)
        findings = diagnose(facts)
        make_bundle(settings, facts.sizing, findings, {})
    except (DeployError, RayError, OSError) as error:
        return Rendered(shown(path, cwd), None, None, (Finding("error", "deploy_render_failed", str(error)),))
    return Rendered(shown(path, cwd), settings.loaded.config.profile, facts.sizing, tuple(findings))


def _text(results: Sequence[Rendered], reference: Reference, *, verbose: bool) -> str:
    rows = [("", "config", "profile", "gateway", "backend", "")]
    for result in results:
        rows.append((_mark(result), result.path, result.profile or "-", *_shown_limits(result.sizing), _counts(result)))
    text = table(rows) + "\n"
    for result in results:
        for finding in result.findings:
            if finding.level == "error" or (verbose and finding.level == "warn"):
                text += f"{MARKS[finding.level]}  {result.path}  {finding.code}: {finding.message}\n"
    for finding in reference.findings:
        text += f"{MARKS[finding.level]}  {finding.code}: {finding.message}\n"
    if not reference.findings:
        text += "The reference files are what is rendered now.\n"
    return text


def _mark(result: Rendered) -> str:
    return "FAIL" if result.errors else "WARN" if result.warnings else "OK"


def _shown_limits(sizing: Sizing | None) -> tuple[str, str]:
    if sizing is None:
        return "-", "-"
    return mib(sizing.gateway.max_mib), "-" if sizing.backend is None else mib(sizing.backend.max_mib)


def _counts(result: Rendered) -> str:
    return f"{result.errors} errors, {result.warnings} warnings"
