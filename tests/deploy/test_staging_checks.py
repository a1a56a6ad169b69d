"""Looking at the sources: the order of the checks, and what each of them says."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ray.deploy.failures import DeployError
from ray.deploy.probes import Identity
from ray.deploy.staging_checks import check_sources, service_identity
from tests.deploy.staging_support import MODEL, Box, box, example_flags, server_text
from tests.fakes.gguf_file import write_gguf

__all__ = ["box"]


def check(box: Box, **changes: str | None) -> None:
    plan = box.plan(**changes)  # type: ignore[arg-type] # a table of keyword arguments
    check_sources(plan, box.environ() | SECRETS, who(box))


SECRETS = {"RAY_API_KEYS": "a secret", "HOME": "/root", "LD_PRELOAD": ""}


def who(box: Box) -> Identity | None:
    return service_identity(box.plan()) if os.geteuid() == 0 else None


def test_good_sources_pass_and_nothing_is_written(box: Box) -> None:
    before = sorted(path for path in box.root.rglob("*"))
    check(box)
    assert sorted(path for path in box.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("binary", "--binary-source or RAY_LLAMA_CPP_BINARY_SOURCE_PATH"),
        ("model", "--source or RAY_MODEL_SOURCE_PATH"),
    ],
)
def test_both_sources_have_to_be_named(box: Box, missing: str, words: str) -> None:
    with pytest.raises(DeployError, match=words):
        check(box, **{missing: None})


@pytest.mark.parametrize("which", ["binary_source", "model_source"])
def test_a_source_has_to_be_a_regular_file(box: Box, which: str) -> None:
    path: Path = getattr(box, which)
    path.unlink()
    with pytest.raises(DeployError, match="No such file"):
        check(box)
    path.mkdir()
    with pytest.raises(DeployError, match="no regular file"):
        check(box)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(DeployError, match="no regular file"):
        check(box)


def test_a_symbolic_link_to_a_source_is_followed(box: Box) -> None:
    link = box.sources / "link"
    link.symlink_to(box.model_source)
    check(box, model=str(link))


def test_a_binary_that_is_far_too_large_is_not_even_run(box: Box) -> None:
    box.set_server("#!/bin/sh\nexit 1\n")
    with box.binary_source.open("ab") as file:
        file.truncate((512 << 20) + 1)  # sparse
    with pytest.raises(DeployError, match="536870913 bytes"):
        check(box)


def test_a_wrong_checksum_comes_before_the_first_run(box: Box) -> None:
    box.set_server("#!/bin/sh\nkill -9 $$\n")
    with pytest.raises(DeployError, match="SHA-256"):
        check(box, binary_sha256="0" * 64)


def test_a_program_without_permission_is_named(box: Box) -> None:
    box.set_server(mode=0o644)
    with pytest.raises(DeployError, match=r"chmod \+x"):
        check(box)


@pytest.mark.parametrize("code", [1, 126, 127])
def test_a_program_that_does_not_start_is_quoted(box: Box, code: int) -> None:
    box.set_server(f"#!/bin/sh\necho libggml.so: not found >&2\nexit {code}\n")
    with pytest.raises(DeployError, match=rf"startup probe.*status {code}.*libggml"):
        check(box)


def test_help_larger_than_64_kib_is_read_to_its_end(box: Box) -> None:
    box.set_server(server_text("head -c 200000 /dev/zero | tr '\\0' 'x'; echo"))
    check(box)


def test_help_without_end_is_stopped(box: Box) -> None:
    box.set_server("#!/bin/sh\nexec cat /dev/zero\n")
    with pytest.raises(DeployError, match="wrote more than"):
        check(box)


def test_missing_flags_are_listed(box: Box) -> None:
    box.set_server(server_text(flags=["--model", "--host", "--port", "--threads-http", "--model-url"]))
    with pytest.raises(DeployError, match=r"--ctx-size.*--threads ") as failure:
        check(box)
    assert "--model " not in str(failure.value)


def test_a_flag_inside_another_does_not_count(box: Box) -> None:
    box.set_server(server_text(flags=[*(flag for flag in example_flags() if flag != "--model"), "--model-url"]))
    with pytest.raises(DeployError, match="does not know --model:"):
        check(box)


@pytest.mark.parametrize(("content", "words"), [(b"NOPE" + MODEL, "does not begin with GGUF"), (b"GGU", "has 3 bytes")])
def test_a_model_has_to_be_a_gguf_file(box: Box, content: bytes, words: str) -> None:
    box.model_source.write_bytes(content)
    with pytest.raises(DeployError, match=words):
        check(box)


def test_a_download_that_broke_off_is_refused(box: Box) -> None:
    write_gguf(box.model_source)
    check(box)
    os.truncate(box.model_source, box.model_source.stat().st_size - 100)
    with pytest.raises(DeployError, match="cut off"):
        check(box)


def test_a_model_that_does_not_fit_is_refused_with_all_figures(box: Box) -> None:
    plan = box.plan({"RAY_DEPLOY_MEMORY_MIB": "2300"})
    with pytest.raises(DeployError, match=r"1 MiB of file and 928 MiB beside .* 929 MiB.* 636 MiB of a target of 2300"):
        check_sources(plan, box.environ(), who(box))


def test_without_limit_of_the_prompt_cache_memory_is_not_judged(box: Box) -> None:
    plan = box.plan({"RAY_DEPLOY_MEMORY_MIB": "2300", "RAY_LLAMA_CPP_CACHE_RAM_MIB": "-1"})
    assert (plan.limit_mib, plan.without_model_mib) == (None, None)
    check_sources(plan, box.environ(), who(box))


def test_the_program_sees_no_secret(box: Box) -> None:
    box.set_server(server_text('[ -z "${RAY_API_KEYS-}${HOME-}${LD_PRELOAD-}" ] || exit 9'))
    check(box)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is kept from running it")
def test_root_runs_it_as_the_service_or_not_at_all(box: Box) -> None:
    box.set_server(server_text('[ "$(id -u)" -ne 0 ] || exit 9'))
    check(box)
    box.sources.chmod(stat.S_IRWXU)
    with pytest.raises(DeployError, match=rf"uid {box.uid}, which has to reach it"):
        check(box)
