"""`doctor` and `validate` as commands, on real hosts: this one, and a bare one."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ray.deploy import installation as installation_module
from ray.deploy import probes
from ray.deploy.check_list import checks_markdown
from ray.deploy.checks import CHECKS, diagnose
from ray.deploy.checks.catalogue import remedy_names
from ray.deploy.facts import gather
from ray.deploy.installation import HostPlaces
from ray.deploy.preflight import preflight_document
from ray.deploy.settings import DeploySettings
from tests.deploy.support import EXAMPLES, KEYS, ROOT, run, settings_for

MISSING_USER = "no-such-account"


@pytest.fixture
def bare(tmp_path: Path) -> tuple[DeploySettings, HostPlaces]:
    """A machine with nothing prepared: no account, no tools, no directories, no files but the config."""
    config = tmp_path / "ray.json"
    config.write_text((EXAMPLES / "ray.sub1b.public.json").read_text())
    settings = settings_for(
        [
            *("--cwd", str(tmp_path / "srv"), "--config", str(config), "--user", MISSING_USER),
            *("--systemd-env-file", str(tmp_path / "ray.env"), "--gateway-runtime-binary", "/opt/none/python3"),
        ],
        {"PATH": str(tmp_path / "bin")},
    )
    places = HostPlaces(
        systemd=str(tmp_path / "run"),
        caddy_storage=str(tmp_path / "caddy"),
        log=str(tmp_path / "log"),
        temporary=(str(tmp_path / "tmp"),),
    )
    return settings, places


def test_on_a_bare_machine_every_finding_names_its_remedy(bare: tuple[DeploySettings, HostPlaces]) -> None:
    settings, places = bare
    facts = gather(settings, strict=True, places=places)
    findings = diagnose(facts)
    remedies = {code: check.remedy.format_map(remedy_names(facts)) for check in CHECKS for code in check.codes}
    complaints = [finding for finding in findings if finding.level != "info"]

    assert {
        "auth_keys_unverified",
        "systemd_host_missing",
        "caddy_runtime_missing",
        "working_directory_missing",
        "system_log_storage_missing",
        "temporary_storage_missing",
        "env_file_missing_on_disk",
        "service_user_missing",
        "gateway_runtime_missing",
        "gateway_entrypoint_missing",
        "llama_binary_missing",
        "model_file_missing",
    } <= {finding.code for finding in complaints}
    for finding in complaints:
        assert finding.message.endswith(remedies[finding.code]), finding
        assert "{" not in finding.message


def test_on_a_bare_machine_the_facts_are_json_without_gaps(bare: tuple[DeploySettings, HostPlaces]) -> None:
    settings, places = bare
    document = preflight_document(gather(settings, strict=True, places=places))

    assert json.loads(json.dumps(document)) == document
    assert document["serviceUserStatus"] == "missing"
    assert document["systemdStatus"] == "missing"
    assert document["caddyStatus"] == "missing"
    assert document["workingDirectoryStatus"] == "missing"
    assert document["llamaCppBinaryStatus"] == "missing"
    assert document["asyncQueueStorageCheckPath"] in ("/var/lib", "/var/lib/ray", "/var/lib/ray/async-queue")
    assert None not in document.values()


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command of every process that is started."""
    commands: list[list[str]] = []
    original: Callable[..., None] = subprocess.Popen.__init__

    def note(self: object, command: list[str], *rest: object, **options: object) -> None:
        commands.append(list(command))
        original(self, command, *rest, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", note)
    return commands


def test_without_the_account_nothing_runs_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above all not as root: neither the interpreter, nor the checkout, nor llama-server."""
    server = tmp_path / "llama-server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    settings = settings_for(["--user", MISSING_USER], {**KEYS, "RAY_LLAMA_CPP_BINARY_PATH": str(server)})
    commands = recorded(monkeypatch)

    facts = gather(settings, strict=True)

    assert facts.installation is not None
    assert facts.backend is not None
    assert facts.backend.binary.is_program
    assert (facts.installation.version, facts.installation.import_probe, facts.backend.probe) == (None, None, None)
    assert [command for command in commands if os.path.basename(command[0]) not in ("systemctl", "caddy")] == []


HANG = "#!/bin/sh\nsleep 600\n"


def test_tools_that_hang_are_given_up_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tool hangs; each costs its time limit and not more."""
    for name in ("systemctl", "caddy", "systemd-analyze"):
        (tmp_path / name).write_text(HANG)
        (tmp_path / name).chmod(0o755)
    settings = settings_for([], {**KEYS, "PATH": f"{tmp_path}:/usr/bin:/bin"})
    limited = probes.run_probe
    started: list[float] = []

    def hasty(*arguments: object, **options: object) -> probes.Probe:
        started.append(time.monotonic())
        return limited(*arguments, **{**options, "seconds": 0.3})  # type: ignore[arg-type]

    monkeypatch.setattr(installation_module, "run_probe", hasty)
    facts = gather(settings, strict=True, places=HostPlaces(systemd=str(tmp_path)))
    findings = {finding.code: finding.message for finding in diagnose(facts)}

    assert "did not end within 0.3 s" in findings["systemd_host_unreadable"]
    assert "did not end within 0.3 s" in findings["caddy_runtime_unreadable"]
    assert len(started) >= 2


def test_every_probe_has_a_limit_of_ten_seconds_and_every_look_one_of_five() -> None:
    assert (probes.PROBE_SECONDS, probes.LOOK_SECONDS) == (10, 5)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try things as another account")
def test_as_root_the_checkout_is_tried_as_the_account() -> None:
    settings = replace(settings_for(["--user", "nobody"]), runtime_binary="/usr/bin/python3")
    facts = gather(settings, strict=True)

    assert facts.installation is not None
    version = facts.installation.version
    if facts.installation.access["entrypoint"].status == "blocked":
        pytest.skip("this checkout is closed to other accounts")
    assert version is not None
    assert version.text is not None
    if version.is_supported:
        assert facts.installation.import_probe is not None
        assert facts.installation.import_error is None


def test_another_package_of_the_same_name_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that has PyPI's ray: here one whose answers are made up."""
    python = tmp_path / "python3"
    python.write_text(
        '#!/bin/sh\ncase "$*" in *version_info*) echo 3.11.2;; *) echo /opt/site-packages/ray/__init__.py;; esac\n'
    )
    python.chmod(0o755)
    me = str(os.getuid())
    settings = replace(settings_for(["--user", me]), runtime_binary=str(python))
    if os.geteuid() == 0:
        monkeypatch.setattr(os, "geteuid", lambda: 1)  # the account is this one anyway

    codes = {finding.code for finding in diagnose(gather(settings, strict=True))}

    assert "other_ray_installed" in codes
    assert "gateway_entrypoint_import_failed" in codes


def test_doctor_prints_a_table_and_fails_for_errors(bare: tuple[DeploySettings, HostPlaces]) -> None:
    status, text = run("doctor", "--user", MISSING_USER, environ={})

    assert status == 1
    assert "ERROR  service_user_missing" in text
    assert text.rstrip().endswith(" ok")


def test_doctor_prints_json_for_programs() -> None:
    status, text = run("doctor", "--user", MISSING_USER, "--json", environ={})
    document = json.loads(text)

    assert status == 1
    assert list(document) == ["configPath", "profile", "diagnostics", "preflight"]
    assert document["configPath"] == str(Path.cwd() / "examples/config/ray.sub1b.public.json")
    assert document["profile"] == "sub1b"
    assert {"level", "code", "message"} == set(document["diagnostics"][0])


def test_no_caddy_is_no_error_where_another_proxy_is_used() -> None:
    _, text = run("doctor", "--user", MISSING_USER, "--no-caddy", "--json", environ={"PATH": "/nowhere"})

    assert not [code for code in found_codes(text) if code.startswith("caddy_")]


def found_codes(text: str) -> list[str]:
    return [entry["code"] for entry in json.loads(text)["diagnostics"]]


def test_secrets_appear_nowhere() -> None:
    environ = {**KEYS, "RAY_WEBHOOK_SECRETS": "whsec_no-base64-here", "RAY_API_KEYS": "keep this quiet"}
    _, text = run("doctor", "--user", MISSING_USER, "--json", environ=environ)

    assert "webhook_secrets_invalid" in found_codes(text)
    assert "keep this quiet" not in text
    assert "no-base64-here" not in text


def test_validate_is_content_with_a_config_alone() -> None:
    status, text = run("validate", "--domain", "ray.example.com", "--json", environ=KEYS)

    assert status == 0
    assert "env_file_missing" in found_codes(text)
    assert not any(code.startswith(("systemd", "service_user", "llama_binary")) for code in found_codes(text))


def test_validate_looks_at_the_host_when_asked() -> None:
    status, text = run("validate", "--strict-filesystem", "--user", MISSING_USER, "--json", environ=KEYS)

    assert status == 1
    assert "service_user_missing" in found_codes(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ("doctor", "--systemd-env-file", "x"),
        ("doctor", "--output-dir", "x"),
        ("validate", "--systemd-env-file", "x"),
        ("doctor", "--markdown"),
        ("doctor", "--list", "--markdown", "--json"),
        ("validate-all", "extra"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == (2, "")
    assert capsys.readouterr().err


def test_an_invalid_config_is_one_line_and_no_diagnosis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ray.json").write_text('{"profile": "nope"}')

    assert run("validate", "--config", str(tmp_path / "ray.json")) == (1, "")
    assert capsys.readouterr().err.count("\n") == 1


def entries(document: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    checks = document["checks"]
    assert isinstance(checks, list)
    yield from checks


def test_the_list_has_every_check_in_every_form() -> None:
    _, text = run("doctor", "--list")
    _, document = run("doctor", "--list", "--json")

    assert [entry["id"] for entry in entries(json.loads(document))] == [check.id for check in CHECKS]
    for check in CHECKS:
        assert f"{check.id}\n" in text or f"{check.id}  (doctor only)\n" in text
        assert all(code in text for code in check.codes)


def test_the_page_of_the_checks_is_the_one_they_write() -> None:
    written = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")

    assert written == checks_markdown(), "run: python3 -m ray.deploy doctor --list --markdown > docs/doctor.md"
    assert run("doctor", "--list", "--markdown") == (0, written)
