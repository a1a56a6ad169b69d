"""The commands of `python -m ray.deploy`, and the module of each.

A module is named `<command>_command.py` (`-` becomes `_`) and is loaded only when its command runs. It has two
functions: `add_arguments(parser)` and `run(options, environ, out) -> int`, the exit status: 0 fine, 1 findings or a
failure. `run` raises `DeployError` or `RayError` when it cannot go on, and `UsageError` when options do not go
together; the command line turns these into one line and an exit status.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib import import_module
from typing import Protocol, TextIO, cast


class CommandModule(Protocol):
    """What a module of a command offers."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the command's options."""

    @staticmethod
    def run(options: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
        """Do it, write the answer to `out`, and return the exit status."""


# Name and one line of help, in the order in which `--help` shows them.
COMMANDS: Mapping[str, str] = {
    "render": "make the unit files, the Caddyfile and an example of the env file for one config",
    "validate": "say what is wrong with a config, on any machine",
    "validate-all": "validate every config of a directory, and hold public ones to the public policy",
    "doctor": "say what is wrong with a config and the host that is to run it",
    "fit": "say what a model needs in memory, and the largest context that fits",
    "model-stage": "install llama-server and a model where a config expects them, or say how",
    "model-stage-smoke": "plan the staging of every public config",
    "swap-plan": "print a script that adds a swap file",
    "storage": "say whether there is room everywhere that a deploy writes to",
    "smoke": "render every public config as for its machine, and compare the reference files",
    "release-check": "say whether this tree is ready to be tagged as a version",
    "docs-links": "follow the links of every Markdown file",
    "gateway-smoke": "start a gateway with a config, ask it what a user and a stranger would, stop it",
}
DEFAULT_COMMAND = "render"


def command_module(name: str) -> CommandModule:
    """The module of a command in `COMMANDS`."""
    return cast(CommandModule, import_module(f"ray.deploy.{name.replace('-', '_')}_command"))
