"""`render`: unit files, Caddyfile and env example for one config, printed or put into a directory.

Nothing is printed or written while there is an error among the findings; warnings do not stop it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TextIO

from ray.deploy.bundle import make_bundle
from ray.deploy.checks import diagnose
from ray.deploy.facts import gather
from ray.deploy.failures import DeployError
from ray.deploy.findings import Finding
from ray.deploy.output import count_of, findings_table, print_json, table
from ray.deploy.preflight import preflight_document
from ray.deploy.settings import add_json_argument, add_settings_arguments, load_settings

MAX_NAMED_CODES = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings_arguments(parser)
    parser.add_argument(
        "--systemd-env-file", metavar="PATH", help="path for EnvironmentFile= in the unit; the file is not read"
    )
    parser.add_argument("--output-dir", metavar="PATH", help="write the files into this directory")
    parser.add_argument("--strict-filesystem", action="store_true", help="look at this host as doctor does")
    parser.add_argument(
        "--node",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="a gateway of a pool; two or more make a second Caddyfile in front of all of them (Caddyfile.pool)",
    )
    add_json_argument(parser)


def run(options: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    settings = load_settings(options, environ)
    facts = gather(settings, strict=settings.strict)
    findings = diagnose(facts)
    _refuse_errors(findings, settings.strict)
    bundle = make_bundle(settings, facts.sizing, findings, preflight_document(facts), options.node)
    if settings.output_dir is None:
        if options.json:
            print_json(bundle.document(), out)
        else:
            out.write(bundle.text())
        return 0
    try:
        written = bundle.write(settings.output_dir)
    except OSError as error:
        raise DeployError(f"Cannot write into {settings.output_dir}: {error.strerror or error}") from None
    if options.json:
        print_json({"files": written}, out)
    else:
        out.write(table(written.items()) + "\n")
        told = [finding for finding in findings if finding.level == "warn"]
        out.write(findings_table(told) + count_of(findings) + "\n")
    return 0


def _refuse_errors(findings: list[Finding], strict: bool) -> None:
    codes = [finding.code for finding in findings if finding.level == "error"]
    if not codes:
        return
    named = ", ".join(codes[:MAX_NAMED_CODES]) + (", ..." if len(codes) > MAX_NAMED_CODES else "")
    command = "doctor" if strict else "validate"
    raise DeployError(
        f"Render refused: {len(codes)} error{'' if len(codes) == 1 else 's'} ({named}). "
        f"Run `{command}` with the same options to read what to do.",
        code="render_refused",
    )
