"""What the real systemd and Caddy say about the files, and what is made of it."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from ray.config import LoadedConfig, config_from_mapping
from ray.deploy.probes import Probe
from ray.deploy.settings import DeploySettings
from ray.deploy.sizing import size
from ray.deploy.verification import _units_verdict, verify_caddyfile, verify_units
from tests.deploy.support import settings_for

SYSTEMD = "systemd 252 (252.39-1~deb12u1)"
SERVER = "/usr/local/bin/llama-server"
NAMES = ("ray-gateway.service", "ray-llama-cpp.service")
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
needs_caddy = pytest.mark.skipif(shutil.which("caddy") is None, reason="there is no Caddy")


@pytest.fixture
def settings() -> DeploySettings:
    return settings_for(["--domain", "ray.example.com"], example="ray.sub1b.public.json")


@needs_systemd
def test_systemd_takes_the_units(settings: DeploySettings) -> None:
    sizing = size(settings.loaded.config, 4096, None)

    verdict = verify_units(settings, sizing, SYSTEMD, (SERVER,))

    assert (verdict.status, verdict.error) == ("valid", None)


@needs_systemd
@pytest.mark.skipif(Path(SERVER).exists(), reason="there is a llama-server in the place where none is expected")
def test_a_program_that_is_missing_is_a_fault_of_the_units_only_when_nothing_else_says_so(
    settings: DeploySettings,
) -> None:
    sizing = size(settings.loaded.config, 4096, None)

    verdict = verify_units(settings, sizing, SYSTEMD)

    assert verdict.status == "invalid"
    assert SERVER in (verdict.error or "")


def test_a_value_that_no_unit_can_hold_makes_them_invalid(settings: DeploySettings) -> None:
    config = config_from_mapping({"profile": "sub1b", "server": {"host": "gateway.example"}})
    odd = replace(settings, loaded=LoadedConfig(config, None))

    verdict = verify_units(odd, size(config, 4096, None), SYSTEMD)

    assert verdict.status == "invalid"
    assert "server.host" in (verdict.error or "")


@pytest.mark.parametrize(
    ("probe", "status"),
    [
        (Probe("ok", code=0), "valid"),
        # It exits with 0 for what it ignores.
        (Probe("ok", stderr="/d/ray-gateway.service:7: Unknown key name 'X' in section 'Service'", code=0), "invalid"),
        (Probe("ok", stderr="/lib/systemd/system/other.service:7: Unknown key", code=0), "valid"),
        (Probe("failed", stderr="ray-llama-cpp.service: Command /s is not executable: No such file", code=1), "valid"),
        (
            Probe("failed", stderr="ray-llama-cpp.service: Command /x is not executable: No such file", code=1),
            "invalid",
        ),
        (Probe("failed", stderr="Something is wrong", error="status 1", code=1), "invalid"),
        (Probe("failed", error="status 1", code=1), "invalid"),
        (Probe("failed", error="did not end within 10 s"), "unreadable"),
        (Probe("missing", error="there is none"), "unreadable"),
    ],
)
def test_what_systemd_prints_counts_and_not_only_its_status(probe: Probe, status: str) -> None:
    assert _units_verdict(probe, NAMES, "/d", ("/s",)).status == status


def test_without_systemd_analyze_nothing_is_known(settings: DeploySettings, tmp_path: Path) -> None:
    bare = replace(settings, process_environ={"PATH": str(tmp_path)})

    assert verify_units(bare, size(bare.loaded.config, 4096, None), SYSTEMD).status == "unreadable"


@needs_caddy
def test_caddy_takes_the_caddyfile_and_leaves_nothing_behind(
    settings: DeploySettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    verdict = verify_caddyfile(settings)

    assert (verdict.status, verdict.error) == ("valid", None)
    assert list(tmp_path.iterdir()) == []


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_caddy_that_refuses_is_quoted_by_its_error_alone(settings: DeploySettings, tmp_path: Path) -> None:
    caddy = program(tmp_path / "caddy", "echo '{\"level\":\"info\"}' >&2; echo 'Error: adapting: line 3' >&2; exit 1")

    verdict = verify_caddyfile(replace(settings, caddy_binary=caddy))

    assert (verdict.status, verdict.error) == ("invalid", "Error: adapting: line 3")


def test_caddy_is_told_that_it_gets_a_caddyfile_and_where_home_is(settings: DeploySettings, tmp_path: Path) -> None:
    caddy = program(
        tmp_path / "caddy", 'test "$2 $3" = "--adapter caddyfile" && test "$HOME" = "$PWD" && test -f "$5" || exit 1'
    )

    assert verify_caddyfile(replace(settings, caddy_binary=caddy)).status == "valid"


@pytest.mark.parametrize("binary", [None, "/nowhere/caddy"])
def test_without_caddy_nothing_is_known(settings: DeploySettings, binary: str | None) -> None:
    assert verify_caddyfile(replace(settings, caddy_binary=binary)).status == "unreadable"


def test_a_temporary_directory_that_cannot_be_written_is_told_and_not_raised(
    settings: DeploySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")

    verdict = verify_caddyfile(replace(settings, caddy_binary="/bin/true"))

    assert verdict.status == "unreadable"
    assert "temporary directory" in (verdict.error or "")
