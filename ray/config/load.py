"""From a file and the environment to one checked, frozen `Config`.

Precedence, highest first: environment, file, profile. The one exception is the profile itself: a file's `profile`
beats `RAY_PROFILE`. A load reports exactly one error, the first one found, as a `RayError` that names the dotted key
and, where the value came from the environment, the variable.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ray.config.adapters import HTTP_KEYS, HTTP_KINDS
from ray.config.environment import PROFILE_VARIABLE, Environment, overlay_environment
from ray.config.kinds import Choice, Place, SettingError, found
from ray.config.merge import checked_copy, merged
from ray.config.profiles import profile_document
from ray.config.rules import first_problem
from ray.config.schema import CONFIG, DEFAULT_PROFILE, PROFILE_NAMES, Config
from ray.config.sections import UnknownKeyError
from ray.config.texts import path_problem
from ray.errors import RayError

MAX_FILE_BYTES = 262_144
SCHEMA_KEY = "$schema"
Document = dict[str, object]
_NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A config and where it came from. `path`: absolute, or None when only defaults and environment were used."""

    config: Config
    path: str | None


def load_config(path: str | None, environ: Mapping[str, str], cwd: str) -> LoadedConfig:
    """Load a config file, or profile and environment alone when `path` is None.

    `cwd`: the directory that relative paths start from, the config path as well as paths inside the file. Raises
    `RayError`: `config_parse_error` (not JSON, not UTF-8), `config_validation_error` (everything else).
    """
    directory = _checked_path(cwd, "working directory")
    if path is None:
        return LoadedConfig(config_from_mapping({}, environ, directory), None)
    absolute = os.path.normpath(os.path.join(os.path.abspath(directory), _checked_path(path, "config path")))
    return LoadedConfig(config_from_mapping(_parse(_read(absolute), absolute), environ, directory), absolute)


def config_from_mapping(
    document: Mapping[str, object], environ: Mapping[str, str] = _NO_VARIABLES, cwd: str = "."
) -> Config:
    """The same as `load_config` for a document that is already parsed. Raises `RayError` config_validation_error."""
    sources: dict[str, str] = {}
    try:
        if not isinstance(document, Mapping):
            raise SettingError("the config", f"must be an object, not {found(document)}")
        given = checked_copy(document)
        assert isinstance(given, dict)  # a mapping is copied into a dict
        _drop_editor_hint(given)
        effective = _over_profile(given, environ)
        sources.update(overlay_environment(effective, environ))
        config = CONFIG.read(effective, Place("", os.path.abspath(cwd)))
        problem = first_problem(config)
        if problem is not None:
            raise problem
    except SettingError as error:
        raise _as_ray_error(error, sources) from None
    return config


def _over_profile(given: Document, environ: Mapping[str, str]) -> Document:
    """The profile's defaults with the given document over them."""
    base = profile_document(_profile_name(given, environ))
    _drop_other_backend(base, given)
    model = _object(given, "model")
    if "operational" in model and model["operational"] is None and "operational" not in _object(base, "model"):
        del model["operational"]  # null means absent where the profile has none either
    return merged(base, given)


def _drop_editor_hint(given: Document) -> None:
    """`$schema` tells editors where docs/ray.schema.json lies. It is the one key that is not a setting."""
    hint = given.pop(SCHEMA_KEY, "")
    if not isinstance(hint, str):
        raise SettingError(SCHEMA_KEY, f"must be a string, not {found(hint)}")


def _profile_name(given: Document, environ: Mapping[str, str]) -> str:
    if "profile" in given:
        return Choice(PROFILE_NAMES).read(given["profile"], Place("profile", ""))
    name = Environment(environ).get(PROFILE_VARIABLE) or DEFAULT_PROFILE
    if name not in PROFILE_NAMES:
        raise SettingError(PROFILE_VARIABLE, f"is not supported: use one of {', '.join(PROFILE_NAMES)}")
    return name


def _drop_other_backend(base: Document, given: Document) -> None:
    """When the document names another kind of backend, keep only what both kinds share."""
    adapter = _object(_object(base, "model"), "adapter")
    kind = _object(_object(given, "model"), "adapter").get("kind", adapter["kind"])
    if kind == adapter["kind"]:
        return
    shared = HTTP_KEYS if kind in HTTP_KINDS and adapter["kind"] in HTTP_KINDS else frozenset[str]()
    for key in set(adapter) - shared:
        del adapter[key]


def _object(document: Document, key: str) -> Document:
    """The object under this key, or an empty one."""
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _checked_path(path: str, what: str) -> str:
    problem = path_problem(path)
    if problem:
        raise RayError("config_validation_error", f"The {what} {problem}")
    return path


def _read(path: str) -> bytes:
    """The bytes of a regular file of at most 256 KiB."""
    try:
        _check_file(path, os.stat(path))  # before opening: opening a device may do anything
        with open(path, "rb", opener=_open_at_once) as file:  # what is there now may be something else
            _check_file(path, os.fstat(file.fileno()))
            content = file.read(MAX_FILE_BYTES + 1)  # again: the file may have grown since
    except (OSError, UnicodeError) as error:  # UnicodeError: a path that the file system's encoding cannot hold
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        message = f"Cannot read the config file {path}: {reason}"
        raise RayError("config_validation_error", message, details={"configPath": path}) from None
    if len(content) > MAX_FILE_BYTES:
        raise _too_large(path, len(content))
    return content


def _open_at_once(path: str, flags: int) -> int:
    """Without O_NONBLOCK, opening a FIFO would wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check_file(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RayError("config_validation_error", f"The config path {path} must be a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise _too_large(path, status.st_size)


def _too_large(path: str, size: int) -> RayError:
    details = {"configPath": path, "actualBytes": size, "maxBytes": MAX_FILE_BYTES}
    message = f"The config file {path} must be at most {MAX_FILE_BYTES} bytes"
    return RayError("config_validation_error", message, details=details)


def _parse(content: bytes, path: str) -> Mapping[str, object]:
    """Strict JSON: UTF-8 without byte-order mark, no NaN or Infinity. Not yet checked to be an object."""
    try:
        document: Mapping[str, object] = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:  # covers JSONDecodeError, UnicodeDecodeError and integers of thousands of digits
        reason = "not valid UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
    else:
        return document
    message = f"The config file {path} is not valid JSON: {reason}"
    raise RayError("config_parse_error", message, details={"configPath": path, "reason": reason})


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def _as_ray_error(error: SettingError, sources: Mapping[str, str]) -> RayError:
    """The error as people see it: key, problem, nearest known key, and the variables that had a part in it."""
    message = str(error)
    if isinstance(error, UnknownKeyError):
        # difflib costs milliseconds to import, and only a failing start needs it.
        from ray.config.nearest import nearest_key

        nearest = nearest_key(error)
        if nearest:
            message += f". Did you mean {nearest}?"
    involved = [(key, variable) for key, variable in sources.items() if _is_inside(error.key, key)]
    related = [(key, variable) for key, variable in sources.items() if key in error.related]
    if involved:
        message += f" (set by {involved[0][1]})"
    elif related:
        message += f" ({related[0][0]} is set by {related[0][1]})"
    details = {"key": error.key} | error.details
    if involved or related:
        details["variable"] = (involved or related)[0][1]
    return RayError("config_validation_error", message, details=details)


def _is_inside(key: str, outer: str) -> bool:
    return key == outer or key.startswith((f"{outer}.", f"{outer}["))
