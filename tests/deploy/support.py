"""What the tests of the deploy commands share."""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping
from pathlib import Path

from ray.deploy.command_line import main
from ray.deploy.settings import DeploySettings, add_settings_arguments, load_settings

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/config"
EXAMPLE_NAMES = sorted(path.name for path in EXAMPLES.iterdir())
KEYS = {"RAY_API_KEYS": "a-key-for-tests"}


def settings_for(
    arguments: list[str] | tuple[str, ...] = (), environ: Mapping[str, str] = KEYS, *, example: str = ""
) -> DeploySettings:
    """Settings as a command gets them. `example`: the name of an example config; without it the default one."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_settings_arguments(parser)
    parser.add_argument("--systemd-env-file")
    parser.add_argument("--output-dir")
    chosen = ["--config", str(EXAMPLES / example)] if example else []
    return load_settings(parser.parse_args(["--cwd", str(ROOT), *chosen, *arguments]), environ)


def run(*arguments: str, environ: Mapping[str, str] = KEYS) -> tuple[int, str]:
    """Exit status and standard output of one command."""
    out = io.StringIO()
    status = main(arguments, environ, out)
    return status, out.getvalue()
