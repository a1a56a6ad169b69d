"""Choosing a provider."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ray import providers
from ray.config import config_from_mapping
from ray.providers import create_provider
from tests.providers.setting import LLAMA, OPENAI, config_for, run


@pytest.mark.parametrize("kind", [LLAMA, OPENAI])
def test_given_a_kind_when_created_then_the_provider_is_of_it_and_nothing_is_sent_yet(kind: str) -> None:
    async def main() -> None:
        provider = create_provider(config_for(kind, "http://127.0.0.1:9", model={"id": "m1"}), {})
        assert (provider.kind, provider.model_id) == (kind, "m1")
        await provider.close()

    run(main())


def test_given_the_mock_kind_when_created_then_it_is_the_mock() -> None:
    config = config_from_mapping({"profile": "tiny", "model": {"adapter": {"kind": "mock", "latencyMs": 1}}}, {})
    assert create_provider(config, {}).kind == "mock"


def test_given_the_mock_kind_when_created_then_what_other_backends_need_is_not_loaded() -> None:
    program = """
import sys
from ray import providers
from ray.config import config_from_mapping
from ray.providers import create_provider
create_provider(config_from_mapping({"profile": "tiny", "model": {"adapter": {"kind": "mock", "latencyMs": 1}}}), {})
print([name for name in ("http.client", "email", "ray.providers.upstream") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


def test_given_a_llama_server_when_its_provider_is_created_then_nothing_that_reads_model_files_is_loaded() -> None:
    program = """
import sys
import ray.gateway
from ray import providers
from ray.config import config_from_mapping
from ray.providers import create_provider
create_provider(config_from_mapping({"profile": "sub1b"}), {})
room = "ray.providers.llama_cpp."
assert room + "provider" in sys.modules
print([name for name in ("gguf", "memory", "model_shape") if room + name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", providers.__all__)
def test_every_name_that_the_room_exports_is_there(name: str) -> None:
    assert getattr(providers, name) is not None


def test_a_name_that_the_room_does_not_export_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'model_shape_of'"):
        getattr(providers, "model_shape_of")  # noqa: B009 # a type checker knows that it is not there
