"""What a render is made of, and how it lands in a directory."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from ray.deploy.bundle import Bundle, make_bundle
from ray.deploy.findings import Finding
from ray.deploy.sizing import size
from tests.deploy.support import EXAMPLE_NAMES, settings_for

FINDING = Finding("warn", "auth_disabled", "Turn it on.")


def bundle(example: str = "ray.sub1b.public.json", *arguments: str) -> Bundle:
    settings = settings_for(arguments, example=example)
    sizing = size(settings.loaded.config, 65_536, settings.memory_mib)
    return make_bundle(settings, sizing, [FINDING], {"hostMemoryMiB": 65_536})


@pytest.mark.parametrize("example", EXAMPLE_NAMES)
def test_every_example_renders(example: str) -> None:
    document = bundle(example).document()
    names = ["service", "socket", "llamaCppService", "caddyfile", "envFileExample", "summary"]
    if "llamaCppService" not in document:
        assert example in ("ray.tiny.json", "ray.vps.json", "ray.balanced.json")
        names.remove("llamaCppService")
    assert list(document) == names


def test_the_text_has_its_sections_in_order() -> None:
    titles = [line for line in bundle().text().splitlines() if line.startswith("# ") and "=" not in line]
    wanted = [
        "# Ray systemd service",
        "# Ray systemd socket",
        "# llama.cpp systemd service",
        "# Caddyfile",
        "# Environment File Example",
        "# Summary",
    ]
    assert [title for title in titles if title in wanted] == wanted


def test_the_summary_says_what_was_planned() -> None:
    summary = bundle("ray.sub1b.public.json", "--memory-mib", "4096").summary
    assert list(summary) == ["profile", "model", "server", "diagnostics", "preflight", "systemd"]
    assert summary["profile"] == "sub1b"
    assert summary["diagnostics"] == [{"level": "warn", "code": "auth_disabled", "message": "Turn it on."}]
    assert summary["preflight"] == {"hostMemoryMiB": 65_536}
    assert summary["systemd"] == {
        "gateway": {"memoryHighMiB": 640, "memoryMaxMiB": 896, "memorySwapMaxMiB": 128, "cpuWeight": 200},
        "llamaCpp": {"memoryHighMiB": 2142, "memoryMaxMiB": 2380, "memorySwapMaxMiB": 595, "cpuWeight": 80},
    }


def test_no_secret_gets_into_any_file(tmp_path: Path) -> None:
    config = tmp_path / "ray.json"
    headers = {"X-Backend-Key": "header-secret"}
    adapter = {"kind": "openai-compatible", "headers": headers, "apiKeyEnv": "BACKEND_KEY"}
    config.write_text(json.dumps({"profile": "vps", "auth": {"enabled": True}, "model": {"adapter": adapter}}))
    env = tmp_path / "ray.env"
    env.write_text("RAY_API_KEYS=client-secret\nBACKEND_KEY=backend-secret\n")
    settings = settings_for(["--config", str(config), "--env-file", str(env)])
    made = make_bundle(settings, size(settings.loaded.config, 8192, None), [], {})
    text = json.dumps(made.document()) + made.text()
    assert "-secret" not in text
    model = made.summary["model"]
    assert isinstance(model, dict)
    assert model["adapter"]["headers"] == {"X-Backend-Key": "[redacted]"}


def test_a_directory_gets_every_file_and_keeps_its_others(tmp_path: Path) -> None:
    target = tmp_path / "new/out"
    made = bundle()
    files = made.write(str(target))
    (target / "notes.txt").write_text("mine")
    assert made.write(str(target)) == files
    assert {key: os.path.basename(path) for key, path in files.items()} == {
        "service": "ray-gateway.service",
        "socket": "ray-gateway.socket",
        "llamaCppService": "ray-llama-cpp.service",
        "caddyfile": "Caddyfile",
        "envFileExample": "ray.env.example",
        "summary": "summary.json",
    }
    assert sorted(os.listdir(target)) == sorted([*map(os.path.basename, files.values()), "notes.txt"])
    document = made.document()
    for key, path in files.items():
        text = Path(path).read_text("utf-8")
        assert json.loads(text) == made.summary if key == "summary" else text == document[key]
        assert not stat.S_IMODE(os.stat(path).st_mode) & 0o022


def test_the_backend_of_an_earlier_render_goes(tmp_path: Path) -> None:
    bundle().write(str(tmp_path))
    files = bundle("ray.vps.json").write(str(tmp_path))
    assert "llamaCppService" not in files
    assert not (tmp_path / "ray-llama-cpp.service").exists()
    assert (tmp_path / "ray-gateway.service").exists()
