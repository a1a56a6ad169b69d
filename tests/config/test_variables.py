"""The list of a config's variables: complete, spelled as the loader reads them, and of this config only."""

from __future__ import annotations

import pytest

from ray.config import PROFILE_NAMES, Config, config_from_mapping, variable_groups


def texts(config: Config) -> dict[str, str]:
    return {variable.name: variable.text for group in variable_groups(config) for variable in group.variables}


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_given_back_to_the_loader_the_listed_values_change_nothing(profile: str) -> None:
    config = config_from_mapping({"profile": profile})
    listed = texts(config)
    assert config_from_mapping({"profile": profile}, listed) == config
    assert config_from_mapping({"profile": profile}, {**listed, "RAY_PORT": "4000"}) != config


def test_each_name_is_listed_once_and_by_the_section_of_its_key() -> None:
    groups = variable_groups(config_from_mapping({}))
    names = [variable.name for group in groups for variable in group.variables]
    assert len(names) == len(set(names)) > 100
    for group in groups:
        for variable in group.variables:
            assert variable.key.rpartition(".")[0] == group.key


def test_values_are_spelled_as_variables_are() -> None:
    listed = texts(
        config_from_mapping(
            {
                "asyncQueue": {"callbackAllowedHosts": ["a.example.com", "b.example.com"]},
                "cache": {"enabled": False},
                "gracefulDegradation": {"cpuThrottledRatioThreshold": 0.25},
            }
        )
    )
    assert listed["RAY_ASYNC_QUEUE_CALLBACK_ALLOWED_HOSTS"] == "a.example.com,b.example.com"
    assert listed["RAY_CACHE_ENABLED"] == "false"
    assert listed["RAY_AUTH_ENABLED"] == "false"
    assert listed["RAY_DEGRADATION_CPU_THROTTLED_RATIO_THRESHOLD"] == "0.25"
    assert listed["RAY_LLAMA_CPP_SLOT_ID"] == ""


def test_variables_of_a_backend_that_the_config_does_not_have_are_left_out() -> None:
    mock, openai, llama = (texts(config_from_mapping({"profile": name})) for name in ("tiny", "vps", "sub1b"))
    assert "RAY_MODEL_BASE_URL" not in mock
    assert "RAY_MODEL_TIMEOUT_MS" in openai
    assert not [name for name in openai if name.startswith("RAY_LLAMA_CPP_")]
    assert {"RAY_LLAMA_CPP_CTX_SIZE", "RAY_MODEL_PATH", "RAY_MODEL_MEMORY_CLASS_MIB"} <= llama.keys()
    assert "RAY_MODEL_MEMORY_CLASS_MIB" not in openai
