"""What an embedded gateway is made from: its configuration, and where its log lines go."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Mapping
from typing import TextIO

from ray.config import Config, config_from_mapping
from ray.config import load_config as load_config_file
from ray.telemetry import Logger

ConfigSource = Config | Mapping[str, object] | str | os.PathLike[str] | None

LOGGER_NAME = "ray"
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


def load_config(source: ConfigSource = None, *, environ: Mapping[str, str] | None = None) -> Config:
    """The checked configuration that `source` stands for.

    A path: that file; a mapping: the same document, already parsed; None: the profile that RAY_PROFILE names; a
    `Config`: itself. But for the last, RAY_* variables of `environ` (the process's own unless given) override it, as
    on the command line; `environ={}` leaves them out. Relative paths start from the current directory.
    Raises RayError `config_parse_error`, `config_validation_error`.
    """
    if isinstance(source, Config):
        return source
    variables = os.environ if environ is None else environ
    if isinstance(source, Mapping):
        return config_from_mapping(source, variables, os.getcwd())
    path = None if source is None else os.fspath(source)
    return load_config_file(path, variables, os.getcwd()).config


def logger_for(config: Config, log: TextIO | None) -> Logger:
    """Ray's log lines (one JSON object each) into `log`, or else into Python's logging."""
    stream = _PythonLogging() if log is None else log
    return Logger(config.telemetry.service_name, config.telemetry.log_level, stdout=stream, stderr=stream)


class _PythonLogging(io.StringIO):
    """A stream of log lines that hands each to the logger `ray` at its own level.

    A program that never configured logging then sees warnings and errors on standard error, and nothing else.
    """

    def write(self, line: str, /) -> int:
        level = _LEVELS[json.loads(line)["level"]]
        logging.getLogger(LOGGER_NAME).log(level, "%s", line.rstrip("\n"))
        return len(line)
