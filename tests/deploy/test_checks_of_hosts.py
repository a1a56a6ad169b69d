"""What a host makes the checks say. Each case changes one fact of a host on which everything is in order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ray.deploy.account import Access, Account
from ray.deploy.backend_facts import Backend, ModelFile
from ray.deploy.checks import diagnose
from ray.deploy.facts import Facts
from ray.deploy.installation import Version
from ray.deploy.places import Place, Room
from ray.deploy.probes import Probe
from ray.deploy.sizing import launch_profile
from ray.deploy.swap import Swap
from ray.deploy.verification import Verdict
from tests.deploy.diagnosing import (
    ARGUMENTS,
    FOUR_GB,
    RAY,
    Document,
    codes,
    complaints,
    directory,
    facts_of,
    found,
    good_installation,
    room,
    settings_of,
)

MIB = 1_048_576
CONFIG: Document = {
    "profile": "sub1b",
    "auth": {"enabled": True},
    "asyncQueue": {"enabled": True, "storageDir": "/var/lib/ray/async-queue"},
    "prefixStore": {"enabled": True, "storageDir": "/var/lib/ray/prefixes"},
}
SECRET = "whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="
ENVIRON = {"RAY_API_KEYS": "key", "RAY_WEBHOOK_SECRETS": SECRET}
BLOCKED = Access("blocked", "/srv has mode 0700")


def private_room(path: str) -> Room:
    return replace(room(path), place=directory(path, mode=0o700))


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    """A host of 4 GB with everything in its place."""
    (tmp_path / "ray.env").write_text(f"RAY_API_KEYS=key\nRAY_WEBHOOK_SECRETS={SECRET}\n")
    settings = settings_of(tmp_path, CONFIG, (*ARGUMENTS, "--env-file", str(tmp_path / "ray.env")), ENVIRON)
    settings = replace(settings, process_environ={})
    plain = facts_of(settings, FOUR_GB)
    launch = launch_profile(settings.loaded.config)
    assert launch is not None
    backend = Backend(
        launch=launch,
        binary=found("/usr/local/bin/llama-server", mode=0o755),
        model=found(launch.model_path, size=400 * MIB),
        model_file=ModelFile(),
        prefixes=replace(room("/var/lib/ray/prefixes"), place=directory("/var/lib/ray/prefixes", mode=0o700)),
        probe=Probe("ok", "--model FNAME  --port PORT"),
        access={},
        flags=("--model", "--port"),
    )
    installation = replace(good_installation(settings), version=Version("3.11.2"))
    return replace(
        plain,
        strict=True,
        env_file=found(str(tmp_path / "ray.env"), mode=0o600),
        jobs=room("/var/lib/ray/async-queue"),
        backend=backend,
        installation=installation,
    )


def changed(facts: Facts, **changes: object) -> Facts:
    """One thing of the installation is otherwise."""
    assert facts.installation is not None
    return replace(facts, installation=replace(facts.installation, **changes))  # type: ignore[arg-type]


def with_backend(facts: Facts, **changes: object) -> Facts:
    assert facts.backend is not None
    return replace(facts, backend=replace(facts.backend, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cushion_mib", "working_mib", "log_mib", "temporary_mib", "expected"),
    [
        (1_024, 1_024, 1_024, 1_024, []),
        (1_024, 1_023, 1_024, 1_024, ["working_directory_storage_low"]),
        (1_024, 1_024, 1_023, 1_023, ["system_log_storage_low", "temporary_storage_low"]),
        (0, 512, 0, 0, []),
        (0, 511, 0, 0, ["working_directory_storage_low"]),
        (100, 511, 100, 99, ["working_directory_storage_low", "temporary_storage_low"]),
    ],
)
def test_exactly_the_cushion_is_enough_and_without_one_the_working_directory_keeps_512(
    facts: Facts, cushion_mib: int, working_mib: int, log_mib: int, temporary_mib: int, expected: list[str]
) -> None:
    facts = replace(facts, settings=replace(facts.settings, min_free_mib=cushion_mib))
    rooms = {
        "working_directory_room": room("/srv/ray", working_mib),
        "log_room": room("/var/log", log_mib),
        "temporary_rooms": (room("/tmp", temporary_mib),),
    }
    assert complaints(changed(facts, **rooms)) == expected


def test_a_host_in_order_has_nothing_to_complain_about(facts: Facts) -> None:
    findings = diagnose(facts)

    assert codes(findings, "error", "warn") == []
    assert {"systemd_host_ok", "service_user_ok", "memory_fit_ok", "swap_ok", "prefix_store_storage_ok"} <= {
        finding.code for finding in findings
    }


def lost(path: str) -> Place:
    return Place(path, "missing")


def closed(path: str) -> Place:
    return Place(path, "unreadable", error="Permission denied")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"systemd_place": lost("/run/systemd/system"), "systemd": None}, "systemd_host_missing"),
        ({"systemd_place": found("/run/systemd/system"), "systemd": None}, "systemd_host_missing"),
        ({"systemd_place": closed("/run/systemd/system"), "systemd": None}, "systemd_host_unreadable"),
        ({"systemd": Probe("missing", error="gone")}, "systemd_host_missing"),
        ({"systemd": Probe("failed", error="late")}, "systemd_host_unreadable"),
        ({"units": Verdict("invalid", "ray-gateway.service:3: Unknown key")}, "systemd_units_invalid"),
        ({"units": Verdict("unreadable", "no room")}, "systemd_units_unreadable"),
        ({"caddy": Probe("missing", error="not on the path"), "caddy_storage": None}, "caddy_runtime_missing"),
        ({"caddy": Probe("failed", error="status 1"), "caddy_storage": None}, "caddy_runtime_unreadable"),
        ({"caddyfile": Verdict("invalid", "line 3")}, "caddy_config_invalid"),
        ({"caddyfile": Verdict("unreadable", "no room")}, "caddy_config_unreadable"),
        ({"caddy_storage": Room("/var/lib/caddy", directory("/var/lib"), 9_999)}, "caddy_storage_missing"),
        ({"caddy_storage": Room("/var/lib/caddy", found("/var/lib/caddy"))}, "caddy_storage_not_directory"),
        ({"caddy_storage": room("/var/lib/caddy", None)}, "caddy_storage_unreadable"),
        ({"caddy_storage": room("/var/lib/caddy", 1_023)}, "caddy_storage_low"),
        ({"working_directory": lost("/srv/ray")}, "working_directory_missing"),
        ({"working_directory": found("/srv/ray")}, "working_directory_not_directory"),
        ({"working_directory": closed("/srv/ray")}, "working_directory_unreadable"),
        ({"working_directory": directory("/root/ray")}, "working_directory_home_protected"),
        ({"working_directory": directory("/srv/ray", real="/home/me/ray")}, "working_directory_home_protected"),
        ({"working_directory": directory("/var/tmp/ray")}, "working_directory_private_tmp"),
        ({"access": {"working_directory": BLOCKED}}, "working_directory_service_user_inaccessible"),
        ({"working_directory_room": room("/srv/ray", None)}, "working_directory_storage_unreadable"),
        ({"working_directory_room": room("/srv/ray", 1_023)}, "working_directory_storage_low"),
        ({"log_room": Room("/var/log", directory("/var"), 9_999)}, "system_log_storage_missing"),
        ({"log_room": Room("/var/log", found("/var/log"))}, "system_log_storage_not_directory"),
        ({"log_room": room("/var/log", None)}, "system_log_storage_unreadable"),
        ({"log_room": room("/var/log", 1)}, "system_log_storage_low"),
        ({"temporary_rooms": (room("/tmp"), room("/var/tmp", 1))}, "temporary_storage_low"),
        ({"temporary_rooms": (Room("/tmp", directory("/")), room("/var/tmp"))}, "temporary_storage_missing"),
        ({"temporary_rooms": (Room("/tmp", found("/tmp")),)}, "temporary_storage_not_directory"),
        ({"temporary_rooms": (room("/tmp", None),)}, "temporary_storage_unreadable"),
        ({"account": Account("ray", "missing")}, "service_user_missing"),
        ({"account": Account("ray", "unreadable", error="no answer")}, "service_user_unreadable"),
        ({"account": replace(RAY, uid=0)}, "service_user_root"),
        ({"config_file": found("/home/me/ray.json")}, "config_file_home_protected"),
        ({"config_file": lost("/tmp/ray.json")}, "config_file_private_tmp"),
        ({"config_file": lost("/etc/ray/ray.json")}, "config_file_missing"),
        ({"config_file": directory("/etc/ray")}, "config_file_unreadable"),
        ({"access": {"config_file": BLOCKED}}, "config_file_service_user_inaccessible"),
        ({"runtime": found("/opt/py", mode=0o755, real="/home/me/py")}, "gateway_runtime_home_protected"),
        ({"runtime": lost("/usr/bin/python3"), "version": None}, "gateway_runtime_missing"),
        ({"runtime": found("/usr/bin/python3"), "version": None}, "gateway_runtime_unreadable"),
        ({"access": {"runtime": BLOCKED}}, "gateway_runtime_service_user_inaccessible"),
        ({"version": Version("3.10.12")}, "gateway_runtime_version_unsupported"),
        ({"version": Version(None, "late")}, "gateway_runtime_version_unreadable"),
        ({"entrypoint": lost("/srv/ray/ray/__main__.py")}, "gateway_entrypoint_missing"),
        ({"entrypoint": directory("/srv/ray/ray/__main__.py")}, "gateway_entrypoint_unreadable"),
        ({"runtime": found("/opt/py", mode=0o755, real="/tmp/py")}, "gateway_runtime_private_tmp"),
        ({"entrypoint": found("/srv/e", real="/home/e")}, "gateway_entrypoint_home_protected"),
        ({"entrypoint": found("/srv/e", real="/tmp/e")}, "gateway_entrypoint_private_tmp"),
        ({"access": {"entrypoint": BLOCKED}}, "gateway_entrypoint_service_user_inaccessible"),
        ({"import_probe": Probe("failed", error="No module named ssl")}, "gateway_entrypoint_import_failed"),
        ({"import_probe": Probe("ok", "/usr/lib/python3/ray/__init__.py\n")}, "gateway_entrypoint_import_failed"),
        ({"other_ray": "/usr/lib/python3/dist-packages/ray/__init__.py"}, "other_ray_installed"),
    ],
)
def test_installations(facts: Facts, changes: dict[str, object], expected: str) -> None:
    assert complaints(changed(facts, **changes)) == [expected]


def test_an_interpreter_that_is_too_old_is_not_called_fine_beside_it(facts: Facts) -> None:
    found_codes = codes(diagnose(changed(facts, version=Version("3.10.12"))))

    assert "gateway_runtime_ok" not in found_codes


def test_an_unreadable_version_is_one_complaint(facts: Facts) -> None:
    assert complaints(changed(facts, version=Version(None, "late"))) == ["gateway_runtime_version_unreadable"]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (lost("/etc/ray/ray.env"), "env_file_missing_on_disk"),
        (directory("/etc/ray"), "env_file_unreadable"),
        (closed("/etc/ray/ray.env"), "env_file_unreadable"),
        (found("/etc/ray/ray.env", mode=0o644), "env_file_permissions_open"),
        (found("/etc/ray/ray.env", mode=0o640), "env_file_permissions_open"),
    ],
)
def test_env_files(facts: Facts, place: Place, expected: str) -> None:
    assert complaints(replace(facts, env_file=place)) == [expected]


def test_the_mode_of_an_open_env_file_is_shown(facts: Facts) -> None:
    findings = diagnose(replace(facts, env_file=found("/etc/ray/ray.env", mode=0o644)))

    assert any("0644" in finding.message for finding in findings)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (room("/var/lib/ray/async-queue", 255), ["async_queue_storage_low"]),
        (room("/var/lib/ray/async-queue", 256), []),
        (room("/var/lib/ray/async-queue", inodes=1_023), ["async_queue_storage_inodes_low"]),
        (room("/var/lib/ray/async-queue", inodes=1_024), []),
        (room("/var/lib/ray/async-queue", inodes=None), []),  # not counted is not none
        (room("/var/lib/ray/async-queue", None), ["async_queue_storage_unreadable"]),
        (Room("/srv/file/jobs", found("/srv/file")), ["async_queue_storage_not_directory"]),
        (room("/tmp/jobs"), ["async_queue_storage_volatile"]),
        (room("/home/ray/jobs"), ["async_queue_storage_home_protected"]),
        (room("/usr/share/jobs"), ["async_queue_storage_protect_system_readonly"]),
        (
            Room("/srv/jobs", directory("/srv/jobs", real="/boot/jobs"), 9_999),
            ["async_queue_storage_protect_system_readonly"],
        ),
    ],
)
def test_storage_of_jobs(facts: Facts, place: Room, expected: list[str]) -> None:
    assert complaints(replace(facts, jobs=place)) == expected


def test_storage_of_jobs_that_the_account_may_not_write(facts: Facts) -> None:
    assert complaints(replace(facts, jobs_access=BLOCKED)) == ["async_queue_storage_service_user_inaccessible"]


def test_without_a_look_at_the_host_low_storage_is_a_warning(facts: Facts) -> None:
    plain = replace(facts, strict=False, installation=None, jobs=room("/srv/jobs", 1))

    assert codes(diagnose(plain), "warn") == ["async_queue_storage_low"]


def test_a_directory_that_systemd_will_make_says_so(facts: Facts) -> None:
    managed = Room("/var/lib/ray/async-queue", directory("/var/lib"), 9_999)
    findings = diagnose(replace(facts, jobs=managed))

    assert any(f.code == "async_queue_storage_ok" and "StateDirectory" in f.message for f in findings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ["webhook_secrets_missing"]), ("plain", ["webhook_secrets_invalid"]), (SECRET, [])],
)
def test_secrets_of_callbacks(facts: Facts, text: str, expected: list[str]) -> None:
    settings = replace(facts.settings, environ={**ENVIRON, "RAY_WEBHOOK_SECRETS": text})

    assert complaints(replace(facts, settings=settings)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"binary": lost("/usr/local/bin/llama-server"), "probe": None}, ["llama_binary_missing"]),
        ({"binary": found("/usr/local/bin/llama-server"), "probe": None}, ["llama_binary_unreadable"]),
        ({"access": {"binary": BLOCKED}}, ["llama_binary_service_user_inaccessible"]),
        ({"probe": Probe("failed", error="libgomp.so.1: cannot open")}, ["llama_binary_probe_failed"]),
        ({"probe": Probe("ok", "--model-url URL --port PORT")}, ["llama_binary_launch_flags_unsupported"]),
        (
            {"binary": found("/usr/local/bin/llama-server", mode=0o755, real="/home/me/llama-server")},
            ["llama_binary_path_home_protected"],
        ),
        ({"model": lost("/models/m.gguf"), "model_file": None}, ["model_file_missing"]),
        ({"model": directory("/models"), "model_file": None}, ["model_file_unreadable"]),
        ({"model_file": ModelFile("it does not start with GGUF")}, ["model_file_format_invalid"]),
        ({"model_file": ModelFile("Permission denied", is_unreadable=True)}, ["model_file_format_unreadable"]),
        ({"access": {"model": BLOCKED}}, ["model_file_service_user_inaccessible"]),
        ({"model": found("/models/m.gguf", real="/tmp/m.gguf", size=MIB)}, ["llama_model_path_private_tmp"]),
        ({"model": found("/models/m.gguf", size=2_500 * MIB)}, ["memory_fit_exceeded"]),
        ({"prefixes": room("/var/lib/ray/prefixes")}, ["prefix_store_storage_open"]),
        ({"prefixes": Room("/srv/f/p", found("/srv/f"))}, ["prefix_store_storage_not_directory"]),
        ({"prefixes": room("/srv/p", None)}, ["prefix_store_storage_unreadable"]),
        (
            {"prefixes": Room("/var/lib/ray/prefixes", directory("/var/lib/ray"), 511)},
            ["prefix_store_storage_low"],
        ),
        ({"prefixes": private_room("/home/ray/prefixes")}, ["prefix_store_storage_home_protected"]),
        ({"prefixes": private_room("/var/tmp/prefixes")}, ["prefix_store_storage_volatile"]),
        ({"prefixes": private_room("/usr/share/prefixes")}, ["prefix_store_storage_protect_system_readonly"]),
        ({"access": {"prefixes": BLOCKED}}, ["prefix_store_storage_service_user_inaccessible"]),
    ],
)
def test_backends(facts: Facts, changes: dict[str, object], expected: list[str]) -> None:
    assert complaints(with_backend(facts, **changes)) == expected


def test_a_store_that_the_running_gateway_has_switched_off(facts: Facts) -> None:
    assert complaints(replace(facts, store_verdict="no slot actions")) == ["prefix_store_switched_off"]


@pytest.mark.parametrize("enabled", [True, False])
def test_a_store_that_is_off_is_mentioned_and_no_complaint(tmp_path: Path, facts: Facts, enabled: bool) -> None:
    document: Document = {**CONFIG, "prefixStore": {"enabled": enabled, "storageDir": "/var/lib/ray/prefixes"}}
    loaded = settings_of(tmp_path, document, ARGUMENTS).loaded
    findings = diagnose(replace(facts, settings=replace(facts.settings, loaded=loaded)))

    assert ("prefix_store_off" in codes(findings, "info")) is not enabled
    assert codes(findings, "error", "warn") == []


def test_missing_flags_are_named_as_whole_words(facts: Facts) -> None:
    findings = diagnose(with_backend(facts, probe=Probe("ok", "--model-url URL --port PORT")))

    assert any(finding.message.startswith("This llama-server does not know --model.") for finding in findings)


def test_the_rule_of_thumb_names_its_parts_and_the_division(facts: Facts) -> None:
    message = next(f.message for f in diagnose(facts) if f.code == "memory_fit_ok")

    assert "estimated: model 400 MiB" in message
    assert "kv 768 MiB" in message
    assert "gateway 896 MiB" in message


@pytest.mark.parametrize(
    ("model_mib", "expected"),
    [
        (1_080, "ok"),
        (1_081, "tight"),
        (1_304, "tight"),
        (1_305, "exceeded"),
    ],
)
def test_the_edges_of_what_fits(facts: Facts, model_mib: int, expected: str) -> None:
    """The unit's limits are those of this machine; beside the model stand 768 MiB of context and 160 of program."""
    limits = facts.sizing.backend
    assert limits is not None
    assert (limits.high_mib - 928, limits.max_mib - 928) == (1_080, 1_304)

    assert f"memory_fit_{expected}" in codes(
        diagnose(with_backend(facts, model=found("/m.gguf", size=model_mib * MIB)))
    )


@pytest.mark.parametrize(
    ("swap", "expected"),
    [
        (Swap("missing", 0, 0, None, 60), ["swap_missing"]),
        (Swap("available", 1_023, 1_023, None, 10), ["swap_low"]),
        (Swap("available", 1_024, 255, None, 10), ["swap_free_low"]),
        (Swap("available", 1_024, 256, None, 20), []),
        (Swap("available", 1_024, 1_024, None, 21), ["swap_swappiness_high"]),
        (Swap("available", 1_024, 1_024, None, None, "unreadable"), ["swap_swappiness_unreadable"]),
        (Swap("unreadable", None, None, "gone", 60), ["swap_unreadable", "swap_swappiness_high"]),
    ],
)
def test_swap(facts: Facts, swap: Swap, expected: list[str]) -> None:
    assert complaints(replace(facts, swap=swap)) == expected


@pytest.mark.parametrize(
    ("preset", "architecture", "expected"),
    [
        ("single-vps-sub1b-cx23", "arm64", ["llama_launch_profile_architecture_mismatch"]),
        ("single-vps-sub1b-cax11", "x64", ["llama_launch_profile_architecture_mismatch"]),
        ("single-vps-1b-8gb", "arm64", []),
    ],
)
def test_presets_for_other_processors(
    tmp_path: Path, facts: Facts, preset: str, architecture: str, expected: list[str]
) -> None:
    launch = {"preset": preset, "parallel": 1}
    document: Document = {
        **CONFIG,
        "model": {"adapter": {"launchProfile": launch}},
        "scheduler": {"concurrency": 1, "maxInflightTokens": 3072},
    }
    settings = replace(facts.settings, loaded=settings_of(tmp_path, document, ARGUMENTS).loaded)
    machine = replace(facts.machine, architecture=architecture)
    found_codes = complaints(replace(facts, settings=settings, machine=machine))

    assert [code for code in found_codes if "architecture" in code] == expected


def test_another_proxy_needs_no_caddy(facts: Facts) -> None:
    without = changed(replace(facts, proxy=False), caddy=None, caddy_storage=None)

    assert complaints(without) == []
