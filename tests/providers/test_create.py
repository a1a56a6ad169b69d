"""Choosing a provider."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
from ray.config import config_from_mapping
from ray.providers import create_provider
create_provider(config_from_mapping({"profile": "tiny", "model": {"adapter": {"kind": "mock", "latencyMs": 1}}}), {})
print([name for name in ("http.client", "email", "ray.providers.upstream") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"
