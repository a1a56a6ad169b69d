"""`import ray`: light, and the door to the names that programs use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import ray

ROOT = Path(__file__).resolve().parent.parent


def modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has loaded after `statement`, that it had not before."""
    program = (
        f"import sys; before = set(sys.modules)\n{statement}\n"
        "loaded = sorted(set(sys.modules) - before)\nimport json; print(json.dumps(loaded))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(json.loads(done.stdout))


def test_importing_ray_loads_nothing_but_its_version() -> None:
    assert modules_after("import ray") == {"ray", "ray.version"}


def test_the_error_class_can_be_had_without_the_gateway() -> None:
    loaded = modules_after("from ray import RayError")
    assert "ray.errors" in loaded
    assert not {name for name in loaded if name.startswith(("ray.gateway", "ray.runtime", "asyncio"))}


@pytest.mark.parametrize("name", ray.__all__)
def test_every_name_of_the_package_is_there_and_shown(name: str) -> None:
    assert getattr(ray, name) is not None
    assert name in dir(ray)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Gatewya"):
        _ = ray.Gatewya  # type: ignore[attr-defined]
