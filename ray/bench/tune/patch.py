"""What new settings change in a config, as a patch, and a copy of the config file with the patch in it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from ray.bench.processes.process import MeasurementError
from ray.bench.report.report_file import write_file
from ray.config import Config, config_document, config_from_mapping, load_config
from ray.errors import RayError

Document = dict[str, object]


def patch_between(base: Config, new: Config) -> Document:
    """The keys of the new config's document that differ, in their places. Empty when nothing does. What the new config
    does not have cannot be said by a patch, and does not come up: candidates only change values."""
    return _changed(config_document(base), config_document(new))


def _changed(old: Mapping[str, object], new: Mapping[str, object]) -> Document:
    changed: Document = {}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            inner = _changed(before, value)
            if inner:
                changed[key] = inner
        elif value != before:
            changed[key] = value
    return changed


def merged_into(document: Mapping[str, object], patch: Mapping[str, object]) -> Document:
    """The document with the patch over it: its own keys keep their order, new ones come last."""
    result: Document = dict(document)
    for key, value in patch.items():
        before = result.get(key)
        result[key] = (
            merged_into(before if isinstance(before, dict) else {}, value) if isinstance(value, dict) else value
        )
    return result


def write_patched(source: str, target: str, patch: Mapping[str, object], expected: Config) -> None:
    """A copy of the config file `source` at `target`, with the patch in it and everything else as it stands there, its
    profile too. Raises `MeasurementError` when that would not be the config that was measured, and writes nothing."""
    try:
        original = json.loads(Path(source).read_bytes())
        if not isinstance(original, dict):
            raise MeasurementError(f"{source} is no JSON object any more")
        document = merged_into(original, patch)
        if config_from_mapping(document, {}, os.getcwd()) != expected:
            raise MeasurementError(f"{target} is not written: {source} has been changed since the search began")
        # The config may hold headers for its backend, so the copy is as private as it is.
        write_file(target, json.dumps(document, indent=2, ensure_ascii=False) + "\n", copied_from=source)
        load_config(target, {}, os.getcwd())
    except ValueError as error:
        raise MeasurementError(f"{source} is not JSON any more: {error}") from error
    except OSError as error:
        raise MeasurementError(f"cannot read {source}: {error.strerror}") from error
    except RayError as error:
        raise MeasurementError(f"{target}: {error.message}") from error
