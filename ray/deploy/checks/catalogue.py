"""How checks are declared: beside each function stand its codes with their levels, what it inspects, and the remedy.

The remedy is appended to every warning and error, so none is without one. Names in braces (`{user}`, `{config}` …) are
filled in from the settings, quoted for a shell; the documentation shows them in capitals.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import cast

from ray.deploy.facts import Facts
from ray.deploy.findings import Check, Finding, Level
from ray.deploy.sizing import launch_profile

ERROR = "error"
WARN = "warn"
INFO = "info"
WORSE_ON_HOST = "error/warn"  # an error when the host is looked at, otherwise a warning
DEFAULT_ENV_FILE = "/etc/ray/ray.env"

Found = Iterator[tuple[str, str]]
Looker = Callable[[Facts], Found]


class Catalogue:
    """The checks of one subject, in the order in which they speak."""

    def __init__(self) -> None:
        self.checks: list[Check[Facts]] = []

    def check(
        self, codes: Mapping[str, str], *, inspects: str, remedy: str, strict: bool = False
    ) -> Callable[[Looker], Looker]:
        """Declare a check: a function that yields a code of `codes` and what is the case, as a sentence without a full
        stop. `strict`: it needs the host."""

        def declared(look: Looker) -> Looker:
            def run(facts: Facts) -> Iterator[Finding]:
                for code, sentence in look(facts):
                    level = level_of(codes[code], facts)
                    message = sentence if level == INFO else f"{sentence}. {_filled(remedy, facts)}"
                    yield Finding(level, code, message)

            name = look.__name__.replace("_", "-")
            self.checks.append(Check(name, tuple(codes), inspects, remedy, strict, run, codes))
            return look

        return declared


def level_of(declared: str, facts: Facts) -> Level:
    if declared == WORSE_ON_HOST:
        return "error" if facts.strict else "warn"
    return cast(Level, declared)


def remedy_names(facts: Facts) -> dict[str, str]:
    """What stands for the names in remedies."""
    settings = facts.settings
    config = settings.loaded.config
    launch = launch_profile(config)
    account = facts.installation.account if facts.installation else None
    model = launch.model_path if launch else "/var/lib/ray/models/model.gguf"
    names = {
        "user": settings.user,
        "group": (account.group if account else None) or settings.user,
        "cwd": settings.cwd,
        "config": settings.config_path,
        "env_file": settings.env_file_path or DEFAULT_ENV_FILE,
        "key_variable": config.auth.api_key_env,
        "runtime": settings.runtime_binary,
        "binary": launch.binary_path if launch else "/usr/local/bin/llama-server",
        "model": model,
        "model_directory": posixpath.dirname(model),
        "jobs": config.async_queue.storage_dir,
        "prefixes": config.prefix_store.storage_dir,
    }
    return {name: shlex.quote(value) for name, value in names.items()}


def _filled(remedy: str, facts: Facts) -> str:
    return remedy.format_map(remedy_names(facts))


class _Capitals(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return name.upper()


def remedy_form(remedy: str) -> str:
    """The remedy for the documentation: names in capitals."""
    return remedy.format_map(_Capitals())
