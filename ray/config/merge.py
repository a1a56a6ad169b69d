"""Laying one JSON document over another, and the checks that every document must pass first."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ray.config.kinds import SettingError, found
from ray.config.names import UNSAFE_KEYS

MAX_DEPTH = 32  # no known key lies deeper than 7; the cap keeps hostile nesting away from Python's own stack limit
LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


def checked_copy(value: object, key: str = "", depth: int = 0) -> object:
    """A deep copy of JSON data as plain dicts and lists, refusing what no section may hold.

    Refused with the dotted key: the names `__proto__`, `constructor` and `prototype` at any depth, nesting beyond 32
    levels, keys that are not strings, and text that cannot be written as UTF-8. Raises `SettingError`.
    """
    if isinstance(value, str) and LONE_SURROGATE.search(value):
        raise SettingError(key, "is not valid Unicode text (lone surrogate)")
    if not isinstance(value, Mapping | list | tuple):
        return value
    if depth >= MAX_DEPTH:
        raise SettingError(key, f"is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return {
            _checked_key(name, key): checked_copy(item, _joined(key, name), depth + 1) for name, item in value.items()
        }
    return [checked_copy(item, f"{key}[{index}]", depth + 1) for index, item in enumerate(value)]


def _checked_key(name: object, key: str) -> str:
    if not isinstance(name, str) or LONE_SURROGATE.search(name):
        raise SettingError(key or "the document", "has a key that is not valid Unicode text")
    if name in UNSAFE_KEYS:
        raise SettingError(_joined(key, name), "is an unsafe key and is refused everywhere")
    return name


def _joined(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


def merged(base: Mapping[str, object], over: Mapping[str, object], key: str = "") -> dict[str, object]:
    """`over` laid over `base` as a new document.

    Object over object merges key by key; an array replaces the whole array; anything else replaces the value. An
    object in `base` takes only an object, an array only an array: `SettingError` with the dotted key otherwise.
    """
    result = {name: _copied(item) for name, item in base.items()}
    for name, item in over.items():
        place = _joined(key, name)
        below = result.get(name)
        if isinstance(below, dict):
            if not isinstance(item, Mapping):
                raise SettingError(place, f"must be an object, not {found(item)}")
            result[name] = merged(below, item, place)
        elif isinstance(below, list) and not isinstance(item, list):
            raise SettingError(place, f"must be an array, not {found(item)}")
        else:
            result[name] = _copied(item)
    return result


def _copied(value: object) -> object:
    """A deep copy of JSON data, so that defaults are never shared between two loads."""
    if isinstance(value, Mapping):
        return {name: _copied(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value
