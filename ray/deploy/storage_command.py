"""`storage`: is there room everywhere that a deploy writes to? Directories that are not there yet are looked at where
they will be made. The env file is read, never run, and only its paths and its threshold are kept."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TextIO

from ray.deploy.env_file import read_env_file
from ray.deploy.failures import DeployError, UsageError
from ray.deploy.numbers import count_problem
from ray.deploy.output import mib, print_json, table
from ray.deploy.paths import from_here, normalised, path_option, path_problem
from ray.deploy.places import above, look_at
from ray.deploy.probes import LOOK_SECONDS, within
from ray.deploy.settings import LARGEST_MIB, add_json_argument
from ray.deploy.variables import (
    BINARY_SOURCE_VARIABLE,
    DEFAULT_MIN_FREE_MIB,
    MIN_FREE_VARIABLE,
    MODEL_SOURCE_VARIABLE,
)
from ray.host import read_storage
from ray.types import MIB

MAX_PATHS = 20
DEFAULT_PATHS = (
    "/",
    "/var/cache/apt",
    "/var/lib/apt",
    "/etc/ray",
    "/etc/systemd/system",
    "/etc/caddy",
    "/var/lib/caddy",
    "/srv/ray",
    "/var/lib/ray",
    "/var/log",
    "/tmp",
    "/var/tmp",
)
# Of several names the first that is set counts. The service's own paths have to be absolute.
SERVICE_VARIABLES = (
    ("RAY_MODEL_PATH", "RAY_LLAMA_CPP_MODEL_PATH"),
    ("RAY_LLAMA_CPP_BINARY_PATH",),
    ("RAY_ASYNC_QUEUE_STORAGE_DIR",),
)
SOURCE_VARIABLES = (BINARY_SOURCE_VARIABLE, MODEL_SOURCE_VARIABLE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--path",
        action="append",
        metavar="PATH",
        help=f"look here instead of where a deploy writes; absolute, at most {MAX_PATHS} times",
    )
    parser.add_argument(
        "--min-free-mib",
        metavar="N",
        help=f"what has to be free; 0: only report (default: {MIN_FREE_VARIABLE}, or {DEFAULT_MIN_FREE_MIB})",
    )
    parser.add_argument(
        "--env-file", "--ray-env-file", dest="env_file", metavar="PATH", help="read paths and threshold from here"
    )
    add_json_argument(parser)


def run(options: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    values = {} if options.env_file is None else read_env_file(path_option(options.env_file, "--env-file")).values
    threshold, source = _threshold(options.min_free_mib, values, environ)
    paths = _named_paths(options.path) if options.path else _usual_paths(values)
    checks = [_check(path, threshold) for path in paths]
    ok = all(check.ok for check in checks)
    if options.json:
        documents = [check.document() for check in checks]
        print_json({"ok": ok, "minFreeStorageMiB": threshold, "checks": documents}, out)
        return 0 if ok else 1
    out.write(table([("OK" if check.ok else "LOW", f"{check.shown}:", check.words) for check in checks]))
    if not ok:
        out.write(f"Less than {threshold} MiB free ({source}): make room, or lower {MIN_FREE_VARIABLE}.\n")
    return 0 if ok else 1


@dataclass(frozen=True, slots=True)
class _Check:
    """`place`: the nearest directory or file that exists. `real_place`: where that leads, when somewhere else."""

    path: str
    place: str
    real_place: str | None
    threshold_mib: int
    available_mib: int

    @property
    def ok(self) -> bool:
        return self.available_mib >= self.threshold_mib

    @property
    def shown(self) -> str:
        if self.place != self.path:
            return f"{self.path} (checked {self.place}{f' -> {self.real_place}' if self.real_place else ''})"
        return f"{self.path} (resolves to {self.real_place})" if self.real_place else self.path

    @property
    def words(self) -> str:
        return f"{mib(self.available_mib)} free"

    def document(self) -> dict[str, object]:
        real = {} if self.real_place is None else {"checkRealPath": self.real_place}
        return {
            "path": self.path,
            "checkPath": self.place,
            **real,
            "minFreeStorageMiB": self.threshold_mib,
            "availableMiB": self.available_mib,
            "ok": self.ok,
        }


def _check(path: str, threshold_mib: int) -> _Check:
    """Raises `DeployError` when something on the way does not answer: then nothing can be said."""
    for candidate in (path, *reversed(above(path))):
        place = look_at(candidate)
        if place.status == "missing":
            continue
        reading = within(LOOK_SECONDS, partial(read_storage, candidate), lambda _: None)
        if place.status == "unreadable" or reading is None:
            raise DeployError(f"{candidate} cannot be looked at: {place.error or 'no figures of its file system'}")
        return _Check(path, candidate, place.real_path, threshold_mib, reading.available_bytes // MIB)
    raise DeployError(f"{path} cannot be looked at")


def _threshold(option: str | None, values: Mapping[str, str], environ: Mapping[str, str]) -> tuple[int, str]:
    """MiB, and where they come from."""
    if option is not None:
        problem = count_problem(option, 0, LARGEST_MIB)
        if problem is not None:
            raise UsageError(f"--min-free-mib {problem}")
        return int(option), "flag"
    for source, variables in (("env-file", values), ("env", environ)):
        text = variables.get(MIN_FREE_VARIABLE, "").strip()
        if text:
            problem = count_problem(text, 0, LARGEST_MIB)
            if problem is not None:
                raise DeployError(f"{MIN_FREE_VARIABLE} {problem}", code="deploy_variable_invalid")
            return int(text), source
    return DEFAULT_MIN_FREE_MIB, "default"


def _named_paths(paths: list[str]) -> list[str]:
    for path in paths:
        problem = path_problem(path) or (None if path.startswith("/") else "must be an absolute path")
        if problem is not None:
            raise UsageError(f"--path {problem}")
    if len(paths) > MAX_PATHS:
        raise UsageError(f"--path may be given at most {MAX_PATHS} times, not {len(paths)}")
    return list(dict.fromkeys(normalised(path) for path in paths))


def _usual_paths(values: Mapping[str, str]) -> list[str]:
    paths = dict.fromkeys(DEFAULT_PATHS)
    for names in SERVICE_VARIABLES:
        name = next((name for name in names if values.get(name, "").strip()), None)
        if name is not None:
            paths[_variable_path(name, values[name], must_be_absolute=True)] = None
    for name in SOURCE_VARIABLES:
        if values.get(name, "").strip():
            paths[_variable_path(name, values[name], must_be_absolute=False)] = None
    if len(paths) > MAX_PATHS:
        raise DeployError(f"The env file makes {len(paths)} paths to look at; at most {MAX_PATHS} are allowed")
    return list(paths)


def _variable_path(name: str, text: str, *, must_be_absolute: bool) -> str:
    """The service's own paths have to be absolute; sources may be named from the directory one stands in."""
    problem = path_problem(text)
    if problem is None and must_be_absolute and not text.startswith("/"):
        problem = "must be an absolute path"
    if problem is not None:
        raise DeployError(f"{name} {problem}", code="deploy_variable_invalid")
    return from_here(text)
