"""What autotune tries: the config's own settings first, the nearest next, nothing twice and nothing invalid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ray.bench.tune.space import (
    Load,
    accepted,
    launch_candidates,
    launch_label,
    launch_profile_of,
    scheduler_candidates,
    scheduler_label,
)
from ray.config import Config, LaunchProfile, config_document, config_from_mapping, load_config

EXAMPLES = sorted((Path(__file__).parents[3] / "examples/config").glob("*.json"))
PROFILES = ("tiny", "sub1b", "sub1b-cax11", "1b", "1b-8gb", "vps", "balanced")
WITH_LAUNCH = ("sub1b", "sub1b-cax11", "1b", "1b-8gb")


def config_of(profile: str, **changes: Mapping[str, object]) -> Config:
    return config_from_mapping({"profile": profile, **changes})


def launch_of(config: Config) -> LaunchProfile:
    launch = launch_profile_of(config)
    assert launch is not None
    return launch


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_twelve_schedulers_of_every_example_have_names_of_their_own_and_begin_with_the_base(path: Path) -> None:
    config = load_config(str(path), {}, ".").config
    found = scheduler_candidates(config, 12)
    assert len({one.label for one in found}) == len(found) == 12
    assert found[0].config == config
    assert found[0].label == scheduler_label(config.scheduler)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_scheduler_is_a_config_that_loads_and_differs_in_nothing_else(profile: str) -> None:
    config = config_of(profile)
    for one in scheduler_candidates(config, 256):
        assert replace(one.config, scheduler=config.scheduler) == config
        assert config_from_mapping(config_document(one.config)) == one.config


@pytest.mark.parametrize(("profile", "size"), [("sub1b", 216), ("1b-8gb", 216), ("tiny", 216)])
def test_the_product_of_all_values_has_the_size_it_should(profile: str, size: int) -> None:
    assert len(scheduler_candidates(config_of(profile), 1000)) == size


def test_the_nearest_schedulers_come_first_and_a_batch_window_of_zero_is_among_them() -> None:
    config = config_of("1b")  # 5 ms, one request at a time, 12 looked through
    labels = [one.label for one in scheduler_candidates(config, 4)]
    assert labels == [
        "c1-bw5-aff12-if2048-short96",
        "c1-bw5-aff16-if2048-short96",
        "c1-bw5-aff8-if2048-short96",
        "c1-bw0-aff12-if2048-short96",
    ]


def test_schedulers_that_break_a_rule_are_left_out() -> None:
    config = config_of("tiny", scheduler={"maxQueue": 9, "affinityLookahead": 8})
    assert {one.config.scheduler.affinity_lookahead for one in scheduler_candidates(config, 256)} == {8}
    assert all(accepted(one.config) for one in scheduler_candidates(config, 256))


def test_a_llama_cpp_backend_gets_no_more_requests_at_once_than_it_had() -> None:
    assert {one.config.scheduler.concurrency for one in scheduler_candidates(config_of("sub1b"), 256)} == {1, 2}
    assert {one.config.scheduler.concurrency for one in scheduler_candidates(config_of("balanced"), 999)} == {
        1,
        2,
        3,
        4,
    }


@pytest.mark.parametrize(
    ("profile", "clients", "differing"),
    [
        # Alone in the gateway: only the batch window is felt.
        ("sub1b", 1, 4),
        # Two clients, two slots: one or two at once. The context limits the in-flight tokens below all values.
        ("sub1b", 2, 8),
        # A backend of unknown size: the in-flight tokens are felt as soon as two run.
        ("tiny", 2, 4 + 4 * 3),
    ],
)
def test_settings_that_the_load_cannot_notice_are_tried_once(profile: str, clients: int, differing: int) -> None:
    found = scheduler_candidates(config_of(profile), 256, Load(clients, (160, 160)))
    assert len(found) == differing
    assert found[0].config == config_of(profile)


def test_the_short_lane_is_searched_where_two_wait_and_the_requests_differ_by_it() -> None:
    def limits_of(clients: int, *answer_limits: int) -> set[int]:
        found = scheduler_candidates(config_of("1b"), 999, Load(clients, answer_limits))
        return {one.config.scheduler.short_job_max_tokens for one in found}

    assert limits_of(3, 80, 160) == {96, 64}
    assert limits_of(3, 160, 160) == {96}
    assert limits_of(2, 80, 160) == {96}


def test_more_clients_make_the_lookahead_matter() -> None:
    found = scheduler_candidates(config_of("1b"), 999, Load(12, (96,)))
    assert {one.config.scheduler.affinity_lookahead for one in found} == {12, 8}


@pytest.mark.parametrize("profile", WITH_LAUNCH)
@pytest.mark.parametrize("clients", [1, 2, 8])
def test_launch_profiles_begin_with_the_base_and_all_load(profile: str, clients: int) -> None:
    config = config_of(profile)
    found = launch_candidates(config, 256, 4, Load(clients))
    assert found[0].config == config
    assert found[0].label == launch_label(launch_of(config))
    assert len({one.label for one in found}) == len(found)
    for one in found:
        launch, scheduler = launch_of(one.config), one.config.scheduler
        assert config_from_mapping(config_document(one.config)) == one.config
        assert scheduler.concurrency <= launch.parallel
        assert scheduler.max_inflight_tokens <= launch.ctx_size * launch.parallel
        assert launch.ubatch_size <= launch.batch_size
        assert launch.ctx_size <= one.config.model.context_window


def test_the_first_launch_profiles_change_one_setting_each() -> None:
    base = launch_of(config_of("sub1b"))
    for one in launch_candidates(config_of("sub1b"), 8, 2, Load(2))[1:]:
        launch = launch_of(one.config)
        names = ("ctx_size", "parallel", "threads", "batch_size", "ubatch_size")
        assert sum(getattr(launch, name) != getattr(base, name) for name in names) == 1


def test_slots_that_no_client_fills_and_threads_without_a_processor_are_not_tried() -> None:
    config = config_of("1b")
    found = [launch_of(one.config) for one in launch_candidates(config, 999, 2, Load(1))]
    assert {one.parallel for one in found} == {1}
    assert {one.threads for one in found} == {1, 2}
    found = [launch_of(one.config) for one in launch_candidates(config, 999, 8, Load(4))]
    assert {one.parallel for one in found} == {1, 2, 4}
    assert {one.threads for one in found} == {1, 2, 4, 7, 8}


def test_what_follows_from_the_launch_profile_changes_with_it() -> None:
    config = config_of("1b")  # threads and threadsBatch are both 2, ctxSize and preferredCtxSize both 2048
    found = {one.label: one.config for one in launch_candidates(config, 999, 2, Load(2))}
    two_slots = found["ctx2048-p2-t2-b192-u96"]
    assert two_slots.scheduler.concurrency == 2
    assert launch_of(found["ctx2048-p1-t1-b192-u96"]).threads_batch == 1
    small = found["ctx1536-p1-t2-b192-u96"]
    assert small.scheduler.max_inflight_tokens == 1536
    assert small.model.operational is not None
    assert small.model.operational.preferred_ctx_size == 1536


def test_a_slot_that_could_not_hold_an_answer_is_not_tried() -> None:
    adapter = {"launchProfile": {"enableUnifiedKv": False, "ctxSize": 2048}}
    model = {"maxOutputTokens": 600, "adapter": adapter}
    config = config_of("sub1b", model=model, scheduler={"maxInflightTokens": 2048})
    found = [launch_of(one.config) for one in launch_candidates(config, 999, 2, Load(4))]
    assert (2048, 4) not in {(one.ctx_size, one.parallel) for one in found}
    assert (4096, 4) in {(one.ctx_size, one.parallel) for one in found}


def test_without_a_launch_profile_there_is_none_to_search() -> None:
    assert launch_candidates(config_of("vps"), 8, 2, Load(2)) == []
