"""The command line of `python -m ray.bench`: what was asked for, checked before anything is measured."""

from __future__ import annotations

import argparse

from ray.bench.commands import COMMANDS


def parse_options(argv: list[str] | None) -> argparse.Namespace:
    """The options, checked. Ends the process with usage and exit 2 when they make no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m ray.bench",
        description="Measure, tune and compare what this machine delivers with Ray. COMMAND --help says more.",
        epilog="Exit codes: 0 measured; 1 not measured, or less than was asked for; 2 wrong usage; 130 stopped.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        command.add(commands)
    options = parser.parse_args(argv)
    problem = COMMANDS[options.command].problem(options)
    if problem:
        parser.error(problem)
    return options
