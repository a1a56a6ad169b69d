"""What the tests of this room share: the profile fixture, dotted paths, and the text of a refusal."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from ray.config import Config, config_document, config_from_mapping
from ray.errors import RayError

Document = dict[str, object]
CWD = "/srv/ray"
_FIXTURE: dict[str, Document] = json.loads((Path(__file__).parent / "profiles.json").read_text("utf-8"))
# Settings that came after the published table, with the same default in every profile.
LATER_JOB_SETTINGS: Document = {
    "maxStoreMiB": 512,
    "minFreeInodes": 1024,
    "retainRequest": True,
    "callbackPayload": "full",
    "callbackRequireHttps": False,
    "callbackAllowedPorts": [],
}
NO_ENVIRONMENT: Mapping[str, str] = {}


def profile_fixture(name: str) -> Document:
    """A profile's full defaults, as an independent copy of the published table."""
    document = copy.deepcopy(_FIXTURE[name])
    for key, value in LATER_JOB_SETTINGS.items():
        put(document, f"asyncQueue.{key}", copy.copy(value))
    put(document, "asyncQueue.storageDir", f"{CWD}/.ray/async-queue")
    document["prefixStore"] = {
        "enabled": False,
        "storageDir": f"{CWD}/.ray/prefixes",
        "maxMiB": 512,
        "minTokens": 64,
        "minSightings": 2,
    }
    return document


def load(document: Document, environ: Mapping[str, str] = NO_ENVIRONMENT) -> Config:
    return config_from_mapping(document, environ, CWD)


def load_with(profile: str, **changes: object) -> Config:
    """Load a profile with changes; a key's dots are written as `__`: `scheduler__maxQueue=3`."""
    return load(changed(profile, **changes))


def changed(profile: str, **changes: object) -> Document:
    document: Document = {"profile": profile}
    for key, value in changes.items():
        put(document, key.replace("__", "."), value)
    return document


def refusal(document: Document, environ: Mapping[str, str] = NO_ENVIRONMENT) -> str:
    """The message with which loading fails. It must fail, and with `config_validation_error`."""
    with pytest.raises(RayError) as caught:
        load(document, environ)
    assert caught.value.code == "config_validation_error"
    assert caught.value.status == 500
    return caught.value.message


def value_of(config: Config, path: str) -> object:
    """The value at a dotted key of the effective document; None when it is absent."""
    value: object = config_document(config)
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def put(document: Document, path: str, value: object) -> None:
    """Set a dotted key, making the objects on the way."""
    *parents, name = path.split(".")
    for part in parents:
        below = document.setdefault(part, {})
        assert isinstance(below, dict)
        document = below
    document[name] = value
