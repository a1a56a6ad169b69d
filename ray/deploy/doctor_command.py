"""`doctor`: everything that can be said about a config and the host that runs it; `--list` explains the checks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TextIO

from ray.deploy.check_list import checks_document, checks_markdown, checks_text
from ray.deploy.diagnosis import print_diagnosis
from ray.deploy.facts import gather
from ray.deploy.failures import UsageError
from ray.deploy.output import print_json
from ray.deploy.settings import add_json_argument, add_settings_arguments, load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings_arguments(parser)
    parser.add_argument("--no-caddy", action="store_true", help="another proxy faces the network: do not ask for Caddy")
    parser.add_argument("--list", action="store_true", help="list all checks instead of running them")
    parser.add_argument("--markdown", action="store_true", help="with --list: as docs/doctor.md")
    add_json_argument(parser)


def run(options: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    if options.markdown and (options.json or not options.list):
        raise UsageError("--markdown goes with --list, and not with --json")
    if options.list:
        if options.json:
            print_json(checks_document(), out)
        else:
            out.write(checks_markdown() if options.markdown else checks_text())
        return 0
    settings = load_settings(options, environ)
    return print_diagnosis(gather(settings, strict=True, proxy=not options.no_caddy), out, as_json=options.json)
