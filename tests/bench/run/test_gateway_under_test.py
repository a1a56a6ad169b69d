"""Which gateway a run asks: its key, the copy of its config, and whether it is there and ready."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ray.bench.processes.process import MeasurementError, free_port
from ray.bench.run.gateway_under_test import (
    Target,
    api_key_of,
    child_environment,
    copied_config,
    read_config,
    started_gateway,
    wait_until_ready,
)
from ray.client import AsyncRayClient
from ray.config import Config, config_from_mapping
from tests.fakes.llama_server import FakeLlamaServer

ROOT = Path(__file__).parents[3]
GUARDED = config_from_mapping({"profile": "tiny", "auth": {"enabled": True, "apiKeyEnv": "RAY_API_KEYS"}})
OPEN = config_from_mapping({"profile": "tiny"})


@pytest.mark.parametrize(
    ("config", "environ", "key"),
    [
        (None, {}, None),
        (OPEN, {"RAY_API_KEYS": "unused"}, None),
        (None, {"RAY_BENCHMARK_API_KEY": " own-key "}, "own-key"),
        (GUARDED, {"RAY_API_KEYS": "\n, first-key ,second"}, "first-key"),
        (GUARDED, {"RAY_API_KEYS": "first-key", "RAY_BENCHMARK_API_KEY": "own-key"}, "own-key"),
    ],
)
def test_the_key_comes_from_the_environment(config: Config | None, environ: dict[str, str], key: str | None) -> None:
    assert api_key_of(config, environ) == key


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"RAY_API_KEYS": "bad key"},
        {"RAY_API_KEYS": "k" * 65_537},
        {"RAY_BENCHMARK_API_KEY": "two words"},
        {"RAY_BENCHMARK_API_KEY": "k" * 1_025},
    ],
)
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(environ: dict[str, str]) -> None:
    with pytest.raises(MeasurementError) as refused:
        api_key_of(GUARDED, environ)
    assert "bad key" not in str(refused.value)
    assert "two words" not in str(refused.value)


def test_the_copy_listens_elsewhere_and_has_no_durable_jobs() -> None:
    config = config_from_mapping({"profile": "tiny", "asyncQueue": {"enabled": True, "storageDir": "/var/lib/x"}})
    copied = config_from_mapping(copied_config(config, 4_711))
    assert (copied.server.host, copied.server.port) == ("127.0.0.1", 4_711)
    assert not copied.async_queue.enabled
    assert copied.scheduler == config.scheduler
    assert copied.model == config.model


def test_the_copy_keeps_the_prefix_store_where_its_backend_writes() -> None:
    config = config_from_mapping({"profile": "sub1b", "prefixStore": {"enabled": True, "storageDir": "/var/lib/p"}})
    assert config_from_mapping(copied_config(config, 4_711)).prefix_store == config.prefix_store


def test_the_child_sees_no_settings_and_only_the_secrets_of_its_config() -> None:
    environ = {"PATH": "/bin", "RAY_PORT": "1", "RAY_API_KEYS": "k", "HOME": "/root", "OTHER_KEY": "s"}
    assert set(child_environment(OPEN, environ)) == {"PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
    assert child_environment(GUARDED, environ)["RAY_API_KEYS"] == "k"


def test_a_config_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text('{"server": {"port": "x"}}')
    with pytest.raises(MeasurementError, match="broken"):
        read_config(str(path))


def test_where_nobody_listens_the_remedy_is_told_at_once() -> None:
    with pytest.raises(MeasurementError, match="start it, or give --config"):
        asyncio.run(wait_until_ready(Target(f"http://127.0.0.1:{free_port()}"), print))


@pytest.mark.integration
def test_a_gateway_is_started_from_a_config_and_gone_afterwards() -> None:
    async def look(target: Target) -> object:
        await wait_until_ready(target, print)
        async with AsyncRayClient(target.url) as client:
            return (await client.config())["profile"]

    config = read_config(str(ROOT / "examples/config/ray.tiny.json"))
    with started_gateway(config, os.environ, sys.executable) as target:
        assert asyncio.run(look(target)) == "tiny"
    with pytest.raises(MeasurementError, match="no gateway"):
        asyncio.run(wait_until_ready(Target(target.url), print))


@pytest.mark.integration
def test_a_gateway_that_does_not_start_says_why() -> None:
    config = config_from_mapping({"profile": "tiny", "auth": {"enabled": True, "apiKeyEnv": "RAY_API_KEYS"}})
    with (
        pytest.raises(MeasurementError, match="RAY_API_KEYS"),
        started_gateway(config, {"PATH": os.environ["PATH"]}, sys.executable) as target,
    ):
        asyncio.run(wait_until_ready(target, print))


@pytest.mark.integration
def test_beside_a_gateway_that_uses_the_prefix_store_a_copy_measures_without_it_and_says_so(tmp_path: Path) -> None:
    async def main() -> tuple[list[str], list[str]]:
        first: list[str] = []
        second: list[str] = []
        async with FakeLlamaServer() as fake:
            fake.slots.directory = tmp_path
            sections = {
                "model": {
                    "adapter": {"baseUrl": fake.base_url, "launchProfile": {"port": urlsplit(fake.base_url).port}}
                },
                "prefixStore": {"enabled": True, "storageDir": str(tmp_path)},
            }
            config = config_from_mapping({"profile": "sub1b", **sections})
            with started_gateway(config, os.environ, sys.executable) as target:
                await wait_until_ready(target, first.append)
                with started_gateway(config, os.environ, sys.executable) as beside:
                    await wait_until_ready(beside, second.append)
        return first, second

    tmp_path.chmod(0o700)
    first, second = asyncio.run(main())
    assert not any("prefix store" in line for line in first)
    assert any("WITHOUT the prefix store" in line and "used by another gateway" in line for line in second)
