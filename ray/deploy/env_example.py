"""`ray.env.example`: every variable of one config with the value it has now, explained where it stands.

Only the API keys are not commented out: they are what an operator has to fill in. Everything else says what would
change if it were. The list comes from the declaration of the settings.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from ray.config import Config, VariableGroup, variable_groups
from ray.deploy.env_file import quoted
from ray.deploy.sizing import launch_profile
from ray.deploy.variables import (
    ARTIFACTS_DIRECTORY,
    DEPLOY_VARIABLES,
    MEMORY_VARIABLE,
    MODEL_SOURCE_VARIABLE,
    STAGING_VARIABLES,
)
from ray.jobs import SECRETS_VARIABLE

# Of these only the switch is shown while they are off.
_OFF_BY_DEFAULT = ("asyncQueue", "prefixStore")
_HEAD = """\
# Environment of ray-gateway.service. Copy it to /etc/ray/ray.env, owned by root, mode 0600.
# NAME=value, one per line. Lines that begin with # say what the config has now: remove the # to change it here.
"""


def env_example(config: Config) -> str:
    """The text of the file."""
    return "\n".join((_HEAD, *(_block(title, lines) for title, lines in _groups(config))))


def _block(title: str, lines: list[str]) -> str:
    return "\n".join((f"# ---- {title}", *lines)) + "\n"


def _groups(config: Config) -> Iterator[tuple[str, list[str]]]:
    yield "API keys", _secrets(config)
    yield "deploy: what the deploy commands plan with.", _deploy_lines(config)
    for group in variable_groups(config):
        yield f"{group.key or 'profile'}: {group.meaning}", _config_lines(group)
    launch = launch_profile(config)
    if launch is not None:
        source = f"{ARTIFACTS_DIRECTORY}/{posixpath.basename(launch.model_path)}"
        lines = [
            line
            for name, meaning in STAGING_VARIABLES
            for line in _commented(name, source if name == MODEL_SOURCE_VARIABLE else "", meaning)
        ]
        yield "staging: what `model-stage` installs from.", lines


def _secrets(config: Config) -> list[str]:
    lines = [
        "## Keys of the clients, separated by commas. `openssl rand -hex 32` makes one.",
        f"{config.auth.api_key_env}=",
    ]
    backend_key = None if config.model.adapter.kind == "mock" else config.model.adapter.api_key_env
    if backend_key is not None and backend_key != config.auth.api_key_env:
        lines += ["## The key that the gateway shows to its backend.", f"{backend_key}="]
    if config.async_queue.enabled:
        meaning = "Callbacks are signed with the first of these: whsec_ and base64 of 24 to 64 bytes, up to four."
        lines += _commented(SECRETS_VARIABLE, "", meaning)
    return lines


def _deploy_lines(config: Config) -> list[str]:
    planning = config.model.operational
    lines = []
    for name, default, meaning in DEPLOY_VARIABLES:
        if name == MEMORY_VARIABLE and planning is not None:
            default = str(planning.memory_class_mib)
        lines += _commented(name, default, meaning)
    return lines


def _config_lines(group: VariableGroup) -> list[str]:
    shown = group.variables
    if group.key in _OFF_BY_DEFAULT and any(
        variable.key == f"{group.key}.enabled" and variable.text == "false" for variable in shown
    ):
        shown = tuple(variable for variable in shown if variable.key == f"{group.key}.enabled")
    lines: list[str] = []
    told = ""
    for variable in shown:
        both = _commented(variable.name, variable.text, variable.meaning)
        # A second name of the same setting stands right behind the first: its meaning has just been told.
        lines += both[1:] if variable.key == told else both
        told = variable.key
    return lines


def _commented(name: str, text: str, meaning: str) -> list[str]:
    """Meaning and assignment of one variable. A value that no env file can hold is left to the config file."""
    value = quoted(text)
    if value is None:
        return [f"## {meaning} (This config's value can only stand in a config file.)", f"# {name}="]
    return [f"## {meaning}", f"# {name}={value}"]
