"""Settings without effect are marked as such, and only those: the list is compared with what the gateway reads."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray.config.export import configuration_markdown, json_schema
from ray.config.nearest import known_keys
from ray.config.pending import PENDING, is_pending
from ray.config.schema import CONFIG
from ray.config.sections import camel_case
from tests.config.test_export import lookup

RAY = Path(__file__).parents[2] / "ray"
KEYS = sorted(set(known_keys(CONFIG, "")))

# Labels and planning figures: Ray shows them in /v1/config and lets people and tools decide by them.
SHOWN_ONLY = {
    "model.family",
    "model.quantization",
    "model.operational.supportsJsonMode",
    "model.operational.tokensPerSecondTarget",
    "model.operational.memoryClassMiB",
    "tags",
}


def file_of(module: str) -> Path | None:
    base = RAY.parent.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def modules_named(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def attributes_the_gateway_reads() -> set[str]:
    """The names of all attributes read in what `python -m ray` may import, ray.config aside, spelt like the keys.

    What is written but not yet imported by anything has no effect either.
    """
    seen: set[Path] = set()
    names: set[str] = set()
    waiting = ["ray.cli"]
    while waiting:
        path = file_of(waiting.pop())
        if path is None or path in seen or RAY / "config" in path.parents:
            continue
        seen.add(path)
        tree = ast.parse(path.read_text("utf-8"))
        names |= {camel_case(node.attr) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        waiting += [name for name in modules_named(tree) if name.startswith("ray.")]
    return names


READ = attributes_the_gateway_reads()
NAMES = Counter(key.rpartition(".")[2] for key in KEYS)
# A name that several sections share (`enabled`, `keyStrategy`) cannot be told apart, and a section is not a setting.
TELLING = [
    key for key in KEYS if NAMES[key.rpartition(".")[2]] == 1 and not any(other.startswith(f"{key}.") for other in KEYS)
]
MARKED = [key for key in TELLING if is_pending(tuple(key.split(".")))]
UNMARKED = [key for key in TELLING if key not in MARKED and key not in SHOWN_ONLY]


@pytest.mark.parametrize("key", MARKED)
def test_given_a_key_marked_as_without_effect_when_the_code_is_read_then_nothing_reads_it(key: str) -> None:
    assert key.rpartition(".")[2] not in READ, f"{key} is obeyed now: take it out of ray/config/pending.py"


@pytest.mark.parametrize("key", UNMARKED)
def test_given_a_key_without_the_mark_when_the_code_is_read_then_something_reads_it(key: str) -> None:
    assert key.rpartition(".")[2] in READ, f"nothing obeys {key}: mark it in ray/config/pending.py"


def test_given_the_list_when_compared_with_the_settings_then_it_names_only_known_keys() -> None:
    assert set(KEYS) >= PENDING


def test_given_a_pending_key_when_documents_are_written_then_page_and_schema_say_so_and_others_do_not() -> None:
    page = configuration_markdown()

    assert "| `slotStateTtlMs` *(no effect yet)* |" in page
    assert "### `asyncQueue`\n" in page
    assert "| `queueDepthThreshold` |" in page
    assert "No effect yet" not in str(lookup(json_schema(), "asyncQueue.enabled")["description"])
    assert "No effect yet" not in str(lookup(json_schema(), "scheduler.maxQueue")["description"])
