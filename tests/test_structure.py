"""The house keeps its stairs: imports only go down, only the standard library is used, and files stay readable."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ray"

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70

# Which room stands on which floor. A room imports from itself and from lower floors; two rooms of one floor do not
# know each other, except on the ground floor, where the nouns are built from one another.
FLOORS = {
    "errors": 0,
    "types": 0,
    "clock": 0,
    "version": 0,
    "questions": 0,
    "config": 1,
    "telemetry": 1,
    "http": 1,
    "host": 1,
    "prompts": 2,
    "providers": 3,
    "runtime": 4,
    "jobs": 5,
    "gateway": 6,
    "client": 6,
    "deploy": 7,
    "bench": 7,
    "__init__": 8,
    "embed": 8,
    "cli": 8,
    "__main__": 8,
}

# The same inside the benchmark room, by folder: what stands on one floor does not know its neighbours. The files of the
# room itself bring all together.
BENCH_FLOORS = {
    "processes": 0,
    "report": 1,
    "run": 2,
    "reading": 3,
    "budgets": 4,
    "eval": 4,
    "formats": 4,
    "peers": 4,
    "tune": 4,
}


@dataclass(frozen=True)
class Import:
    """One module named by an import statement."""

    module: str
    line: int


def source_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def room_of(module: str) -> str:
    """`ray.http.parser` stands in `http`; the package itself (`ray`) is the room `__init__`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports_of(tree: ast.AST, importer: str) -> Iterator[Import]:
    """Every module a file imports, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name != "ray":  # the package is loaded in any case; only its names stand on the top floor
                    yield Import(name.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{importer}:{node.lineno}: relative imports hide the floor they lead to"
            assert node.module is not None
            for name in node.names:
                yield Import(imported_module(node.module, name.name), node.lineno)


def imported_module(module: str, name: str) -> str:
    """`from ray.http import parser` imports the module `ray.http.parser`; `from ray.http import Server` only a name."""
    if module.split(".")[0] != "ray":
        return module
    inner = ROOT.joinpath(*module.split("."), name)
    return f"{module}.{name}" if inner.is_dir() or inner.with_suffix(".py").is_file() else module


def stair_faults(importer: str, imported: str) -> str | None:
    """Why `importer` may not import `imported` (both dotted module names under `ray`), or None."""
    own, other = room_of(importer), room_of(imported)
    if own not in FLOORS:
        return f"room {own!r} has no floor: add it to the plan and to FLOORS"
    if other not in FLOORS:
        return f"room {other!r} has no floor"
    if own == other:
        return None
    if FLOORS[other] > FLOORS[own]:
        return f"steps up from floor {FLOORS[own]} to {other} on floor {FLOORS[other]}"
    if FLOORS[other] == FLOORS[own] and FLOORS[own] not in (0, 8):
        return f"steps sideways into {other}: both stand on floor {FLOORS[own]}"
    if imported.count(".") > 1:
        return f"reaches into a private file of {other}: import what ray.{other} exports"
    if own == "http" and FLOORS[other] == 0:
        return "http knows nothing of Ray: it could be lifted out"
    return None


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@pytest.mark.parametrize("path", source_files(), ids=relative)
def test_imports_only_go_down_the_stairs(path: Path) -> None:
    importer = module_name(path)
    faults = [
        f"{relative(path)}:{found.line}: {fault}"
        for found in imports_of(parsed(path), importer)
        if found.module.split(".")[0] == "ray" and (fault := stair_faults(importer, found.module)) is not None
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", source_files(), ids=relative)
def test_only_the_standard_library_is_imported(path: Path) -> None:
    foreign = [
        f"{relative(path)}:{found.line}: {found.module}"
        for found in imports_of(parsed(path), module_name(path))
        if found.module.split(".")[0] not in sys.stdlib_module_names | {"ray"}
    ]
    assert not foreign, "\n".join(foreign)


@pytest.mark.parametrize("path", source_files(), ids=relative)
def test_a_file_can_be_read_at_a_sitting(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_FILE_LINES, f"{relative(path)} has {lines} lines: a second file wants out"


@pytest.mark.parametrize("path", source_files(), ids=relative)
def test_a_function_fits_a_screen(path: Path) -> None:
    long = [
        f"{relative(path)}:{node.lineno}: {node.name} has {length} lines"
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


def test_folders_of_the_benchmark_room_use_only_those_below_them() -> None:
    folders = {path.name for path in (PACKAGE / "bench").iterdir() if any(path.glob("*.py"))}
    assert folders == BENCH_FLOORS.keys()
    for path in sorted((PACKAGE / "bench").glob("*/*.py")):
        own = path.parent.name
        for found in imports_of(parsed(path), module_name(path)):
            parts = found.module.split(".")
            if parts[:2] == ["ray", "bench"] and parts[2:3] != [own]:
                other = BENCH_FLOORS.get(parts[2] if len(parts) > 2 else "", 99)
                assert other < BENCH_FLOORS[own], f"{relative(path)}:{found.line}: {found.module}"


def test_every_room_that_exists_has_a_floor() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert rooms <= FLOORS.keys()


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("ray.config.load", "ray.http"),
        ("ray.providers.mock", "ray.runtime"),
        ("ray.errors", "ray.config"),
        ("ray.gateway.app", "ray.client"),
        ("ray.deploy.plan", "ray.bench"),
        ("ray.gateway.app", "ray.http.parser"),
        ("ray.runtime.cache", "ray.providers.llama_cpp.slots"),
        ("ray.http.server", "ray.errors"),
        ("ray.cellar.wine", "ray.errors"),
        ("ray.gateway.app", "ray.cli"),
    ],
)
def test_the_stair_rule_itself_sees_a_fault(importer: str, imported: str) -> None:
    assert stair_faults(importer, imported) is not None


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("ray.gateway.app", "ray.gateway.routes.infer"),
        ("ray.gateway.app", "ray.http"),
        ("ray.providers.mock", "ray.errors"),
        ("ray.types", "ray.errors"),
        ("ray.__main__", "ray.cli"),
        ("ray.http.server", "ray.http.parser"),
    ],
)
def test_the_stair_rule_itself_lets_a_step_down_pass(importer: str, imported: str) -> None:
    assert stair_faults(importer, imported) is None
