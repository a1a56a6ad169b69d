"""What every command is told: the options, the env file and the config, as one frozen value.

Precedence, highest first: option, env file, process environment, config file, profile, default. The env file hides
process variables one by one; a blank value in it hides, too, and then counts as not set. A value of the environment is
judged only when its option is absent.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ray.config import LoadedConfig, load_config
from ray.deploy.env_file import EnvFile, read_env_file
from ray.deploy.failures import DeployError, UsageError
from ray.deploy.paths import HOME_PROTECTED, PRIVATE_TMP, absolute, from_here, normalised, path_problem, program_problem
from ray.deploy.principals import principal_problem
from ray.deploy.private_network import proxies_of, proxies_problem
from ray.deploy.site_address import SiteAddress, parse_site_address
from ray.deploy.variables import (
    CADDY_VARIABLE,
    DEFAULT_DOMAIN,
    DEFAULT_MIN_FREE_MIB,
    DEFAULT_RUNTIME,
    DEFAULT_USER,
    DOMAIN_VARIABLE,
    MEMORY_VARIABLE,
    MIN_FREE_VARIABLE,
    PROXY_VARIABLE,
    RUNTIME_VARIABLE,
    USER_VARIABLE,
)

DEFAULT_CONFIG = "./examples/config/ray.sub1b.public.json"
LARGEST_MIB = 1_048_576

Problem = Callable[[str], str | None]
_DIGITS = re.compile(r"[0-9]{1,16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploySettings:
    """What a command works on. Paths are absolute and normalised as text: symbolic links are kept.

    `env_file`: the file that was read, if one was named. `systemd_env_file`: the path for `EnvironmentFile=` where it
    differs (`--systemd-env-file`; never read). `runtime_given`, `caddy_given`: the operator named the program.
    `caddy_binary`: None when none was named and none is on the path. `memory_mib`: the memory target that overrides
    the config's. `proxies`: addresses of the proxies on other machines, where some are named. `min_free_problem`: why
    `RAY_DEPLOY_MIN_FREE_STORAGE_MIB` was not taken. `environ`: the process environment with the env file over it.
    `process_environ`: without.
    """

    cwd: str
    config_path: str
    loaded: LoadedConfig
    env_file: EnvFile | None = None
    systemd_env_file: str | None = None
    output_dir: str | None = None
    domain: SiteAddress
    user: str = DEFAULT_USER
    runtime_binary: str = DEFAULT_RUNTIME
    runtime_given: bool = False
    caddy_binary: str | None = None
    caddy_given: bool = False
    memory_mib: int | None = None
    proxies: tuple[str, ...] = ()
    min_free_mib: int = DEFAULT_MIN_FREE_MIB
    min_free_problem: str | None = None
    strict: bool = False
    environ: Mapping[str, str] = field(repr=False)
    process_environ: Mapping[str, str] = field(repr=False)

    @property
    def env_file_path(self) -> str | None:
        """The path that lands in `EnvironmentFile=`, and that checks of the env file look at."""
        return self.systemd_env_file or (self.env_file.path if self.env_file else None)

    @property
    def keys_deferred(self) -> bool:
        """Is the unit's env file one that was not read, so that keys may well stand in it?"""
        return self.systemd_env_file is not None and self.env_file is None

    @property
    def leaked_variables(self) -> tuple[str, ...]:
        """`RAY_*` variables that only this shell has: they shape the units, and the service will not see them."""
        kept = self.env_file.values if self.env_file else {}
        return tuple(
            sorted(
                name
                for name, text in self.process_environ.items()
                if name.startswith("RAY_") and text.strip() and name not in kept
            )
        )


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `load_settings` reads. All are optional."""
    parser.add_argument("--cwd", metavar="PATH", help="working directory of the service (default: this directory)")
    parser.add_argument("--config", metavar="PATH", help=f"Ray config (default: {DEFAULT_CONFIG})")
    parser.add_argument(
        "--env-file", "--ray-env-file", dest="env_file", metavar="PATH", help="read values from this env file"
    )
    parser.add_argument("--domain", metavar="ADDR", help=f"public address of the site (default: {DEFAULT_DOMAIN})")
    parser.add_argument("--user", metavar="NAME|UID", help=f"account of the services (default: {DEFAULT_USER})")
    parser.add_argument(
        "--gateway-runtime-binary", metavar="PATH", help=f"interpreter of the gateway (default: {DEFAULT_RUNTIME})"
    )
    parser.add_argument("--caddy-binary", metavar="PATH", help="the Caddy to ask (default: caddy on PATH)")
    parser.add_argument("--memory-mib", metavar="N", help="memory of the machine to plan for (default: the config's)")
    parser.add_argument(
        "--proxy-address",
        metavar="ADDR[,ADDR]",
        help="who else may connect to a gateway on a private address (default: its whole private network)",
    )


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def load_settings(options: argparse.Namespace, environ: Mapping[str, str]) -> DeploySettings:
    """The settings of one command: options that the command does not have count as absent.

    `environ`: the process environment. Raises `UsageError` for a bad option, `DeployError` for a bad variable or env
    file, `RayError` (`config_parse_error`, `config_validation_error`) for a bad config.
    """
    given = _Given(options, environ)
    cwd = _working_directory(given.path("cwd") or ".")
    env_path = given.path("env_file")
    env_file = None if env_path is None else read_env_file(absolute(env_path, cwd))
    merged = {**environ, **(env_file.values if env_file else {})}
    given = _Given(options, merged)
    config_path = absolute(given.path("config") or DEFAULT_CONFIG, cwd)
    systemd_env_file = given.path("systemd_env_file")
    output_dir = given.path("output_dir")
    runtime = given.value("gateway_runtime_binary", RUNTIME_VARIABLE, _runtime_problem)
    caddy = given.value("caddy_binary", CADDY_VARIABLE, _caddy_problem)
    memory = given.value("memory_mib", MEMORY_VARIABLE, _memory_problem)
    proxies = given.value("proxy_address", PROXY_VARIABLE, proxies_problem)
    domain = parse_site_address(given.value("domain", DOMAIN_VARIABLE, _domain_problem) or DEFAULT_DOMAIN)
    assert isinstance(domain, SiteAddress)  # a problem was reported when the value was taken
    min_free, min_free_problem = _min_free(merged)
    return DeploySettings(
        cwd=cwd,
        config_path=config_path,
        loaded=load_config(config_path, merged, cwd),
        env_file=env_file,
        systemd_env_file=None if systemd_env_file is None else absolute(systemd_env_file, cwd),
        output_dir=None if output_dir is None else absolute(output_dir, cwd),
        domain=domain,
        user=given.value("user", USER_VARIABLE, principal_problem) or DEFAULT_USER,
        runtime_binary=normalised(runtime) if runtime else DEFAULT_RUNTIME,
        runtime_given=runtime is not None,
        caddy_binary=normalised(caddy) if caddy else shutil.which("caddy", path=environ.get("PATH")),
        caddy_given=caddy is not None,
        memory_mib=None if memory is None else int(memory),
        proxies=() if proxies is None else proxies_of(proxies),
        min_free_mib=min_free,
        min_free_problem=min_free_problem,
        strict=bool(getattr(options, "strict_filesystem", False)),
        environ=merged,
        process_environ=environ,
    )


def _working_directory(path: str) -> str:
    """The directory of the service. What the shell stands in is judged, too: it ends up in the unit."""
    cwd = from_here(path)
    problem = path_problem(cwd)
    if problem is not None:
        raise DeployError(f"The working directory {cwd!r} {problem}: name another with --cwd")
    return cwd


@dataclass(frozen=True, slots=True)
class _Given:
    """The options of a command, with the environment behind them."""

    options: argparse.Namespace
    environ: Mapping[str, str]

    def path(self, name: str) -> str | None:
        return self._option(name, path_problem)

    def value(self, name: str, variable: str, problem_of: Problem) -> str | None:
        """The option, else the variable; None when neither is set."""
        option = self._option(name, problem_of)
        if option is not None:
            return option
        text = self.environ.get(variable, "").strip()
        if not text:
            return None
        problem = problem_of(text)
        if problem is not None:
            raise DeployError(f"{variable} {problem}", code="deploy_variable_invalid")
        return text

    def _option(self, name: str, problem_of: Problem) -> str | None:
        text: str | None = getattr(self.options, name, None)
        if text is not None and (problem := problem_of(text)) is not None:
            raise UsageError(f"--{name.replace('_', '-')} {problem}")
        return text


def _runtime_problem(text: str) -> str | None:
    return program_problem(text, (*HOME_PROTECTED, *PRIVATE_TMP))


def _caddy_problem(text: str) -> str | None:
    return program_problem(text, HOME_PROTECTED)


def _memory_problem(text: str) -> str | None:
    if _DIGITS.fullmatch(text) and 1 <= int(text) <= LARGEST_MIB:
        return None
    return f"must be a whole number from 1 to {LARGEST_MIB} (MiB)"


def _domain_problem(text: str) -> str | None:
    parsed = parse_site_address(text)
    return parsed if isinstance(parsed, str) else None


def _min_free(environ: Mapping[str, str]) -> tuple[int, str | None]:
    """The cushion in MiB. A malformed one is a finding, not a failure: the default is used meanwhile."""
    text = environ.get(MIN_FREE_VARIABLE, "").strip()
    if not text:
        return DEFAULT_MIN_FREE_MIB, None
    if _DIGITS.fullmatch(text) and int(text) <= LARGEST_MIB:
        return int(text), None
    return DEFAULT_MIN_FREE_MIB, f"must be a whole number from 0 to {LARGEST_MIB} (MiB)"
