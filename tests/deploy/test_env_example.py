"""The env example: complete, explained, and true."""

from __future__ import annotations

import re

import pytest

from ray.config import Config, config_from_mapping, load_config, variable_groups
from ray.deploy.env_example import env_example
from ray.deploy.env_file import parse_env
from ray.deploy.variables import DEPLOY_VARIABLES, STAGING_VARIABLES
from tests.deploy.support import EXAMPLE_NAMES, EXAMPLES

_COMMENTED = re.compile(r"^# ([A-Z][A-Z0-9_]*=)", re.MULTILINE)


def example(name: str) -> Config:
    return load_config(str(EXAMPLES / name), {}, "/srv/ray").config


def uncommented(text: str) -> dict[str, str]:
    return parse_env(_COMMENTED.sub(r"\1", text), "ray.env")


@pytest.mark.parametrize("name", EXAMPLE_NAMES)
def test_taking_every_comment_sign_away_changes_nothing(name: str) -> None:
    values = uncommented(env_example(example(name)))
    assert load_config(str(EXAMPLES / name), values, "/srv/ray").config == example(name)
    assert len(values) > 50


@pytest.mark.parametrize("name", EXAMPLE_NAMES)
def test_only_keys_are_left_to_fill_in(name: str) -> None:
    assert parse_env(env_example(example(name)), "ray.env") == {"RAY_API_KEYS": ""}


@pytest.mark.parametrize("name", EXAMPLE_NAMES)
def test_every_variable_of_the_config_is_there_once_and_explained(name: str) -> None:
    config = example(name)
    text = env_example(config)
    names = [found[:-1] for found in _COMMENTED.findall(text)]
    assert len(names) == len(set(names))
    off = {"asyncQueue": config.async_queue.enabled, "prefixStore": config.prefix_store.enabled}
    for group in variable_groups(config):
        for variable in group.variables:
            if off.get(group.key, True) or variable.key.endswith(".enabled"):
                assert variable.name in names
                assert variable.meaning in text
    assert {name for name, _, _ in DEPLOY_VARIABLES} <= set(names)


def test_the_staging_inputs_are_there_where_a_backend_is_launched() -> None:
    llama = uncommented(env_example(example("ray.1b.generic.public.json")))
    assert llama["RAY_MODEL_SOURCE_PATH"] == "/tmp/ray-artifacts/local-1b-q4.gguf"
    assert {name for name, _ in STAGING_VARIABLES} <= llama.keys()
    assert not {name for name, _ in STAGING_VARIABLES} & uncommented(env_example(example("ray.vps.json"))).keys()


def test_the_memory_target_is_the_configs_class() -> None:
    assert uncommented(env_example(example("ray.1b.8gb.public.json")))["RAY_DEPLOY_MEMORY_MIB"] == "8192"
    assert uncommented(env_example(example("ray.vps.json")))["RAY_DEPLOY_MEMORY_MIB"] == ""


def test_the_scheduler_and_the_backends_timeout_are_there_for_every_http_backend() -> None:
    values = uncommented(env_example(example("ray.vps.json")))
    assert {"RAY_MODEL_TIMEOUT_MS", "RAY_SCHEDULER_MAX_QUEUE", "RAY_DEGRADATION_CPU_PSI_SOME_AVG10_THRESHOLD"} <= (
        values.keys()
    )


def test_both_keys_have_their_place_and_neither_twice() -> None:
    def keys(variable: str) -> dict[str, str]:
        adapter = {"kind": "openai-compatible", "apiKeyEnv": variable}
        return parse_env(env_example(config_from_mapping({"profile": "vps", "model": {"adapter": adapter}})), "ray.env")

    assert keys("BACKEND_KEY") == {"RAY_API_KEYS": "", "BACKEND_KEY": ""}
    assert keys("RAY_API_KEYS") == {"RAY_API_KEYS": ""}


@pytest.mark.parametrize(
    "model_path", ["/models/a b.gguf", "/models/it's.gguf", '/models/"q".gguf', "/m/50%$x\\y.gguf"]
)
def test_awkward_values_are_quoted_so_that_they_come_back(model_path: str) -> None:
    def with_model(environ: dict[str, str]) -> Config:
        return config_from_mapping(
            {"model": {"adapter": {"launchProfile": {"modelPath": model_path}}}}, environ, "/srv/ray"
        )

    values = uncommented(env_example(with_model({})))
    assert values["RAY_MODEL_PATH"] == model_path
    assert with_model(values) == with_model({})


def test_a_value_that_no_env_file_can_hold_is_left_to_the_config_file() -> None:
    text = env_example(config_from_mapping({"telemetry": {"serviceName": "x9z\ny"}}))
    assert uncommented(text)["RAY_TELEMETRY_SERVICE_NAME"] == ""
    assert "can only stand in a config file" in text
    assert "x9z" not in text
