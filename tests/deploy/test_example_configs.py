"""The directory of example configs as a whole: no error anywhere, and only the warnings that belong there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ray.deploy.machine import Machine
from ray.deploy.validate_all_command import validate_directory
from tests.deploy.support import EXAMPLE_NAMES, ROOT

ROOMY = Machine(memory_mib=16_384, cpu_count=4, architecture="x64")
SMALL = Machine(memory_mib=16_384, cpu_count=2, architecture="x64")
PRIVATE = {name for name in EXAMPLE_NAMES if not name.endswith(".public.json")}
# Whom a warning belongs to, on every machine.
EXPECTED = {
    *((name, "auth_disabled") for name in PRIVATE),
    *((name, "env_file_missing") for name in set(EXAMPLE_NAMES) - PRIVATE),
    ("ray.tiny.json", "rate_limit_disabled"),
}
# On fewer processors than the config has use for.
ON_TWO_PROCESSORS = {
    *((name, "llama_threads_exceed_host_cpu") for name in EXAMPLE_NAMES if name.startswith("ray.1b.8gb")),
    ("ray.balanced.json", "scheduler_concurrency_exceeds_host_cpu"),
}


def warnings(machine: Machine) -> Counter[tuple[str, str]]:
    return Counter(
        (Path(result.path).name, finding.code)
        for result in validate_directory(str(ROOT), "examples/config", "a-key", machine)
        for finding in result.findings
        if finding.level == "warn"
    )


@pytest.mark.parametrize(("machine", "more"), [(ROOMY, set()), (SMALL, ON_TWO_PROCESSORS)], ids=["roomy", "small"])
def test_given_the_examples_when_validated_then_they_warn_of_what_is_true_and_of_nothing_else(
    machine: Machine, more: set[tuple[str, str]]
) -> None:
    assert warnings(machine) == Counter(EXPECTED | more)


def test_given_the_examples_when_validated_then_none_has_an_error() -> None:
    results = validate_directory(str(ROOT), "examples/config", "a-key", ROOMY)

    assert [Path(result.path).name for result in results] == EXAMPLE_NAMES
    assert [
        (result.path, finding.code) for result in results for finding in result.findings if finding.level == "error"
    ] == []
