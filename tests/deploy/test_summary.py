"""The summary of a render."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray.deploy.sizing import size
from ray.deploy.summary import render_summary
from tests.deploy.support import KEYS, settings_for
from tests.fakes.gguf_file import SMALL_MODEL, MadeTensor, write_gguf


def summary(model_path: str, **variables: str) -> dict[str, object]:
    settings = settings_for((), {**KEYS, "RAY_MODEL_PATH": model_path, **variables})
    return render_summary(settings, size(settings.loaded.config, 65_536, 4096), [], {})


@pytest.mark.parametrize(("mib", "verdict"), [(100, "ok"), (1700, "tight"), (2000, "exceeded")])
def test_with_the_model_there_it_says_what_the_backend_needs(tmp_path: Path, mib: int, verdict: str) -> None:
    tensors = (MadeTensor("token_embd.weight", (64, 512)), MadeTensor("blk.0.big.weight", (1024, 256, mib)))
    path = str(write_gguf(tmp_path / "m.gguf", {**SMALL_MODEL, "llama.context_length": 32_768}, tensors))
    needed = summary(path)["modelMemory"]
    assert isinstance(needed, dict)
    assert (needed["modelPath"], needed["verdict"]) == (path, verdict)
    assert needed["totalMiB"] > mib
    unlimited = summary(path, RAY_LLAMA_CPP_CACHE_RAM_MIB="-1")["modelMemory"]
    assert unlimited == {"modelPath": path, "totalMiB": None, "verdict": "unlimited"}


def test_without_the_model_or_with_a_broken_one_it_says_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    for name in ("missing.gguf", "broken.gguf"):
        assert "modelMemory" not in summary(str(tmp_path / name))
