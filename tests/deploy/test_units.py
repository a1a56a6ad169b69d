"""The units of every example, as the tools of systemd itself see them, and what each unit may see and do."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from ray.deploy.failures import DeployError
from ray.deploy.settings import DeploySettings
from ray.deploy.sizing import Sizing, size
from ray.deploy.unit_values import argument_word
from ray.deploy.units import (
    BACKEND_UNIT,
    GATEWAY_UNIT,
    SOCKET_UNIT,
    render_gateway,
    render_llama_cpp,
    render_socket,
)
from tests.deploy.support import EXAMPLE_NAMES, KEYS, settings_for

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
# Programs that are there: verify looks for them.
PROGRAMS = {"RAY_LLAMA_CPP_BINARY_PATH": "/usr/bin/env", "RAY_GATEWAY_RUNTIME_BINARY": "/usr/bin/env"}
EXPOSURE = {GATEWAY_UNIT: 1.5, BACKEND_UNIT: 2.0}
HOSTILE = "a b\"c'd%n$HOME\\e;f#g[h]*?:i ü"


def settings_of(
    document: Mapping[str, object], tmp_path: Path, *options: str, environ: Mapping[str, str] | None = None
) -> DeploySettings:
    config = tmp_path / "ray.json"
    config.write_text(json.dumps(document))
    return settings_for(["--config", str(config), *options], {**KEYS, **PROGRAMS, **(environ or {})})


def units_of(settings: DeploySettings) -> dict[str, str]:
    sizing: Sizing = size(settings.loaded.config, 8192, settings.memory_mib)
    backend = render_llama_cpp(settings, sizing)
    units = {GATEWAY_UNIT: render_gateway(settings, sizing), SOCKET_UNIT: render_socket(settings)}
    return units if backend is None else {**units, BACKEND_UNIT: backend}


def values(unit: str, setting: str) -> list[str]:
    return re.findall(rf"^{setting}=(.*)$", unit, re.MULTILINE)


def verified(units: Mapping[str, str], directory: Path) -> str:
    """What the real `systemd-analyze verify` prints about them."""
    for name, text in units.items():
        (directory / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", *(str(directory / name) for name in units)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{directory}:"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


def exposure(unit: Path) -> float:
    done = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=true", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return float(found[1])


@needs_systemd
@pytest.mark.parametrize("example", EXAMPLE_NAMES)
def test_the_units_of_every_example_pass_verify_without_a_line_and_are_barely_exposed(
    example: str, tmp_path: Path
) -> None:
    units = units_of(settings_for(["--cwd", "/srv/ray"], {**KEYS, **PROGRAMS}, example=example))
    assert verified(units, tmp_path) == ""
    for name, most in EXPOSURE.items():
        if name in units:
            assert exposure(tmp_path / name) <= most


@needs_systemd
def test_verify_would_have_said_something(tmp_path: Path) -> None:
    units = units_of(settings_of({"profile": "tiny"}, tmp_path))
    units[GATEWAY_UNIT] = units[GATEWAY_UNIT].replace("MemoryMax=", "MemoryMaximum=")
    assert "MemoryMaximum" in verified(units, tmp_path)


def backend_config(launch: Mapping[str, object] | None = None, **more: object) -> dict[str, object]:
    adapter = {
        "kind": "llama.cpp",
        "baseUrl": "http://127.0.0.1:8081",
        "modelRef": "m",
        "launchProfile": {"modelPath": "/var/lib/ray/models/m.gguf", "port": 8081, **(launch or {})},
    }
    return {"profile": "sub1b", "model": {"id": "m", "adapter": adapter}, **more}


def upstream_at(url: str) -> dict[str, object]:
    adapter = {"kind": "openai-compatible", "baseUrl": url, "modelRef": "m"}
    return {"profile": "vps", "model": {"adapter": adapter}}


@needs_systemd
def test_hostile_paths_pass_verify_without_a_line(tmp_path: Path) -> None:
    place = tmp_path / HOSTILE
    place.mkdir()
    document = backend_config(
        asyncQueue={"enabled": True, "storageDir": f"/srv/{HOSTILE}/jobs"},
        prefixStore={"enabled": True, "storageDir": f"/var/lib/ray/{HOSTILE}"},
    )
    environ = {"RAY_MODEL_PATH": f"/var/lib/ray/models/{HOSTILE}.gguf"}
    settings = settings_of(
        document, place, "--cwd", str(place), "--systemd-env-file", f"/etc/ray/{HOSTILE}.env", environ=environ
    )
    units = units_of(settings)
    assert verified(units, tmp_path) == ""
    assert values(units[GATEWAY_UNIT], "WorkingDirectory") == [str(place).replace("%", "%%")]
    (line,) = values(units[BACKEND_UNIT], "ExecStart")
    assert f"--model {argument_word(environ['RAY_MODEL_PATH'])} " in line


def test_the_gateway_waits_for_its_socket_and_wants_the_backend(tmp_path: Path) -> None:
    units = units_of(settings_of(backend_config(), tmp_path))
    gateway = units[GATEWAY_UNIT]
    assert values(gateway, "Requires") == [SOCKET_UNIT]
    assert values(gateway, "Wants") == [BACKEND_UNIT]
    assert values(gateway, "After") == [f"network.target {SOCKET_UNIT} {BACKEND_UNIT}"]
    assert (values(gateway, "Type"), values(gateway, "WatchdogSec")) == (["notify"], ["30"])


def test_without_a_launch_profile_there_is_no_backend_unit_and_nobody_wants_one(tmp_path: Path) -> None:
    units = units_of(settings_of({"profile": "tiny"}, tmp_path))
    assert BACKEND_UNIT not in units
    assert values(units[GATEWAY_UNIT], "Wants") == []


def test_the_env_file_is_the_gateways_alone(tmp_path: Path) -> None:
    settings = settings_of(backend_config(), tmp_path, "--systemd-env-file", "/etc/ray/ray.env")
    units = units_of(settings)
    assert values(units[GATEWAY_UNIT], "EnvironmentFile") == ["/etc/ray/ray.env"]
    assert values(units[BACKEND_UNIT], "EnvironmentFile") == []
    assert values(units[BACKEND_UNIT], "InaccessiblePaths") == ["-/etc/ray/ray.env"]


def test_both_services_write_snapshots_and_only_the_gateway_sees_the_jobs(tmp_path: Path) -> None:
    document = backend_config(
        asyncQueue={"enabled": True, "storageDir": "/var/lib/ray/async-queue"},
        prefixStore={"enabled": True, "storageDir": "/var/lib/ray/prefixes"},
    )
    units = units_of(settings_of(document, tmp_path))
    gateway, backend = units[GATEWAY_UNIT], units[BACKEND_UNIT]
    assert values(gateway, "StateDirectory") == ["ray/async-queue ray/prefixes"]
    assert values(backend, "StateDirectory") == ["ray/prefixes"]
    assert values(backend, "InaccessiblePaths") == ["-/var/lib/ray/async-queue"]
    assert "--slot-save-path /var/lib/ray/prefixes/" in backend
    for unit in (gateway, backend):
        # The store refuses a directory that is not its user's own, or that others can look into.
        assert values(unit, "User") == ["ray"]
        assert values(unit, "StateDirectoryMode") == ["0700"]
        assert values(unit, "UMask") == ["0077"]


def test_a_store_elsewhere_is_writable_and_not_made_by_systemd(tmp_path: Path) -> None:
    document = {"profile": "tiny", "asyncQueue": {"enabled": True, "storageDir": "/srv/jobs"}}
    gateway = units_of(settings_of(document, tmp_path))[GATEWAY_UNIT]
    assert values(gateway, "ReadWritePaths") == ["-/srv/jobs"]
    assert values(gateway, "StateDirectory") == []


@pytest.mark.parametrize("place", ["/var/lib/ray-old", "/var/lib/rayx/jobs", "/var/lib/other"])
def test_a_neighbour_of_the_state_directory_is_not_given_to_the_account(tmp_path: Path, place: str) -> None:
    document = {"profile": "tiny", "asyncQueue": {"enabled": True, "storageDir": place}}
    assert values(units_of(settings_of(document, tmp_path))[GATEWAY_UNIT], "StateDirectory") == []


@pytest.mark.parametrize(
    ("document", "stays"),
    [
        ({"profile": "tiny"}, True),
        (backend_config(), True),
        ({"profile": "tiny", "asyncQueue": {"enabled": True, "storageDir": "/var/lib/ray/q"}}, False),
        ({"profile": "tiny", "server": {"host": "10.0.0.11"}}, True),
        (upstream_at("https://a.example"), False),
        (upstream_at("http://127.0.0.1:9"), True),
    ],
)
def test_a_gateway_that_speaks_to_this_machine_only_is_held_to_it(
    tmp_path: Path, document: dict[str, object], stays: bool
) -> None:
    units = units_of(settings_of(document, tmp_path))
    assert values(units[GATEWAY_UNIT], "IPAddressDeny") == (["any"] if stays else [])
    if BACKEND_UNIT in units:
        assert values(units[BACKEND_UNIT], "IPAddressDeny") == ["any"]
        assert values(units[BACKEND_UNIT], "IPAddressAllow") == ["localhost"]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:3000"),
        ("localhost", "127.0.0.1:3000"),
        ("::1", "[::1]:3000"),
        ("0.0.0.0", "0.0.0.0:3000"),
        ("::", "[::]:3000"),
    ],
)
def test_the_socket_listens_where_the_gateway_would(tmp_path: Path, host: str, address: str) -> None:
    units = units_of(settings_of({"profile": "tiny", "server": {"host": host, "port": 3000}}, tmp_path))
    assert values(units[SOCKET_UNIT], "ListenStream") == [address]
    assert values(units[SOCKET_UNIT], "Backlog") == ["256"]
    assert (values(units[SOCKET_UNIT], "IPAddressDeny") == ["any"]) == (host in ("127.0.0.1", "localhost", "::1"))


NODES = [
    ("10.0.0.11", (), "10.0.0.11:3000", "localhost 10.0.0.0/8"),
    ("172.20.1.1", (), "172.20.1.1:3000", "localhost 172.16.0.0/12"),
    ("100.100.1.2", (), "100.100.1.2:3000", "localhost 100.64.0.0/10"),
    ("fd00::11", (), "[fd00::11]:3000", "localhost fc00::/7"),
    ("::ffff:192.168.1.2", (), "192.168.1.2:3000", "localhost 192.168.0.0/16"),
    ("10.0.0.11", ("--proxy-address", "10.0.0.2"), "10.0.0.11:3000", "localhost 10.0.0.11 10.0.0.2"),
    ("10.0.0.11", ("--proxy-address", "10.0.0.11"), "10.0.0.11:3000", "localhost 10.0.0.11"),
    ("fd00::11", ("--proxy-address", "fd00::2,[fd00:0::3]"), "[fd00::11]:3000", "localhost fd00::11 fd00::2 fd00::3"),
]


@needs_systemd
@pytest.mark.parametrize(("host", "options", "address", "allowed"), NODES)
def test_given_a_node_of_a_pool_then_its_proxy_may_connect_and_nobody_from_outside(
    tmp_path: Path, host: str, options: tuple[str, ...], address: str, allowed: str
) -> None:
    units = units_of(settings_of(backend_config(server={"host": host, "port": 3000}), tmp_path, *options))
    assert values(units[SOCKET_UNIT], "ListenStream") == [address]
    # The network may come up after the sockets are made.
    assert values(units[SOCKET_UNIT], "FreeBind") == ["true"]
    for name in (SOCKET_UNIT, GATEWAY_UNIT):
        assert values(units[name], "IPAddressDeny") == ["any"]
        assert values(units[name], "IPAddressAllow") == [allowed]
    # Nobody speaks to the backend but the gateway beside it.
    assert values(units[BACKEND_UNIT], "IPAddressAllow") == ["localhost"]
    assert verified(units, tmp_path) == ""
    for name, most in EXPOSURE.items():
        assert exposure(tmp_path / name) <= most


def test_given_a_gateway_on_loopback_then_a_named_proxy_opens_nothing(tmp_path: Path) -> None:
    units = units_of(settings_of({"profile": "tiny"}, tmp_path, "--proxy-address", "10.0.0.2"))
    assert values(units[SOCKET_UNIT], "IPAddressAllow") == ["localhost"]
    assert values(units[SOCKET_UNIT], "FreeBind") == []


def test_a_host_that_is_a_name_is_refused_with_the_remedy(tmp_path: Path) -> None:
    settings = settings_of({"profile": "tiny", "server": {"host": "ray.example.com"}}, tmp_path)
    with pytest.raises(DeployError, match="RAY_HOST"):
        render_socket(settings)


def test_tasks_are_threads_and_there_are_enough_for_the_largest_configuration(tmp_path: Path) -> None:
    launch = {"threads": 32, "threadsBatch": 32, "threadsHttp": 16, "parallel": 8, "ctxSize": 8192}
    units = units_of(settings_of(backend_config(launch, scheduler={"concurrency": 8}), tmp_path))
    (gateway,) = values(units[GATEWAY_UNIT], "TasksMax")
    (backend,) = values(units[BACKEND_UNIT], "TasksMax")
    # 32: the most that asyncio's own pool grows to.
    assert int(gateway) >= 2 * 8 + 32 + 32
    assert int(backend) >= 2 * (32 + 32) + 16 + 32


def test_a_backend_that_locks_its_memory_may(tmp_path: Path) -> None:
    assert "LimitMEMLOCK" not in units_of(settings_of(backend_config(), tmp_path))[BACKEND_UNIT]
    locking = backend_config({"extraArgs": ["--mlock"]})
    assert values(units_of(settings_of(locking, tmp_path))[BACKEND_UNIT], "LimitMEMLOCK") == ["infinity"]


def test_the_backends_threads_spin_briefly_and_give_way_to_the_gateway(tmp_path: Path) -> None:
    units = units_of(settings_of(backend_config(), tmp_path))
    assert values(units[BACKEND_UNIT], "Environment") == ['"GOMP_SPINCOUNT=10000"']
    assert values(units[BACKEND_UNIT], "Nice") == ["10"]
    (weight,) = values(units[BACKEND_UNIT], "CPUWeight")
    assert int(weight) < int(values(units[GATEWAY_UNIT], "CPUWeight")[0])


def test_neither_service_gives_up_and_neither_may_write_and_run_memory(tmp_path: Path) -> None:
    units = units_of(settings_of(backend_config(), tmp_path))
    for name in (GATEWAY_UNIT, BACKEND_UNIT):
        assert values(units[name], "Restart") == ["always"]
        assert values(units[name], "StartLimitIntervalSec") == ["0"]
        assert values(units[name], "MemoryDenyWriteExecute") == ["true"]
        assert values(units[name], "ProtectSystem") == ["strict"]
