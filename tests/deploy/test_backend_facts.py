"""The backend's program and model file, as they lie on a disk: from the file to the finding."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ray.deploy.account import Account
from ray.deploy.backend_facts import Backend, look_at_backend
from ray.deploy.checks import diagnose
from ray.deploy.facts import gather
from ray.deploy.sizing import launch_profile, size
from ray.providers import launch_arguments
from tests.deploy.diagnosing import ARGUMENTS, FOUR_GB, Document, settings_of
from tests.deploy.support import KEYS
from tests.fakes.gguf_file import SMALL_MODEL, MadeValue, write_gguf

ME = Account("me", "found", os.getuid(), os.getgid(), None, tuple(os.getgroups()))
MIB = 1_048_576


def document(directory: Path, **launch: object) -> Document:
    profile = {"binaryPath": str(directory / "llama-server"), "modelPath": str(directory / "model.gguf"), **launch}
    store = {"enabled": True, "storageDir": str(directory / "prefixes")}
    return {"profile": "sub1b", "model": {"adapter": {"launchProfile": profile}}, "prefixStore": store}


def looked_at(directory: Path, **launch: object) -> Backend:
    settings = settings_of(directory, document(directory, **launch))
    profile = launch_profile(settings.loaded.config)
    assert profile is not None
    return look_at_backend(settings, profile, size(settings.loaded.config, 4096, None), ME)


def found_codes(directory: Path, *, level: str = "", **launch: object) -> list[str]:
    """The codes of `validate` that are about the model."""
    settings = settings_of(directory, document(directory, **launch), ARGUMENTS, KEYS)
    findings = diagnose(gather(settings, strict=False, machine=FOUR_GB))
    words = ("memory_fit", "model_file", "prefix_store_sliding")
    return [f.code for f in findings if f.code.startswith(words) and (not level or f.level == level)]


def server(directory: Path, text: str) -> None:
    program = directory / "llama-server"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


def test_a_server_that_knows_every_flag_of_its_unit(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, document(tmp_path))
    profile = launch_profile(settings.loaded.config)
    assert profile is not None
    flags = [word for word in launch_arguments(profile, settings.loaded.config.prefix_store) if word.startswith("--")]
    server(tmp_path, "test \"$1\" = --help || exit 1; cat <<'END'\n" + "\n".join(flags) + "\nEND")

    backend = looked_at(tmp_path)

    assert backend.unsupported_flags == ()
    assert "--slot-save-path" in backend.flags


def test_a_flag_is_a_word_of_its_own_and_extra_arguments_count(tmp_path: Path) -> None:
    server(tmp_path, "echo '--threads-batch N  --model-url URL -lv'")

    missing = looked_at(tmp_path, extraArgs=["--no-mmap", "-lv=3", "--override-kv=a=b", "7"]).unsupported_flags

    assert {"--threads", "--model", "--no-mmap", "--override-kv"} <= set(missing)
    assert not {"--threads-batch", "-lv", "7"} & set(missing)
    assert list(missing) == sorted(missing)


def test_help_of_several_hundred_kilobytes_is_read_whole(tmp_path: Path) -> None:
    server(
        tmp_path,
        'i=0; while [ $i -lt 4000 ]; do echo "$i is a line of help that goes on and on and on and on";'
        " i=$((i+1)); done; echo --model",
    )

    backend = looked_at(tmp_path)

    assert backend.probe is not None
    assert backend.probe.is_ok
    assert "--model" not in backend.unsupported_flags


def test_a_server_that_lacks_a_library_gives_its_words(tmp_path: Path) -> None:
    server(tmp_path, "echo 'error while loading shared libraries: libgomp.so.1' >&2; exit 127")

    probe = looked_at(tmp_path).probe

    assert probe is not None
    assert "libgomp.so.1" in (probe.error or "")


def test_a_model_is_measured_by_its_header(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf")

    content = looked_at(tmp_path).model_file

    assert content is not None
    assert content.error is None
    assert content.memory is not None
    assert content.memory.model.architecture == "llama"
    assert content.largest_context is not None
    assert found_codes(tmp_path) == ["memory_fit_ok"]


def test_a_model_with_a_sliding_window_and_the_store_do_not_go_together(tmp_path: Path) -> None:
    values: dict[str, MadeValue] = {key.replace("llama.", "gemma3."): value for key, value in SMALL_MODEL.items()}
    values |= {"general.architecture": "gemma3", "gemma3.block_count": 6, "gemma3.attention.sliding_window": 512}
    write_gguf(tmp_path / "model.gguf", values)

    assert found_codes(tmp_path, level="warn") == ["prefix_store_sliding_window"]
    assert found_codes(tmp_path, level="warn", extraArgs=["--swa-full"]) == []


@pytest.mark.parametrize("content", [b"", b"GG", b"NOPE" * 9, b"GGUF\x03\0\0\0" + b"\xff" * 16])
def test_a_file_that_is_no_model_is_invalid_and_measured_by_rule_of_thumb(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.gguf").write_bytes(content)

    backend = looked_at(tmp_path)

    assert backend.model_file is not None
    assert backend.model_file.error is not None
    assert not backend.model_file.is_unreadable
    assert found_codes(tmp_path) == ["memory_fit_ok"]


def test_a_model_that_is_too_large_is_an_error_even_without_a_look_at_the_host(tmp_path: Path) -> None:
    with (tmp_path / "model.gguf").open("wb") as file:
        file.truncate(2_500 * MIB)

    assert found_codes(tmp_path, level="error") == ["memory_fit_exceeded"]


def test_a_model_that_was_cut_off_is_noticed(tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "model.gguf")
    os.truncate(model, model.stat().st_size - 1)

    content = looked_at(tmp_path).model_file

    assert content is not None
    assert "cut off" in (content.error or "")


def test_a_pipe_in_place_of_the_model_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.gguf")

    backend = looked_at(tmp_path)

    assert (backend.model.kind, backend.model_file) == ("other", None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_model_that_may_not_be_read_is_unreadable(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf").chmod(0)

    content = looked_at(tmp_path).model_file

    assert content is not None
    assert content.is_unreadable


def test_without_an_account_the_program_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    server(tmp_path, f"touch {mark}")
    settings = settings_of(tmp_path, document(tmp_path))
    profile = launch_profile(settings.loaded.config)
    assert profile is not None

    for account in (None, Account("ray", "missing"), Account("ray", "unreadable")):
        look_at_backend(settings, profile, size(settings.loaded.config, 4096, None), account)

    assert not mark.exists()
    subprocess.run([str(tmp_path / "llama-server")], check=True)
    assert mark.exists()
