"""The known key that an unknown one was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from ray.config.schema import CONFIG
from ray.config.sections import OneOf, Section, UnknownKeyError


def nearest_key(error: UnknownKeyError) -> str | None:
    """A dotted key: a similar one at the same place, else the same or a similar name anywhere, else None."""
    by_lower = {name.lower(): name for name in error.siblings}
    close = difflib.get_close_matches(error.name.lower()[:128], by_lower, n=1, cutoff=0.6)
    if close:
        return f"{error.parent}.{by_lower[close[0]]}" if error.parent else by_lower[close[0]]
    elsewhere: dict[str, str] = {}
    for key in known_keys(CONFIG, ""):
        elsewhere.setdefault(key.rpartition(".")[2].lower(), key)
    close = difflib.get_close_matches(error.name.lower()[:128], elsewhere, n=1, cutoff=0.85)
    return elsewhere[close[0]] if close else None


def known_keys(section: Section[object], prefix: str) -> Iterator[str]:
    """Every dotted key below a section, all kinds of backend included, each once per kind."""
    for entry in section.settings:
        key = f"{prefix}.{entry.key}" if prefix else entry.key
        yield key
        if isinstance(entry.kind, Section):
            yield from known_keys(entry.kind, key)
        elif isinstance(entry.kind, OneOf):
            for inner in entry.kind.sections.values():
                yield from known_keys(inner, key)
