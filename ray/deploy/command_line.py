"""The command line of `python -m ray.deploy COMMAND [options]`.

Without a command, or when the first word is an option, the command is `render`. `-h` works anywhere, `help` as a
command too. A bare `--` is skipped. With `--json` a failure is JSON as well: `{"ok": false, "error": {...}}`. Exit
status: 0 fine, 1 findings or a failure, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from ray.deploy.commands import COMMANDS, DEFAULT_COMMAND, command_module
from ray.deploy.failures import DeployError, UsageError
from ray.deploy.output import print_json
from ray.errors import RayError
from ray.telemetry import discard_output

PROGRAM = "python -m ray.deploy"
MAX_ARGUMENTS = 64
MAX_ARGUMENT_BYTES = 4_096

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None, out: TextIO | None = None) -> int:
    """Run one command; the exit status. Without arguments: the process's own."""
    if out is None:
        # None when the caller has closed it (`>&-`): then only the exit status is wanted.
        out = sys.stdout if sys.stdout is not None else io.StringIO()
    try:
        arguments = _checked(sys.argv[1:] if argv is None else argv)
        status = _run(arguments, os.environ if environ is None else environ, out)
        out.flush()
    except UsageError as error:
        _say(f"{error}\nTry: {PROGRAM} --help")
        return EXIT_USAGE
    except BrokenPipeError:
        discard_output(out)  # the reader has seen enough (`| head`): neither an error nor a traceback
        return EXIT_OK
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError as error:
        _say(str(error))
        return EXIT_FAILED
    return status


def _checked(argv: Sequence[str]) -> list[str]:
    """The arguments without bare separators. Raises `UsageError`: too many, too long, or a NUL inside."""
    if len(argv) > MAX_ARGUMENTS:
        raise UsageError(f"at most {MAX_ARGUMENTS} arguments are allowed, not {len(argv)}")
    for position, argument in enumerate(argv, start=1):
        if "\0" in argument or len(os.fsencode(argument)) > MAX_ARGUMENT_BYTES:
            raise UsageError(f"argument {position} must be at most {MAX_ARGUMENT_BYTES} bytes, without NUL")
    return [argument for argument in argv if argument != "--"]


def _run(arguments: list[str], environ: Mapping[str, str], out: TextIO) -> int:
    name, rest = _command(arguments)
    if name is None:
        out.write(_overview())
        return EXIT_OK
    module = command_module(name)
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} {name}", description=f"{COMMANDS[name][:1].upper()}{COMMANDS[name][1:]}.", allow_abbrev=False
    )
    module.add_arguments(parser)
    try:
        options = parser.parse_args(rest)
    except SystemExit as leaving:  # --help ends with 0, wrong usage with 2
        return leaving.code if isinstance(leaving.code, int) else EXIT_USAGE
    try:
        return module.run(options, environ, out)
    except (DeployError, RayError) as error:
        if getattr(options, "json", False):
            print_json({"ok": False, "error": {"code": error.code, "message": str(error)}}, out)
        else:
            _say(str(error))
        return EXIT_FAILED


def _command(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The command and its options; None when an overview is asked for. Raises `UsageError` for an unknown one."""
    first = arguments[0] if arguments else ""
    if first in ("-h", "--help", "help"):
        return None, []
    if not first or first.startswith("-"):
        return DEFAULT_COMMAND, arguments
    if first not in COMMANDS:
        raise UsageError(f"unknown command {first!r}{_nearest(first)}")
    return first, arguments[1:]


def _nearest(word: str) -> str:
    import difflib  # only a mistake needs it

    close = difflib.get_close_matches(word, COMMANDS, n=1)
    return f": did you mean {close[0]}?" if close else ""


def _overview() -> str:
    width = max((len(name) for name in COMMANDS), default=0)
    lines = "".join(f"  {name:<{width}}  {meaning}\n" for name, meaning in COMMANDS.items())
    return (
        f"usage: {PROGRAM} COMMAND [options]\n\n"
        "Put Ray on a box of your own, and keep it well.\n\n"
        f"commands (without one: {DEFAULT_COMMAND}):\n{lines}\n"
        f"{PROGRAM} COMMAND --help explains one command.\n"
        "Exit status: 0 fine, 1 findings or a failure, 2 wrong usage.\n"
    )


def _say(message: str) -> None:
    print(f"ray.deploy: {message}", file=sys.stderr)
