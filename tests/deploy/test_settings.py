"""Options, env file, environment, defaults: who wins, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray.deploy.failures import DeployError, UsageError
from ray.deploy.settings import DeploySettings
from ray.errors import RayError
from tests.deploy.support import EXAMPLES, ROOT, settings_for


def env_file(directory: Path, text: str) -> str:
    path = directory / "ray.env"
    path.write_text(text)
    return str(path)


def test_without_options_there_are_defaults() -> None:
    settings = settings_for((), {"PATH": ""})
    assert settings.cwd == str(ROOT)
    assert settings.config_path == str(EXAMPLES / "ray.sub1b.public.json")
    assert settings.loaded.path == settings.config_path
    assert (settings.domain.text, settings.user, settings.runtime_binary) == ("ray.local", "ray", "/usr/bin/python3")
    assert (settings.runtime_given, settings.caddy_given, settings.caddy_binary) == (False, False, None)
    assert (settings.memory_mib, settings.min_free_mib, settings.min_free_problem) == (None, 1024, None)
    assert (settings.env_file_path, settings.keys_deferred, settings.output_dir) == (None, False, None)


SOURCES = [
    ("--user", "RAY_DEPLOY_SERVICE_USER", "cli_ray", "file_ray", "shell_ray", "user", "ray"),
    (
        "--domain",
        "RAY_DEPLOY_DOMAIN",
        "cli.example.com",
        "file.example.com",
        "shell.example.com",
        "domain",
        "ray.local",
    ),
    ("--memory-mib", "RAY_DEPLOY_MEMORY_MIB", "4096", "5000", "6000", "memory_mib", "None"),
    ("--proxy-address", "RAY_DEPLOY_PROXY_ADDRESS", "10.0.0.2", "10.0.0.3", "10.0.0.4", "proxies", "()"),
    ("--gateway-runtime-binary", "RAY_GATEWAY_RUNTIME_BINARY", "/a/py", "/b/py", "/c/py", "runtime_binary", None),
    ("--caddy-binary", "RAY_DEPLOY_CADDY_BINARY", "/tmp/caddy", "/b/caddy", "/c/caddy", "caddy_binary", None),
]


def shown(settings: DeploySettings, name: str) -> str:
    value = settings.domain.text if name == "domain" else getattr(settings, name)
    return ",".join(value) or "()" if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize(("flag", "variable", "cli", "file", "shell", "name", "default"), SOURCES)
def test_option_beats_env_file_beats_environment(
    flag: str, variable: str, cli: str, file: str, shell: str, name: str, default: str | None, tmp_path: Path
) -> None:
    path = env_file(tmp_path, f"{variable}={file}\n")
    environ = {variable: shell}
    assert shown(settings_for([flag, cli, "--env-file", path], environ), name) == cli
    assert shown(settings_for(["--env-file", path], environ), name) == file
    assert shown(settings_for([], environ), name) == shell
    if default is not None:
        assert shown(settings_for([], {variable: "  "}), name) == default


@pytest.mark.parametrize(("flag", "variable", "cli", "file", "shell", "name", "default"), SOURCES[:3])
def test_an_empty_value_in_the_env_file_hides_the_environment(
    flag: str, variable: str, cli: str, file: str, shell: str, name: str, default: str, tmp_path: Path
) -> None:
    path = env_file(tmp_path, f"{variable}=\n")
    assert shown(settings_for(["--env-file", path], {variable: shell}), name) == default


@pytest.mark.parametrize(
    ("flag", "variable", "good", "bad"),
    [
        ("--user", "RAY_DEPLOY_SERVICE_USER", "cli_ray", "ray;root"),
        ("--domain", "RAY_DEPLOY_DOMAIN", "ray.example.com", "x {"),
        ("--memory-mib", "RAY_DEPLOY_MEMORY_MIB", "1", "4096MiB"),
        ("--gateway-runtime-binary", "RAY_GATEWAY_RUNTIME_BINARY", "/usr/bin/python3.12", "python3"),
        ("--caddy-binary", "RAY_DEPLOY_CADDY_BINARY", "/tmp/caddy", "/home/me/caddy"),
    ],
)
def test_a_bad_variable_is_named_unless_its_option_is_given(flag: str, variable: str, good: str, bad: str) -> None:
    with pytest.raises(DeployError, match=variable):
        settings_for([], {variable: bad})
    settings_for([flag, good], {variable: bad})
    with pytest.raises(UsageError, match=flag):
        settings_for([flag, bad])


@pytest.mark.parametrize(
    "value", ["%i", "ray;root", "ray deploy", " ray", "a" * 32, "", "-ray", "1ray", "12345678901", "r\u00e4y", "ray\n"]
)
def test_users_that_systemd_could_take_for_something_else_are_refused(value: str) -> None:
    with pytest.raises(UsageError, match="--user"):
        settings_for([f"--user={value}"])


@pytest.mark.parametrize("value", ["ray", "_ray-2", "a" * 31, "1001", "0"])
def test_names_and_numbers_are_users(value: str) -> None:
    assert settings_for(["--user", value]).user == value


@pytest.mark.parametrize("value", ["4096MiB", "1.5", "0", "", "+1", "\u0664", "1_000", "1048577", "99999999", "9" * 20])
def test_memory_is_a_whole_number_of_mib(value: str) -> None:
    with pytest.raises(UsageError, match="1 to 1048576"):
        settings_for([f"--memory-mib={value}"])


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--gateway-runtime-binary", "/home/me/python3"),
        ("--gateway-runtime-binary", "/usr/../home/me/python3"),
        ("--gateway-runtime-binary", "/root/python3"),
        ("--gateway-runtime-binary", "/run/user/1000/python3"),
        ("--gateway-runtime-binary", "/tmp/python3"),
        ("--gateway-runtime-binary", "/var/tmp/python3"),
        ("--gateway-runtime-binary", "bin/python3"),
        ("--caddy-binary", "/root/caddy"),
        ("--config", ""),
        ("--config", " ray.json"),
        ("--cwd", "a\nb"),
        ("--env-file", "x" * 4097),
    ],
)
def test_paths_that_a_service_could_not_use_are_refused(flag: str, value: str) -> None:
    with pytest.raises(UsageError, match=flag):
        settings_for([f"{flag}={value}"])


def test_program_paths_are_normalised_and_may_hold_spaces() -> None:
    settings = settings_for(["--gateway-runtime-binary", "/usr/local/bin/../bin/my python"])
    assert settings.runtime_binary == "/usr/local/bin/my python"
    assert settings.runtime_given


def test_relative_paths_start_at_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "ray.json").write_text('{"profile": "tiny"}')
    env_file(tmp_path, "RAY_PORT=4444\n")
    arguments = ["--cwd", str(tmp_path), "--config", "ray.json", "--env-file", "ray.env", "--output-dir", "out/.."]
    settings = settings_for(arguments)
    assert settings.config_path == str(tmp_path / "ray.json")
    assert settings.env_file_path == str(tmp_path / "ray.env")
    assert settings.output_dir == str(tmp_path)
    assert settings.loaded.config.server.port == 4444


def test_the_environment_reaches_the_config_and_the_env_file_hides_it(tmp_path: Path) -> None:
    assert settings_for([], {"RAY_PORT": "4000"}).loaded.config.server.port == 4000
    path = env_file(tmp_path, "RAY_PORT=\n")
    assert settings_for(["--env-file", path], {"RAY_PORT": "4000"}).loaded.config.server.port == 3000


def test_a_bad_config_is_the_loaders_own_error() -> None:
    with pytest.raises(RayError, match="RAY_PORT"):
        settings_for([], {"RAY_PORT": "none"})


def test_the_systemd_path_is_taken_and_never_read(tmp_path: Path) -> None:
    settings = settings_for(["--systemd-env-file", str(tmp_path / "missing.env")])
    assert settings.env_file_path == str(tmp_path / "missing.env")
    assert settings.keys_deferred
    both = settings_for(["--systemd-env-file", "/etc/ray/ray.env", "--env-file", env_file(tmp_path, "A=1")])
    assert both.env_file_path == "/etc/ray/ray.env"
    assert not both.keys_deferred


@pytest.mark.parametrize(
    ("text", "mib", "is_bad"),
    [("", 1024, False), (" ", 1024, False), ("0", 0, False), ("1048576", 1_048_576, False)]
    + [(text, 1024, True) for text in ("1048577", "-1", "1.5", "2GiB", "\u0664")],
)
def test_a_malformed_cushion_is_a_problem_to_report_and_not_the_end(text: str, mib: int, is_bad: bool) -> None:
    settings = settings_for([], {"RAY_DEPLOY_MIN_FREE_STORAGE_MIB": text})
    assert settings.min_free_mib == mib
    assert (settings.min_free_problem is not None) is is_bad


def test_variables_that_only_this_shell_has_are_known(tmp_path: Path) -> None:
    environ = {"RAY_PORT": "4000", "RAY_HOST": "127.0.0.1", "RAY_BLANK": " ", "PATH": "/bin"}
    assert settings_for([], environ).leaked_variables == ("RAY_HOST", "RAY_PORT")
    path = env_file(tmp_path, "RAY_PORT=4001\n")
    assert settings_for(["--env-file", path], environ).leaked_variables == ("RAY_HOST",)


def test_no_secret_shows_in_the_text_of_the_settings(tmp_path: Path) -> None:
    path = env_file(tmp_path, "RAY_API_KEYS=from-the-file\n")
    text = repr(settings_for(["--env-file", path], {"RAY_API_KEYS": "from-the-shell"}))
    assert "from-the" not in text


def test_a_shell_that_stands_in_an_impossible_directory_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "two\nlines"
    odd.mkdir()
    monkeypatch.chdir(odd)
    with pytest.raises(DeployError, match="--cwd"):
        settings_for(["--cwd", "."])
