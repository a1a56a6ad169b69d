"""`python -m ray.bench`: measure, print a table or JSON, write what was asked for.

Exit 0 when measuring worked, whatever came out; 1 when it did not, or when a budget (`--check`) or a baseline
(`--assert-baseline`) was missed; 2 for wrong usage. The report goes to stdout, progress and errors to stderr.
"""

from __future__ import annotations

import json
import signal
import sys
from types import FrameType

from ray.bench.command_line import parse_options
from ray.bench.commands import COMMANDS
from ray.bench.output import require_outputs, write_outputs
from ray.bench.processes.process import MeasurementError
from ray.bench.report.aligned import for_terminal
from ray.bench.report.shown import say_progress

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_STOPPED = 130


def main(argv: list[str] | None = None) -> int:
    """Run one bench command. `argv` without the program's name; the process's own when None."""
    options = parse_options(argv)
    # SIGTERM ends the bench like Ctrl-C does: the servers it started must not outlive it.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        require_outputs(options)
        shown = COMMANDS[options.command].show(options)
        # First to stdout: a full disk must not cost the minutes of measuring.
        report = json.dumps(shown.document, indent=2) + "\n" if options.json else for_terminal(shown.text)
        print(report, end="", flush=True)
        if "output" in options:
            write_outputs(options, shown.document, shown.files, say_progress)
    except (MeasurementError, OSError) as error:
        print(f"ray.bench: {for_terminal(str(error))}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("ray.bench: stopped", file=sys.stderr)
        return EXIT_STOPPED
    finally:
        signal.signal(signal.SIGTERM, before)
    failed = shown.broken or (shown.missed and options.check)
    return EXIT_FAILED if failed else EXIT_OK


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
