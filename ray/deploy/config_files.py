"""Finding the configs of a directory, for the commands that go through all of them."""

from __future__ import annotations

import argparse
import os
import stat

from ray.deploy.failures import DeployError
from ray.deploy.paths import absolute, path_option, under

MAX_CONFIGS = 128
DEFAULT_CONFIG_DIRECTORY = "examples/config"


def add_directory_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `directories` reads."""
    parser.add_argument("--cwd", metavar="PATH", default=".", help="base of relative paths (default: this directory)")
    parser.add_argument(
        "--config-dir",
        metavar="PATH",
        default=DEFAULT_CONFIG_DIRECTORY,
        help=f"directory of the configs, inside --cwd (default: {DEFAULT_CONFIG_DIRECTORY})",
    )


def directories(options: argparse.Namespace) -> tuple[str, str]:
    """The working directory and the directory of the configs, absolute. Raises `UsageError`, `DeployError`."""
    cwd = path_option(options.cwd, "--cwd")
    return cwd, path_option(options.config_dir, "--config-dir", cwd)


def config_files(cwd: str, directory: str, suffix: str = ".json", *, most: int = MAX_CONFIGS) -> list[str]:
    """The regular files in `directory` whose names end in `suffix`, sorted by path. A symbolic link does not count.

    `directory`: relative to `cwd`, and inside it. Raises `DeployError` when it lies outside, cannot be read, or holds
    no such file or more than `most`.
    """
    path = absolute(directory, cwd)
    if not is_inside(path, cwd):
        raise DeployError(f"The config directory {path} must lie inside {cwd}: name another --cwd")
    found: list[str] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.endswith(suffix) and stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                    found.append(entry.path)
                if len(found) > most:
                    raise DeployError(f"The config directory {path} holds more than {most} files named *{suffix}")
    except OSError as error:
        raise DeployError(f"The config directory {path} cannot be read: {error.strerror or error}") from None
    if not found:
        raise DeployError(f"The config directory {path} holds no file named *{suffix}: name another with --config-dir")
    return sorted(found)


def is_inside(path: str, cwd: str) -> bool:
    """Does `path` lie in `cwd`, as written and where symbolic links lead?"""
    return cwd == "/" or (
        under(path, (cwd,)) is not None and under(os.path.realpath(path), (os.path.realpath(cwd),)) is not None
    )


def shown(path: str, cwd: str) -> str:
    """A path as people read it: relative to `cwd` when it lies inside."""
    if path == cwd or cwd == "/" or under(path, (cwd,)) is None:
        return path
    return os.path.relpath(path, cwd)
