"""Where a report goes: to stdout, and for every command that measures also to a file, a page and a history."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from ray.bench.processes.process import MeasurementError
from ray.bench.report.report_file import append_history, is_same_file, require_replaceable, require_writable, write_file
from ray.bench.report_page import report_page

# Lists of single measurements, at any depth: a history with them would hold a few reports only.
_MEASUREMENTS = frozenset({"samples", "queue", "passes", "pairs", "candidates"})
# The options of any command that name a file, or a directory, to be written.
_FILES = ("output", "html", "write_baseline", "plot", "write")
_DIRECTORIES = ("history_dir", "output_dir")
# Those that name a file of the operator's own, which a report must not replace.
_READ = ("config", "workload", "compare_with")

Progress = Callable[[str], None]


def require_outputs(options: argparse.Namespace) -> None:
    """Look whether everything can be written that the options ask for, before it is measured for minutes. Raises
    `MeasurementError` for the first that cannot."""
    taken = {name: path for name in _READ if (path := getattr(options, name, None)) is not None}
    for name in _FILES:
        path = getattr(options, name, None)
        if path is None:
            continue
        require_replaceable(Path(path))
        for other, other_path in taken.items():
            if is_same_file(path, other_path):
                raise MeasurementError(f"cannot write {path}: {_option(other)} names it too; name another file")
        taken[name] = path
        require_writable(Path(path).parent)
    for name in _DIRECTORIES:
        path = getattr(options, name, None)
        if path is not None:
            require_writable(Path(path))


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def write_outputs(
    options: argparse.Namespace, document: Mapping[str, object], files: Mapping[str, str], progress: Progress
) -> None:
    """Write the report wherever the options say, and the other files. Raises `MeasurementError` for what cannot be
    written, after everything else has been."""
    problems = []

    def attempt(write: Callable[[], None], path: str) -> None:
        try:
            write()
        except MeasurementError as error:
            problems.append(str(error))
        else:
            progress(f"wrote {path}")

    if options.output is not None:
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        attempt(partial(write_file, options.output, text), options.output)
    if options.history_dir is not None:
        kind, line = str(document["kind"]), history_line(document)
        attempt(partial(append_history, options.history_dir, kind, line), f"a line into {options.history_dir}")
    if options.html is not None:
        attempt(lambda: write_file(options.html, report_page(document)), options.html)
    for path, text in files.items():
        attempt(partial(write_file, path, text), path)
    if problems:
        raise MeasurementError("; ".join(problems))


def history_line(document: Mapping[str, object]) -> dict[str, object]:
    """The report without its single measurements: the figures that are looked back at."""
    return {
        name: history_line(part) if isinstance(part, dict) else part
        for name, part in document.items()
        if not (name in _MEASUREMENTS and isinstance(part, list))
    }
