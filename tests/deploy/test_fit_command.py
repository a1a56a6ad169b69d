"""`fit` from its command line: the verdict, what is said about it, and the exit status."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.deploy.support import EXAMPLES, KEYS, run
from tests.fakes.gguf_file import SMALL_MODEL, MadeTensor, write_gguf


def model(directory: Path, mib: int = 100) -> str:
    """A model of so many MiB, most of it in one tensor; the file is a hole."""
    tensors = (MadeTensor("token_embd.weight", (64, 512)), MadeTensor("blk.0.big.weight", (1024, 256, mib)))
    return str(write_gguf(directory / "m.gguf", {**SMALL_MODEL, "llama.context_length": 32_768}, tensors))


def fit(*arguments: str, example: str = "ray.sub1b.public.json", environ: Mapping[str, str] = KEYS) -> tuple[int, str]:
    return run("fit", "--config", str(EXAMPLES / example), *arguments, environ=environ)


def fit_json(*arguments: str, environ: Mapping[str, str] = KEYS) -> tuple[int, dict[str, object]]:
    status, text = fit(*arguments, "--json", environ=environ)
    document = json.loads(text)
    assert isinstance(document, dict)
    return status, document


def test_a_model_with_room_to_spare_fits(tmp_path: Path) -> None:
    status, document = fit_json("--model", model(tmp_path), "--memory-mib", "4096")
    assert status == 0
    assert (document["ok"], document["verdict"]) == (True, "ok")
    assert document["limits"] == {
        "memoryHighMiB": 2142,
        "memoryMaxMiB": 2380,
        "memoryBudgetMiB": 4096,
        "memoryBudgetSource": "override",
        "hostMemoryMiB": document["limits"]["hostMemoryMiB"],  # type: ignore[index] # whatever this machine has
    }


@pytest.mark.parametrize(("mib", "verdict", "status"), [(1500, "ok", 0), (1700, "tight", 0), (2000, "exceeded", 1)])
def test_the_verdict_follows_the_unit_of_the_same_machine(tmp_path: Path, mib: int, verdict: str, status: int) -> None:
    given, document = fit_json("--model", model(tmp_path, mib), "--memory-mib", "4096")
    assert (given, document["verdict"], document["ok"]) == (status, verdict, status == 0)


def test_the_largest_context_is_named_beside_the_configured_one(tmp_path: Path) -> None:
    status, text = fit("--model", model(tmp_path), "--memory-mib", "4096")
    assert status == 0
    assert "largest ctxSize" in text
    assert "configured: 3,072" in text
    assert "m.gguf\nllama, 4 layers; trained for 32,768 tokens" in text


def test_where_not_even_the_weights_fit_no_context_is_suggested(tmp_path: Path) -> None:
    status, document = fit_json("--model", model(tmp_path, 3000), "--memory-mib", "4096")
    assert status == 1
    assert document["largestCtxSize"] is None
    assert document["largestPossibleCtxSize"] is None


def test_a_prompt_cache_without_limit_has_no_verdict_and_the_remedy_is_said(tmp_path: Path) -> None:
    environ = {**KEYS, "RAY_LLAMA_CPP_CACHE_RAM_MIB": "-1"}
    status, text = fit("--model", model(tmp_path), environ=environ)
    assert status == 1
    assert "cacheRamMiB is -1" in text
    assert fit_json("--model", model(tmp_path), environ=environ)[1]["verdict"] == "unlimited"


def test_a_missing_model_file_is_named_with_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.gguf")
    assert fit("--model", missing) == (1, "")
    assert f"{missing} cannot be read: No such file" in capsys.readouterr().err
    status, document = fit_json("--model", missing)
    assert status == 1
    assert document["error"] == {
        "code": "model_file_unusable",
        "message": f"{missing} cannot be read: No such file or directory",
    }


def test_a_relative_model_path_counts_from_the_working_directory(tmp_path: Path) -> None:
    model(tmp_path)
    status, document = fit_json("--model", "m.gguf", "--cwd", str(tmp_path))
    assert status == 0
    assert document["model"]["path"] == str(tmp_path / "m.gguf")  # type: ignore[index] # an object, or this fails


def test_a_config_without_a_backend_of_its_own_has_nothing_to_weigh(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(example="ray.tiny.json") == (1, "")
    assert "no model.adapter.launchProfile" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["", " m.gguf", "a\nb"])
def test_a_path_that_is_none_is_wrong_usage(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(f"--model={path}") == (2, "")
    assert "--model must" in capsys.readouterr().err


def test_a_relative_model_lies_in_the_working_directory(tmp_path: Path) -> None:
    model(tmp_path)
    assert fit_json("--cwd", str(tmp_path), "--model", "m.gguf")[0] == 0
