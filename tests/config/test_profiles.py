"""The seven profiles give exactly the published defaults, and keep the relations between them."""

from __future__ import annotations

import pytest

from ray.config import PROFILE_NAMES, MockAdapter, config_document
from ray.config.profiles import profile_document
from tests.config.support import load, profile_fixture

JOB_RECORD_CAP_MIB = 2


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_profile_alone_is_the_published_table(name: str) -> None:
    assert config_document(load({"profile": name})) == profile_fixture(name)


def test_seven_profiles() -> None:
    assert PROFILE_NAMES == ("tiny", "sub1b", "sub1b-cax11", "1b", "1b-8gb", "vps", "balanced")


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_backend_times_out_before_the_request_does(name: str) -> None:
    config = load({"profile": name})
    if not isinstance(config.model.adapter, MockAdapter):
        assert config.scheduler.request_timeout_ms > config.model.adapter.timeout_ms


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_jobs_at_their_largest_fit_the_free_space_reserve(name: str) -> None:
    queue = load({"profile": name}).async_queue
    assert queue.max_jobs * JOB_RECORD_CAP_MIB <= queue.min_free_storage_mib


@pytest.mark.parametrize("name", [name for name in PROFILE_NAMES if name != "tiny"])
def test_serving_profiles_have_their_protections_on(name: str) -> None:
    config = load({"profile": name})
    assert config.prompt_compiler.enabled
    assert config.adaptive_tuning.enabled
    assert config.adaptive_tuning.learned_family_cap_enabled
    assert config.rate_limit.enabled
    assert config.rate_limit.key_strategy == "ip"


def test_defaults_are_not_shared_between_loads() -> None:
    first = profile_document("sub1b")
    tags = first["tags"]
    assert isinstance(tags, dict)
    tags["target"] = "changed"
    assert profile_document("sub1b")["tags"] != tags
    assert load({}).tags["target"] == "sub1b"
