"""The known key that an unknown one was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from ray.config.schema import CONFIG
from ray.config.sections import OneOf, Section, UnknownKeyError

MAX_NAME_CHARS = 128  # a comparison costs the product of both lengths


def nearest_key(error: UnknownKeyError) -> str | None:
    """A dotted key: the same name elsewhere, a similar one at the same place, a similar one elsewhere, or None."""
    name = error.name.lower()[:MAX_NAME_CHARS]
    siblings = {sibling.lower(): sibling for sibling in error.siblings}
    elsewhere: dict[str, str] = {}
    for key in known_keys(CONFIG, ""):
        elsewhere.setdefault(key.rpartition(".")[2].lower(), key)
    if name not in siblings and name in elsewhere:
        return elsewhere[name]
    close = difflib.get_close_matches(name, siblings, n=1, cutoff=0.6)
    if close:
        return f"{error.parent}.{siblings[close[0]]}" if error.parent else siblings[close[0]]
    close = difflib.get_close_matches(name, elsewhere, n=1, cutoff=0.85)
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
