"""`validate`: what can be said about a config from anywhere. Exit status 1 only for errors."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TextIO

from ray.deploy.diagnosis import print_diagnosis
from ray.deploy.facts import gather
from ray.deploy.settings import add_json_argument, add_settings_arguments, load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings_arguments(parser)
    parser.add_argument("--strict-filesystem", action="store_true", help="look at this host as doctor does")
    add_json_argument(parser)


def run(options: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    settings = load_settings(options, environ)
    return print_diagnosis(gather(settings, strict=settings.strict), out, as_json=options.json)
