"""The environment variables of one config: which there are, what each says now, and what it means.

Read from the declaration of the settings, so that a list of variables is never kept a second time. The
values are named tuples, not dataclasses, because a gateway that starts loads this file and has no use for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ray.config.environment import PROFILE_VARIABLE, variables_of
from ray.config.schema import CONFIG, Config
from ray.config.sections import OneOf, Section, Setting


class Variable(NamedTuple):
    """One variable. `key`: the dotted key it sets; `text`: what it would have to be for the value the config has, empty
    for one that is not set; `meaning`: of the setting."""

    name: str
    key: str
    text: str
    meaning: str


class VariableGroup(NamedTuple):
    """The variables of one section. `key`: its dotted key, empty for the whole config."""

    key: str
    meaning: str
    variables: tuple[Variable, ...]


def variable_groups(config: Config) -> tuple[VariableGroup, ...]:
    """The variables that this config obeys, by section, in the order of the declaration; each name once.

    Left out are those of sections that the config does not have, another kind of backend for example.
    """
    seen: set[str] = set()
    kind = config.model.adapter.kind
    groups = []
    for key, meaning, section, value in _sections(CONFIG, config, "", "What the rest is laid over."):
        variables = []
        for entry in section.settings:
            for name in _names(entry, kind):
                if name not in seen:
                    seen.add(name)
                    place = f"{key}.{entry.key}" if key else entry.key
                    variables.append(Variable(name, place, _text(entry, getattr(value, entry.name)), entry.meaning))
        if variables:
            groups.append(VariableGroup(key, meaning, tuple(variables)))
    return tuple(groups)


def _sections(
    section: Section[object], value: object, key: str, meaning: str
) -> Iterator[tuple[str, str, Section[object], object]]:
    """This section and the ones inside it, with the part of the config that each describes."""
    yield key, meaning, section, value
    for entry in section.settings:
        inner = getattr(value, entry.name)
        kind = entry.kind
        if isinstance(kind, OneOf):
            kind = kind.sections[getattr(inner, kind.tag)]
        if isinstance(kind, Section) and inner is not None:
            yield from _sections(kind, inner, f"{key}.{entry.key}" if key else entry.key, entry.meaning)


def _names(entry: Setting, adapter_kind: str) -> tuple[str, ...]:
    return (PROFILE_VARIABLE,) if PROFILE_VARIABLE in entry.variables else variables_of(entry, adapter_kind)


def _text(entry: Setting, value: object) -> str:
    """The value as its variable spells it: the reverse of the kind's `parse`."""
    written = None if value is None else entry.kind.write(value)
    if written is None:
        return ""
    if isinstance(written, bool):
        return "true" if written else "false"
    if isinstance(written, list):
        return ",".join(map(str, written))
    assert not isinstance(written, Mapping)  # maps have no variables
    return str(written)
